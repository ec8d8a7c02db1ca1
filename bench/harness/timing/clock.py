"""How time is read: marks on the host's clock or in a CUDA stream.

A clock knows how to mark a moment, how far two marks are apart, when a mark was on the host's clock, and how to get
ready outside of what is timed. The CUDA clock pre-fills the stream with a spin, so that the host is ahead of the device
when the start mark passes and no launch is timed; nothing synchronises between the two.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
import torch.distributed as dist

# A spin that long tells how many cycles a second has.
PROBED_CYCLES: Final = 10_000_000
# Sleeping wakes up late by up to this; the rest of a delay is waited for busily.
WAKE_S: Final = 1e-3
# Writing twice the cache's size leaves nothing of what was there before.
FLUSH_FACTOR: Final = 2


class Clock(Protocol):
    """Marks moments; all marks of a clock are of one kind."""

    @property
    def kind(self) -> str:
        """What reads the time."""
        ...

    @property
    def soak_s(self) -> float:
        """How long the device works before its clock and power are those of work."""
        ...

    @property
    def flush_bytes(self) -> int:
        """What is written before every pass, so that it finds nothing of the last one in the cache."""
        ...

    def brace(self, lead_s: float) -> Any:
        """Get ready, outside of what is timed: the next mark is a start, and the host may need `lead_s` to enqueue.

        Gives what ties the marks of the pass to the host's clock.
        """
        ...

    def delay(self, seconds: float) -> None:
        """Let this rank, and no other, come so much later to what follows."""
        ...

    def mark(self) -> Any: ...

    def settle(self) -> None:
        """Wait until everything marked has happened."""
        ...

    def passed(self, mark: Any) -> bool:
        """Whether the device got to `mark` while the host was still handing out work."""
        ...

    def seconds(self, start: Any, end: Any) -> float: ...

    def host_seconds(self, mark: Any, tie: Any) -> float:
        """When `mark` was, on this host's monotonic clock; `tie` is what the pass was braced with."""
        ...


class HostClock:
    """The host's monotonic clock, for devices that compute when they are called."""

    kind = "host"
    flush_bytes = 0
    soak_s = 0.0

    def brace(self, lead_s: float) -> None:
        pass

    def delay(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        if seconds > WAKE_S:
            time.sleep(seconds - WAKE_S)
        while time.perf_counter() < end:
            pass

    def mark(self) -> int:
        return time.perf_counter_ns()

    def settle(self) -> None:
        pass

    def passed(self, mark: int) -> bool:
        return False

    def seconds(self, start: int, end: int) -> float:
        return (end - start) / 1e9

    def host_seconds(self, mark: int, tie: None) -> float:
        return mark / 1e9


class CudaClock:
    """CUDA events on the current stream, which waits for NCCL's before the end mark."""

    kind = "cuda events"
    # An H100's clock fell from 1860 to 1650 MHz in the first second of large products, as its power rose to the limit.
    soak_s = 1.0

    def __init__(self, device: torch.device, *, align: Callable[[], None], cold: bool) -> None:
        """`align` enqueues something that all ranks must reach; `cold` flushes the L2 cache before every pass."""
        self._device = device
        self._align = align
        size = torch.cuda.get_device_properties(device).L2_cache_size * FLUSH_FACTOR if cold else 0
        self._flush = torch.empty(size, dtype=torch.int8, device=device)
        self._cycles_per_s = self._probe_cycles()

    @property
    def flush_bytes(self) -> int:
        return self._flush.numel()

    def brace(self, lead_s: float) -> tuple[torch.cuda.Event, float]:
        torch.cuda.synchronize(self._device)
        # On an idle stream an event happens when it is recorded, within microseconds: it ties the device's time to the
        # host's.
        tie = self.mark(), time.perf_counter()
        self._flush.zero_()
        self.delay(lead_s)
        self._align()
        return tie

    def delay(self, seconds: float) -> None:
        torch.cuda._sleep(int(seconds * self._cycles_per_s))

    def _probe_cycles(self) -> float:
        """Cycles a second of the spin, clock settled."""
        for _ in range(3):
            start = self.mark()
            torch.cuda._sleep(PROBED_CYCLES)
            end = self.mark()
            torch.cuda.synchronize(self._device)
        return PROBED_CYCLES / self.seconds(start, end)

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

    def host_seconds(self, mark: torch.cuda.Event, tie: tuple[torch.cuda.Event, float]) -> float:
        event, host_s = tie
        return host_s + self.seconds(event, mark)


def make_clock(device: torch.device, *, cold: bool) -> Clock:
    """The clock of the device; on CUDA the ranks line up by a collective behind the spin."""
    if device.type == "cpu":
        return HostClock()
    token = torch.zeros(1, device=device)

    def align() -> None:
        if dist.is_initialized():
            dist.all_reduce(token)

    return CudaClock(device, align=align, cold=cold)
