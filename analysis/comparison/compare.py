"""Two versions, each a record file or a folder of them, case by case and part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analysis.comparison.judgement import DOUBTFUL, Judged, critical, judge_common, judge_rows
from analysis.comparison.location import Array, Estimator, locate, lower, tail
from analysis.comparison.matching import Matched, Pair, match
from analysis.comparison.metadata import differences
from analysis.comparison.noise import Evidence, Side, weigh
from analysis.comparison.rows import CaseVerdict, Change, Common, Comparison, Row, Verdict
from analysis.comparison.wander import Wander, between_runs, drifts_of, within_runs
from analysis.load import Run
from analysis.show.cells import percent
from bench.harness.record.parts import WHOLES
from tp.units import format_signed_percent

NOTHING_SHARED: Final = Common(verdict="not comparable", reason="no row can be compared")
# Fewer samples have no 90th percentile to speak of.
MIN_TAIL_SAMPLES: Final = 20
# Tails are told of from such a change on: they are the noisiest of all.
LEAST_TAIL: Final = 0.1


def compare(old: Sequence[Run], new: Sequence[Run], *, margin: float) -> Comparison:
    """What got slower or faster from the runs of one version to those of another; `margin` is relative."""
    matched = match(old, new)
    common, rows = _judge(matched, (old, new), margin)
    ordered = [row for name in matched.names for row in (*rows, *matched.unmatched) if row.case == name]
    return Comparison(
        old=tuple(str(run.path) for run in old),
        new=tuple(str(run.path) for run in new),
        margin=margin,
        differences=differences(old, new),
        common=common,
        cases=tuple(_case_verdict(name, matched, ordered) for name in matched.names),
        rows=tuple(ordered),
        left_out=matched.left_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """The evidence on pairs of rows, by the runs that have any of them."""

    evidence: Evidence
    old_rows: list[list[Array]]
    new_rows: list[list[Array]]

    @property
    def runs(self) -> tuple[int, int]:
        return len(self.old_rows), len(self.new_rows)


def _judge(matched: Matched, runs: tuple[Sequence[Run], Sequence[Run]], margin: float) -> tuple[Common, list[Row]]:
    pairs = matched.pairs
    if not pairs:
        return NOTHING_SHARED, []
    weighed = _weigh(pairs, lower)
    wander = _wander(weighed, runs)
    common = judge_common(weighed.evidence, wander, weighed.runs, margin)
    judged = judge_rows(weighed.evidence, common, wander, weighed.runs, margin)
    verdicts = [judged.verdict(i, margin) for i in range(len(pairs))]
    tails = _tails(pairs, weighed.evidence, verdicts)
    changes = [_change(weighed.evidence, judged, i, tails.get(i)) for i in range(len(pairs))]
    rows = [_row(*each) for each in zip(pairs, verdicts, changes, strict=True)]
    return common, [replace(row, reason=DOUBTFUL) if judged.is_doubtful(i) else row for i, row in enumerate(rows)]


def _weigh(pairs: Sequence[Pair], estimator: Estimator) -> _Weighed:
    old, old_rows = _side([pair.old for pair in pairs], estimator)
    new, new_rows = _side([pair.new for pair in pairs], estimator)
    waits, whole = np.array([pair.waits for pair in pairs]), np.array([pair.part in WHOLES for pair in pairs])
    return _Weighed(evidence=weigh(old, new, waits=waits, whole=whole), old_rows=old_rows, new_rows=new_rows)


def _side(rows: Sequence[Mapping[int, Array]], estimator: Estimator) -> tuple[Side, list[list[Array]]]:
    """[run, row] locations of the runs that have any row, and each run's times."""
    runs = sorted({run for row in rows for run in row})
    found = [[locate(row[run], estimator) if run in row else None for row in rows] for run in runs]
    size = next(len(each.resampled) for each in found[0] if each is not None)
    nothing = np.full(size, np.nan)
    side = Side(
        log_s=np.array([[np.nan if each is None else each.log_s for each in run] for run in found]),
        resampled=np.array(
            [np.stack([nothing if each is None else each.resampled for each in run], axis=1) for run in found]
        ),
    )
    return side, [[row[run] for row in rows if run in row] for run in runs]


def _wander(weighed: _Weighed, runs: tuple[Sequence[Run], Sequence[Run]]) -> Wander:
    """Between the runs of a side; of one run a side what it wandered itself, and what its drift line says."""
    if weighed.runs != (1, 1):
        return between_runs(*weighed.evidence.common_by_run)
    return within_runs([*weighed.old_rows, *weighed.new_rows], drifts_of([*runs[0], *runs[1]]))


def _tails(pairs: Sequence[Pair], evidence: Evidence, verdicts: Sequence[Verdict]) -> dict[int, float]:
    """By row the ratio of the 90th percentiles, new over old, where these changed and the row itself did not."""
    long = [i for i, pair in enumerate(pairs) if pair.fewest_samples >= MIN_TAIL_SAMPLES]
    if not long:
        return {}
    tails = _weigh([pairs[i] for i in long], tail).evidence
    # A tail changes with its row: what is told is how much further it went.
    further = tails.beside_common - evidence.beside_common[long]
    error = np.hypot(tails.beside_error, evidence.beside_error[long])
    told = np.abs(further) > np.maximum(critical(tails.freedom, len(long)) * error, np.log1p(LEAST_TAIL))
    return {i: float(np.exp(tails.change[at])) for at, i in enumerate(long) if told[at] and verdicts[i] == "same"}


def _change(evidence: Evidence, judged: Judged, i: int, tail_ratio: float | None) -> Change:
    change, half_width = float(judged.change[i]), float(judged.half_width[i])
    known = np.isfinite(half_width)
    return Change(
        time_new_over_old=float(np.exp(evidence.change[i])),
        judged_by=judged.basis,
        judged_time_new_over_old=float(np.exp(change)),
        judged_low=float(np.exp(change - half_width)) if known else None,
        judged_high=float(np.exp(change + half_width)) if known else None,
        could_see_change=float(np.expm1(judged.could_see[i])) if known else None,
        tail_time_new_over_old=tail_ratio,
    )


def _row(pair: Pair, verdict: Verdict, change: Change) -> Row:
    """With medians and counts over all runs of each side."""
    old, new = (np.concatenate(list(side.values())) for side in (pair.old, pair.new))
    return Row(
        case=pair.case,
        part=pair.part,
        verdict=verdict,
        reason=_reason(verdict, change),
        old_median_s=float(np.median(old)),
        new_median_s=float(np.median(new)),
        old_runs=len(pair.old),
        new_runs=len(pair.new),
        old_samples=len(old),
        new_samples=len(new),
        change=change,
    )


def _reason(verdict: Verdict, change: Change) -> str:
    if verdict == "not comparable":
        if change.could_see_change is None:
            return "one run a side, of few rows and rounds; repeat, in folders"
        return f"too noisy: could only see {percent(change.could_see_change)}"
    slow = change.tail_time_new_over_old
    return "" if slow is None else f"but its slow passes changed: 90th percentile {format_signed_percent(slow - 1)}"


def _case_verdict(name: str, matched: Matched, rows: Sequence[Row]) -> CaseVerdict:
    """The worst of its rows; not comparable where all of them are."""
    if name in matched.closed:
        return matched.closed[name]
    mine = [row for row in rows if row.case == name]
    total = next((row for row in mine if row.part == "total"), None)
    for verdict in ("slower", "faster", "same"):
        parts = [row.part for row in mine if row.verdict == verdict]
        if verdict == "same" and total is not None and total.verdict == "not comparable":
            return CaseVerdict(case=name, verdict="not comparable", reason=f"its total: {total.reason}")
        if parts:
            reason = f"{', '.join(parts)}" if verdict != "same" else ""
            return CaseVerdict(case=name, verdict=verdict, reason=reason)
    reasons = dict.fromkeys(row.reason for row in mine)
    return CaseVerdict(case=name, verdict="not comparable", reason=next(iter(reasons), "it has no rows"))
