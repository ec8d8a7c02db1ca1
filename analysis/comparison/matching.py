"""Which rows two versions share, and why the others have no counterpart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.comparison.rows import ONLY_IN, CaseVerdict, Row
from analysis.comparison.series import Times
from analysis.comparison.subjects import Subject, names, subjects, too_few
from analysis.load import Run
from tp.errors import ConfigError

SideName = Literal["OLD", "NEW"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A row that both versions have: its times by the number of the run."""

    case: str
    part: str
    waits: bool
    """Whether ranks wait for each other in it."""
    old: Mapping[int, Times]
    new: Mapping[int, Times]

    @property
    def fewest_samples(self) -> int:
        """Of any run."""
        return min(len(times) for side in (self.old, self.new) for times in side.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Both versions side by side."""

    names: tuple[str, ...]
    """Of all cases and ops."""
    pairs: tuple[Pair, ...]
    unmatched: tuple[Row, ...]
    """Rows of comparable cases that cannot be compared themselves."""
    closed: Mapping[str, CaseVerdict]
    """Cases that have no rows to compare: newly failing, or not comparable."""
    left_out: tuple[str, ...]


Usable = dict[int, Subject]


def match(old: Sequence[Run], new: Sequence[Run]) -> Matched:
    """Pair the cases and ops of two versions by name, and their rows by part."""
    ours, theirs = [subjects(run) for run in old], [subjects(run) for run in new]
    found = tuple(names((*ours, *theirs)))
    pairs: list[Pair] = []
    unmatched: list[Row] = []
    closed: dict[str, CaseVerdict] = {}
    left_out: list[str] = []
    for name in found:
        sides = (_of(name, ours), _of(name, theirs))
        verdict = _closed(name, *sides)
        if verdict is not None:
            closed[name] = verdict
            continue
        usable = tuple({run: each for run, each in side.items() if each.bar is None} for side in sides)
        for runs, side in zip((old, new), sides, strict=True):
            left_out += [f"{runs[run].path}: {name} is {each.bar}; left out" for run, each in side.items() if each.bar]
        for part in dict.fromkeys(part for side in usable for each in side.values() for part in each.rows):
            row = _pair(name, part, usable[0], usable[1])
            if isinstance(row, Pair):
                pairs.append(row)
            else:
                unmatched.append(row)
    return Matched(names=found, pairs=tuple(pairs), unmatched=tuple(unmatched), closed=closed, left_out=tuple(left_out))


def require_repeats(runs: Sequence[Run]) -> None:
    """ConfigError where the runs of a version share no case: they repeat nothing, and tell nothing of its noise."""
    known: set[str] = set()
    for run in runs:
        mine = set(subjects(run))
        if known and mine and not mine & known:
            raise ConfigError(
                f"{run.path}: shares no case with {runs[0].path}; a folder holds several runs of the same cases, so "
                f"compare such records one by one"
            )
        known |= mine


def _of(name: str, runs: Sequence[Mapping[str, Subject]]) -> Usable:
    return {number: run[name] for number, run in enumerate(runs) if name in run}


def _closed(name: str, old: Usable, new: Usable) -> CaseVerdict | None:
    """What is said of a case that has no rows to compare; None of one that has."""
    failed_before, fails = _first_failure(old), _first_failure(new)
    if fails and old and not failed_before:
        return CaseVerdict(case=name, verdict="newly failing", reason=fails)
    for side, others in (("NEW", old), ("OLD", new)):
        if not others:
            return CaseVerdict(case=name, verdict="not comparable", reason=f"{ONLY_IN}{side}")
    if failed_before:
        where = "in both" if fails else "in OLD, not in NEW"
        return CaseVerdict(case=name, verdict="not comparable", reason=f"{where}: {failed_before}")
    for side, runs in (("OLD", old), ("NEW", new)):
        bars = [each.bar for each in runs.values()]
        if all(bars):
            return CaseVerdict(case=name, verdict="not comparable", reason=f"in {side} {bars[0]}")
    if len({each.work for each in (*old.values(), *new.values()) if each.bar is None}) > 1:
        return CaseVerdict(case=name, verdict="not comparable", reason="its ops are not the same in all runs")
    return None


def _first_failure(runs: Usable) -> str | None:
    """Why it failed where it did; with how often, of several runs."""
    failures = [each.failure for each in runs.values() if each.failure]
    if not failures:
        return None
    return failures[0] if len(runs) == 1 else f"{failures[0]} (in {len(failures)} of {len(runs)} runs)"


def _pair(name: str, part: str, old: Usable, new: Usable) -> Pair | Row:
    """The row of both sides, or one that says why there is none."""
    sides = [{run: each.rows[part] for run, each in side.items() if part in each.rows} for side in (old, new)]
    for side, others in (("NEW", sides[0]), ("OLD", sides[1])):
        if not others:
            return Row(case=name, part=part, verdict="not comparable", reason=f"only in {side}")
    enough = [{run: times for run, times in side.items() if too_few(times) is None} for side in sides]
    for which, times_of, kept in zip(("OLD", "NEW"), sides, enough, strict=True):
        if not kept:
            why = too_few(next(iter(times_of.values())))
            return Row(case=name, part=part, verdict="not comparable", reason=f"{why} in {which}")
    waits = any(part in each.waiting for each in (*old.values(), *new.values()))
    return Pair(case=name, part=part, waits=waits, old=enough[0], new=enough[1])
