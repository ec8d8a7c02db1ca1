"""The flags of the block benchmarks (attention, ...) and the settings that they resolve to."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Final, TypeVar

import tyro

from bench.harness.run.cli import RunFlags, RunSettings, resolve_run
from bench.harness.run.runnable import FP8_STRATEGIES, require_runnable
from bench.harness.timing.measure import Policy
from tp import catalogue
from tp.case import PHASES, RECOMPUTES, STRATEGIES, Block, Case, Strategy
from tp.cost.choose import choose_chunks
from tp.errors import ConfigError
from tp.flags import choice, comma_list, parse_flags, positive_float, positive_int
from tp.probe import native_dtypes
from tp.suite import Defaults, PlannedCase, Suite, defaults, expand
from tp.units import DTYPES

T = TypeVar("T")

_NAMES: Final[dict[Block, str]] = {
    "attention": "the attention block",
    "ffn": "the FFN block",
    "block": "a whole transformer layer",
}

# Strategies that send through our own collectives, which can be silent.
EMULATED_STRATEGIES: Final[tuple[Strategy, ...]] = ("columns", "allreduce", "sequence", "overlap")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFlags(RunFlags):
    """What to sweep over, and how to run it."""

    model: str = ""
    """Models, names of configs/models or TOML files (default: one that fits the machine)."""
    tp: str = ""
    """Tensor-parallel degrees (default: all that divide the world and the model)."""
    strategy: str = ""
    """columns, allreduce, sequence, overlap, async-tp, dtensor (default: all that run on the device)."""
    phase: str = ""
    """prefill, train, decode (default: prefill,train)."""
    batch: str = ""
    """Sequences (default: 1)."""
    seq: str = ""
    """Tokens a sequence (default: 4096 on GPUs, 256 on a CPU)."""
    context: str = ""
    """Tokens in the KV cache in decode (default: --seq)."""
    chunks: str = ""
    """Pieces that a rank's tokens are sent in under overlap (default: as many as the estimate finds best)."""
    nodes: str = ""
    """Over how many nodes a TP group's ranks lie (default: as few as hold them); 1,2 also crosses on purpose."""
    recompute: str = ""
    """none, selective, full: which activations training makes again in the backward (default: none)."""
    emulate_tp: str = ""
    """One rank computes one of so many shards; communication is taken from the estimate, and marked."""
    suite: str = ""
    """A name of configs/suites or a TOML file of sweeps; flags override it."""
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
    dry_run: bool
    emulates: bool
    """Whether one rank stands for all: nothing is sent."""

    @property
    def on_node(self) -> int:
        """Ranks on each node; those of a dry run as the hardware's nodes would have them."""
        if not self.dry_run:
            return self.run.launch.local_world
        least = self.run.node.num_nodes(self.world)
        return self.world // least if self.world % least == 0 else self.world

    def cases(self) -> list[PlannedCase]:
        """Every case of the suite in this world."""
        theories = self.run.theories()

        def chunks(case: Case) -> int:
            return choose_chunks(case, theories, backend=self.run.backend)

        world = None if self.emulates else self.world
        cases = expand(
            self.suite, self.block, world=world, chosen=self.chosen, choose_chunks=chunks, on_node=self.on_node
        )
        twice = [key for key, count in Counter(planned.case.key for planned in cases).items() if count > 1]
        if twice:
            raise ConfigError(f"{twice[0]}: is asked for twice; give models of different shapes different names")
        first = cases[0].skip
        if first is not None and all(planned.skip is not None for planned in cases):
            raise ConfigError(first)
        return cases


def read_block_flags(block: Block) -> BlockSettings:
    """The settings of `torchrun bench/<block>.py`; ConfigError for the first flag that has no meaning."""
    what = _NAMES[block]
    description = f"Measure {what}, tensor-parallel over the ranks that torchrun starts. Lists take commas."
    flags = parse_flags(BlockFlags, prog=f"bench/{block}.py", description=description)
    if flags.world and not flags.dry_run:
        raise ConfigError("--world: only a dry run pretends; add --dry-run, or start more ranks with torchrun")
    run = resolve_run(flags, name=block, dry_run=flags.dry_run)
    suite, chosen = _suite(block, flags), defaults(run.device, native_dtypes())
    if flags.emulate_tp:
        suite, chosen = _emulated(flags, suite, run), replace(chosen, strategies=EMULATED_STRATEGIES)
    dtype = suite.dtype or chosen.dtype
    if dtype == "fp8":
        chosen = replace(chosen, strategies=FP8_STRATEGIES)
    require_runnable(suite.strategy, suite.phase, dtype, device=run.device, dry_run=flags.dry_run)
    return BlockSettings(
        run=run,
        block=block,
        suite=suite,
        chosen=chosen,
        policy=Policy(max_seconds=positive_float(flags.seconds or "5", flag="--seconds")),
        world=positive_int(flags.world, flag="--world") if flags.world else run.launch.world,
        dry_run=flags.dry_run,
        emulates=bool(flags.emulate_tp),
    )


def _emulated(flags: BlockFlags, suite: Suite, run: RunSettings) -> Suite:
    """The suite with the emulated degree; ConfigError where emulation has no meaning."""
    if run.launch.world > 1:
        raise ConfigError(
            f"--emulate-tp: {run.launch.world} ranks are here and need no emulation; use --tp, or one rank"
        )
    if flags.tp or flags.dry_run or flags.world:
        raise ConfigError("--emulate-tp: is itself the degree and really measures; leave out --tp, --dry-run, --world")
    for strategy in suite.strategy:
        if strategy not in EMULATED_STRATEGIES:
            raise ConfigError(
                f"--strategy {strategy}: sends from within torch and cannot be emulated; use "
                f"{', '.join(EMULATED_STRATEGIES)}"
            )
    return replace(suite, tp=(positive_int(flags.emulate_tp, flag="--emulate-tp"),))


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
        "chunks": positive_int(flags.chunks, flag="--chunks") if flags.chunks else None,
        "nodes": _listed(flags.nodes, lambda word: positive_int(word, flag="--nodes"), "--nodes"),
        "recompute": _listed(flags.recompute, lambda word: choice(word, RECOMPUTES, flag="--recompute"), "--recompute"),
    }
    return replace(suite, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def _listed(text: str, convert: Callable[[str], T], flag: str) -> tuple[T, ...] | None:
    return comma_list(text, convert, flag=flag) if text else None
