"""What a run says of each case and op that another run may have, too: its rows of times, or why it has none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.comparison.location import LOWER_SHARE, MIN_SAMPLES
from analysis.comparison.series import Times, case_series, disturbed_rounds, op_name, op_series, throttled_share
from analysis.frames.parts import status_of
from analysis.load import Case, Run
from bench.harness.record.parts import num_rounds
from bench.harness.record.records import BlockMark, OpResult
from tp.plan.ops import COLLECTIVE_KINDS, Collective, Op

# Rows in which ranks wait for each other.
WAITING_WHOLES: Final = frozenset(("communication", "serial", "total"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A case or an op in one run."""

    name: str
    failure: str | None = None
    """Why it has no times though it was tried: failed, wrong, never ended."""
    bar: str | None = None
    """Why its times are nothing to compare."""
    work: tuple[Op, ...] = ()
    rows: Mapping[str, Times]
    waiting: frozenset[str] = frozenset()
    """The rows in which ranks wait for each other."""


def subjects(run: Run) -> dict[str, Subject]:
    """Every case and op of a run by its name."""
    found = [*map(_of_case, run.cases), *(_of_op(run, op) for op in run.ops)]
    found += [Subject(name=op_name(each.op), failure=f"failed: {each.reason}", rows={}) for each in run.failed_ops]
    found += [Subject(name=key, failure="was planned and never ended", rows={}) for key in run.unfinished]
    return {subject.name: subject for subject in found}


def _of_case(case: Case) -> Subject:
    result, name = case.result, case.planned.key
    if status_of(result) == "failed":
        wrong = next((check.tensor for check in result.checks if not check.passed), None)
        reason = result.reason or (f"its {wrong} is wrong against the oracle" if wrong else "no reason is recorded")
        return Subject(name=name, failure=f"failed: {reason}", rows={})
    bar = f"skipped: {result.reason}" if result.status == "skipped" else None
    if bar is None and case.planned.emulated:
        bar = "emulated: one rank computed its shard alone"
    if bar is None and case.header.oversubscribed:
        bar = f"oversubscribed: {case.header.oversubscribed}"
    rows = case_series(result) if bar is None else {}
    return Subject(
        name=name,
        bar=bar or _disturbed(result.marks, num_rounds(result)),
        work=case.planned.ops,
        rows=rows,
        waiting=frozenset(part for part in rows if part in COLLECTIVE_KINDS or part in WAITING_WHOLES)
        if any(isinstance(op, Collective) for op in case.planned.ops)
        else frozenset(),
    )


def _of_op(run: Run, result: OpResult) -> Subject:
    oversubscribed = next((header.oversubscribed for header in run.headers if header.oversubscribed), None)
    rows = op_series(result)
    return Subject(
        name=op_name(result.op),
        bar=f"oversubscribed: {oversubscribed}"
        if oversubscribed
        else _disturbed(result.marks, len(result.samples.times_s)),
        work=(result.op,),
        rows=rows,
        waiting=frozenset(rows) if isinstance(result.op, Collective) else frozenset(),
    )


def _disturbed(marks: tuple[BlockMark, ...], rounds: int) -> str | None:
    """Why the machine was not its own: held back in most rounds, or so rarely alone that no quarter is undisturbed."""
    if 2 * throttled_share(marks, rounds) > 1:
        return f"throttled in {throttled_share(marks, rounds):.0%} of {rounds} rounds"
    disturbed = disturbed_rounds(marks, rounds)
    if rounds - disturbed.sum() < LOWER_SHARE * rounds:
        kinds = " and ".join(sorted({mark.kind for mark in marks if mark.kind in ("steal", "others")}))
        return f"disturbed ({kinds}) in {int(disturbed.sum())} of {rounds} rounds"
    return None


def too_few(times_s: Times) -> str | None:
    """Why a row has no location; `times_s` are those of one run."""
    if len(times_s) < MIN_SAMPLES:
        return f"{len(times_s)} samples, under {MIN_SAMPLES}"
    return None if bool(np.all(times_s > 0)) else "a time of zero"


def names(runs: Iterable[Mapping[str, Subject]]) -> Iterator[str]:
    """The names of all runs, each once, in their order."""
    yield from dict.fromkeys(name for run in runs for name in run)
