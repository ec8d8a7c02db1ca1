"""Timing several things against each other: warm-up until stable, rounds in rotated order, a stop all ranks agree on.

A round times every task once, each from a barrier, so that the machine's drift falls on all alike; each round starts
one task further on. An iteration's time is the maximum over ranks. A task drops out when the 95 % interval of its
median is narrow enough; the rest end with the cap on rounds or seconds, and the samples say which it was.
"""

import time
from collections.abc import Callable, Iterable, Sequence
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
    laps: dict[str, list[Lap]] = {task.name: [] for task in tasks}
    times: dict[str, list[float]] = {task.name: [] for task in tasks}
    stopped_by: dict[str, StoppedBy] = {}
    active = list(tasks)
    rounds = 0
    while active:
        block = [_round(active, rounds + i, clock=clock, ranks=ranks) for i in range(BLOCK)]
        rounds += BLOCK
        for done in block:
            for name, lap in done.items():
                laps[name].append(lap)
        slowest = _slowest(active, block, ranks)
        for task, added in zip(active, slowest.T, strict=True):
            times[task.name].extend(added)
        for task in active:
            verdict = _verdict(times[task.name], rounds, time.monotonic() - started, policy)
            agreed = _VERDICTS[ranks.decide(_VERDICTS.index(verdict))]
            if agreed is not None:
                stopped_by[task.name] = agreed
        active = [task for task in active if task.name not in stopped_by]
    return _collect(tasks, warmups, laps, stopped_by, ranks)


_VERDICTS: Final[tuple[StoppedBy | None, ...]] = (None, "target", "rounds", "seconds")


def _verdict(times_s: Sequence[float], rounds: int, elapsed_s: float, policy: Policy) -> StoppedBy | None:
    """Whether a task has been timed enough, and why."""
    if rounds >= policy.min_rounds and summarise(times_s).relative_half_width <= policy.target_half_width:
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
    """Every task once, beginning with another one each round."""
    first = number % len(tasks)
    return {task.name: _once(task, clock, ranks) for task in (*tasks[first:], *tasks[:first])}


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
    tasks: Iterable[Task],
    warmups: Sequence[dict[str, Lap]],
    laps: dict[str, list[Lap]],
    stopped_by: dict[str, StoppedBy],
    ranks: Ranks,
) -> dict[str, Samples]:
    """Every rank's laps side by side, as they go into the record."""
    everyone = ranks.gather_objects((warmups, laps))
    collected = {}
    for task in tasks:
        warm = [[done[task.name] for done in theirs] for theirs, _ in everyone]
        timed = [theirs[task.name] for _, theirs in everyone]
        labels = list(timed[0][0].parts_s)
        collected[task.name] = Samples(
            task=task.name,
            warmup_s=_by_iteration([[lap.total_s for lap in rank] for rank in warm]),
            times_s=_by_iteration([[lap.total_s for lap in rank] for rank in timed]),
            parts=tuple(
                PartTimes(
                    part=part,
                    direction=direction,
                    times_s=_by_iteration([[lap.parts_s[part, direction] for lap in rank] for rank in timed]),
                )
                for part, direction in labels
            ),
            stopped_by=stopped_by[task.name],
        )
    return collected


def _by_iteration(by_rank: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """[rank][iteration] -> [iteration][rank], to the nanosecond."""
    return tuple(tuple(round(value, 9) for value in row) for row in zip(*by_rank, strict=True))
