"""Record files and published tables, as they come in: runs, and flat tables of their rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from bench.harness.record.files import RecordFile, read_record
from bench.harness.record.grouping import Members
from bench.harness.record.names import PROBE_MODEL
from bench.harness.record.parts import PartRow, part_rows
from bench.harness.record.records import (
    AnyLine,
    BlockMark,
    CaseResult,
    Drift,
    End,
    FailedOp,
    Header,
    OpResult,
    Planned,
    Samples,
    Telemetry,
)
from tp.errors import ConfigError
from tp.plan.ops import COLLECTIVE_KINDS, Collective

L = TypeVar("L", bound=AnyLine)

# Metadata that must agree before the cases of two runs may stand in one table.
CHECKED: Final[dict[str, Callable[[Header], object]]] = {
    "hardware": lambda header: header.hardware.device.name,
    "world": lambda header: header.world,
    "num_nodes": lambda header: header.num_nodes,
    "backend": lambda header: header.backend,
    "oversubscribed": lambda header: header.oversubscribed,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case that was planned, and what came of it."""

    header: Header
    planned: Planned
    result: CaseResult

    @cached_property
    def rows(self) -> tuple[PartRow, ...]:
        """Measured beside predicted, part by part, under the best theory that was written down."""
        return tuple(part_rows(self.header, self.planned, self.result))

    @property
    def is_probe(self) -> bool:
        """Whether it is a layer of nothing but launches, for a calibration, and no model's."""
        return self.planned.case.model.name == PROBE_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The machine while a group of cases or ops took turns."""

    telemetry: Telemetry
    marks: tuple[BlockMark, ...]
    """Those of the group, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One record file."""

    path: Path
    headers: tuple[Header, ...]
    """More than one where the run was resumed."""
    cases: tuple[Case, ...]
    ops: tuple[OpResult, ...]
    unfinished: tuple[str, ...]
    """Keys of cases that were planned and never ended."""
    failed_ops: tuple[FailedOp, ...] = ()
    states: tuple[State, ...] = ()
    drifts: tuple[Drift, ...] = ()
    ends: tuple[End, ...] = ()
    problems: tuple[str, ...] = ()
    """One sentence for everything that was lost or left out."""

    @property
    def telemetry(self) -> tuple[Telemetry, ...]:
        return tuple(state.telemetry for state in self.states)


def load_run(path: Path) -> Run:
    """Read a record file, and leave out what is damaged; ConfigError when it holds no intact header."""
    record = read_record(path)
    problems = list(record.problems)
    cases: dict[str, Case] = {}
    for run in record.runs:
        for planned, result in run.ended():
            if planned is None:
                problems.append(f"{path}: case {result.key} has lost the estimate written before it; left out")
            elif (why := _case_fault(planned, result)) is not None:
                problems.append(f"{path}: case {result.key} {why}; left out")
            else:
                cases[result.key] = Case(header=run.header, planned=planned, result=result)
    ops = [(line, _op_fault(line)) for line in _lines(record, OpResult)]
    problems += [f"{path}: an op, {line.op.op} of {line.written}, {why}; left out" for line, why in ops if why]
    timed = {line.op for line, _ in ops}
    drifts = [(line, _samples_fault(line.before, line.after)) for line in _lines(record, Drift)]
    problems += [f"{path}: the drift of {line.written} {why}; left out" for line, why in drifts if why]
    states = [(state, _telemetry_fault(state.telemetry)) for run in record.runs for state in _states(run.lines)]
    problems += [f"{path}: the state of {state.telemetry.written} {why}; left out" for state, why in states if why]
    unfinished = tuple(dict.fromkeys(line.key for line in _lines(record, Planned) if line.key not in cases))
    return Run(
        path=path,
        headers=tuple(run.header for run in record.runs),
        cases=tuple(cases.values()),
        ops=tuple(line for line, why in ops if why is None),
        unfinished=unfinished,
        # One that was timed in the end, when the run was resumed, did not fail.
        failed_ops=tuple(line for line in _lines(record, FailedOp) if line.op not in timed),
        states=tuple(state for state, why in states if why is None),
        drifts=tuple(line for line, why in drifts if why is None),
        ends=tuple(_lines(record, End)),
        problems=(*problems, *_without_end(path, record, unfinished)),
    )


def _lines(record: RecordFile, kind: type[L]) -> Iterator[L]:
    return (line for run in record.runs for line in run.lines if isinstance(line, kind))


def _states(lines: Sequence[AnyLine]) -> Iterator[State]:
    """A group's results follow its telemetry; all of them have the group's marks."""
    places = [place for place, line in enumerate(lines) if isinstance(line, Telemetry)]
    for place, end in pairwise([*places, len(lines)]):
        telemetry = lines[place]
        assert isinstance(telemetry, Telemetry)
        marks = (
            mark
            for line in lines[place:end]
            if isinstance(line, OpResult) or (isinstance(line, CaseResult) and line.key in telemetry.keys)
            for mark in line.marks
        )
        yield State(telemetry=telemetry, marks=tuple(dict.fromkeys(marks)))


def _telemetry_fault(telemetry: Telemetry) -> str | None:
    ranks = {len(moment.ranks) for moment in telemetry.moments}
    return "does not have the same ranks at every moment" if len(ranks) > 1 else None


def _without_end(path: Path, record: RecordFile, unfinished: Sequence[str]) -> Iterator[str]:
    """Runs that died, or whose last lines are gone; before version 3 no run said that it ended."""
    for run in record.runs:
        if run.header.schema_version < 3 or any(isinstance(line, End) for line in run.lines):
            continue
        last = run is record.runs[-1]
        fate = "it died or is still going on" if last else "it died, and was resumed"
        left = f"; {len(unfinished)} cases unfinished" if last and unfinished else ""
        yield f"{path}: the run of {run.header.created} has no end: {fate}{left}"


def _case_fault(planned: Planned, result: CaseResult) -> str | None:
    """What only a file without checksums can have: a line that is well-formed and cannot be."""
    if planned.key != planned.case.key:
        return f"is planned as another one, {planned.case.key}"
    if any(isinstance(op, Collective) and op.num_ranks < 1 for op in planned.ops):
        return "has a collective of no ranks"
    timed = [part.part in COLLECTIVE_KINDS for sample in result.samples for part in sample.parts]
    grouped = any(timed) or any(sample.starts_s for sample in result.samples)
    ranks = {len(row) for sample in result.samples for row in sample.times_s}
    if grouped and (result.groups < 1 or any(number % result.groups for number in ranks)):
        return f"has ranks that do not split into its {result.groups} groups"
    if grouped and not _part_evenly(result.members, ranks):
        return "has members of groups that are not its ranks"
    return _samples_fault(*result.samples)


def _part_evenly(members: Members, ranks: set[int]) -> bool:
    """Whether the members, where they are told, are all ranks once, as many in each group."""
    flat = sorted(rank for group in members for rank in group)
    return not members or (len(set(map(len, members))) == 1 and {len(flat)} == ranks and flat == list(range(len(flat))))


def _op_fault(line: OpResult) -> str | None:
    if isinstance(line.op, Collective) and line.op.num_ranks < 1:
        return "is a collective of no ranks"
    marked = [each.parts for each in (line.in_pass, line.overlapped) if each is not None]
    if any((line.op.part, line.op.direction) not in {(p.part, p.direction) for p in parts} for parts in marked):
        return "is not among the parts of its own passes"
    several = [each for each in (line.samples, line.in_pass, line.overlapped, line.delayed) if each is not None]
    ranks = {len(row) for samples in several for row in samples.starts_s}
    if isinstance(line.op, Collective) and not _part_evenly(line.members, {len(row) for row in line.samples.times_s}):
        return "has members of groups that are not its ranks"
    if isinstance(line.op, Collective) and any(number % line.op.num_ranks for number in ranks):
        return f"has ranks that do not split into groups of {line.op.num_ranks}"
    return _samples_fault(*several)


def _samples_fault(*several: Samples) -> str | None:
    """Why the times are no table of iterations and ranks."""
    for samples in several:
        tables = [samples.times_s, *(part.times_s for part in samples.parts)]
        begun = [table for table in (samples.starts_s, *(part.arrivals_s for part in samples.parts)) if table]
        ranks = {len(row) for table in (*tables, *begun) for row in table}
        if len(ranks) != 1 or 0 in ranks or any(len(table) != len(samples.times_s) for table in (*tables, *begun)):
            return f"has times of {samples.task} that are not one for every iteration and rank"
        if any(time_s < 0 for table in tables for row in table for time_s in row):
            return f"has times of {samples.task} below zero"
    return None


def load_runs(
    paths: Sequence[Path], *, mixed: bool = False, tell: Callable[[str], None] = lambda problem: None
) -> list[Run]:
    """Read several record files; unless `mixed`, ConfigError when their checked metadata differ.

    Each problem that they have is told once.
    """
    runs = [load_run(path) for path in paths]
    for problem in dict.fromkeys(problem for run in runs for problem in run.problems):
        tell(problem)
    headers = [(run.path, header) for run in runs for header in run.headers]
    first_path, first = headers[0]
    for path, header in headers[1:]:
        for field, read in CHECKED.items():
            ours, theirs = read(first), read(header)
            if ours != theirs and not mixed:
                raise ConfigError(
                    f"{path}: {field} is {theirs!r} but {first_path} has {ours!r}; report them apart, or add --mixed"
                )
    return runs
