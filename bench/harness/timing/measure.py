"""Timing several things against each other: warm-up until stable, rounds in changing order, a stop all ranks agree on.

A round times every task once, each from a barrier, so that the machine's drift falls on all alike; the order changes
from round to round, so that no task always inherits the caches of the same other. An iteration's time is the maximum
over ranks. Sampling ends when the 95 % interval of every task's median is narrow enough, or at the cap on rounds or
seconds, and the samples say which it was. The machine's state is read once a block of rounds, while the device is busy
with a pass that the host has handed out, and judged from block to block.
"""

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.harness.record.records import StoppedBy
from bench.harness.record.stats import summarise
from bench.harness.timing.gathered import Laps, Measured, collect
from bench.harness.timing.recorder import Recorder
from bench.harness.timing.task import Instruments, Task
from bench.harness.timing.watch import Watch
from bench.harness.world.alignment import find_offsets
from bench.harness.world.ranks import Ranks
from tp.layers.wire import Unwatched

# Two rounds that agree within this end the warm-up; caches, allocators, communicators and clocks are then in place.
STABLE: Final = 0.1
MIN_WARMUP_ROUNDS: Final = 2
MAX_WARMUP_ROUNDS: Final = 6
# Rounds between two decisions to go on or stop: so many that a block takes this long, within these bounds. What the
# ranks say to each other at its end, and the reading of the state, leave cold caches to the pass that comes next.
BLOCK_S: Final = 0.25
MIN_BLOCK: Final = 4
MAX_SOAK_ROUNDS: Final = 1000
MAX_BLOCK: Final = 16
# What the host is given to hand out a pass that has not been seen before, and how much more than it took the last time.
FIRST_LEAD_S: Final = 5e-3
LEAD_FACTOR: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When sampling stops."""

    target_half_width: float = 0.01
    """Half-width of the median's 95 % interval over the median."""
    min_rounds: int = 8
    max_rounds: int = 200
    max_seconds: float = 20.0
    """For all tasks together, warm-up included."""


def measure(tasks: Sequence[Task], *, instruments: Instruments, policy: Policy) -> Measured:
    """Time the tasks; every rank calls it with the same tasks in the same order and gets the same samples."""
    ranks = instruments.ranks
    started = time.monotonic()
    rounds = _Rounds(tasks, instruments)
    before = find_offsets(ranks)
    with _collecting_nothing():
        warmups = _warm_up(rounds, ranks, deadline=started + policy.max_seconds / 3)
        block = _block(rounds.slowest(warmups[-1:]))
        laps, reasons = _sample(rounds, ranks, policy, started, block=min(block, policy.max_rounds))
    offsets = (before, find_offsets(ranks))
    return collect([task.name for task in tasks], warmups, laps, reasons, offsets, rounds.watch, ranks=ranks)


def _block(round_s: NDArray[np.float64]) -> int:
    """Rounds in a block, by what the tasks [1, task] took in the last one; the same on all ranks."""
    return int(np.clip(BLOCK_S // max(float(round_s.sum()), 1e-9), MIN_BLOCK, MAX_BLOCK))


def _sample(
    rounds: "_Rounds", ranks: Ranks, policy: Policy, started: float, *, block: int
) -> tuple[Laps, list[StoppedBy]]:
    """Blocks of rounds until the ranks agree to stop, and why each task's samples ended."""
    laps: Laps = []
    slowest = np.empty((0, len(rounds.tasks)))
    while True:
        # Made beforehand: what is done between two passes leaves the processor's caches to the second.
        orders = [rounds.order(len(laps) + i) for i in range(block)]
        fresh = rounds.laps([rounds.round(order, last=i == block - 1) for i, order in enumerate(orders)])
        laps += fresh
        slowest = np.concatenate((slowest, rounds.slowest(fresh)))
        known = [_known(times, policy) for times in slowest.T]
        enough = [is_known or not task.decides for task, is_known in zip(rounds.tasks, known, strict=True)]
        verdict = _verdict(enough, len(laps), time.monotonic() - started, policy)
        ended = _VERDICTS[ranks.decide(_VERDICTS.index(verdict))]
        if ended is not None:
            return laps, ["target" if is_known else ended for is_known in known]


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Python's garbage collector would stop a pass now and then, for longer than a small collective takes."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


def _warm_up(rounds: "_Rounds", ranks: Ranks, deadline: float) -> Laps:
    """Rounds until two in a row agree for every task, or the cap; they are kept, marked as warm-up."""
    done: Laps = []
    before: NDArray[np.float64] | None = None
    while True:
        done += rounds.laps([rounds.round(rounds.order(len(done)), last=True)])
        now = rounds.slowest(done[-1:])[0]
        if len(done) == 1:
            rounds.soak(float(now.sum()), ranks)
        stable = before is not None and bool(np.all(np.abs(now / before - 1) <= STABLE))
        before = now
        ended = len(done) >= MAX_WARMUP_ROUNDS or time.monotonic() >= deadline
        if ranks.decide(int(len(done) >= MIN_WARMUP_ROUNDS and (stable or ended))):
            rounds.watch.forget_warm_up()
            return done


class _Rounds:
    """Every task once a round, on this rank."""

    def __init__(self, tasks: Sequence[Task], instruments: Instruments) -> None:
        self.watch = Watch(instruments.probe)
        self.tasks = tasks
        self._with = instruments
        self._leads_s = dict.fromkeys((task.name for task in tasks), FIRST_LEAD_S)

    def round(self, order: Sequence[int], *, last: bool) -> dict[str, Recorder]:
        """Every task once; the machine's state read in the `last` round of a block."""
        passes = {self.tasks[i].name: self._once(self.tasks[i], read=last and i == order[-1]) for i in order}
        self.watch.end_round()
        return passes

    def laps(self, rounds: Sequence[dict[str, Recorder]]) -> Laps:
        """What was recorded, once all of it is over."""
        self._with.clock.settle()
        return [{name: recorder.lap() for name, recorder in passes.items()} for passes in rounds]

    def soak(self, round_s: float, ranks: Ranks) -> None:
        """Work without looking at the time, so often on all ranks, until the device's clock has settled."""
        seconds = self._with.clock.soak_s
        for _ in range(ranks.decide(min(math.ceil(seconds / round_s), MAX_SOAK_ROUNDS) if seconds else 0)):
            self._with.guard.beat()
            for task in self.tasks:
                task.reset()
                task.run(Unwatched())
        self._with.clock.settle()

    def order(self, number: int) -> list[int]:
        """The order of a round, its own and the same on all ranks."""
        order: list[int] = np.random.default_rng(number).permutation(len(self.tasks)).tolist()
        return order

    def slowest(self, rounds: Laps) -> NDArray[np.float64]:
        """The maximum over ranks of every iteration, [round, task]."""
        mine = np.array([[done[task.name].total_s for task in self.tasks] for done in rounds])
        everyone: NDArray[np.float64] = self._with.ranks.gather(mine).max(axis=0)
        return everyone

    def _once(self, task: Task, *, read: bool) -> Recorder:
        clock = self._with.clock
        self._with.guard.beat()
        task.reset()
        recorder = Recorder(clock, watching=task.marks_parts)
        self._with.ranks.barrier()
        tie = clock.brace(self._leads_s[task.name])
        handing_out = time.perf_counter()
        if task.beside is not None:
            task.beside.begin()
        if task.delay_s:
            clock.delay(task.delay_s)
        recorder.start(tie, handing_out)
        task.run(recorder)
        recorder.stop()
        if task.beside is not None:
            recorder.covered = task.beside.finish()
        if read:
            # The host has handed everything out, so that on a GPU this falls into the pass and not into its launches.
            self.watch.read()
        self._leads_s[task.name] = LEAD_FACTOR * recorder.host_s
        return recorder
