"""Timing several things against each other: warm-up until stable, rounds in changing order, a stop all ranks agree on.

A round times every task once, each from a barrier, so that the machine's drift falls on all alike; the order changes
from round to round, so that no task always inherits the caches of the same other. An iteration's time is the maximum
over ranks. Sampling ends when the 95 % interval of every task's median is narrow enough, or at the cap on rounds or
seconds, and the samples say which it was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from bench.harness.clock import Clock, Lap, Recorder
from bench.harness.ranks import Ranks
from bench.harness.records import PartTimes, Samples
from bench.harness.stats import summarise
from tp.layers.wire import Timeline

# Two rounds that agree within this end the warm-up; caches, allocators and communicators are then in place.
STABLE: Final = 0.1
MIN_WARMUP_ROUNDS: Final = 2
MAX_WARMUP_ROUNDS: Final = 6
# Rounds between two decisions to go on or stop.
BLOCK: Final = 4

StoppedBy = Literal["target", "rounds", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to time: `run` is timed, `reset` is called before it outside of the timing."""

    name: str
    run: Callable[[Timeline], None]
    reset: Callable[[], None]
    marks_parts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When sampling stops."""

    target_half_width: float = 0.01
    """Half-width of the median's 95 % interval over the median."""
    min_rounds: int = 8
    max_rounds: int = 200
    max_seconds: float = 20.0
    """For all tasks together, warm-up included."""


def measure(tasks: Sequence[Task], *, clock: Clock, ranks: Ranks, policy: Policy) -> dict[str, Samples]:
    """Time the tasks; every rank calls it with the same tasks in the same order and gets the same samples."""
    started = time.monotonic()
    warmups = _warm_up(tasks, clock=clock, ranks=ranks, deadline=started + policy.max_seconds / 3)
    laps: list[dict[str, Lap]] = []
    slowest = np.empty((0, len(tasks)))
    while True:
        block = [_round(tasks, len(laps) + i, clock=clock, ranks=ranks) for i in range(BLOCK)]
        laps += block
        slowest = np.concatenate((slowest, _slowest(tasks, block, ranks)))
        known = [_known(times, policy) for times in slowest.T]
        elapsed_s = time.monotonic() - started
        ended = _VERDICTS[ranks.decide(_VERDICTS.index(_verdict(known, len(laps), elapsed_s, policy)))]
        if ended is not None:
            reasons: list[StoppedBy] = ["target" if enough else ended for enough in known]
            return _collect(tasks, warmups, laps, reasons, ranks)


_VERDICTS: Final[tuple[StoppedBy | None, ...]] = (None, "target", "rounds", "seconds")


def _known(times_s: NDArray[np.float64], policy: Policy) -> bool:
    """Whether a task's median is known well enough."""
    if len(times_s) < policy.min_rounds:
        return False
    return summarise(times_s.tolist()).relative_half_width <= policy.target_half_width


def _verdict(known: Sequence[bool], rounds: int, elapsed_s: float, policy: Policy) -> StoppedBy | None:
    """Why sampling ends now, if it does: all tasks go on together, so that drift falls on all of them."""
    if all(known):
        return "target"
    if rounds >= policy.max_rounds:
        return "rounds"
    return "seconds" if elapsed_s >= policy.max_seconds else None


def _warm_up(tasks: Sequence[Task], *, clock: Clock, ranks: Ranks, deadline: float) -> list[dict[str, Lap]]:
    """Rounds until two in a row agree for every task, or the cap; they are kept, marked as warm-up."""
    done: list[dict[str, Lap]] = []
    before: NDArray[np.float64] | None = None
    while True:
        done.append(_round(tasks, len(done), clock=clock, ranks=ranks))
        now = _slowest(tasks, done[-1:], ranks)[0]
        stable = before is not None and bool(np.all(np.abs(now / before - 1) <= STABLE))
        before = now
        ended = len(done) >= MAX_WARMUP_ROUNDS or time.monotonic() >= deadline
        if ranks.decide(int(len(done) >= MIN_WARMUP_ROUNDS and (stable or ended))):
            return done


def _round(tasks: Sequence[Task], number: int, *, clock: Clock, ranks: Ranks) -> dict[str, Lap]:
    """Every task once, in an order of the round's own that is the same on all ranks."""
    order = np.random.default_rng(number).permutation(len(tasks))
    return {tasks[i].name: _once(tasks[i], clock, ranks) for i in order}


def _once(task: Task, clock: Clock, ranks: Ranks) -> Lap:
    task.reset()
    ranks.barrier()
    clock.brace()
    recorder = Recorder(clock, watching=task.marks_parts)
    task.run(recorder)
    recorder.stop()
    return recorder.lap()


def _slowest(tasks: Sequence[Task], rounds: Sequence[dict[str, Lap]], ranks: Ranks) -> NDArray[np.float64]:
    """The maximum over ranks of every iteration, [round, task]."""
    mine = np.array([[done[task.name].total_s for task in tasks] for done in rounds])
    everyone: NDArray[np.float64] = ranks.gather(mine).max(axis=0)
    return everyone


def _collect(
    tasks: Sequence[Task],
    warmups: Sequence[dict[str, Lap]],
    laps: Sequence[dict[str, Lap]],
    reasons: Sequence[StoppedBy],
    ranks: Ranks,
) -> dict[str, Samples]:
    """Every rank's laps side by side, as they go into the record."""
    everyone = ranks.gather_objects((warmups, laps))
    collected = {}
    for task, reason in zip(tasks, reasons, strict=True):
        warm = [[done[task.name] for done in theirs] for theirs, _ in everyone]
        timed = [[done[task.name] for done in theirs] for _, theirs in everyone]
        collected[task.name] = Samples(
            task=task.name,
            warmup_s=_by_iteration([[lap.total_s for lap in rank] for rank in warm]),
            times_s=_by_iteration([[lap.total_s for lap in rank] for rank in timed]),
            parts=tuple(
                PartTimes(
                    part=span.part,
                    direction=span.direction,
                    call=span.call,
                    times_s=_by_iteration([[lap.parts_s[span] for lap in rank] for rank in timed]),
                )
                for span in timed[0][0].parts_s
            ),
            stopped_by=reason,
            host_bound=max(sum(lap.host_bound for lap in rank) for rank in timed),
        )
    return collected


def _by_iteration(by_rank: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """[rank][iteration] -> [iteration][rank], to the nanosecond."""
    return tuple(tuple(round(value, 9) for value in row) for row in zip(*by_rank, strict=True))
