"""A suite: the sweeps that a run measures, from a TOML file and flags, and the cases that they expand to."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pydantic import with_config

from tp.case import STRATEGIES, Block, Case, Phase, Recompute, Strategy, Workload
from tp.errors import ConfigError
from tp.model import ModelShape, load_model
from tp.placement import spreads
from tp.plan.shards import degrees, misfit, require_fit, token_misfit
from tp.schema import STRICT, Name
from tp.units import Dtype

# torch's fused symmetric-memory operators have kernels for CUDA alone.
CUDA_ONLY: Final[tuple[Strategy, ...]] = ("async-tp",)


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Suite:
    """Lists that are swept over in every combination; what is left out is chosen by the machine."""

    name: Name
    model: tuple[str, ...] = ()
    """Catalogue names or paths of TOML files."""
    tp: tuple[int, ...] = ()
    """Empty: every degree that divides the world and fits the model."""
    strategy: tuple[Strategy, ...] = ()
    """Empty: every one that runs on the device."""
    phase: tuple[Phase, ...] = ("prefill", "train")
    batch: tuple[int, ...] = (1,)
    seq: tuple[int, ...] = ()
    """Tokens a sequence; in decode the context, unless `context` is given."""
    context: tuple[int, ...] = ()
    dtype: Dtype | None = None
    chunks: int | None = None
    """Pieces that a rank's tokens are sent in under `overlap`; None: as many as the estimate finds best."""
    recompute: tuple[Recompute, ...] = ("none",)
    """Of training only."""
    nodes: tuple[int, ...] = ()
    """Over which a group's ranks lie; empty: as few as hold them."""
    link_rates: tuple[str, ...] = ()
    """Of a laboratory's links, one after the other: 480mbit, 1gbit; scripts/netsweep runs the suite at each."""
    calibration_rates: tuple[str, ...] = ()
    """Of these, the ones at which the machine is calibrated first."""

    def __post_init__(self) -> None:
        for field in ("tp", "batch", "seq", "context", "nodes"):
            for value in getattr(self, field):
                if value < 1:
                    raise ValueError(f"{field} holds {value}; sizes are at least 1")
        if self.chunks is not None and self.chunks < 1:
            raise ValueError(f"chunks is {self.chunks}; it is at least 1")
        for field in ("model", "tp", "strategy", "phase", "batch", "seq", "context", "recompute", "nodes"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"{field} names a value twice; name it once")
        for field in ("phase", "batch", "recompute"):
            if not getattr(self, field):
                raise ValueError(f"{field} is empty; leave it out for the default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a suite leaves open, chosen so that it fits where it runs."""

    model: str
    seq: int
    dtype: Dtype
    strategies: tuple[Strategy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case of the suite, and why it cannot run if it cannot."""

    case: Case
    skip: str | None


def defaults(device: Literal["cpu", "cuda"], native: Sequence[Dtype]) -> Defaults:
    """On GPUs Llama-2-70B in bf16; on a CPU a small real model, in bf16 only where the CPU multiplies in it."""
    if device == "cuda":
        return Defaults(model="llama2-70b", seq=4096, dtype="bf16", strategies=STRATEGIES)
    return Defaults(
        model="tinyllama-1.1b",
        seq=256,
        dtype="bf16" if "bf16" in native else "fp32",
        strategies=tuple(name for name in STRATEGIES if name not in CUDA_ONLY),
    )


def expand(
    suite: Suite,
    block: Block,
    *,
    world: int | None,
    chosen: Defaults,
    choose_chunks: Callable[[Case], int],
    on_node: int | None = None,
) -> list[PlannedCase]:
    """Every case of the suite, those to be interleaved next to each other; `on_node` ranks of the world are on a node.

    Without a world, as for a prediction, the degrees are those of the suite, 1, 2, 4 and 8 where it has none;
    `choose_chunks` is asked where the suite leaves the chunks of `overlap` open. Raises PlanError for a degree that
    cannot split a model and ConfigError for one that does not divide the world; a case whose tokens do not divide is
    kept and skipped, since the others of its sweep are sound.
    """
    strategies = suite.strategy or chosen.strategies
    cases = []
    for model in [load_model(name) for name in suite.model or (chosen.model,)]:
        for workload in _workloads(suite, chosen):
            for tp in suite.tp or _all_degrees(model, block, strategies, world):
                if world is not None:
                    _require_divides(tp, world)
                for nodes, strategy, recompute in itertools.product(
                    _spreads(suite, tp, world, on_node), strategies, _recomputes(suite, workload)
                ):
                    if not suite.tp and misfit(model, block, strategy, tp) is not None:
                        continue
                    case = Case(
                        block=block,
                        model=model,
                        strategy=strategy,
                        tp=tp,
                        workload=workload,
                        recompute=recompute,
                        nodes=nodes,
                    )
                    if strategy == "overlap" and tp > 1:
                        case = replace(case, chunks=suite.chunks or choose_chunks(case))
                    cases.append(_planned(case))
    if not cases:
        raise ConfigError(f"--nodes {', '.join(map(str, suite.nodes))}: no group of this world lies on so many; use 1")
    return cases


def interleaved(cases: Sequence[PlannedCase]) -> Iterator[list[PlannedCase]]:
    """The groups of cases timed against each other: all strategies of one model, workload, degree and placement."""
    by_group = itertools.groupby(
        cases, key=lambda planned: (planned.case.model, planned.case.workload, planned.case.tp, planned.case.nodes)
    )
    for _, group in by_group:
        yield list(group)


def lengths(suite: Suite, phase: Phase, chosen: Defaults) -> tuple[int, ...]:
    """Tokens a sequence, in decode those of its context."""
    return (suite.context if phase == "decode" else ()) or suite.seq or (chosen.seq,)


def families(suite: Suite, block: Block, *, chosen: Defaults) -> list[Case]:
    """One case of every combination of all but batch and length: what a plan over a grid is made for.

    Where the suite leaves the chunks of `overlap` open they are 1 here. PlanError for a degree that cannot split a
    model, as `expand`.
    """
    first = replace(suite, batch=suite.batch[:1], seq=suite.seq[:1], context=suite.context[:1])
    return [planned.case for planned in expand(first, block, world=None, chosen=chosen, choose_chunks=lambda case: 1)]


def _workloads(suite: Suite, chosen: Defaults) -> Iterator[Workload]:
    dtype = suite.dtype or chosen.dtype
    if suite.context and "decode" not in suite.phase:
        raise ConfigError(f"--context {suite.context[0]}: only decode has a context of its own; add --phase decode")
    for phase, batch in itertools.product(suite.phase, suite.batch):
        for length in lengths(suite, phase, chosen):
            seq = 1 if phase == "decode" else length
            yield Workload(phase=phase, batch=batch, seq=seq, context=length, dtype=dtype)


def _recomputes(suite: Suite, workload: Workload) -> tuple[Recompute, ...]:
    if workload.phase == "train":
        return suite.recompute
    if suite.recompute != ("none",) and "train" not in suite.phase:
        raise ConfigError(f"--recompute {suite.recompute[0]}: only training keeps activations; add --phase train")
    return ("none",)


def _all_degrees(model: ModelShape, block: Block, strategies: Sequence[Strategy], world: int | None) -> list[int]:
    divisors_of = 8 if world is None else world
    return sorted({n for strategy in strategies for n in degrees(model, block, strategy, world=divisors_of)})


def _require_divides(tp: int, world: int) -> None:
    if world % tp:
        fitting = [n for n in range(1, world + 1) if world % n == 0]
        raise ConfigError(f"--tp {tp}: does not divide the world of {world}; use {', '.join(map(str, fitting))}")


def _spreads(suite: Suite, tp: int, world: int | None, on_node: int | None) -> Sequence[int]:
    """Over how many nodes groups of `tp` are to lie, of those over which they can."""
    possible = (1,) if world is None or on_node is None else spreads(tp, world=world, on_node=on_node)
    if not possible:
        raise ConfigError(f"--tp {tp}: does not lie evenly on nodes of {on_node} ranks; start as many as divide it")
    # A rank alone is on one node, and what the others are compared with.
    return [nodes for nodes in suite.nodes or possible[:1] if nodes in possible] if tp > 1 else [1]


def _planned(case: Case) -> PlannedCase:
    """The case, skipped where its tokens do not divide; a degree that cannot split the model raises PlanError."""
    skip = token_misfit(case)
    if skip is None or misfit(case.model, case.block, case.strategy, case.tp) is not None:
        require_fit(case)
    return PlannedCase(case=case, skip=skip)
