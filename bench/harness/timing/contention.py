"""What compute and communication do to each other: one is timed while the other goes on beside it.

On a GPU the other one runs on a stream of its own, on a CPU in a thread of its own (torch and gloo let go of the
interpreter while they work). It is repeated so often that it outlasts what is timed; where it did not, the sample says
so. All ranks repeat a collective equally often, or it would hang.
"""

import math
import threading
from collections.abc import Callable
from typing import Final, Protocol

import torch

# More repetitions than solo times ask for, since what is timed becomes slower as well.
MARGIN: Final = 3.0


class Beside(Protocol):
    """Something that runs while something else is timed."""

    def begin(self) -> None:
        """Start it; it runs when this returns (on CUDA: when the current stream goes on)."""
        ...

    def finish(self) -> bool:
        """Wait for its end; whether it ran on until now (on CUDA: until the current stream came here)."""
        ...


def repetitions(timed_s: float, beside_s: float) -> int:
    """How often something that takes `beside_s` is repeated to outlast `timed_s`."""
    return math.ceil(MARGIN * timed_s / beside_s) + 1


def beside(
    run: Callable[[], object], reset: Callable[[], None], *, times: int, fresh_every: int, device: torch.device
) -> Beside:
    """`run` repeated so many times, `reset` before every `fresh_every`th."""

    def once(number: int) -> None:
        if number % fresh_every == 0:
            reset()
        run()

    return _OnStream(once, times, device) if device.type == "cuda" else _InThread(once, times)


def together(first: Callable[[], object], second: Callable[[], object], *, device: torch.device) -> Callable[[], None]:
    """Both at once on a CUDA device, `second` on a stream of its own; the current stream goes on when both are over."""
    stream = torch.cuda.Stream(device)

    def both() -> None:
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            second()
        first()
        current.wait_stream(stream)

    return both


class _InThread:
    def __init__(self, once: Callable[[int], None], times: int) -> None:
        self._once, self._times = once, times
        self._running = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        self._running.clear()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._running.wait()

    def finish(self) -> bool:
        assert self._thread is not None, "nothing was begun"
        covered = self._thread.is_alive()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return covered

    def _work(self) -> None:
        # A thread begins with torch's own number of threads.
        torch.set_num_threads(1)
        self._running.set()
        try:
            for number in range(self._times):
                self._once(number)
        except Exception as error:  # told to the thread that waits for it
            self._error = error


class _OnStream:
    def __init__(self, once: Callable[[int], None], times: int, device: torch.device) -> None:
        self._once, self._times, self._device = once, times, device
        self._stream = torch.cuda.Stream(device)
        self._ended = torch.cuda.Event(enable_timing=True)

    def begin(self) -> None:
        timed = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(timed)
        begun = torch.cuda.Event()
        with torch.cuda.stream(self._stream):
            for number in range(self._times):
                self._once(number)
                if number == 0:
                    begun.record(self._stream)
            self._ended.record(self._stream)
        # One repetition is over: its kernels are there, its successors under way.
        timed.wait_event(begun)

    def finish(self) -> bool:
        timed = torch.cuda.current_stream(self._device)
        here = torch.cuda.Event(enable_timing=True)
        here.record(timed)
        timed.wait_stream(self._stream)
        self._ended.synchronize()
        here.synchronize()
        return bool(here.elapsed_time(self._ended) >= 0)
