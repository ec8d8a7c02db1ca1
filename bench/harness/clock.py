"""How time is read: marks on the host's clock or in a CUDA stream, and the timeline that lays them along a pass.

A clock knows how to mark a moment, how far two marks are apart, and how to get ready outside of what is timed. The
CUDA clock pre-fills the stream with a spin, so that the host is ahead of the device when the start mark passes and
no launch is timed; nothing synchronises between the two.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
import torch.distributed as dist

from tp.plan.ops import COLLECTIVE_KINDS, Direction, Part

# Long enough for the host to enqueue a forward and backward (some 100 launches, Python included, about 3 ms), in cycles
# of a clock near 1.5 GHz.
SPIN_CYCLES: Final = 8_000_000
# Writing twice the cache's size leaves nothing of what was there before.
FLUSH_FACTOR: Final = 2


class Clock(Protocol):
    """Marks moments; all marks of a clock are of one kind."""

    def brace(self) -> None:
        """Get ready, outside of what is timed: the next mark is a start."""
        ...

    def mark(self) -> Any: ...

    def settle(self) -> None:
        """Wait until everything marked has happened."""
        ...

    def passed(self, mark: Any) -> bool:
        """Whether the device got to `mark` while the host was still handing out work."""
        ...

    def seconds(self, start: Any, end: Any) -> float: ...


class HostClock:
    """The host's monotonic clock, for devices that compute when they are called."""

    def brace(self) -> None:
        pass

    def mark(self) -> int:
        return time.perf_counter_ns()

    def settle(self) -> None:
        pass

    def passed(self, mark: int) -> bool:
        return False

    def seconds(self, start: int, end: int) -> float:
        return (end - start) / 1e9


class CudaClock:
    """CUDA events on the current stream, which waits for NCCL's before the end mark."""

    def __init__(self, device: torch.device, *, align: Callable[[], None], cold: bool) -> None:
        """`align` enqueues something that all ranks must reach; `cold` flushes the L2 cache before every pass."""
        self._device = device
        self._align = align
        size = torch.cuda.get_device_properties(device).L2_cache_size * FLUSH_FACTOR if cold else 0
        self._flush = torch.empty(size, dtype=torch.int8, device=device)

    def brace(self) -> None:
        torch.cuda.synchronize(self._device)
        self._flush.zero_()
        torch.cuda._sleep(SPIN_CYCLES)
        self._align()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def settle(self) -> None:
        torch.cuda.synchronize(self._device)

    def passed(self, mark: torch.cuda.Event) -> bool:
        return bool(mark.query())

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end)) / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a pass: a compute part in one direction, or one call of a collective."""

    part: Part
    direction: Direction
    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """One timed pass on one rank: the whole, and its parts where they were marked (they sum to the whole)."""

    total_s: float
    parts_s: dict[Span, float]
    host_bound: bool
    """Whether the device had begun before the host had handed it everything."""


class Recorder:
    """A timeline that keeps a mark for every part that begins; `lap` turns them into seconds."""

    def __init__(self, clock: Clock, *, watching: bool) -> None:
        self.watching = watching
        self.now: tuple[Part, Direction] = ("norm", "forward")
        self._clock = clock
        self._labels: list[tuple[Part, Direction]] = [self.now]
        self._marks = [clock.mark()]
        self._host_bound = False

    def enter(self, part: Part, direction: Direction) -> None:
        if self.watching:
            self.now = (part, direction)
            self._labels.append(self.now)
            self._marks.append(self._clock.mark())

    def stop(self) -> None:
        """The pass is over."""
        self._marks.append(self._clock.mark())
        self._host_bound = self._clock.passed(self._marks[0])

    def lap(self) -> Lap:
        """Wait for the pass and read it."""
        self._clock.settle()
        parts: dict[Span, float] = {}
        calls: Counter[tuple[Part, Direction]] = Counter()
        for label, start, end in zip(self._labels, self._marks, self._marks[1:], strict=False):
            span = Span(part=label[0], direction=label[1], call=calls[label])
            parts[span] = parts.get(span, 0.0) + self._clock.seconds(start, end)
            # A compute part goes on after a collective inside it; a collective that comes again is another call.
            calls[label] += label[0] in COLLECTIVE_KINDS
        total = self._clock.seconds(self._marks[0], self._marks[-1])
        return Lap(total_s=total, parts_s=parts if self.watching else {}, host_bound=self._host_bound)


def make_clock(device: torch.device, *, cold: bool) -> Clock:
    """The clock of the device; on CUDA the ranks line up by a collective behind the spin."""
    if device.type == "cpu":
        return HostClock()
    token = torch.zeros(1, device=device)

    def align() -> None:
        if dist.is_initialized():
            dist.all_reduce(token)

    return CudaClock(device, align=align, cold=cold)
