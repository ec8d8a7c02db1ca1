"""What a case's record tells besides its parts, in sentences for the console; loads without torch."""

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.harness.record.arrivals import Arrivals, of_pass, within_pass
from bench.harness.record.grouping import Groups
from bench.harness.record.interference import Contention, OverRanks, contention, over_ranks, sent_over_planned
from bench.harness.record.names import COMMUNICATION, DELAYED, FULL, PARTS
from bench.harness.record.records import BlockMark, CaseResult, Planned, Samples, Traffic
from tp.plan.ops import Op
from tp.units import format_bytes, format_seconds, format_signed_percent


def remarks(planned: Planned, result: CaseResult, *, late_rank: int | None) -> list[str]:
    """One line each: spread over ranks, skew, contention, a planted delay of `late_rank`, traffic, throttling."""
    by_task = {samples.task: samples for samples in result.samples}
    lines: list[str] = []
    if FULL in by_task and len(by_task[FULL].times_s[0]) > 1:
        lines.append(_spread(over_ranks(by_task[FULL])))
    if PARTS in by_task:
        inside = list(within_pass(by_task[PARTS], planned.ops, groups=result.grouping))
        lines += [_skew(max(inside, key=lambda each: each.skew.median_s), len(inside))] if inside else []
    found = contention(result)
    lines += [] if found is None else list(_contention(found))
    lines += [] if late_rank is None else _delays(by_task, planned.ops, result.grouping, late_rank)
    lines += [] if result.traffic is None else [_traffic(result.traffic)]
    return [*lines, *marked(result.marks)]


def _spread(found: OverRanks) -> str:
    return (
        f"ranks: full takes {format_seconds(found.slowest.median_s)} on the slowest, "
        f"{format_seconds(found.fastest.median_s)} on the fastest; they differ by {format_seconds(found.spread_s)}"
    )


def _skew(found: Arrivals, among: int) -> str:
    return (
        f"arrival skew, worst of {among} collectives ({found.name}): {format_seconds(found.skew.median_s)}, 95th "
        f"percentile {format_seconds(found.skew.p95_s)}, rank {found.last_rank} last in "
        f"{found.last_share:.0%} of the passes; transfer {format_seconds(found.transfer.median_s)}"
    )


def _contention(found: Contention) -> Iterator[str]:
    yield (
        f"contention: compute {format_signed_percent(found.compute_slowdown - 1)} while communication runs "
        f"({format_seconds(found.compute_s)} alone), communication "
        f"{format_signed_percent(found.communication_slowdown - 1)} while compute runs "
        f"({format_seconds(found.communication_s)} alone)"
    )
    yield f"overlap: {found.overlap_percent:.0f} % of the shorter of the two, times alone (IMB-NBC)"
    if found.uncovered:
        yield f"contention: {found.uncovered} passes outlasted what ran beside them; their slow-down is a lower bound"


def _delays(by_task: dict[str, Samples], ops: Sequence[Op], groups: Groups, late_rank: int) -> Iterator[str]:
    late = f"{DELAYED}{COMMUNICATION}"
    if late in by_task and COMMUNICATION in by_task:
        before, after = of_pass(by_task[COMMUNICATION], groups=groups), of_pass(by_task[late], groups=groups)
        if before is not None and after is not None:
            yield f"{COMMUNICATION}, {_control(before, after, late_rank)}"
    late = f"{DELAYED}{PARTS}"
    if late in by_task and PARTS in by_task:
        pairs = zip(
            within_pass(by_task[PARTS], ops, groups=groups), within_pass(by_task[late], ops, groups=groups), strict=True
        )
        before, after = next(iter(pairs), (None, None))
        if before is not None and after is not None:
            yield f"{before.name} within the block, {_control(before, after, late_rank)}"


def _control(before: Arrivals, after: Arrivals, late_rank: int) -> str:
    """What a planted delay did to the reported skew and transfer."""
    found = "" if after.last_rank == late_rank else f" (yet rank {after.last_rank} was last most often)"
    moved = after.transfer.median_s / before.transfer.median_s - 1
    return (
        f"rank {late_rank} late on purpose{found}: skew {format_seconds(before.skew.median_s)} becomes "
        f"{format_seconds(after.skew.median_s)}, transfer {format_seconds(before.transfer.median_s)} becomes "
        f"{format_seconds(after.transfer.median_s)} ({format_signed_percent(moved)})"
    )


def _traffic(found: Traffic) -> str:
    ratio = sent_over_planned(found)
    if ratio is None:
        reasons = "; ".join(f"{name}: {reason}" for host in found.hosts for name, reason in host.unread.items())
        return f"on the wire: no counter moved{f' ({reasons})' if reasons else ''}"
    devices = sorted({name for host in found.hosts for name in host.sent_bytes})
    return (
        f"on the wire: {format_bytes(ratio * found.planned_bytes)} a rank and pass by the counters of "
        f"{', '.join(devices)}, planned {format_bytes(found.planned_bytes)} ({ratio:.3f} of it)"
    )


def marked(marks: Sequence[BlockMark]) -> list[str]:
    """The disturbed blocks by kind, with one of the reasons."""
    blocks = Counter(kind for kind, _ in {(mark.kind, mark.first_round) for mark in marks})
    examples = {mark.kind: mark for mark in marks}
    return [
        f"marked {kind}: {count} blocks of samples; rank {examples[kind].rank}: {examples[kind].text}"
        for kind, count in sorted(blocks.items())
    ]
