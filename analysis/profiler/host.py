"""The device of a CPU's trace: operators by their self time, and collectives as gloo's threads run them.

A send or receive has no thread of its own: gloo tells when it was posted and when its end was noticed, mostly by the
wait for it, so that it seems to last for as long as the program had it under way.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

from analysis.profiler.activity import (
    CPU,
    ONE_GROUP,
    RECORD,
    Activity,
    Device,
    Message,
    StepFinder,
    Window,
    host_steps,
    lone_group,
)
from analysis.profiler.intervals import Interval, union
from analysis.profiler.kernels import collective_kind, element_bytes
from analysis.profiler.operators import (
    CALL,
    is_collective_event,
    is_communication,
    is_operator,
    operator_kind,
)
from analysis.profiler.read import Event, RawTrace
from tp.errors import ConfigError

# Made of sends that gloo tells nothing of.
_WITHOUT_WORK: Final = ("c10d::monitored_barrier_",)


def cpu_device(trace: RawTrace) -> Device:
    """What ran; ConfigError where collectives were called that no thread of gloo shows."""
    steps = host_steps(trace)
    finder = StepFinder(steps)
    threads = defaultdict[tuple[str, str], list[Event]](list)
    sending = [event for each in ("operator", "annotation") for event in trace.of(each) if _is_sending(event)]
    for event in trace.of("operator"):
        if not _is_sending(event):
            threads[event.process, event.thread].append(event)
    found = [piece for events in threads.values() for piece in _pieces(events, finder)]
    messages, waiting = _messages(trace, sorted(sending, key=lambda event: event.start_ns), finder)
    found += messages
    if not found:
        raise ConfigError(f"{trace.path}: holds no operator that computes or sends; trace with ProfilerActivity.CPU")
    windows = [Window(step=step, interval=interval) for step, interval in steps.items()]
    whole = (min(each.start_ns for each in found), max(each.end_ns for each in found))
    return Device(
        name=CPU,
        windows=tuple(windows) or (Window(step=None, interval=whole),),
        activities=tuple(found),
        notes=(f"{waiting} collectives were called whose times gloo does not tell: none is counted",)
        if waiting
        else (),
    )


def _is_sending(event: Event) -> bool:
    return is_collective_event(event.name)


@dataclass(slots=True, kw_only=True)
class _Open:
    """An operator that has begun, and what ran within it."""

    event: Event
    counts: bool
    """Not within a collective's call."""
    inner: list[Interval] = field(default_factory=list)


def _pieces(events: Sequence[Event], finder: StepFinder) -> Iterator[Activity]:
    """What the operators of one thread compute themselves; `events` by their start, outer ones first."""
    stack: list[_Open] = []
    for event in events:
        while stack and stack[-1].event.end_ns <= event.start_ns:
            yield from _own(stack.pop(), finder)
        if stack:
            stack[-1].inner.append((event.start_ns, event.end_ns))
        counts = (not stack or stack[-1].counts) and not is_communication(event.name)
        stack.append(_Open(event=event, counts=counts))
    while stack:
        yield from _own(stack.pop(), finder)


def _own(opened: _Open, finder: StepFinder) -> Iterator[Activity]:
    event = opened.event
    if not opened.counts or not is_operator(event.name):
        return
    at, calls = event.start_ns, 1
    for start, end in [*union(opened.inner), (event.end_ns, event.end_ns)]:
        if at < start or (calls and start == event.end_ns):
            yield Activity(
                name=event.name,
                kind=operator_kind(event.name),
                start_ns=at,
                end_ns=max(at, start),
                device=CPU,
                step=finder.at(event.start_ns),
                calls=calls,
            )
            calls = 0
        at = max(at, end)


def _messages(trace: RawTrace, sending: Sequence[Event], finder: StepFinder) -> tuple[list[Activity], int]:
    """What gloo sends, each named and sized by the call that asked for it, and how many calls it tells nothing of."""
    calls = [event for event in trace.of("operator") if event.name.startswith(CALL) and event.name not in _WITHOUT_WORK]
    recorded = [event for event in trace.of("operator") if event.name == RECORD]
    if not sending and (calls or recorded) and trace.world_size != 1:
        remedy = "trace with ProfilerActivity.CUDA" if "nccl" in trace.backend else "only gloo's are known on a CPU"
        raise ConfigError(
            f"{trace.path}: {len(calls) or len(recorded)} collectives were called, yet no device and no thread of gloo"
            f" shows how long they took; {remedy}"
        )
    found, waiting = [], list(calls)
    for event in sending:
        call = _asked_by(event, waiting)
        if call is not None:
            waiting.remove(call)
        found.append(
            Activity(
                name=event.name,
                kind="communication",
                start_ns=event.start_ns,
                end_ns=event.end_ns,
                device=CPU,
                step=finder.at(event.start_ns if call is None else call.start_ns),
                message=_message(event, call, trace),
                asked_ns=None if call is None else call.start_ns,
            )
        )
    return found, len(waiting)


def _asked_by(event: Event, calls: Sequence[Event]) -> Event | None:
    """The earliest call of its kind before it, one of its very size if there is one: gloo serves calls in order."""
    kind = collective_kind(event.name)
    kinds = (kind, "reduce_scatter") if kind == "all_reduce" else (kind,)
    fitting = []
    for call in calls:
        if call.start_ns > event.start_ns:
            break
        if collective_kind(call.name) in kinds:
            fitting.append(call)
    sent = sum(_counts(event))
    return next((call for call in fitting if sent in _counts(call)), next(iter(fitting), None))


def _message(event: Event, call: Event | None, trace: RawTrace) -> Message:
    lone = lone_group(trace)
    kind = collective_kind(event.name if call is None else call.name)
    types = event.args.get("Input type")
    element = element_bytes(types[0]) if isinstance(types, list) and types else None
    sent = sum(_counts(event))
    counts = [sent * (lone if kind == "all_gather" and lone else 1), *(_counts(call) if call is not None else ())]
    known = element is not None and kind != "barrier" and (call is not None or kind != "all_gather" or lone)
    return Message(
        collective=kind,
        size_bytes=max(counts) * element if known and element is not None and max(counts) else None,
        group_size=lone,
        group=ONE_GROUP if lone else "",
    )


def _counts(event: Event) -> list[int]:
    """Elements of each tensor, or list of tensors, that the event was given; none without record_shapes."""
    dims, types = event.args.get("Input Dims"), event.args.get("Input type")
    if not isinstance(dims, list) or not isinstance(types, list):
        return []
    known = [(each, kind) for each, kind in zip(dims, types, strict=False) if kind not in ("", "Scalar", "ScalarList")]
    return [_elements(each) for each, _ in known]


def _elements(dims: Any) -> int:
    """Of a shape, or of a list of shapes together; a list of lists comes empty."""
    if not isinstance(dims, list):
        return 0
    if any(isinstance(each, list) for each in dims):
        return sum(_elements(each) for each in dims)
    return prod(each for each in dims if isinstance(each, int))
