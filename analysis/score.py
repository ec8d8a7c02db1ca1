"""How well a calibration does on rows that it has not seen: error by kind, and how many its intervals hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.fitting.overheads import is_probe
from analysis.load import Run
from analysis.measured.op import Measured
from analysis.measured.read import Inputs
from bench.harness.record.parts import part_rows
from tp.cost.calibrated import CalibratedTheory
from tp.cost.theory import estimate_plan
from tp.errors import ConfigError
from tp.plan.ops import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A measured time beside what the calibration says of it; None where it says nothing."""

    kind: str
    measured_s: float
    seconds: float | None
    low_s: float
    high_s: float
    extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The errors of one kind; None where no row has a price. Errors are predicted / measured - 1."""

    rows: int
    mape_percent: float | None
    median_percent: float | None
    p95_percent: float | None
    bias_percent: float | None
    """Mean signed error; minus: predicted too fast."""
    inside_interval_percent: float | None
    extrapolated_rows: int
    unpriced_rows: int


def score(inputs: Inputs, theory: CalibratedTheory) -> dict[str, Score]:
    """By kind: gemm, attention, collective and rank count, layer part; ConfigError when there is nothing to score."""
    scored = list(scored_rows(inputs, theory))
    if not scored:
        raise ConfigError("nothing to score: no op timed alone and no layer with a speed in the files")
    return {kind: _score([row for row in scored if row.kind == kind]) for kind in sorted({row.kind for row in scored})}


def scored_rows(inputs: Inputs, theory: CalibratedTheory) -> Iterator[Scored]:
    """Every row of tables and records, and every part of a measured layer."""
    yield from (_scored(row, theory) for row in inputs.rows)
    for run in inputs.runs:
        yield from _layers(run, theory)


def _scored(row: Measured, theory: CalibratedTheory) -> Scored:
    price = theory.over(row.network).price(row.op, source=row.source)
    return Scored(
        kind=row.kind,
        measured_s=row.seconds,
        seconds=None if price is None else price.seconds,
        low_s=0.0 if price is None else price.low_s,
        high_s=0.0 if price is None else price.high_s,
        extrapolated=price is not None and price.extrapolated,
    )


def _layers(run: Run, theory: CalibratedTheory) -> Iterator[Scored]:
    """Parts and wholes of the record's cases, estimated anew; what was written before the measurement stays there."""
    for case in run.cases:
        if case.planned.emulated or case.result.status != "ok" or is_probe(case):
            continue
        plan = Plan(case=case.planned.case, backend=case.header.backend, ops=case.planned.ops)
        planned = replace(case.planned, estimates=(estimate_plan(plan, theory),))
        for row in part_rows(case.header, planned, case.result):
            if row.measured_s and row.comparable:
                yield Scored(
                    kind=f"layer/{row.part}",
                    measured_s=row.measured_s,
                    seconds=row.estimate_s,
                    low_s=row.estimate_low_s or 0.0,
                    high_s=row.estimate_high_s or 0.0,
                    extrapolated=row.extrapolated,
                )


def _score(rows: Sequence[Scored]) -> Score:
    priced = [row for row in rows if row.seconds is not None]
    errors = np.array([100 * (row.seconds / row.measured_s - 1) for row in priced if row.seconds is not None])
    inside = [row.low_s <= row.measured_s <= row.high_s for row in priced]
    known = len(priced) > 0
    return Score(
        rows=len(rows),
        mape_percent=float(np.abs(errors).mean()) if known else None,
        median_percent=float(np.median(np.abs(errors))) if known else None,
        p95_percent=float(np.percentile(np.abs(errors), 95)) if known else None,
        bias_percent=float(errors.mean()) if known else None,
        inside_interval_percent=100 * float(np.mean(inside)) if known else None,
        extrapolated_rows=sum(row.extrapolated for row in priced),
        unpriced_rows=len(rows) - len(priced),
    )
