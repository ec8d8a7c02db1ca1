"""What a comparison finds: rows, cases and what all share, each with a verdict, a ratio and what it could have seen."""

from dataclasses import dataclass
from typing import Final, Literal

from analysis.comparison.metadata import Difference

Verdict = Literal["newly failing", "slower", "faster", "same", "not comparable"]
VERDICTS: Final[tuple[Verdict, ...]] = ("newly failing", "slower", "faster", "same", "not comparable")
ONLY_IN: Final = "only in "
Basis = Literal["the others", "the clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a row's time changed, new over old, and what was judged of it."""

    time_new_over_old: float
    """As timed: means of the shorter half of a run's times, geometric means over runs."""
    judged_by: Basis
    """Beside what all rows share, the machine's state; or as timed, where what they share is no state or unknown."""
    judged_time_new_over_old: float
    judged_low: float | None
    judged_high: float | None
    """All intervals of a comparison hold together with 99 % confidence."""
    could_see_change: float | None
    """The smallest relative slow-down that would be found in nine of ten such comparisons."""
    tail_time_new_over_old: float | None
    """Of the 90th percentiles, where it changed by more than noise and the row did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part or whole of a case, or an op alone or in a pass."""

    case: str
    part: str
    verdict: Verdict
    reason: str
    """Why it cannot be compared; what its slow passes did."""
    old_median_s: float | None = None
    new_median_s: float | None = None
    old_runs: int = 0
    new_runs: int = 0
    old_samples: int = 0
    new_samples: int = 0
    change: Change | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseVerdict:
    """What became of a case, by its rows, or of one that has none."""

    case: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all rows share: the machine's state, or a change that slowed all alike."""

    verdict: Verdict
    reason: str
    time_new_over_old: float | None = None
    low: float | None = None
    high: float | None = None
    could_see_change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that is said of two versions."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    """The record files."""
    margin: float
    """Changes under it, relative, are called the same."""
    differences: tuple[Difference, ...]
    common: Common
    cases: tuple[CaseVerdict, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    """Runs of a case that others of its side stand for, and why."""

    @property
    def shares_any(self) -> bool:
        """Whether both versions have any case or op."""
        return any(not case.reason.startswith(ONLY_IN) for case in self.cases)

    @property
    def regressed(self) -> bool:
        """Whether anything got slower or fails that did not."""
        verdicts = {self.common.verdict, *(row.verdict for row in self.rows), *(case.verdict for case in self.cases)}
        return not verdicts.isdisjoint(("slower", "newly failing"))
