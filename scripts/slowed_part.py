"""Runs a program of bench/ with one part of every pass really slowed on CPUs, to see whether a comparison finds it.

    torchrun --nproc-per-node 2 scripts/slowed_part.py qkv 0.08 bench/attention.py --tp 2 --out slowed.jsonl

Whenever the part ends its rank spins for that share of what the part took, marked or not.
"""

import runpy
import sys
import time
from typing import Any

from bench.harness.timing.recorder import Recorder
from tp.plan.ops import Direction, Part


def slow_down(part: str, share: float) -> None:
    """From now on every recorder spins when it leaves `part`."""
    start, enter, stop = Recorder.start, Recorder.enter, Recorder.stop
    begun: dict[int, tuple[str, float]] = {}

    def leave(recorder: Recorder) -> None:
        now, since_s = begun.pop(id(recorder), ("", 0.0))
        if now == part:
            until_s = time.perf_counter() + share * (time.perf_counter() - since_s)
            while time.perf_counter() < until_s:
                pass

    def slow_start(self: Recorder, tie: Any, since_s: float) -> None:
        start(self, tie, since_s)
        begun[id(self)] = ("norm", time.perf_counter())

    def slow_enter(self: Recorder, part: Part, direction: Direction) -> None:
        leave(self)
        enter(self, part, direction)
        begun[id(self)] = (part, time.perf_counter())

    def slow_stop(self: Recorder) -> None:
        leave(self)
        stop(self)

    Recorder.start, Recorder.enter, Recorder.stop = slow_start, slow_enter, slow_stop  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(sys.argv[1], float(sys.argv[2]))
    sys.argv = sys.argv[3:]
    sys.path.insert(0, ".")
    runpy.run_path(sys.argv[0], run_name="__main__")
