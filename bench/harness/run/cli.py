"""The flags that every entry point has, and what they mean: all is checked here, before any process group."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import torch
import torch.distributed as dist
import tyro

from bench.harness.timing.method import Method, read_delay
from bench.harness.world.faults import RunEnded, leave
from bench.harness.world.interfaces import require_interfaces
from bench.harness.world.launch import DeviceKind, Launch, backend_of, read_launch
from bench.harness.world.ranks import own_place
from tp.cost.calibrated import Calibration
from tp.cost.choose import make_theories
from tp.cost.known import known_calibration
from tp.cost.theory import Theory
from tp.errors import ConfigError, TpbenchError
from tp.flags import choice, positive_float
from tp.hardware import Link, Node, load_network
from tp.plan.ops import Backend
from tp.probe import resolve_node

RUNS: Final = Path("runs")
# Set by scripts/netlab, which knows the links that it made.
NETWORK_VARIABLE: Final = "TPBENCH_NETWORK"
# Less than the ranks need to meet; more than anybody waits for.
MIN_TIMEOUT_S: Final = 1.0
MAX_TIMEOUT_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """Every value is text here; `resolve_run` gives it meaning, and one line when it has none."""

    dtype: str = ""
    """fp32, bf16, fp16 or fp8 (default: bf16, but fp32 on a CPU that does not multiply in bf16)."""
    hardware: str = "auto"
    """A name of configs/hardware, a TOML file, or auto to probe the machine."""
    link: str = ""
    """Which of the hardware's links the estimate uses (default: its first)."""
    network: str = ""
    """What joins the nodes, a name of configs/networks or a TOML file (default: $TPBENCH_NETWORK)."""
    calibration: str = ""
    """File of `python -m analysis calibrate` (default: for GPUs what is shipped, or expected of the data sheet)."""
    out: str = ""
    """Record file to write (default: a new one under runs/)."""
    seconds: str = ""
    """Cap on sampling: for each case of a block (default: 5), or for all ops together (default: 45)."""
    timeout: str = "120"
    """Seconds after which a rank that hangs ends the run."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is any."""
    warm: Annotated[bool, tyro.conf.arg(help="On GPUs, leave the L2 cache as the last pass left it.")] = False
    graph: Annotated[bool, tyro.conf.arg(help="On GPUs, replay passes from CUDA graphs (parts are launched).")] = False
    plant_delay: str = ""
    """rank:ms, a control: each collective once more with that rank so much late, to see what skew is reported."""
    resume: Annotated[bool, tyro.conf.arg(help="Continue --out: what it holds is not measured again.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What is true of a run whatever it measures."""

    command: tuple[str, ...]
    launch: Launch
    device: DeviceKind
    node: Node
    link: Link
    network: Link | None
    """One port of what joins the nodes, where it is described."""
    calibration_label: str | None
    calibration: Calibration | None
    timeout_s: float
    method: Method
    resume: bool
    out: Path

    def theories(self) -> list[Theory]:
        """The theories that the run's inputs allow; the best is the last."""
        return make_theories(node=self.node, link=self.link, calibration=self.calibration, network=self.network)

    @property
    def backend(self) -> Backend:
        return backend_of(self.device)


def run_main(main: Callable[[], None]) -> None:
    """Call `main` and exit; a user's mistake is one line on the leading rank, exit code 2, a failure 1."""
    try:
        main()
    except RunEnded as error:
        if dist.is_initialized():
            leave(error)
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except TpbenchError as error:
        _tell(error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(error: TpbenchError) -> None:
    """Once a node: a file may be missing on one of them only."""
    place = os.environ
    if place.get("LOCAL_RANK", "0") == "0":
        who = f"rank {place['RANK']} on {own_place().node}: " if place.get("RANK", "0") != "0" else ""
        print(f"error: {who}{error}", file=sys.stderr, flush=True)


def resolve_run(flags: RunFlags, *, name: str, dry_run: bool = False) -> RunSettings:
    """Give the common flags their meaning; ConfigError for the first that has none."""
    launch = read_launch()
    node = resolve_node(flags.hardware)
    device = _device(flags.device, dry_run=dry_run)
    if launch.world > 1 and not dry_run:
        require_interfaces(os.environ, several_nodes=launch.num_nodes > 1, over_nccl=device == "cuda")
    link = node.link(flags.link or None)
    known = known_calibration(flags.calibration, node, link)
    return RunSettings(
        command=tuple(sys.argv),
        launch=launch,
        device=device,
        node=node,
        link=link,
        network=_network(flags.network),
        calibration_label=None if known is None else known.label,
        calibration=None if known is None else known.calibration,
        timeout_s=_timeout_s(flags.timeout),
        method=_method(flags, device, launch),
        resume=flags.resume,
        out=_out(flags.out, name, leads=launch.leads, resume=flags.resume),
    )


def _network(name: str) -> Link | None:
    """The network that is named, or that a laboratory of links tells of; None where nobody describes one."""
    name = name or os.environ.get(NETWORK_VARIABLE, "")
    return load_network(name) if name else None


def _timeout_s(text: str) -> float:
    seconds = positive_float(text, flag="--timeout")
    if not MIN_TIMEOUT_S <= seconds <= MAX_TIMEOUT_S:
        raise ConfigError(f"--timeout {text}: must lie between {MIN_TIMEOUT_S:g} and {MAX_TIMEOUT_S:g} seconds")
    return seconds


def _method(flags: RunFlags, device: DeviceKind, launch: Launch) -> Method:
    if flags.graph and device != "cuda":
        raise ConfigError("--graph: a CPU has no CUDA graphs; leave it out")
    delayed_rank, delay_s = read_delay(flags.plant_delay, world=launch.world)
    return Method(cold=not flags.warm, graph=flags.graph, delayed_rank=delayed_rank, delay_s=delay_s)


def _device(text: str, *, dry_run: bool) -> DeviceKind:
    """`auto` becomes cuda where there is any; a real run on cuda needs one."""
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kinds: tuple[DeviceKind, ...] = ("cpu", "cuda")
    kind = choice(text, kinds, flag="--device")
    if kind == "cuda" and not dry_run and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA device here; use --device cpu or --dry-run")
    return kind


def _out(text: str, name: str, *, leads: bool, resume: bool) -> Path:
    if resume and not text:
        raise ConfigError("--resume: which run? Name its record file with --out")
    out = Path(text) if text else RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{name}.jsonl"
    # Only the leading rank looks: it also creates the file, perhaps before another rank is here.
    if leads and out.exists() and not resume:
        raise ConfigError(f"--out {out}: exists already; add --resume to continue it, or name another file")
    return out
