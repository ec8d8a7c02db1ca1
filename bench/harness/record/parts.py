"""The flat rows of a case, one a part: measured beside estimated; the columns of parts.csv, which stay stable.

How a sample becomes a part's time: a compute part takes the slowest rank, as the block does. A collective takes the
fastest of its group, since the others' time holds their wait for the last to arrive (NVIDIA/nccl#460): the shortest
is the transfer. Calls and directions add up; then the slowest rank or group counts. The sends of a ring wait for each
other across calls, so of `send_recv` each rank's calls are added up before the fastest counts. The wholes (compute,
communication, serial, total) are the maximum over ranks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine.judge import MarkKind
from bench.harness.record.grouping import Groups, by_group
from bench.harness.record.records import CaseResult, Header, PartTimes, Planned
from bench.harness.record.stats import Summary, summarise
from tp.cost.theory import Estimate, PartEstimate, TheoryName
from tp.plan.ops import COLLECTIVE_KINDS, Collective, Op, sum_bytes, sum_flops

# Marks of a device that was held back.
THROTTLING: Final[frozenset[MarkKind]] = frozenset(("thermal", "hardware", "sync", "errors", "quota"))
# The variant whose time a row of a whole is, by part.
WHOLES: Final = {"compute": "compute", "communication": "communication", "serial": "serial", "total": "full"}
# The best theory first: rows stand beside the first of these that was written down.
PREFERENCE: Final[tuple[TheoryName, ...]] = ("calibrated", "datasheet", "article")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One (case, part)."""

    case: str
    model: str
    phase: str
    strategy: str
    tp: int
    world: int
    nodes: int
    batch: int
    seq: int
    context: int
    dtype: str
    part: str
    measured_s: float | None
    low_s: float | None
    high_s: float | None
    samples: int
    estimate_s: float | None
    estimate_low_s: float | None
    estimate_high_s: float | None
    theory: str
    extrapolated: bool
    bytes: float
    flops: float
    status: str
    comparable: bool

    @property
    def predicted_over_measured(self) -> float | None:
        """Above one where the estimate is too slow."""
        if not self.measured_s or not self.estimate_s:
            return None
        return self.estimate_s / self.measured_s


COLUMNS: Final = tuple(field.name for field in fields(PartRow))


def part_rows(
    header: Header, planned: Planned, result: CaseResult, *, theory: TheoryName | None = None
) -> list[PartRow]:
    """The rows of a case in the order parts, wholes; `theory` is by default the best that was written down."""
    estimate = choose_estimate(planned.estimates, theory)
    summaries = dict(_summaries(result))
    if planned.emulated:
        summaries = _emulated(summaries, estimate)
    names = [*dict.fromkeys(op.part for op in planned.ops), "compute", "communication", "serial", "total"]
    if not any(isinstance(op, Collective) for op in planned.ops):
        names.remove("communication")
    return [_row(header, planned, result, name, summaries.get(name), estimate) for name in names]


def num_rounds(result: CaseResult) -> int:
    """How often the variants of a case took turns."""
    return max((len(sample.times_s) for sample in result.samples), default=0)


def marked_rounds(result: CaseResult) -> dict[MarkKind, set[int]]:
    """The rounds that were marked on any rank, by the kind of mark."""
    count = num_rounds(result)
    marked: dict[MarkKind, set[int]] = {}
    for mark in result.marks:
        rounds = range(max(mark.first_round, 0), min(mark.first_round + mark.num_rounds, count))
        marked.setdefault(mark.kind, set()).update(rounds)
    return {kind: rounds for kind, rounds in marked.items() if rounds}


def _mostly_throttled(result: CaseResult) -> bool:
    """Whether the device was held back in more than half of the rounds.

    A GPU at its power limit is in its normal state, and so is the lower clock that this brings. Steal and other
    processes disturb, and are told, but hold nothing back.
    """
    by_kind = marked_rounds(result)
    held_back = [rounds for kind, rounds in by_kind.items() if kind in THROTTLING]
    slow = by_kind.get("clock", set()) - by_kind.get("power", set())
    return 2 * len(slow.union(*held_back)) > num_rounds(result)


def choose_estimate(estimates: Sequence[Estimate], theory: TheoryName | None) -> Estimate | None:
    """The estimate under `theory`, by default under the best one there is."""
    by_name = {estimate.theory: estimate for estimate in estimates}
    wanted = PREFERENCE if theory is None else (theory,)
    return next((by_name[name] for name in wanted if name in by_name), None)


def _summaries(result: CaseResult) -> Iterator[tuple[str, Summary]]:
    by_task = {sample.task: sample for sample in result.samples}
    for name, task in WHOLES.items():
        if task in by_task:
            yield name, summarise(np.array(by_task[task].times_s).max(axis=1).tolist())
    if "parts" not in by_task:
        return
    by_part: dict[str, NDArray[np.float64]] = {}
    for times in joined_rings(by_task["parts"].parts):
        by_part[times.part] = by_part.get(times.part, 0.0) + transfer_or_all(times, result.grouping)
    for name, by_rank in by_part.items():
        yield name, summarise(by_rank.max(axis=1).tolist())


def joined_rings(parts: Sequence[PartTimes]) -> Iterator[PartTimes]:
    """The parts with all calls of `send_recv` as one."""
    ring = [times for times in parts if times.part == "send_recv"]
    yield from (times for times in parts if times.part != "send_recv")
    if ring:
        total = np.sum([times.times_s for times in ring], axis=0)
        yield replace(ring[0], times_s=tuple(map(tuple, total.tolist())))


def _emulated(summaries: dict[str, Summary], estimate: Estimate | None) -> dict[str, Summary]:
    """One rank's compute as it was measured; a pass is that and the communication that the estimate adds to it."""
    measured = {name: summary for name, summary in summaries.items() if name not in COLLECTIVE_KINDS}
    compute, sending = _seconds_of(estimate, "compute"), _seconds_of(estimate, "communication")
    for name in ("serial", "total"):
        whole = _seconds_of(estimate, name)
        # Without a price for what is sent nobody knows how long a pass takes.
        if "compute" in measured and whole is not None and compute is not None and sending is not None:
            measured[name] = measured["compute"].later_by(whole - compute)
    return measured


def _seconds_of(estimate: Estimate | None, name: str) -> float | None:
    expected = _expected(estimate, name)
    return None if expected is None else expected.seconds


def transfer_or_all(times: PartTimes, groups: Groups) -> NDArray[np.float64]:
    """[iteration, rank] of a compute part, which its ranks do for themselves; [iteration, group] of a collective."""
    by_rank = np.array(times.times_s)
    if times.part not in COLLECTIVE_KINDS:
        return by_rank
    # The fastest rank of a group waited for nobody.
    transfer: NDArray[np.float64] = by_group(by_rank, groups).min(axis=2)
    return transfer


def _row(
    header: Header,
    planned: Planned,
    result: CaseResult,
    name: str,
    summary: Summary | None,
    estimate: Estimate | None,
) -> PartRow:
    case, ops = planned.case, _ops_of(name, planned.ops)
    expected = _expected(estimate, name)
    return PartRow(
        case=planned.key,
        model=case.model.name,
        phase=case.workload.phase,
        strategy=case.strategy,
        tp=case.tp,
        world=header.world,
        nodes=header.num_nodes,
        batch=case.workload.batch,
        seq=case.workload.seq,
        context=case.workload.context,
        dtype=case.workload.dtype,
        part=name,
        measured_s=None if summary is None else summary.median_s,
        low_s=None if summary is None else summary.low_s,
        high_s=None if summary is None else summary.high_s,
        samples=0 if summary is None else summary.num_samples,
        estimate_s=None if expected is None else expected.seconds,
        estimate_low_s=None if expected is None else expected.low_s,
        estimate_high_s=None if expected is None else expected.high_s,
        theory="" if estimate is None else estimate.theory,
        extrapolated=expected is not None and expected.extrapolated,
        bytes=sum_bytes(ops),
        flops=sum_flops(ops),
        status=result.status,
        comparable=header.oversubscribed is None and not planned.emulated and not _mostly_throttled(result),
    )


def _ops_of(name: str, ops: Sequence[Op]) -> list[Op]:
    match name:
        case "compute":
            return [op for op in ops if not isinstance(op, Collective)]
        case "communication":
            return [op for op in ops if isinstance(op, Collective)]
        case "serial" | "total":
            return list(ops)
        case _:
            return [op for op in ops if op.part == name]


def _expected(estimate: Estimate | None, name: str) -> PartEstimate | None:
    """The estimate for a row; records of version 1 have none for a serial pass, which was the total then."""
    if estimate is None:
        return None
    by_part: dict[str, PartEstimate] = {part.part: part for part in estimate.parts}
    return by_part.get(name, by_part.get("total") if name == "serial" else None)
