"""The variants in which a case is timed: compute alone, communication alone, serial, full, and full with its parts."""

from typing import Final

from bench.harness.cases import BuiltCase, collectives_of
from bench.harness.measure import Task
from bench.harness.op_tasks import collective_call
from tp.layers.collectives import Collectives, GroupCollectives, SilentCollectives
from tp.layers.wire import Timeline, Wire
from tp.plan.ops import Collective, Plan

COMPUTE: Final = "compute"
COMMUNICATION: Final = "communication"
SERIAL: Final = "serial"
FULL: Final = "full"
PARTS: Final = "parts"


def variants(built: BuiltCase, plan: Plan) -> list[Task]:
    """The tasks of one case.

    `serial` completes every collective before it computes on; `full` overlaps where the strategy does. For a strategy
    that never overlaps the two are the same work timed twice, which shows what the machine's noise alone does.
    """
    case, mesh = built.case, built.mesh
    full = collectives_of(case, mesh)

    def passes(name: str, through: BuiltCase, collectives: Collectives, *, marks_parts: bool = False) -> Task:
        def run(timeline: Timeline) -> None:
            through.run(Wire(collectives=collectives, timeline=timeline))

        return Task(name=name, run=run, reset=through.forget, marks_parts=marks_parts)

    if mesh.emulated:
        silent = SilentCollectives(mesh)
        return [passes(COMPUTE, built, silent), passes(PARTS, built, silent, marks_parts=True)]
    tasks = [
        passes(COMPUTE, built.silenced, SilentCollectives(mesh)),
        passes(FULL, built, full),
        passes(PARTS, built, full, marks_parts=True),
    ]
    if case.strategy != "dtensor":  # which sends by itself and cannot be told to wait
        tasks.insert(1, passes(SERIAL, built, collectives_of(case, mesh, overlaps=False)))
    if plan.collectives:
        tasks.insert(1, communication(plan.collectives, GroupCollectives(mesh)))
    return tasks


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
