"""Does splitting pay? The answer in words, from the scaling frame: measured figures only, never predicted ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

from analysis.frames.rows import gather, rows_of
from analysis.frames.scaling import scenario
from analysis.frames.strategies import contenders
from analysis.show.cells import percent, times
from analysis.show.words import MIN_SAMPLES, scenario_text, several_machines, strategy_text
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
    """One scenario: the fastest strategy at the degree up to which splitting pays, by its median, held against TP 1.

    Where it pays at none, that at the largest degree.
    """

    what: str
    rows: Sequence[Cells]
    best: Cells
    base: Cells

    @property
    def tp(self) -> int:
        return int(self.best["tp"])

    @property
    def names(self) -> tuple[str, ...]:
        """The fastest strategy, and those at its degree that the measurement cannot tell from it."""
        return _names([row for row in self.rows if row["tp"] == self.tp])

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
    """The verdict over every scenario that was measured.

    Cases whose times are not comparable count only where no others are; emulated ones, which rest on an estimate,
    never do.
    """
    measured = scaling[~scaling["emulated"].astype(bool)]
    comparable = measured[measured["comparable"].astype(bool)]
    frame = measured if comparable.empty else comparable
    if frame.empty and not scaling.empty:
        return Verdict(headline=_only_emulated(len(scaling)))
    machines = several_machines(frame)
    scenarios = gather(rows_of(frame), scenario).values()
    findings = [found for rows in scenarios if (found := _find(rows, hardware=machines)) is not None]
    if not findings:
        return Verdict(headline=_without_comparison(frame, num_cases=num_cases, num_ops=num_ops))
    sentences = tuple(_sentence(found) for found in findings)
    if len(sentences) == 1:
        return Verdict(headline=sentences[0])
    return Verdict(headline=_sum_up(findings), details=sentences)


def _find(rows: Sequence[Cells], *, hardware: bool) -> _Finding | None:
    """None where there is nothing to compare: no TP 1, or nothing but TP 1."""
    at_one = [row for row in rows if row["tp"] == 1]
    larger = [_fastest(same) for _, same in sorted(gather(rows, lambda row: row["tp"]).items()) if same[0]["tp"] > 1]
    if not at_one or not larger:
        return None
    paying = _fastest(at_one)
    for row in larger:
        # More ranks pay where they are faster than all fewer ones, beyond the intervals of the medians.
        if row["measured_total_high_s"] < paying["measured_total_low_s"]:
            paying = row
    best = paying if paying["tp"] > 1 else larger[-1]
    # At TP 1 all strategies compute the same; the fastest is what splitting has to beat.
    base = _fastest(at_one)
    return _Finding(what=scenario_text(best, hardware=hardware), rows=rows, best=best, base=base)


def _fastest(rows: Sequence[Cells]) -> Cells:
    return min(rows, key=lambda row: row["measured_total_s"])


def _names(rows: Sequence[Cells]) -> tuple[str, ...]:
    """The strategy with the least median and those that the ranks' intervals do not put behind it beyond doubt."""
    return tuple(dict.fromkeys(strategy_text(row) for row in contenders(rows, total="measured_total")))


def _either(names: Sequence[str]) -> str:
    """a, or: a, b or c, which the measurement cannot tell apart."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} or {names[-1]}, which the measurement cannot tell apart"


def _sentence(found: _Finding) -> str:
    best, base = found.best, found.base
    strategies = {strategy_text(row) for row in found.rows if row["tp"] == found.tp}
    among = f", the fastest of {len(strategies)} strategies," if len(strategies) > 1 else ""
    who = f"{strategy_text(best)}{among}"
    if len(found.names) > 1:
        who = f"the fastest of {len(strategies)} strategies is {_either(found.names)}; {strategy_text(best)}"
    efficiency = f", {percent(found.speedup / found.tp)} efficiency" if found.answer == "pays" else ""
    return (
        f"{_answer_words(found)} for {found.what}: {who} takes "
        f"{format_seconds(best['measured_total_s'])} a pass against {format_seconds(base['measured_total_s'])} at TP 1 "
        f"({times(found.speedup)} the speed{efficiency}){_limit_clause(found)}"
        f"{_between_clause(found)}{_larger_clause(found)}"
        f"{_samples_clause(_compared(found))}."
    )


def _compared(found: _Finding) -> Sequence[Cells]:
    """The rows whose intervals the sentence goes by."""
    return [found.base, *(row for row in found.rows if row["tp"] == found.tp)]


def _samples_clause(rows: Sequence[Cells]) -> str:
    """Says what an interval of too few samples is; nothing where there are enough."""
    few = sorted({int(row["samples"]) for row in rows if row["samples"] < MIN_SAMPLES})
    if not few:
        return ""
    counted = _join(few) + (" sample" if few == [1] else " samples")
    return f"; with {counted} an interval is their range, not 95 %"


def _limit_clause(found: _Finding) -> str:
    if found.limit is None:
        return ""
    loss = format_seconds(found.losses[found.limit])
    if found.limit == COMMUNICATION:
        return f"; {COMMUNICATION} limit it, {loss} beyond compute"
    return f"; {COMPUTE} limits it, {loss} beyond 1/{found.tp} of that at TP 1"


def _answer_words(found: _Finding) -> str:
    """Up to which degree it pays; of one degree alone nothing says where that ends."""
    degrees = sorted({row["tp"] for row in found.rows} - {1})
    if found.answer != "pays" or len(degrees) == 1:
        return f"TP {found.tp} {found.answer}"
    largest = ", the largest degree measured," if found.tp == degrees[-1] else ""
    return f"TP pays up to {found.tp} ranks{largest}"


def _between_clause(found: _Finding) -> str:
    """Smaller degrees that are slower than none, where a larger one pays."""
    if found.answer != "pays":
        return ""
    between = sorted({row["tp"] for row in found.rows if 1 < row["tp"] < found.tp})
    fastest = [_fastest([row for row in found.rows if row["tp"] == tp]) for tp in between]
    slower = [row for row in fastest if row["measured_total_low_s"] > found.base["measured_total_high_s"]]
    told = ", ".join(f"TP {row['tp']} takes {format_seconds(row['measured_total_s'])}" for row in slower)
    return f"; in between it does not, {told}" if told else ""


def _larger_clause(found: _Finding) -> str:
    """What the next degree makes of it, where splitting pays only up to a smaller one than the largest."""
    beyond = sorted({row["tp"] for row in found.rows if row["tp"] > found.tp})
    if not beyond:
        return ""
    after = _fastest([row for row in found.rows if row["tp"] == beyond[0]])
    slower = after["measured_total_low_s"] > found.best["measured_total_high_s"]
    return (
        f"; TP {after['tp']} is {'slower' if slower else 'not measurably faster'}, "
        f"{format_seconds(after['measured_total_s'])} with {strategy_text(after)}"
    )


def _sum_up(findings: Sequence[_Finding]) -> str:
    """Several scenarios in one sentence."""
    answers = Counter(found.answer for found in findings)
    order: tuple[Answer, ...] = ("pays", "is slower", "makes no measurable difference")
    told = [f"{answer} in {answers[answer]}" for answer in order if answers[answer]]
    degrees = Counter(found.tp for found in findings)
    each = ", ".join(f"TP {tp} in {count}" for tp, count in sorted(degrees.items()))
    where = f"At TP {min(degrees)}" if len(degrees) == 1 else f"At the degree up to which each gains ({each})"
    speedups = sorted(found.speedup for found in findings)
    low, high = significant(speedups[0]), times(speedups[-1])
    limits = Counter(found.limit for found in findings if found.limit is not None)
    (limit, count), *_ = limits.most_common(1) or [("", 0)]
    of_them = "them all" if count == len(findings) else f"{count} of them"
    limited = f"; {limit} limit{'' if limit == COMMUNICATION else 's'} {of_them}" if limit else ""
    return (
        f"{where} splitting {' and '.join(told)} of {len(findings)} workloads: the fastest strategy "
        f"of each runs at {low} to {high} the speed of TP 1 ({_fastest_of_each(findings)}){limited}"
        f"{_samples_clause([row for found in findings for row in _compared(found)])}."
    )


def _fastest_of_each(findings: Sequence[_Finding]) -> str:
    """allreduce in 2, in 1 the measurement cannot tell; each name stands in its own sentence too."""
    clear = Counter(found.names[0] for found in findings if len(found.names) == 1)
    words = [f"{name} in {count}" for name, count in clear.items()]
    unclear = len(findings) - clear.total()
    words += [f"in {unclear} the measurement cannot tell several apart"] if unclear else []
    return ", ".join(words)


def _join(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _without_comparison(frame: pd.DataFrame, *, num_cases: int, num_ops: int) -> str:
    """Why there is no answer."""
    if not num_cases:
        return f"These records hold no case of a block, but {num_ops} ops timed alone: nothing says whether TP pays."
    if frame.empty:
        return f"None of the {num_cases} cases has a time, so nothing says whether TP pays; the reasons stand below."
    rows: list[dict[Any, Any]] = rows_of(frame)
    fastest = _fastest(rows)
    beside = [row for row in rows if scenario(row) == scenario(fastest) and row["tp"] == fastest["tp"]]
    missing = "no larger degree" if set(frame["tp"]) == {1} else "no TP 1"
    return (
        f"Whether TP pays is open, as {missing} was measured beside TP {_join(sorted(set(frame['tp'])))}; the shortest "
        f"pass is {format_seconds(fastest['measured_total_s'])} at TP {fastest['tp']} for {scenario_text(fastest)}, "
        f"under {_either(_names(beside))}{_samples_clause(beside)}."
    )


def _only_emulated(num_cases: int) -> str:
    counted = "the only case with a time is" if num_cases == 1 else f"all {num_cases} cases with a time are"
    return (
        f"Whether TP pays was not measured: {counted} emulated, one rank's compute as measured and communication as "
        f"estimated."
    )
