"""What files are given: a row a step, a row a collective, and all of it as JSON; seconds, bytes, percent."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from analysis.profiler.collectives import Sent
from analysis.profiler.compare import Compared
from analysis.profiler.kernels import COMPUTE_KINDS
from analysis.profiler.steps import KernelTime, StepTimes

Row = dict[str, Any]


def waits(sent: Sequence[Sent]) -> dict[tuple[int, str, int | None], int]:
    """Nanoseconds that a rank waits for others in a step, of the collectives where that is known."""
    found = defaultdict[tuple[int, str, int | None], int](int)
    for each in sent:
        if each.wait_ns is not None:
            found[each.rank, each.device, each.step] += each.wait_ns
    return found


def step_rows(steps: Sequence[StepTimes], sent: Sequence[Sent]) -> list[Row]:
    """A row a (trace, rank, device, step); compute + exposed + copy_alone + idle is the span."""
    waited = waits(sent)
    return [
        {
            "trace": str(each.path),
            "rank": each.rank,
            "device": each.device,
            "step": each.step,
            "span_s": each.split.span_ns / 1e9,
            "compute_s": each.split.compute_ns / 1e9,
            "communication_s": each.split.communication_ns / 1e9,
            "overlapped_s": each.split.overlapped_ns / 1e9,
            "exposed_s": each.split.exposed_ns / 1e9,
            "copy_alone_s": each.split.copy_alone_ns / 1e9,
            "idle_s": each.split.idle_ns / 1e9,
            "overlap_percent": each.split.overlap_percent,
            "hidden_percent": each.split.hidden_percent,
            "wait_s": _seconds(waited.get((each.rank, each.device, each.step))),
            **{f"{kind}_s": each.kind_ns[kind] / 1e9 for kind in COMPUTE_KINDS},
        }
        for each in steps
    ]


def collective_rows(sent: Sequence[Sent]) -> list[Row]:
    """A row a (rank, device, step, collective, group, bytes); `total_s` and what follows add up `count` calls."""
    return [
        {
            "rank": each.rank,
            "device": each.device,
            "step": each.step,
            "collective": each.message.collective,
            "group": each.message.group,
            "group_size": each.message.group_size,
            "size_bytes": each.message.size_bytes,
            "count": each.count,
            "total_s": each.total_ns / 1e9,
            "shortest_s": _seconds(each.shortest_ns),
            "wait_s": _seconds(each.wait_ns),
            "skew_s": _seconds(each.skew_ns),
        }
        for each in sent
    ]


def kernel_rows(kernels: Sequence[KernelTime]) -> list[Row]:
    """A row a kernel or operator, over all ranks and steps."""
    return [
        {"name": each.name, "kind": each.kind, "count": each.calls, "total_s": each.total_ns / 1e9} for each in kernels
    ]


def estimate_rows(compared: Sequence[Compared]) -> list[Row]:
    """A row a quantity of a step."""
    return [
        {
            "quantity": each.quantity,
            "measured_s": each.measured_s,
            "estimate_s": each.estimate_s,
            "low_s": each.low_s,
            "high_s": each.high_s,
            "predicted_over_measured": each.predicted_over_measured,
        }
        for each in compared
    ]


def _seconds(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / 1e9
