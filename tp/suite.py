"""A suite: the sweeps that a run measures, from a TOML file and flags, and the cases that they expand to."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import with_config

from tp.case import Block, Case, Phase, Strategy, Workload
from tp.errors import ConfigError, PlanError
from tp.model import ModelShape, load_model
from tp.plan.shards import degrees, misfit, require_fit
from tp.schema import STRICT
from tp.units import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Suite:
    """Lists that are swept over in every combination; what is left out is chosen by the machine."""

    name: str
    model: tuple[str, ...] = ()
    """Catalogue names or paths of TOML files."""
    tp: tuple[int, ...] = ()
    """Empty: every degree that divides the world and fits the model."""
    strategy: tuple[Strategy, ...] = ("columns", "allreduce", "sequence")
    phase: tuple[Phase, ...] = ("prefill", "train")
    batch: tuple[int, ...] = (1,)
    seq: tuple[int, ...] = ()
    """Tokens a sequence; in decode the context, unless `context` is given."""
    context: tuple[int, ...] = ()
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        for field in ("tp", "batch", "seq", "context"):
            for value in getattr(self, field):
                if value < 1:
                    raise ValueError(f"{field} holds {value}; sizes are at least 1")
        for field in ("model", "tp", "strategy", "phase", "batch", "seq", "context"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"{field} names a value twice; name it once")
        for field in ("strategy", "phase", "batch"):
            if not getattr(self, field):
                raise ValueError(f"{field} is empty; leave it out for the default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a suite leaves open, chosen so that it fits where it runs."""

    model: str
    seq: int
    dtype: Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case of the suite, and why it cannot run if it cannot."""

    case: Case
    skip: str | None


def defaults(device: Literal["cpu", "cuda"], native: Sequence[Dtype]) -> Defaults:
    """On GPUs Llama-2-70B in bf16; on a CPU a small real model, in bf16 only where the CPU multiplies in it."""
    if device == "cuda":
        return Defaults(model="llama2-70b", seq=4096, dtype="bf16")
    return Defaults(model="tinyllama-1.1b", seq=256, dtype="bf16" if "bf16" in native else "fp32")


def expand(suite: Suite, block: Block, *, world: int | None, chosen: Defaults) -> list[PlannedCase]:
    """Every case of the suite, those to be interleaved next to each other.

    Without a world, as for a prediction, the degrees are those of the suite, 1, 2, 4 and 8 where it has none.
    Raises PlanError for a degree that cannot split a model and ConfigError for one that does not divide the world; a
    case whose tokens do not divide is kept and skipped, since the others of its sweep are sound.
    """
    cases = []
    for model in [load_model(name) for name in suite.model or (chosen.model,)]:
        for workload in _workloads(suite, chosen):
            for tp in suite.tp or _all_degrees(model, suite.strategy, world):
                if world is not None:
                    _require_divides(tp, world)
                for strategy in suite.strategy:
                    if not suite.tp and misfit(model, strategy, tp) is not None:
                        continue
                    case = Case(block=block, model=model, strategy=strategy, tp=tp, workload=workload)
                    cases.append(PlannedCase(case=case, skip=_token_misfit(case)))
    return cases


def interleaved(cases: Sequence[PlannedCase]) -> Iterator[list[PlannedCase]]:
    """The groups of cases that are timed against each other: all strategies of one model, workload and degree."""
    by_group = itertools.groupby(
        cases, key=lambda planned: (planned.case.model, planned.case.workload, planned.case.tp)
    )
    for _, group in by_group:
        yield list(group)


def _workloads(suite: Suite, chosen: Defaults) -> Iterator[Workload]:
    dtype = suite.dtype or chosen.dtype
    if suite.context and "decode" not in suite.phase:
        raise ConfigError(f"--context {suite.context[0]}: only decode has a context of its own; add --phase decode")
    for phase, batch in itertools.product(suite.phase, suite.batch):
        lengths = suite.seq or (chosen.seq,)
        for length in (suite.context or lengths) if phase == "decode" else lengths:
            seq = 1 if phase == "decode" else length
            yield Workload(phase=phase, batch=batch, seq=seq, context=length, dtype=dtype)


def _all_degrees(model: ModelShape, strategies: Sequence[Strategy], world: int | None) -> list[int]:
    divisors_of = 8 if world is None else world
    return sorted({n for strategy in strategies for n in degrees(model, strategy, world=divisors_of)})


def _require_divides(tp: int, world: int) -> None:
    if world % tp:
        fitting = [n for n in range(1, world + 1) if world % n == 0]
        raise ConfigError(f"--tp {tp}: does not divide the world of {world}; use {', '.join(map(str, fitting))}")


def _token_misfit(case: Case) -> str | None:
    """Why the case's tokens do not divide; a degree that cannot split the model raises instead."""
    try:
        require_fit(case)
    except PlanError as error:
        if misfit(case.model, case.strategy, case.tp) is not None:
            raise
        return str(error)
    return None
