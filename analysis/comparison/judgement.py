"""From evidence to verdicts: intervals that hold together, a margin that matters, and what could have been seen."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.comparison.follow import SPREAD
from analysis.comparison.noise import FLOOR, Array, Evidence
from analysis.comparison.rows import Basis, Common, Verdict
from analysis.comparison.wander import Wander
from analysis.show.cells import percent

# All verdicts of a comparison hold together with this confidence (Bonferroni, so that intervals and verdicts agree).
CONFIDENCE: Final = 0.99
# A change that is called the smallest to be seen is found in so many of such comparisons.
POWER: Final = 0.9
# Where not even such a slow-down would be found, "the same" would say nothing.
MOST_TO_SEE: Final = 0.25
# Beyond so many standard errors a common change is more than the machine's state usually makes.
USUAL: Final = 2.0
SUSPICIOUS: Final = "more than runs of one version usually differ by, but not beyond doubt; repeat in more runs"
DOUBTFUL: Final = "differs from the others, but not by the clock: theirs may be what changed"
ONE_RUN: Final = "one run a side cannot tell a change from the machine's state; give folders of several runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """[row] what is judged, its half-width and what could be seen, in log seconds; and by what."""

    change: Array
    half_width: Array
    could_see: Array
    basis: Basis
    doubtful: NDArray[np.bool_]
    """[row] whether the clock contradicts it, and what all share is more than the machine's state usually makes."""

    def verdict(self, row: int, margin: float) -> Verdict:
        """What to call the row; a change beside the others may be theirs."""
        found = verdict_of(float(self.change[row]), float(self.half_width[row]), float(self.could_see[row]), margin)
        return "not comparable" if self.doubtful[row] and found in ("slower", "faster") else found

    def is_doubtful(self, row: int) -> bool:
        """Whether a change beside the others was found and is not called one."""
        return bool(self.doubtful[row] and abs(self.change[row]) > self.half_width[row])


def verdict_of(change: float, half_width: float, could_see: float, margin: float) -> Verdict:
    """What to call a change in log seconds that is known to within `half_width`; `margin` is relative."""
    if abs(change) > half_width and abs(change) >= np.log1p(margin):
        return "slower" if change > 0 else "faster"
    return "same" if could_see <= np.log1p(MOST_TO_SEE) else "not comparable"


def judge_rows(evidence: Evidence, common: Common, wander: Wander, runs: tuple[int, int], margin: float) -> Judged:
    """The rows beside what they share; as timed where that is a change itself, or is not to be told."""
    if evidence.common is not None and common.verdict not in ("slower", "faster"):
        doubtful = np.zeros(len(evidence.change), dtype=np.bool_)
        if is_suspicious(evidence, wander, runs):
            against = np.sign(evidence.beside_common) * evidence.change
            doubtful = against < np.log1p(margin)
        return _judged(evidence.beside_common, evidence.beside_error, evidence, "the others", margin, doubtful)
    state = state_error(wander, runs)
    if evidence.common is None and runs != (1, 1):
        # Nothing was taken out of the rows, so that several runs of one version differ by their state already.
        state = 0.0
    elif wander.freedom == 0:
        state = np.inf
    error = np.hypot(evidence.error, (1 + SPREAD) * state)
    return _judged(evidence.change, error, evidence, "the clock", margin, np.zeros(len(error), dtype=np.bool_))


def is_suspicious(evidence: Evidence, wander: Wander, runs: tuple[int, int]) -> bool:
    """Whether what all share is more than the machine's state usually makes of it, though not beyond all doubt."""
    if evidence.common is None or wander.freedom == 0:
        return False
    return abs(evidence.common) > USUAL * state_error(wander, runs)


def _judged(
    change: Array, error: Array, evidence: Evidence, basis: Basis, margin: float, doubtful: NDArray[np.bool_]
) -> Judged:
    half_width = critical(evidence.freedom, len(change) + 1) * error
    could_see = np.maximum(half_width + student.ppf(POWER, evidence.freedom) * error, np.log1p(margin))
    return Judged(change=change, half_width=half_width, could_see=could_see, basis=basis, doubtful=doubtful)


def judge_common(evidence: Evidence, wander: Wander, runs: tuple[int, int], margin: float) -> Common:
    """What all rows share, held against how far the machine wanders."""
    if evidence.common is None:
        return Common(verdict="not comparable", reason="too few rows to tell what they share")
    ratio = float(np.exp(evidence.common))
    if wander.freedom == 0:
        return Common(verdict="not comparable", reason=ONE_RUN, time_new_over_old=ratio)
    error = state_error(wander, runs)
    half_width = float(critical(np.array(wander.freedom), len(evidence.change) + 1)) * error
    could_see = max(half_width + float(student.ppf(POWER, wander.freedom)) * error, float(np.log1p(margin)))
    verdict = verdict_of(evidence.common, half_width, could_see, margin)
    reason = (
        f"runs wander too far to see less than {percent(np.expm1(could_see))}" if verdict == "not comparable" else ""
    )
    if runs == (1, 1) and verdict in ("same", "not comparable") and half_width > np.log1p(margin):
        verdict, reason = "not comparable", ONE_RUN
    elif verdict == "same" and is_suspicious(evidence, wander, runs) and abs(ratio - 1) > margin:
        verdict, reason = "not comparable", SUSPICIOUS
    return Common(
        verdict=verdict,
        reason=reason,
        time_new_over_old=ratio,
        low=float(np.exp(evidence.common - half_width)),
        high=float(np.exp(evidence.common + half_width)),
        could_see_change=float(np.expm1(could_see)),
    )


def state_error(wander: Wander, runs: tuple[int, int]) -> float:
    """The standard error of the difference that the machine's state makes between the two sides."""
    return float(np.hypot(wander.deviation, FLOOR) * np.sqrt(1 / runs[0] + 1 / runs[1]))


def critical(freedom: Array, tests: int) -> Array:
    """Standard errors beyond which any of so many `tests` of nothing is found once in 100 times."""
    return np.asarray(student.ppf(1 - (1 - CONFIDENCE) / 2 / tests, freedom), dtype=np.float64)
