"""How far a machine wanders as a whole: within runs from quarter to quarter, to their end, and between runs.

One run a side cannot know how far the next one would be off (Kalibera & Jones 2013); what it wandered while it ran is
the least that it would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.comparison.location import Array, lower
from analysis.load import Run
from bench.harness.record.records import Drift, Samples

QUARTERS: Final = 4
# Between two runs a shared host wanders further than within them: 43 pairs of runs of one thing, half a minute apart,
# differed by 1.7 times what their quarters say in the root mean square, and by 6.7 times at the most.
BETWEEN_OVER_WITHIN: Final = 3.0
MIN_QUARTER: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """The standard deviation of a run's common state in log seconds, and its degrees of freedom; none is unknown."""

    deviation: float
    freedom: int


def between_runs(old: Array, new: Array) -> Wander:
    """Of the [run] common states of each side around their means."""
    squares = sum(float(((side - side.mean()) ** 2).sum()) for side in (old, new))
    freedom = len(old) + len(new) - 2
    return Wander(deviation=float(np.sqrt(squares / freedom)) if freedom else 0.0, freedom=freedom)


def within_runs(runs: Sequence[Sequence[Array]], drifts: Sequence[Drift]) -> Wander:
    """Of the quarters of every run, median over its rows of times; at the least what its drift line shows."""
    states = [_quarters(rows) for rows in runs]
    known = [state for state in states if len(state)]
    if not known:
        return Wander(deviation=0.0, freedom=0)
    variance = float(np.mean([state.var(ddof=1) for state in known]))
    # Two states apart: twice the variance of one.
    drifted = [0.0, *(_drift_log(drift) ** 2 / 2 for drift in drifts)]
    return Wander(
        deviation=float(np.sqrt(max(BETWEEN_OVER_WITHIN**2 * variance, *drifted))), freedom=len(known) * (QUARTERS - 1)
    )


def _quarters(rows: Sequence[Array]) -> Array:
    """[quarter] the run's state in each of its quarters, in log seconds around the row."""
    long = [np.array_split(times, QUARTERS) for times in rows if len(times) >= QUARTERS * MIN_QUARTER]
    if not long:
        return np.empty(0)
    logs = np.log([[float(lower(part)) for part in quarters] for quarters in long])
    state: Array = np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)
    return state


def _drift_log(drift: Drift) -> float:
    return float(np.log(_steady(drift.after) / _steady(drift.before)))


def _steady(samples: Samples) -> float:
    return float(lower(np.array(samples.times_s).max(axis=1)))


def drifts_of(runs: Sequence[Run]) -> list[Drift]:
    """The drift lines of runs that can be read: two times or more, none of them zero."""
    return [
        drift
        for run in runs
        for drift in run.drifts
        if all(len(each.times_s) > 1 and np.all(np.array(each.times_s) > 0) for each in (drift.before, drift.after))
    ]
