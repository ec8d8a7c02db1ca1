"""The flags of the block benchmarks (attention, ...) and the settings that they resolve to."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import tyro

from bench.harness.cli import RunFlags, RunSettings, resolve_run
from bench.harness.measure import Policy
from tp import catalogue
from tp.case import PHASES, STRATEGIES, Block
from tp.errors import ConfigError
from tp.flags import choice, comma_list, parse_flags, positive_float, positive_int
from tp.probe import native_dtypes
from tp.suite import Defaults, Suite, defaults
from tp.units import DTYPES

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFlags(RunFlags):
    """What to sweep over, and how to run it."""

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
    suite: str = ""
    """A name of configs/suites or a TOML file of sweeps; flags override it."""
    resume: Annotated[bool, tyro.conf.arg(help="Continue --out: cases that it holds are not measured again.")] = False
    dry_run: Annotated[bool, tyro.conf.arg(help="Build every case on fake tensors, measure nothing.")] = False
    world: str = ""
    """Ranks that a dry run pretends to have (default: the real number)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSettings:
    """What a block benchmark was asked to do, resolved."""

    run: RunSettings
    block: Block
    suite: Suite
    chosen: Defaults
    policy: Policy
    world: int
    resume: bool
    dry_run: bool


def read_block_flags(block: Block) -> BlockSettings:
    """The settings of `torchrun bench/<block>.py`; ConfigError for the first flag that has no meaning."""
    description = f"Measure the {block} block, tensor-parallel over the ranks that torchrun starts. Lists take commas."
    flags = parse_flags(BlockFlags, prog=f"bench/{block}.py", description=description)
    if flags.world and not flags.dry_run:
        raise ConfigError("--world: only a dry run pretends; add --dry-run, or start more ranks with torchrun")
    run = resolve_run(flags, name=block, resume=flags.resume, dry_run=flags.dry_run)
    return BlockSettings(
        run=run,
        block=block,
        suite=_suite(block, flags),
        chosen=defaults(run.device, native_dtypes()),
        policy=Policy(max_seconds=positive_float(flags.seconds or "5", flag="--seconds")),
        world=positive_int(flags.world, flag="--world") if flags.world else run.launch.world,
        resume=flags.resume,
        dry_run=flags.dry_run,
    )


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
