"""Unions of intervals of time: whole nanoseconds, half open, sorted and disjoint once they went through `union`."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[int, int]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The times that one of the intervals covers; empty and negative ones cover nothing."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def both(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """The times that two unions share."""
    found, i, j = list[Interval](), 0, 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def length(intervals: Sequence[Interval]) -> int:
    """Nanoseconds that a union covers."""
    return sum(end - start for start, end in intervals)


def length_within(intervals: Sequence[Interval], window: Interval) -> int:
    """Nanoseconds of `window` that a union covers."""
    first = max(bisect_right(intervals, (window[0], window[0])) - 1, 0)
    covered = 0
    for start, end in intervals[first:]:
        if start >= window[1]:
            break
        covered += max(0, min(end, window[1]) - max(start, window[0]))
    return covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a window divides, in nanoseconds; compute + exposed + copy_alone + idle is the span."""

    span_ns: int
    compute_ns: int
    communication_ns: int
    overlapped_ns: int
    """Of both at once."""
    copy_alone_ns: int
    """Of copies while there is neither."""

    @property
    def exposed_ns(self) -> int:
        """Communication that nothing is computed beside."""
        return self.communication_ns - self.overlapped_ns

    @property
    def idle_ns(self) -> int:
        """Neither compute nor communication nor copies."""
        return self.span_ns - self.compute_ns - self.exposed_ns - self.copy_alone_ns

    @property
    def overlap_percent(self) -> float | None:
        """IMB-NBC's 100 max(0, min(1, (Tm + Tc - To) / min(Tm, Tc))) with To the time that either takes.

        Tm and Tc are here the times in the step, next to each other, not alone. None where one of them is none.
        """
        shorter = min(self.compute_ns, self.communication_ns)
        return 100 * self.overlapped_ns / shorter if shorter else None

    @property
    def hidden_percent(self) -> float | None:
        """The share of communication that compute hides; None where nothing is sent."""
        return 100 * self.overlapped_ns / self.communication_ns if self.communication_ns else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """When a device computes, sends and copies: unions, made once for all windows."""

    compute: list[Interval]
    communication: list[Interval]
    overlapped: list[Interval]
    working: list[Interval]
    """Either of these."""
    busy: list[Interval]
    """Either of these, or copies."""

    def split(self, window: Interval) -> Split:
        """How `window` divides."""
        return Split(
            span_ns=window[1] - window[0],
            compute_ns=length_within(self.compute, window),
            communication_ns=length_within(self.communication, window),
            overlapped_ns=length_within(self.overlapped, window),
            copy_alone_ns=length_within(self.busy, window) - length_within(self.working, window),
        )


def make_busy(
    *, compute: Iterable[Interval], communication: Iterable[Interval], copies: Iterable[Interval] = ()
) -> Busy:
    """The unions of intervals of any number of streams."""
    computing, sending = union(compute), union(communication)
    working = union([*computing, *sending])
    return Busy(
        compute=computing,
        communication=sending,
        overlapped=both(computing, sending),
        working=working,
        busy=union([*working, *copies]),
    )
