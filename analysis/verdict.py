"""Does splitting pay? The answer in words, from the scaling frame alone: measured figures, never predicted ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

from analysis.display import MIN_SAMPLES, scenario_text, several_machines, times
from analysis.tables import SCENARIO, number
from tp.units import format_seconds, significant

Answer = Literal["pays", "does not pay", "makes no measurable difference"]
# A loss under this share of the total is not worth a word.
SMALL: Final = 0.02

COMMUNICATION: Final = "communication and waiting"
COMPUTE: Final = "compute that does not divide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer for one scenario at its largest measured degree."""

    what: str
    tp: int
    answer: Answer
    speedup: float
    text: str
    limit: str | None
    """What keeps it from dividing the time by the degree, if anything does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence, what stands behind it, and what to mind."""

    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]


def judge(scaling: pd.DataFrame, *, num_cases: int, num_ops: int, caveats: Sequence[str]) -> Verdict:
    """The verdict over every scenario; cases whose times are not comparable count only where no others are."""
    comparable = scaling[scaling["comparable"].astype(bool)]
    frame = scaling if comparable.empty else comparable
    machines = several_machines(frame)
    scenarios = [rows.to_dict("records") for _, rows in frame.groupby([*SCENARIO, "series"], sort=False)]
    findings = [found for rows in scenarios if (found := _find(rows, hardware=machines)) is not None]
    if not findings:
        headline = _without_comparison(frame, num_cases=num_cases, num_ops=num_ops)
        return Verdict(headline=headline, details=(), caveats=tuple(caveats))
    if len(findings) == 1:
        return Verdict(headline=findings[0].text, details=(), caveats=tuple(caveats))
    return Verdict(headline=_sum_up(findings), details=tuple(f.text for f in findings), caveats=tuple(caveats))


def _without_comparison(frame: pd.DataFrame, *, num_cases: int, num_ops: int) -> str:
    """Why there is no answer."""
    if not num_cases:
        return f"No case of a block here, only {num_ops} ops timed alone: input for python -m analysis calibrate."
    if frame.empty:
        return f"None of the {num_cases} cases has a time, so nothing can be said; the reasons stand below."
    degrees = ", ".join(str(tp) for tp in sorted(set(frame["tp"])))
    fastest = frame.loc[frame["measured_total_s"].idxmin()].to_dict()
    return (
        f"Only TP {degrees} was measured, so whether splitting pays is open; the fastest is "
        f"{scenario_text(fastest)} with {fastest['strategy']}, {format_seconds(fastest['measured_total_s'])} a pass."
    )
