"""The flags of the block benchmarks, and what they mean: everything is checked here, before any process group."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import torch
import tyro

from bench.harness.launch import DeviceKind, Launch, read_launch
from bench.harness.measure import Policy
from bench.harness.suite import Defaults, Suite, defaults
from tp import catalogue
from tp.case import PHASES, STRATEGIES, Block
from tp.cost.calibrated import Calibration, load_calibration
from tp.errors import ConfigError, TpbenchError
from tp.flags import choice, comma_list, parse_flags, positive_float, positive_int
from tp.hardware import Link, Node
from tp.probe import native_dtypes, resolve_node
from tp.units import DTYPES

T = TypeVar("T")

RUNS: Final = Path("runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFlags:
    """Every value is text here; `resolve` gives it meaning, and one line when it has none."""

    model: str = ""
    """Models, names of configs/models or TOML files (default: one that fits the machine)."""
    tp: str = ""
    """Tensor-parallel degrees (default: all that divide the world and the heads)."""
    strategy: str = ""
    """columns, allreduce, sequence (default: all)."""
    phase: str = ""
    """prefill, train, decode (default: prefill,train)."""
    batch: str = ""
    """Sequences (default: 1)."""
    seq: str = ""
    """Tokens a sequence (default: 4096 on GPUs, 256 on a CPU)."""
    context: str = ""
    """Tokens in the KV cache in decode (default: --seq)."""
    dtype: str = ""
    """fp32, bf16 or fp16 (default: bf16, but fp32 on a CPU that does not multiply in bf16)."""
    hardware: str = "auto"
    """A name of configs/hardware, a TOML file, or auto to probe the machine."""
    link: str = ""
    """Which of the hardware's links the estimate uses (default: its first)."""
    calibration: str = ""
    """File of `python -m analysis calibrate`; its estimate stands beside what is measured."""
    suite: str = ""
    """TOML file of sweeps; flags override it."""
    out: str = ""
    """Record file to write (default: a new one under runs/)."""
    seconds: str = ""
    """Cap on sampling for each case (default: 5)."""
    timeout: str = "120"
    """Seconds after which a collective that hangs ends the run."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is any."""
    warm: Annotated[bool, tyro.conf.arg(help="On GPUs, leave the L2 cache as the last pass left it.")] = False
    resume: Annotated[bool, tyro.conf.arg(help="Continue --out: cases that it holds are not measured again.")] = False
    dry_run: Annotated[bool, tyro.conf.arg(help="Build every case on fake tensors, measure nothing.")] = False
    world: str = ""
    """Ranks that a dry run pretends to have (default: the real number)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run was asked to do, resolved."""

    block: Block
    command: tuple[str, ...]
    launch: Launch
    world: int
    suite: Suite
    chosen: Defaults
    device: DeviceKind
    node: Node
    link: Link
    calibration_path: str | None
    calibration: Calibration | None
    policy: Policy
    timeout_s: float
    cold: bool
    out: Path
    resume: bool
    dry_run: bool


def run_main(main: Callable[[], None]) -> None:
    """Call `main` and exit; a user's mistake is one line on the leading rank, exit code 2, a failure 1."""
    try:
        main()
    except TpbenchError as error:
        if read_launch().leads:
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def read_block_flags(block: Block) -> Settings:
    """The settings of `torchrun bench/<block>.py`."""
    description = f"Measure the {block} block, tensor-parallel over the ranks that torchrun starts. Lists take commas."
    flags = parse_flags(BlockFlags, prog=f"bench/{block}.py", description=description)
    return resolve(block, flags, read_launch())


def resolve(block: Block, flags: BlockFlags, launch: Launch) -> Settings:
    """Give every flag its meaning; ConfigError for the first that has none."""
    device = pick_kind(flags.device, dry_run=flags.dry_run)
    if flags.world and not flags.dry_run:
        raise ConfigError("--world: only a dry run pretends; add --dry-run, or start more ranks with torchrun")
    node = resolve_node(flags.hardware)
    return Settings(
        block=block,
        command=tuple(sys.argv),
        launch=launch,
        world=positive_int(flags.world, flag="--world") if flags.world else launch.world,
        suite=_suite(block, flags),
        chosen=defaults(device, native_dtypes()),
        device=device,
        node=node,
        link=node.link(flags.link or None),
        calibration_path=flags.calibration or None,
        calibration=load_calibration(Path(flags.calibration)) if flags.calibration else None,
        policy=Policy(max_seconds=_seconds(flags)),
        timeout_s=positive_float(flags.timeout, flag="--timeout"),
        cold=not flags.warm,
        out=_out(flags, block, leads=launch.leads),
        resume=flags.resume,
        dry_run=flags.dry_run,
    )


def pick_kind(text: str, *, dry_run: bool) -> DeviceKind:
    """`auto` becomes cuda where there is any; a real run on cuda needs one."""
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kinds: tuple[DeviceKind, ...] = ("cpu", "cuda")
    kind = choice(text, kinds, flag="--device")
    if kind == "cuda" and not dry_run and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA device here; use --device cpu or --dry-run")
    return kind


def _suite(block: Block, flags: BlockFlags) -> Suite:
    suite = Suite(name=f"{block} by flags")
    if flags.suite:
        suite = catalogue.load(flags.suite, Suite, kind="suites", flag="--suite")
    given = {
        "model": _listed(flags.model, str, "--model"),
        "tp": _listed(flags.tp, lambda word: positive_int(word, flag="--tp"), "--tp"),
        "strategy": _listed(flags.strategy, lambda word: choice(word, STRATEGIES, flag="--strategy"), "--strategy"),
        "phase": _listed(flags.phase, lambda word: choice(word, PHASES, flag="--phase"), "--phase"),
        "batch": _listed(flags.batch, lambda word: positive_int(word, flag="--batch"), "--batch"),
        "seq": _listed(flags.seq, lambda word: positive_int(word, flag="--seq"), "--seq"),
        "context": _listed(flags.context, lambda word: positive_int(word, flag="--context"), "--context"),
        "dtype": choice(flags.dtype, DTYPES, flag="--dtype") if flags.dtype else None,
    }
    return replace(suite, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def _listed(text: str, convert: Callable[[str], T], flag: str) -> tuple[T, ...] | None:
    return comma_list(text, convert, flag=flag) if text else None


def _seconds(flags: BlockFlags) -> float:
    return positive_float(flags.seconds, flag="--seconds") if flags.seconds else Policy().max_seconds


def _out(flags: BlockFlags, block: Block, *, leads: bool) -> Path:
    if flags.resume and not flags.out:
        raise ConfigError("--resume: which run? Name its record file with --out")
    out = Path(flags.out) if flags.out else default_out(block)
    # Only the leading rank looks: it also creates the file, perhaps before another rank is here.
    if leads and out.exists() and not flags.resume:
        raise ConfigError(f"--out {out}: exists already; add --resume to continue it, or name another file")
    return out


def default_out(name: str) -> Path:
    """A new record file under runs/, named for people by the time."""
    return RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{name}.jsonl"
