"""What run is asked for: the flags of submit.py, and the Request that they resolve to."""

import argparse
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

BLOCKS: Final = ("attention", "ffn", "block")
# A pod's host name is the job's with "-node-0-0" behind it, and at most 63 characters long.
NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
# Of a ConfigMap, with ".toml" behind it.
KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,200}")


class BadInput(Exception):
    """The user's mistake, and its remedy."""


@dataclass(frozen=True)
class Request:
    """A run: every suite on so many nodes, one TrainJob each."""

    name: str
    image: str
    folder: PurePosixPath
    """Where the image has the checkout."""
    runtime: str
    nodes: int
    gpus: int
    """Of a node; 0: CPUs, over gloo."""
    ranks_per_node: int
    env: dict[str, str]
    resources: dict[str, str]
    """Of a node, besides GPUs or cores."""
    block: str
    suites: dict[str, str]
    """TOML texts, by name."""
    bench_flags: tuple[str, ...]

    def job(self, suite: str) -> str:
        """The name of a suite's TrainJob; pods are called after it, and names of suites need not be fit for that."""
        return f"{self.name}-{list(self.suites).index(suite)}"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        print(f"error: {message}; --help lists the flags", file=sys.stderr)
        sys.exit(2)


def read_flags() -> argparse.Namespace:
    parser = Parser(prog="submit.py", description="Run suites on Kubernetes and bring the records back.")
    add = parser.add_argument
    add("--image", required=True, help="with a checkout of tpbench and its environment")
    add("--out", required=True, type=Path, help="folder that the records come back to: a.jsonl of a.toml")
    add("--nodes", type=int, default=1, help="nodes of each suite")
    add("--gpus", type=int, default=1, help="of each node; 0: ranks on CPUs, over gloo")
    add("--ranks-per-node", type=int, help="default: as many as GPUs, without any 1")
    add("--name", default=f"tpbench-{datetime.now():%Y%m%d-%H%M%S}", help="of the run; its TrainJobs are NAME-0, ...")
    add("--namespace", help="default: that of kubectl's context")
    add("--runtime", default="torch-distributed", help="the ClusterTrainingRuntime")
    add("--folder", type=PurePosixPath, default=PurePosixPath("/opt/tpbench"), help="of the checkout in the image")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="variable of every rank; may be repeated")
    add("--resource", action="append", default=[], metavar="NAME=QUANTITY", help="of a node, as memory=64Gi")
    add("--render", action="store_true", help="print what would be asked of the cluster, and do nothing")
    add("what", nargs=argparse.REMAINDER, metavar="BLOCK SUITE.toml ... [flags of bench/BLOCK.py]")
    return parser.parse_args()


def read_request(flags: argparse.Namespace) -> Request:
    """The run that the flags ask for; BadInput for the first that has no meaning."""
    block, *words = flags.what or ["no block"]
    if block not in BLOCKS:
        raise BadInput(f"{block}: cannot be measured; name {', '.join(BLOCKS)}, and then the suites")
    cut = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    ranks = (flags.gpus or 1) if flags.ranks_per_node is None else flags.ranks_per_node
    for flag, value, least in (("--nodes", flags.nodes, 1), ("--gpus", flags.gpus, 0), ("--ranks-per-node", ranks, 1)):
        if value < least:
            raise BadInput(f"{flag} {value}: is too few; give at least {least}")
    if not NAME.fullmatch(flags.name):
        raise BadInput(f"--name {flags.name}: use up to 40 small letters, digits and -, beginning with a letter")
    env = _pairs("--env", flags.env)
    if reserved := [name for name in env if name.startswith("PET_")]:
        raise BadInput(f"--env {reserved[0]}: Kubeflow Trainer sets it; use --nodes and --ranks-per-node")
    return Request(
        name=flags.name,
        image=flags.image,
        folder=flags.folder,
        runtime=flags.runtime,
        nodes=flags.nodes,
        gpus=flags.gpus,
        ranks_per_node=ranks,
        env=env,
        resources=_pairs("--resource", flags.resource),
        block=block,
        suites=_suites(words[:cut], block, flags.out),
        bench_flags=tuple(words[cut:]),
    )


def _pairs(flag: str, texts: list[str]) -> dict[str, str]:
    for text in texts:
        if not re.fullmatch(r"[^=]+=.+", text):
            raise BadInput(f"{flag} {text}: is no pair; write NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)


def _suites(paths: list[str], block: str, out: Path) -> dict[str, str]:
    """The texts of the suites by name; each must be there, of a name of its own, and not measured before."""
    if not paths:
        raise BadInput(f"no suite to run; name TOML files of sweeps, like configs/suites/*.toml, after {block}")
    suites: dict[str, str] = {}
    for path in map(Path, paths):
        if not KEY.fullmatch(path.stem):
            raise BadInput(f"{path}: a ConfigMap takes letters, digits and -._ only; rename the file")
        if path.stem in suites:
            raise BadInput(f"{path}: is the second suite of that name; rename the file")
        if (out / f"{path.stem}.jsonl").exists():
            raise BadInput(f"{out / path.stem}.jsonl: exists already; name another folder with --out")
        try:
            suites[path.stem] = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text"
            raise BadInput(f"{path}: cannot be read ({reason}); name a suite, as those in configs/suites") from error
    return suites
