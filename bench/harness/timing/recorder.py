"""The timeline of one pass on one rank: a mark for every part that begins, turned into seconds once all is done."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench.harness.timing.clock import Clock
from tp.plan.ops import COLLECTIVE_KINDS, Direction, Part


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
    start_s: float
    """On this host's monotonic clock, as are the next."""
    arrivals_s: dict[Span, float]
    """When each collective was begun: called, or posted, or, once posted, waited for."""
    host_s: float
    """What the host took to hand everything out."""
    host_bound: bool
    """Whether the device had begun before the host had handed it everything."""
    covered: bool
    """Whether what ran beside it ran to its end."""


class Recorder:
    """A timeline that keeps a mark for every part that begins; `lap` turns them into seconds."""

    def __init__(self, clock: Clock, *, watching: bool) -> None:
        self.watching = watching
        self.now: tuple[Part, Direction] = ("norm", "forward")
        self._clock = clock
        self._labels: list[tuple[Part, Direction]] = [self.now]
        self._marks: list[Any] = []
        self._tie: Any = None
        self._began_s = 0.0
        self._host_bound = False
        self.host_s = 0.0
        """What the host took to hand everything out."""
        self.covered = True

    def start(self, tie: Any, since_s: float) -> None:
        """The pass begins now, braced with `tie`; the host began to hand out work `since_s`, by perf_counter."""
        self._tie, self._began_s = tie, since_s
        self._marks.append(self._clock.mark())

    def enter(self, part: Part, direction: Direction) -> None:
        if self.watching:
            self.now = (part, direction)
            self._labels.append(self.now)
            self._marks.append(self._clock.mark())

    def stop(self) -> None:
        """The pass is over."""
        self._marks.append(self._clock.mark())
        self._host_bound = self._clock.passed(self._marks[0])
        self.host_s = time.perf_counter() - self._began_s

    def lap(self) -> Lap:
        """Read the pass, once it is over."""
        clock, marks = self._clock, self._marks
        parts: dict[Span, float] = {}
        arrivals: dict[Span, float] = {}
        calls: Counter[tuple[Part, Direction]] = Counter()
        for label, start, end in zip(self._labels, marks, marks[1:], strict=False):
            span = Span(part=label[0], direction=label[1], call=calls[label])
            parts[span] = parts.get(span, 0.0) + clock.seconds(start, end)
            if label[0] in COLLECTIVE_KINDS:
                arrivals[span] = clock.host_seconds(start, self._tie)
                # A compute part goes on after a collective inside it; a collective that comes again is another call.
                calls[label] += 1
        return Lap(
            total_s=clock.seconds(marks[0], marks[-1]),
            parts_s=parts if self.watching else {},
            start_s=clock.host_seconds(marks[0], self._tie),
            arrivals_s=arrivals,
            host_s=self.host_s,
            host_bound=self._host_bound,
            covered=self.covered,
        )
