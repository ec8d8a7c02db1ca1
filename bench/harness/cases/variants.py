"""The variants in which a case is timed: compute alone, communication alone, serial, full, and full with its parts.

Besides, where anything is sent: compute while communication goes on beside it, and the other way round; and, as a
control, passes to which one rank comes late on purpose.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from bench.harness.cases.build import BuiltCase, collectives_of
from bench.harness.cases.ops import collective_call
from bench.harness.record.names import (
    COMMUNICATION,
    COMPUTE,
    CONTENDED_COMMUNICATION,
    CONTENDED_COMPUTE,
    DELAYED,
    FULL,
    PARTS,
    SERIAL,
)
from bench.harness.timing.contention import beside, repetitions
from bench.harness.timing.method import Method
from bench.harness.timing.replay import replayed
from bench.harness.timing.task import Instruments, Task
from tp.layers.collectives import Collectives, GroupCollectives, SilentCollectives
from tp.layers.wire import Timeline, Unwatched, Wire
from tp.plan.ops import Collective, Plan

# An all-reduce of its own result grows by the number of ranks each time; buffers are refilled before it overflows.
REFILLED_EVERY: Final = 4
# Passes that tell how long something takes, after one that is not looked at.
PILOTS: Final = 2


def variants(built: BuiltCase, plan: Plan, instruments: Instruments, method: Method) -> list[Task]:
    """The tasks of one case.

    `serial` completes every collective before it computes on; `full` overlaps where the strategy does. For a strategy
    that never overlaps the two are the same work timed twice, which shows what the machine's noise alone does.
    """
    mesh = built.mesh
    if mesh.emulated:
        silent = SilentCollectives(mesh)
        whole = _pass(COMPUTE, built, silent)
        return [*_replayed([whole], method), _pass(PARTS, built, silent, marks_parts=True)]
    full = collectives_of(built.case, mesh)
    wholes = [_pass(COMPUTE, built.silenced, SilentCollectives(mesh))]
    if plan.collectives:
        wholes.append(communication(plan.collectives, GroupCollectives(mesh)))
    if built.case.strategy != "dtensor":  # which sends by itself and cannot be told to wait
        wholes.append(_pass(SERIAL, built, collectives_of(built.case, mesh, overlaps=False)))
    wholes.append(_pass(FULL, built, full))
    parts = _pass(PARTS, built, full, marks_parts=True)
    tasks = [*_replayed(wholes, method), parts]
    if plan.collectives:
        tasks += _contended(wholes[0], wholes[1], built, instruments)
        if method.delayed_rank is not None:
            delay_s = method.delay_of(instruments.ranks.rank)
            tasks += [delayed(task, delay_s) for task in (wholes[1], parts)]
    return tasks


def delayed(task: Task, delay_s: float) -> Task:
    """The same, this rank so much later."""
    return replace(task, name=f"{DELAYED}{task.name}", delay_s=delay_s, decides=False)


def _pass(name: str, built: BuiltCase, collectives: Collectives, *, marks_parts: bool = False) -> Task:
    def run(timeline: Timeline) -> object:
        return built.run(Wire(collectives=collectives, timeline=timeline))

    return Task(name=name, run=run, reset=built.forget, marks_parts=marks_parts)


def communication(ops: tuple[Collective, ...], collectives: GroupCollectives) -> Task:
    """The collectives of a plan one after the other, on buffers of their own."""
    replays = [collective_call(op, collectives) for op in ops]

    def run(timeline: Timeline) -> None:
        for call, _ in replays:
            call()

    def reset() -> None:
        for _, refill in replays:
            refill()

    return Task(name=COMMUNICATION, run=run, reset=reset)


def _replayed(tasks: Sequence[Task], method: Method) -> list[Task]:
    return [replayed(task) for task in tasks] if method.graph else list(tasks)


def _contended(compute: Task, sending: Task, built: BuiltCase, instruments: Instruments) -> list[Task]:
    """Each of the two while the other goes on; how often that one must be repeated is found out here."""
    device = built.mesh.device
    compute_s, sending_s = (_pilot(task, instruments) for task in (compute, sending))

    def under(name: str, timed: Task, other: Task, timed_s: float, other_s: float) -> Task:
        running = beside(
            _untimed(other),
            other.reset,
            times=repetitions(timed_s, other_s),
            fresh_every=REFILLED_EVERY if other is sending else 1,
            device=device,
        )
        return replace(timed, name=name, beside=running, decides=False)

    return [
        under(CONTENDED_COMPUTE, compute, sending, compute_s, sending_s),
        under(CONTENDED_COMMUNICATION, sending, compute, sending_s, compute_s),
    ]


def _untimed(task: Task) -> Callable[[], object]:
    return lambda: task.run(Unwatched())


def _pilot(task: Task, instruments: Instruments) -> float:
    """About how long a task takes on the slowest rank, the same on all."""
    clock, ranks = instruments.clock, instruments.ranks
    mine = []
    for _ in range(1 + PILOTS):
        task.reset()
        ranks.barrier()
        clock.brace(0.0)
        start = clock.mark()
        task.run(Unwatched())
        end = clock.mark()
        clock.settle()
        mine.append(clock.seconds(start, end))
    return float(ranks.gather(np.array(mine[1:])).max())
