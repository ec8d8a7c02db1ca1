"""scripts/netlab: hosts as network namespaces joined by a bridge, with a command running on each as its node."""

import shutil
import sys
from collections.abc import Sequence

from commands import run_on
from flags import Lab, resolve
from interrupts import Interrupts
from network import TOOLS, network
from node import described_link, environment

from tp.errors import ConfigError, TpbenchError


def main(args: Sequence[str]) -> int:
    """Exit code 0, or the first failing host's; 1 for a laboratory that broke, 2 for bad input, which is one line."""
    try:
        lab = resolve(args)
        check_commands(lab)
        return laboratory(lab)
    except TpbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


def check_commands(lab: Lab) -> None:
    """ConfigError unless the tools and the command are at hand."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise ConfigError(
                f"no command {tool} on PATH; install {TOOLS[tool]}, or add its folder, often /usr/sbin, to PATH"
            )
    if shutil.which(lab.command[0]) is None:
        raise ConfigError(f"{lab.command[0]}: no such command to run on the hosts; check its name, or give its path")


def laboratory(lab: Lab) -> int:
    """Everything up, the command on every host, everything down again; the exit code."""
    # From here on a signal is noted and waits its turn: nothing that was set up can be forgotten half way.
    with Interrupts() as interrupts, described_link(lab) as link, network(lab) as hosts:
        if interrupts.first is not None:
            return interrupts.exit_code
        environs = [environment(host, hosts, link) for host in hosts]
        return run_on(hosts, lab, environs, interrupts) or interrupts.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
