"""What people are given: a verdict in a sentence, then a rank, a collective, a kernel and an estimate a row."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.profiler.collectives import Sent
from analysis.profiler.compare import Compared
from analysis.profiler.kernels import COMPUTE_KINDS
from analysis.profiler.steps import KernelTime, StepTimes
from analysis.profiler.table import waits
from analysis.show.cells import interval, percent, seconds, size
from analysis.show.table import NOTHING
from tp.units import format_seconds, printable, significant

MOST_SENT = 12
KERNELS_A_KIND = 3
LONGEST_NAME = 70

Lane = tuple[int, str]


def lanes(steps: Sequence[StepTimes]) -> dict[Lane, list[StepTimes]]:
    """The steps of each device of each rank."""
    found = defaultdict[Lane, list[StepTimes]](list)
    for each in steps:
        found[each.rank, each.device].append(each)
    return found


def middle(steps: Sequence[StepTimes], read: Callable[[StepTimes], int]) -> float:
    """Median over steps, in seconds."""
    return median(read(each) for each in steps) / 1e9


def verdict(steps: Sequence[StepTimes], sent: Sequence[Sent]) -> str:
    """The rank that exposes most, and who waits for whom; medians over steps."""
    by_lane = lanes(steps)
    lane = max(by_lane, key=lambda each: middle(by_lane[each], lambda step: step.split.exposed_ns))
    worst = by_lane[lane]
    span, compute = (
        middle(worst, lambda each: each.split.span_ns),
        middle(worst, lambda each: each.split.compute_ns),
    )
    share = f"{percent(compute / span) if span else NOTHING} of the step computes"
    communication = middle(worst, lambda each: each.split.communication_ns)
    if not communication:
        return f"no communication; on rank {lane[0]} {share}"
    exposed = format_seconds(middle(worst, lambda each: each.split.exposed_ns))
    return f"rank {lane[0]} exposes {exposed} of {format_seconds(communication)} communication a step; {share}" + (
        _who_waits(steps, sent)
    )


def _who_waits(steps: Sequence[StepTimes], sent: Sequence[Sent]) -> str:
    waited = lane_waits(steps, sent)
    if len({rank for rank, _ in waited}) < 2:
        return ""
    if not any(waited.values()):
        return ""
    most, least = max(waited, key=lambda lane: waited[lane]), min(waited, key=lambda lane: waited[lane])
    return (
        f"; rank {most[0]} waits {format_seconds(waited[most])} a step for others, rank {least[0]} least"
        f" ({format_seconds(waited[least])})"
    )


def lane_waits(steps: Sequence[StepTimes], sent: Sequence[Sent]) -> dict[Lane, float]:
    """Seconds a step that each waits for others, the median over steps; only where that is known."""
    known = waits(sent)
    found = defaultdict[Lane, list[float]](list)
    for each in steps:
        if (each.rank, each.device, each.step) in known:
            found[each.rank, each.device].append(known[each.rank, each.device, each.step] / 1e9)
    return {lane: median(values) for lane, values in found.items()}


def print_steps(console: Console, steps: Sequence[StepTimes], sent: Sequence[Sent]) -> None:
    """A row a rank and device: medians over its steps."""
    waited = lane_waits(steps, sent)
    shown = _table("rank", "device")
    headings = ("steps", "span", "compute", "communication", "overlapped", "exposed", "copies", "idle", "overlap")
    _figures(shown, *headings, "wait")
    for lane, own in lanes(steps).items():
        splits = [each.split for each in own]
        parts = [
            [getattr(split, f"{name}_ns") for split in splits]
            for name in ("span", "compute", "communication", "overlapped", "exposed", "copy_alone", "idle")
        ]
        overlaps = [split.overlap_percent for split in splits if split.overlap_percent is not None]
        shown.add_row(
            *(str(lane[0]), _plain(lane[1]), str(len(own))),
            *(format_seconds(median(values) / 1e9) for values in parts),
            percent(median(overlaps) / 100 if overlaps else None),
            seconds(waited.get(lane)),
        )
    console.print(shown)


def print_collectives(console: Console, sent: Sequence[Sent]) -> None:
    """A row a collective, group size and bytes: calls and seconds a step, the mean over ranks and steps."""
    rows = defaultdict[tuple[str, int | None, int | None], list[Sent]](list)
    for each in sent:
        rows[each.message.collective, each.message.group_size, each.message.size_bytes].append(each)
    order = sorted(rows, key=lambda row: -sum(each.total_ns for each in rows[row]))
    shown = _table("collective")
    _figures(shown, "ranks", "bytes", "calls a step", "time a step", "fastest rank", "wait")
    for name, ranks, size_bytes in order[:MOST_SENT]:
        own = rows[name, ranks, size_bytes]
        places = len({(each.rank, each.device, each.step) for each in own})
        is_met = all(each.shortest_ns is not None for each in own)
        shown.add_row(
            *(name, str(ranks or NOTHING), size(size_bytes)),
            significant(sum(each.count for each in own) / places),
            format_seconds(sum(each.total_ns for each in own) / places / 1e9),
            seconds(sum(each.shortest_ns or 0 for each in own) / places / 1e9 if is_met else None),
            seconds(sum(each.wait_ns or 0 for each in own) / places / 1e9 if is_met else None),
        )
    if rows:
        console.print(shown)
    if len(order) > MOST_SENT:
        console.print(f"and {len(order) - MOST_SENT} more kinds (--collectives FILE.csv has all)", markup=False)


def print_kernels(console: Console, kernels: Sequence[KernelTime], *, num_steps: int) -> None:
    """The longest of every kind: share of all compute, and seconds a step and rank; durations added up."""
    total = sum(each.total_ns for each in kernels)
    shown = _table("compute", "of which most")
    _figures(shown, "calls a step", "time a step", "share")
    for kind in COMPUTE_KINDS:
        own = [each for each in kernels if each.kind == kind]
        if not own:
            continue
        for label, name, each in [(kind, "", own), *(("", k.name, [k]) for k in own[:KERNELS_A_KIND])]:
            taken = sum(kernel.total_ns for kernel in each)
            shown.add_row(
                *(label, _plain(name)),
                significant(sum(kernel.calls for kernel in each) / num_steps),
                format_seconds(taken / num_steps / 1e9),
                percent(taken / total),
            )
    if total:
        console.print(shown)


def print_estimate(console: Console, compared: Sequence[Compared]) -> None:
    """Measured beside estimated."""
    shown = _table("a step")
    _figures(shown, "measured", "predicted", "90 % interval", "predicted / measured")
    for each in compared:
        ratio = each.predicted_over_measured
        shown.add_row(
            *(each.quantity, format_seconds(each.measured_s), seconds(each.estimate_s)),
            interval(each.low_s, each.high_s),
            NOTHING if ratio is None else significant(ratio),
        )
    console.print(shown)


def _table(*headings: str) -> Table:
    shown = Table(box=None, pad_edge=False)
    for heading in headings:
        shown.add_column(heading, no_wrap=True)
    return shown


def _plain(name: str) -> Text:
    """As it is: in text that may hold markup "at::key::f" would become a picture."""
    return Text(printable(name)[:LONGEST_NAME])


def _figures(shown: Table, *headings: str) -> None:
    for heading in headings:
        shown.add_column(heading, justify="right")
