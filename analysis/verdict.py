"""Does splitting pay? The answer in words, from the scaling frame: measured figures only, never predicted ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

from analysis.display import percent, scenario_text, several_machines, times
from analysis.tables import SCENARIO
from tp.units import format_seconds, significant

Answer = Literal["pays", "is slower", "makes no measurable difference"]
# A loss below this share of the total is not worth a word.
SMALL: Final = 0.02

COMMUNICATION: Final = "communication and waiting"
COMPUTE: Final = "compute that does not divide evenly"

Cells = Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence, and what stands behind it where that is more than one scenario."""

    headline: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """One scenario: the fastest strategy at its largest degree, held against TP 1."""

    what: str
    rows: Sequence[Cells]
    best: Cells
    base: Cells

    @property
    def tp(self) -> int:
        return int(self.best["tp"])

    @property
    def speedup(self) -> float:
        return float(self.base["measured_total_s"] / self.best["measured_total_s"])

    @property
    def answer(self) -> Answer:
        """Faster or slower only where the 95 % intervals of the two medians are apart."""
        if self.best["measured_total_high_s"] < self.base["measured_total_low_s"]:
            return "pays"
        if self.best["measured_total_low_s"] > self.base["measured_total_high_s"]:
            return "is slower"
        return "makes no measurable difference"

    @property
    def losses(self) -> dict[str, float]:
        """Seconds beyond total / degree, by where they go; both derived, from totals and compute run alone."""
        best, base = self.best, self.base
        return {
            COMMUNICATION: best["measured_total_s"] - best["measured_compute_s"],
            COMPUTE: best["measured_compute_s"] - base["measured_compute_s"] / self.tp,
        }

    @property
    def limit(self) -> str | None:
        """The greater loss, or None where neither is worth a word or compute was not timed."""
        cause = max(self.losses, key=lambda name: self.losses[name])
        return cause if self.losses[cause] > SMALL * self.best["measured_total_s"] else None


def judge(scaling: pd.DataFrame, *, num_cases: int, num_ops: int) -> Verdict:
    """The verdict over every scenario; cases whose times are not comparable count only where no others are."""
    comparable = scaling[scaling["comparable"].astype(bool)]
    frame = scaling if comparable.empty else comparable
    machines = several_machines(frame)
    scenarios = [rows.to_dict("records") for _, rows in frame.groupby([*SCENARIO, "series"], sort=False)]
    findings = [found for rows in scenarios if (found := _find(rows, hardware=machines)) is not None]
    if not findings:
        return Verdict(headline=_without_comparison(frame, num_cases=num_cases, num_ops=num_ops))
    sentences = tuple(_sentence(found) for found in findings)
    if len(sentences) == 1:
        return Verdict(headline=sentences[0])
    return Verdict(headline=_sum_up(findings), details=sentences)


def _find(rows: Sequence[Cells], *, hardware: bool) -> _Finding | None:
    """None where there is nothing to compare: no TP 1, or nothing but TP 1."""
    tp = max(row["tp"] for row in rows)
    at_one = [row for row in rows if row["tp"] == 1]
    if tp == 1 or not at_one:
        return None
    best = _fastest([row for row in rows if row["tp"] == tp])
    base = _fastest([row for row in at_one if row["strategy"] == best["strategy"]] or at_one)
    return _Finding(what=scenario_text(best, hardware=hardware), rows=rows, best=best, base=base)


def _fastest(rows: Sequence[Cells]) -> Cells:
    return min(rows, key=lambda row: row["measured_total_s"])


def _sentence(found: _Finding) -> str:
    best, base = found.best, found.base
    strategies = {row["strategy"] for row in found.rows if row["tp"] == found.tp}
    among = f", the fastest of {len(strategies)} strategies," if len(strategies) > 1 else ""
    efficiency = f", {percent(found.speedup / found.tp)} efficiency" if found.answer == "pays" else ""
    return (
        f"TP {found.tp} {found.answer} for {found.what}: {best['strategy']}{among} takes "
        f"{format_seconds(best['measured_total_s'])} a pass against {format_seconds(base['measured_total_s'])} at TP 1 "
        f"({times(found.speedup)} the speed{efficiency}){_limit_clause(found)}{_smaller_clause(found)}."
    )


def _limit_clause(found: _Finding) -> str:
    if found.limit is None:
        return ""
    loss = format_seconds(found.losses[found.limit])
    if found.limit == COMMUNICATION:
        return f"; {COMMUNICATION} limit it, {loss} beyond compute"
    return f"; {COMPUTE} limits it, {loss} beyond 1/{found.tp} of that at TP 1"


def _smaller_clause(found: _Finding) -> str:
    """A smaller degree that is faster than the largest, if one is."""
    fastest = _fastest(found.rows)
    if fastest["tp"] in (1, found.tp) or fastest["measured_total_high_s"] >= found.best["measured_total_low_s"]:
        return ""
    return f"; TP {fastest['tp']} is faster, {format_seconds(fastest['measured_total_s'])} with {fastest['strategy']}"


def _sum_up(findings: Sequence[_Finding]) -> str:
    """Several scenarios in one sentence."""
    answers = Counter(found.answer for found in findings)
    order: tuple[Answer, ...] = ("pays", "is slower", "makes no measurable difference")
    told = [f"{answer} in {answers[answer]}" for answer in order if answers[answer]]
    degrees = sorted({found.tp for found in findings})
    where = f"At TP {degrees[0]}" if len(degrees) == 1 else f"At the largest degree of each (TP {_join(degrees)})"
    speedups = sorted(found.speedup for found in findings)
    low, high = significant(speedups[0]), times(speedups[-1])
    limits = Counter(found.limit for found in findings if found.limit is not None)
    (limit, count), *_ = limits.most_common(1) or [("", 0)]
    of_them = "them all" if count == len(findings) else f"{count} of them"
    limited = f"; {limit} limit{'' if limit == COMMUNICATION else 's'} {of_them}" if limit else ""
    strategies = Counter(str(found.best["strategy"]) for found in findings)
    return (
        f"{where} splitting {' and '.join(told)} of {len(findings)} workloads: the fastest strategy, "
        f"{' or '.join(strategies)}, runs at {low} to {high} the speed of TP 1{limited}."
    )


def _join(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _without_comparison(frame: pd.DataFrame, *, num_cases: int, num_ops: int) -> str:
    """Why there is no answer."""
    if not num_cases:
        return f"These records hold no case of a block, but {num_ops} ops timed alone: nothing says whether TP pays."
    if frame.empty:
        return f"None of the {num_cases} cases has a time, so nothing says whether TP pays; the reasons stand below."
    fastest = _fastest(frame.to_dict("records"))
    missing = "no larger degree" if set(frame["tp"]) == {1} else "no TP 1"
    return (
        f"Whether TP pays is open, as {missing} was measured beside TP {_join(sorted(set(frame['tp'])))}; the fastest "
        f"pass is {format_seconds(fastest['measured_total_s'])}, {fastest['strategy']} at TP {fastest['tp']} for "
        f"{scenario_text(fastest)}."
    )
