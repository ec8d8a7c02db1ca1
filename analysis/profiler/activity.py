"""What ran on the devices of a trace, kernels and copies, and in which step; `host` makes the same of a CPU's trace."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from analysis.profiler.intervals import Interval
from analysis.profiler.kernels import Kind, collective_kind, element_bytes, kernel_kind
from analysis.profiler.read import Event, RawTrace, step_number
from tp.errors import ConfigError
from tp.units import printable

CPU: Final = "cpu"
RECORD: Final = "record_param_comms"
ONE_GROUP: Final = "the only one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a collective sends."""

    collective: str
    size_bytes: int | None
    """As nccl-tests counts: the buffer, of a gather or scatter the whole."""
    group_size: int | None
    group: str
    """Process group; empty where the trace does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A kernel or copy, or a piece of an operator with nothing else in it."""

    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    device: str
    step: int | None = None
    """The step that launched it; None of a trace without steps, and outside of them."""
    calls: int = 1
    """0 of an operator's second and further pieces."""
    message: Message | None = None
    asked_ns: int | None = None
    """When the host called for it, which is in the program's order on every rank."""

    @property
    def interval(self) -> Interval:
        return self.start_ns, self.end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When a step ran on a device."""

    step: int | None
    """None of a trace without steps, which is one."""
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of a trace: its steps, and what ran."""

    name: str
    windows: tuple[Window, ...]
    activities: tuple[Activity, ...]
    notes: tuple[str, ...] = ()


def host_steps(trace: RawTrace) -> dict[int, Interval]:
    """When each step ran on the host, by its number."""
    return _ranges(trace.of("step"))


def _ranges(events: Iterable[Event]) -> dict[int, Interval]:
    found: dict[int, Interval] = {}
    for event in events:
        start, end = found.get(step_number(event), (event.start_ns, event.end_ns))
        found[step_number(event)] = (min(start, event.start_ns), max(end, event.end_ns))
    return dict(sorted(found.items(), key=lambda item: item[1]))


class StepFinder:
    """Which step a moment of the host is in."""

    def __init__(self, steps: Mapping[int, Interval]) -> None:
        self._numbers, self._ranges = list(steps), list(steps.values())

    def at(self, moment_ns: int) -> int | None:
        """None outside of all steps."""
        place = bisect_right(self._ranges, moment_ns, key=lambda interval: interval[0]) - 1
        return self._numbers[place] if place >= 0 and moment_ns < self._ranges[place][1] else None


def gpu_devices(trace: RawTrace) -> list[Device]:
    """The devices of a trace with kernels, by their names; ConfigError where collectives ran that no kernel shows."""
    steps = host_steps(trace)
    finder = StepFinder(steps or _ranges(trace.of("device_step")))
    launched = {
        event.args["correlation"]: event.start_ns for event in trace.of("launch") if "correlation" in event.args
    }
    activities = defaultdict[str, list[Activity]](list)
    for event in (*trace.of("kernel"), *trace.of("copy")):
        asked = launched.get(event.args.get("correlation"))
        step = finder.at(event.start_ns if asked is None or not steps else asked)
        made = replace(_of_kernel(event, trace), step=step, asked_ns=asked)
        activities[made.device].append(made)
    _require_communication(trace, [each for ran in activities.values() for each in ran])
    return [
        Device(name=name, windows=device_windows(ran, steps), activities=tuple(ran))
        for name, ran in sorted(activities.items())
    ]


def _of_kernel(event: Event, trace: RawTrace) -> Activity:
    named = event.args.get("Collective name")
    kind: Kind = "copy" if event.category == "copy" else kernel_kind(event.name)
    if isinstance(named, str) and named and kind != "copy":
        kind = "communication"
    return Activity(
        name=event.name,
        kind=kind,
        start_ns=event.start_ns,
        end_ns=event.end_ns,
        device=printable(str(event.args.get("device", event.process))),
        message=_message(event, trace) if kind == "communication" else None,
    )


def _message(event: Event, trace: RawTrace) -> Message:
    args = event.args
    element = element_bytes(args.get("dtype"))
    counts = [count for key in ("In msg nelems", "Out msg nelems") if (count := _count(args.get(key))) is not None]
    named = str(args.get("Collective name") or event.name)
    group = " ".join(str(args[key]) for key in ("Process Group Name", "Process Group Ranks") if key in args)
    lone = lone_group(trace)
    return Message(
        collective=collective_kind(named),
        size_bytes=max(counts) * element if counts and element is not None else None,
        group_size=_count(args.get("Group size")) or lone,
        group=printable(group) or (ONE_GROUP if lone else ""),
    )


def lone_group(trace: RawTrace) -> int | None:
    """Size of the process group where the rank is in a single one."""
    return trace.group_sizes[0] if len(trace.group_sizes) == 1 else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _require_communication(trace: RawTrace, activities: Sequence[Activity]) -> None:
    """A renamed kernel must not read as no communication at all."""
    if any(activity.kind == "communication" for activity in activities):
        return
    recorded = [event for event in trace.of("operator") if event.name == RECORD and _sends(event)]
    if recorded:
        names = sorted({activity.name for activity in activities if activity.kind == "other"})[:3]
        raise ConfigError(
            f"{trace.path}: {len(recorded)} collectives were called ({RECORD}), yet no kernel is known as communication"
            f" (unknown ones: {', '.join(name[:60] for name in names) or 'none'}); add its name to"
            f" analysis/profiler/kernels.py"
        )


def _sends(event: Event) -> bool:
    """Whether the record is of a collective among several ranks; without any word on it, it may be."""
    named = str(event.args.get("Collective name", "all_reduce"))
    return _count(event.args.get("Group size")) != 1 and collective_kind(named) not in ("unnamed", "barrier")


def device_windows(activities: Sequence[Activity], steps: Mapping[int, Interval]) -> tuple[Window, ...]:
    """When the steps ran on a device, which lags behind the host.

    A step lasts from its first kernel to that of the next step, the last one to the end of its own, or for as long as
    on the host where that is longer. Without steps all is one, from first to last.
    """
    kernels = [activity for activity in activities if activity.kind != "copy"]
    if all(activity.step is None for activity in kernels):
        ends = [activity.end_ns for activity in activities]
        return (Window(step=None, interval=(min(activity.start_ns for activity in activities), max(ends))),)
    starts: dict[int, int] = {}
    for activity in kernels:
        if activity.step is not None:
            starts[activity.step] = min(starts.get(activity.step, activity.start_ns), activity.start_ns)
    order = sorted(starts, key=lambda step: (starts[step], step))
    last = order[-1]
    ends = [starts[step] for step in order[1:]]
    ends.append(max(activity.end_ns for activity in activities if activity.step == last))
    if last in steps:
        ends[-1] = max(ends[-1], starts[last] + steps[last][1] - steps[last][0])
    return tuple(Window(step=step, interval=(starts[step], end)) for step, end in zip(order, ends, strict=True))
