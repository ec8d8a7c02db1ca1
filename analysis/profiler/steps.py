"""What each rank's step spends: compute, communication, both at once, neither."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.profiler.activity import Device
from analysis.profiler.intervals import Split, length_within, make_busy, union
from analysis.profiler.kernels import COMPUTE_KINDS, ComputeKind
from analysis.profiler.load import Trace
from tp.units import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """One step of one device of one rank."""

    path: Path
    rank: int
    device: str
    step: int | None
    """k of ProfilerStep#k; None of a trace without steps."""
    split: Split
    kind_ns: dict[ComputeKind, int]
    """Of kernels of a kind; where several run at once these overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """A kernel or operator over all ranks and steps."""

    name: str
    kind: ComputeKind
    calls: int
    total_ns: int


def step_times(trace: Trace) -> list[StepTimes]:
    """Every step of every device of a trace.

    Times count where they fall, cut at the ends of the step, whichever step launched the kernel.
    """
    return [found for device in trace.devices for found in _of_device(trace, device)]


def _of_device(trace: Trace, device: Device) -> list[StepTimes]:
    of_kind = {kind: union(each.interval for each in device.activities if each.kind == kind) for kind in COMPUTE_KINDS}
    busy = make_busy(
        compute=[interval for intervals in of_kind.values() for interval in intervals],
        communication=[each.interval for each in device.activities if each.kind == "communication"],
        copies=[each.interval for each in device.activities if each.kind == "copy"],
    )
    return [
        StepTimes(
            path=trace.path,
            rank=trace.rank,
            device=device.name,
            step=window.step,
            split=busy.split(window.interval),
            kind_ns={kind: length_within(intervals, window.interval) for kind, intervals in of_kind.items()},
        )
        for window in device.windows
    ]


def outside(trace: Trace) -> str | None:
    """What ran outside of all steps, told rather than dropped."""
    count = total = 0
    for device in trace.devices:
        windows = union(window.interval for window in device.windows)
        for each in device.activities:
            left_over = each.end_ns - each.start_ns - length_within(windows, each.interval)
            count += left_over > 0
            total += left_over
    if not count:
        return None
    what = "operators and messages" if trace.is_cpu else "kernels and copies"
    took = format_seconds(total / 1e9)
    return f"rank {trace.rank}: {took} of {what} ({count} of them) ran outside of all steps and are in none"


def kernel_times(traces: Sequence[Trace]) -> list[KernelTime]:
    """Compute by name, that of the most time first; durations added up, also where kernels run at once."""
    found: dict[tuple[str, ComputeKind], list[int]] = {}
    for trace in traces:
        for device in trace.devices:
            windows = union(window.interval for window in device.windows)
            for each in device.activities:
                if each.kind == "communication" or each.kind == "copy":
                    continue
                entry = found.setdefault((each.name, each.kind), [0, 0])
                entry[0] += each.calls
                entry[1] += length_within(windows, each.interval)
    made = [KernelTime(name=n, kind=k, calls=calls, total_ns=total) for (n, k), (calls, total) in found.items()]
    return sorted((kernel for kernel in made if kernel.total_ns), key=lambda kernel: -kernel.total_ns)
