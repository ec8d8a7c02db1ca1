"""Who came late to a collective, and how long it took once everybody was there; loads without torch.

On the aligned clock: arrival skew is the latest minus the earliest arrival of a group, transfer the latest end minus
the latest arrival. A rank's own duration is no measure of either: an early rank's holds its wait.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.harness.record.grouping import Groups, by_group, num_groups, rank_at
from bench.harness.record.records import PartTimes, Samples
from bench.harness.record.stats import Summary, summarise
from tp.plan.ops import COLLECTIVE_KINDS, Collective, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """One collective over the iterations; of several groups, the worst of each iteration."""

    name: str
    skew: Summary
    transfer: Summary
    last_rank: int
    """The rank that was last most often."""
    last_share: float
    """In how many of the iterations."""


def arrivals(name: str, starts_s: NDArray[np.float64], times_s: NDArray[np.float64], *, groups: Groups) -> Arrivals:
    """Of starts and durations [iteration, rank]."""
    count = len(starts_s)
    starts, ends = by_group(starts_s, groups), by_group(starts_s + times_s, groups)
    skew = starts.max(axis=2) - starts.min(axis=2)
    transfer = ends.max(axis=2) - starts.max(axis=2)
    # Late within a group, not in the world: groups do not wait for each other.
    late = (starts - starts.min(axis=2, keepdims=True)).reshape(count, -1).argmax(axis=1)
    ranks, often = np.unique(late, return_counts=True)
    return Arrivals(
        name=name,
        skew=summarise(skew.max(axis=1).tolist()),
        transfer=summarise(transfer.max(axis=1).tolist()),
        last_rank=rank_at(int(ranks[often.argmax()]), groups),
        last_share=float(often.max() / count),
    )


def of_pass(samples: Samples, *, groups: Groups) -> Arrivals | None:
    """To a pass that is nothing but a collective; None in records that do not say when ranks began, or of one rank."""
    if not samples.starts_s or len(samples.starts_s[0]) == num_groups(groups):
        return None
    return arrivals(samples.task, np.array(samples.starts_s), np.array(samples.times_s), groups=groups)


def within_pass(samples: Samples, ops: Iterable[Op], *, groups: Groups) -> Iterator[Arrivals]:
    """To the collectives inside of a pass whose parts are marked; `ops` are the plan's.

    Not to those that are posted and waited for later: their marks are when a rank posts and when it begins to wait,
    which is long after it sent.
    """
    posted = {(op.kind, op.direction) for op in ops if isinstance(op, Collective) and op.overlaps}
    for part in samples.parts:
        if part.part not in COLLECTIVE_KINDS or (part.part, part.direction) in posted:
            continue
        if part.arrivals_s and len(part.arrivals_s[0]) > num_groups(groups):
            yield arrivals(part_name(part), np.array(part.arrivals_s), np.array(part.times_s), groups=groups)


def part_name(part: PartTimes) -> str:
    """The collective, its direction, and which of several."""
    return f"{part.part} {part.direction} {part.call + 1}"
