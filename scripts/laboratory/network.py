"""Network namespaces as hosts, joined by a bridge in a namespace of its own: the machine's own network stays as it is.

Every step is undone in reverse, also when a later one fails.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flags import Lab, Rate

from tp.errors import ConfigError, MeasurementError

TOOLS: Final = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "hostname": "hostname"}
"""The commands that a laboratory is made with, and the packages that have them."""
INTERFACE: Final = "eth0"
"""What a host calls its network interface."""

# Seen by nobody outside of the namespaces, so every laboratory has the same.
_NETWORK: Final = "10.77.0"
_BRIDGE: Final = "br0"
# `ip netns exec` lays what is in a namespace's folder here over /etc.
_NETNS_ETC: Final = Path("/etc/netns")

# A segment of 64 KiB and its headers pass whole. With less the bucket cuts it up, with a timer and a wake-up each:
# compute beside them took 51 % longer at 480 Mbit/s, and so 7 to 20 %. With more small messages pass unshaped.
_BURST_S: Final = 0.5e-3
_MIN_BURST_BYTES: Final = 68 * 1024
_ETHERNET_HEADER_BYTES: Final = 14
_QUEUE: Final = "20ms"
# netem drops what exceeds this many packets, 1000 unless told.
_DELAYED_PACKETS: Final = "1000000"

_KERNEL: Final = "use a machine whose kernel has that and lets root have it (CAP_NET_ADMIN, CAP_SYS_ADMIN)"
# A killed process takes a moment to go; one that waits for a disk may take longer.
_KILLED_S: Final = 0.02
_ENDING_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A network namespace with one interface."""

    index: int
    namespace: str

    @property
    def name(self) -> str:
        """Its hostname, which every host resolves."""
        return f"host{self.index}"

    @property
    def address(self) -> str:
        """Its IPv4 address in the laboratory."""
        return f"{_NETWORK}.{self.index + 1}"


@contextmanager
def network(lab: Lab) -> Iterator[tuple[Host, ...]]:
    """The hosts, joined, while the context lasts; ConfigError in the failing tool's words when they cannot be made."""
    # The process id keeps the names of laboratories side by side apart.
    prefix = f"netlab-{os.getpid()}"
    switch = f"{prefix}-switch"
    hosts = tuple(Host(index=index, namespace=f"{prefix}-host{index}") for index in range(lab.num_hosts))
    with ExitStack() as undo:
        _add_namespace(undo, switch)
        _make("ip", "-n", switch, "link", "add", _BRIDGE, "type", "bridge", what="bridge")
        undo.callback(_undo, "ip", "-n", switch, "link", "delete", _BRIDGE)
        _make("ip", "-n", switch, "link", "set", _BRIDGE, "mtu", str(lab.mtu), "up", what=f"MTU of {lab.mtu}")
        for host in hosts:
            _add_host(undo, host, hosts, switch, lab)
        yield hosts


def burst_bytes(rate: Rate, mtu: int) -> int:
    """What a host sends at once after a pause, before the rate holds."""
    return max(_MIN_BURST_BYTES, round(rate.bits_per_s / 8 * _BURST_S), mtu + _ETHERNET_HEADER_BYTES)


def switch_link(host: Host, state: str) -> None:
    """Take a host's link `down`, or bring it back `up`."""
    _make("ip", "-n", host.namespace, "link", "set", INTERFACE, state, what=f"link {state}")
    if state == "up":
        _route(host)


def end_processes(hosts: Sequence[Host]) -> None:
    """Kill whatever still runs on the hosts, however it was detached; MeasurementError when something stays."""
    give_up_s = time.monotonic() + _ENDING_S
    while pids := [pid for host in hosts for pid in _tool("ip", "netns", "pids", host.namespace).stdout.split()]:
        if time.monotonic() > give_up_s:
            raise MeasurementError(f"process {pids[0]} cannot be killed, and keeps a network namespace; end it by hand")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(_KILLED_S)


def _add_namespace(undo: ExitStack, namespace: str) -> None:
    _make("ip", "netns", "add", namespace, what="network namespace")
    undo.callback(_undo, "ip", "netns", "delete", namespace)


def _add_host(undo: ExitStack, host: Host, hosts: Sequence[Host], switch: str, lab: Lab) -> None:
    """One more namespace, its pair of interfaces, its address, its queue."""
    inside, port = host.namespace, host.name
    _add_namespace(undo, inside)
    _name_hosts(undo, host, hosts)
    ends = ("name", INTERFACE, "netns", inside, "type", "veth", "peer", "name", port, "netns", switch)
    _make("ip", "link", "add", *ends, what="veth pair")
    # A namespace's interfaces outlive it for a moment; those that are deleted are gone at once.
    undo.callback(_undo, "ip", "-n", switch, "link", "delete", port)
    _make("ip", "-n", inside, "link", "set", "lo", "up", what="loopback")
    for namespace, interface, more in ((inside, INTERFACE, ()), (switch, port, ("master", _BRIDGE))):
        # Without IPv6 addresses nothing is on the wire but what the hosts send.
        _make("ip", "-n", namespace, "link", "set", interface, "addrgenmode", "none", what="interface without IPv6")
        _make("ip", "-n", namespace, "link", "set", interface, "mtu", str(lab.mtu), *more, "up", what="link up")
    _make("ip", "-n", inside, "address", "add", f"{host.address}/24", "dev", INTERFACE, what="address")
    _route(host)
    if lab.rate:
        _make("tc", "-n", inside, "qdisc", "add", "dev", INTERFACE, "root", *_bucket(lab.rate, lab.mtu), what="tbf")
    if lab.delay:
        # At the switch's end, where it can be no part of the host's own queue.
        netem = ("netem", "delay", lab.delay, "limit", _DELAYED_PACKETS)
        remedy = "leave --delay out, or use a machine whose kernel has sch_netem"
        _make("tc", "-n", switch, "qdisc", "add", "dev", port, "root", *netem, what="netem for --delay", remedy=remedy)


def _route(host: Host) -> None:
    """Cubic, as the kernel's default may be bbr, whose probing makes times noisy; a link that was down has lost it."""
    route = (f"{_NETWORK}.0/24", "dev", INTERFACE, "congctl", "cubic")
    _make("ip", "-n", host.namespace, "route", "replace", *route, what="congestion control cubic")


def _bucket(rate: Rate, mtu: int) -> tuple[str, ...]:
    return ("tbf", "rate", f"{rate.bits_per_s}bit", "burst", str(burst_bytes(rate, mtu)), "latency", _QUEUE)


def _name_hosts(undo: ExitStack, host: Host, hosts: Sequence[Host]) -> None:
    """The file that is /etc/hosts on this host: every name and its address."""
    folder = _NETNS_ETC / host.namespace
    lines = ["127.0.0.1 localhost"]
    for each in hosts:
        # Sockets for IPv6 and IPv4 both show an address in the second form; torch warns of one without a name.
        lines += [f"{each.address} {each.name}", f"::ffff:{each.address} {each.name}.mapped"]
    try:
        folder.mkdir(parents=True)
        undo.callback(_forget_names, folder)
        (folder / "hosts").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error}); make {_NETNS_ETC} writable for root") from error


def _forget_names(folder: Path) -> None:
    shutil.rmtree(folder)
    # Others may have theirs there.
    with suppress(OSError):
        folder.parent.rmdir()


def _tool(*words: str) -> subprocess.CompletedProcess[str]:
    # Out of the terminal's reach: Ctrl-C is for the hosts, and must not end a step half way.
    return subprocess.run(words, capture_output=True, text=True, start_new_session=True, check=False)


def _make(*words: str, what: str, remedy: str = _KERNEL) -> None:
    done = _tool(*words)
    if done.returncode:
        raise ConfigError(f"no {what} to be had: '{' '.join(words)}' says {_said(done)}; {remedy}")


def _undo(*words: str) -> None:
    done = _tool(*words)
    if done.returncode:
        raise MeasurementError(f"'{' '.join(words)}' says {_said(done)}; undo it by hand")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split()).rstrip(".") or f"nothing, exit code {done.returncode}"
