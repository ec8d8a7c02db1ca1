"""A large grid in a few lines: how many configurations there are, how many fit, and the fastest of each phase."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analysis.forecast.grid import Columns
from tp.case import Case, Phase, Workload

NUM_FASTEST: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fast:
    """One configuration that can run and is not known to be too large."""

    key: str
    total_s: float
    tokens_per_s: float
    """Through the one block that was estimated."""
    model_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of some configurations of one phase."""

    phase: Phase
    num_configurations: int
    num_divide: int
    """Those whose tokens can be cut as their strategy needs."""
    num_fit: int | None
    """Those whose whole model fits a rank; None where it is not known what a device holds."""
    fastest: tuple[Fast, ...]
    """The most tokens a second first."""


def summarise(case: Case, rows: int, columns: Columns) -> Summary:
    """One family of a grid."""
    layer_bytes, fitting = columns["layer_bytes"], columns["fits"]
    return Summary(
        phase=case.workload.phase,
        num_configurations=rows,
        num_divide=int(layer_bytes.count()),
        num_fit=None if fitting is None else int(fitting.filled(False).sum()),
        fastest=_fastest(case, columns),
    )


def by_phase(families: Iterable[Summary]) -> list[Summary]:
    """One summary a phase, in the order in which they come."""
    found: dict[Phase, Summary] = {}
    for family in families:
        found[family.phase] = _both(found[family.phase], family) if family.phase in found else family
    return list(found.values())


def _both(one: Summary, other: Summary) -> Summary:
    fits = None if one.num_fit is None or other.num_fit is None else one.num_fit + other.num_fit
    fastest = sorted((*one.fastest, *other.fastest), key=lambda each: -each.tokens_per_s)
    return Summary(
        phase=one.phase,
        num_configurations=one.num_configurations + other.num_configurations,
        num_divide=one.num_divide + other.num_divide,
        num_fit=fits,
        fastest=tuple(fastest[:NUM_FASTEST]),
    )


def _fastest(case: Case, columns: Columns) -> tuple[Fast, ...]:
    if columns["tokens_per_s"] is None:
        return ()
    speed = np.where(np.isnan(columns["tokens_per_s"]), -1.0, columns["tokens_per_s"])
    if columns["fits"] is not None:
        speed = np.where(columns["fits"].filled(False), speed, -1.0)
    # What differs by rounding alone comes in the order of the grid.
    order = np.argsort(-np.round(speed / speed.max(), 9), kind="stable")[:NUM_FASTEST]
    return tuple(_fast(case, columns, row) for row in map(int, order) if speed[row] > 0)


def _fast(case: Case, columns: Columns, row: int) -> Fast:
    batch, seq, context = (int(columns[name][row]) for name in ("batch", "seq", "context"))
    w = case.workload
    workload = Workload(phase=w.phase, batch=batch, seq=seq, context=context, dtype=w.dtype)
    held = columns["model_bytes"]
    return Fast(
        key=replace(case, workload=workload, chunks=int(columns["chunks"][row])).key,
        total_s=float(columns["total_s"][row]),
        tokens_per_s=float(columns["tokens_per_s"][row]),
        model_bytes=None if held is None else int(held[row]),
    )
