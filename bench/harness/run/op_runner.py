"""Timing single ops, with all ranks busy at the same one: what a calibration of the machine is fitted to."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from rich.console import Console

from bench.harness.cases.ops import op_tasks
from bench.harness.cases.variants import delayed
from bench.harness.record.files import finished_cases, finished_ops
from bench.harness.record.interference import drift_sentence
from bench.harness.record.names import DELAYED, IN_PASS, OVERLAPPED
from bench.harness.record.records import FailedOp, OpResult
from bench.harness.run.cli import RunSettings
from bench.harness.run.console import arrival_table, make_console, memory_table, op_table, progress_bar
from bench.harness.run.drift import drift_line
from bench.harness.run.launch_probe import measure_launches
from bench.harness.run.lines import now
from bench.harness.run.session import Session, session
from bench.harness.timing.gathered import Measured
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.method import Method
from bench.harness.timing.replay import replayed
from bench.harness.timing.task import Instruments, Task
from bench.harness.world.faults import attempt
from bench.harness.world.launch import members_of
from tp.cost.theory import OpEstimate, TheoryName
from tp.errors import MeasurementError
from tp.flags import positive_float
from tp.layers.collectives import GroupCollectives
from tp.layers.mesh import Mesh, split_world
from tp.plan.ops import Collective, Elementwise, Op, is_stream
from tp.units import Dtype, format_bytes

# Ops that take turns, so that each finds the caches as another one left them.
TURN: Final = 8
# Most rounds an op gets. A fit over many shapes gains more from further shapes than from tighter ones; collectives
# are few and vary more.
COMPUTE_ROUNDS: Final = 12
COLLECTIVE_ROUNDS: Final = 40
# Of the budget, for the first op once more.
DRIFT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an entry point measures."""

    title: str
    sweeps: Callable[[Session], Sequence[tuple[int, list[Op]]]]
    """The ops by the degree of their groups, once the ranks have met; on all of them the same."""
    turn: int = TURN
    """Ops that take turns."""
    launches: Dtype | None = None
    """In which the host's launches are timed, too."""
    calibrates: bool = True


def run_ops(bench: Bench, run: RunSettings, *, seconds: str) -> None:
    """Measure the ops of every degree in turn, each recorded as soon as its turn is over, and the host's launches."""
    budget_s = positive_float(seconds or "45", flag="--seconds")
    leads = run.launch.leads
    console = make_console(leads=leads)
    finished, probed = _finished(run) if run.resume and leads else (frozenset(), frozenset())
    with session(run, console) as opened:
        finished, probed = opened.ranks.gather_objects((finished, probed))[0]
        todo = [(size, [op for op in ops if op not in finished]) for size, ops in bench.sweeps(opened)]
        num_ops = sum(len(ops) for _, ops in todo)
        console.print(f"{num_ops} ops, {len(finished)} of them finished before; records: {run.out}", markup=False)
        results: list[OpResult | FailedOp] = []
        with progress_bar(console) as bar:
            task = bar.add_task(f"measuring {bench.title}", total=num_ops)
            for size, ops in todo:
                mesh = _mesh(size, ops, run, opened)
                for turn in _turns(ops, bench.turn):
                    share_s = budget_s * len(turn) / num_ops
                    for result in _measure_turn(turn, GroupCollectives(mesh), share_s, session=opened, run=run):
                        opened.writer.append(result)
                        results.append(result)
                        bar.advance(task)
        if bench.launches is not None:
            measure_launches(bench.launches, run, opened, seconds=budget_s, finished=probed)
        timed = [result for result in results if isinstance(result, OpResult)]
        _repeat_first(timed[: bench.turn], run, opened, seconds=budget_s * DRIFT_SHARE)
    _show(console, timed)
    if opened.header.oversubscribed is not None:
        console.print(f"times are not comparable: {opened.header.oversubscribed}")
    hint = f"; calibrate: python -m analysis calibrate {run.out} ... --out FILE" if bench.calibrates else ""
    console.print(f"records: {run.out}{hint}", markup=False)
    failed = [result for result in results if isinstance(result, FailedOp)]
    if failed:
        raise MeasurementError(f"{_name(failed[0].op)}: {failed[0].reason} ({len(failed)} failed); see {run.out}")


def _turns(ops: Sequence[Op], most: int) -> Iterator[Sequence[Op]]:
    """Ops far apart in the list share a turn, so that large and small ones alternate."""
    num_turns = -(-len(ops) // most)
    for first in range(num_turns):
        yield ops[first::num_turns]


def _measure_turn(
    ops: Sequence[Op], collectives: GroupCollectives, seconds: float, *, session: Session, run: RunSettings
) -> Sequence[OpResult | FailedOp]:
    """Time the ops in turns; of a turn that cannot run here each op is tried alone, and the run goes on."""
    priced = [_prices(op, run) for op in ops]
    instruments = session.instruments
    instruments.guard.at(_name(ops[0]), "timing")
    measured = attempt(instruments.ranks, "timing", lambda: _measure(ops, collectives, seconds, instruments, run))
    if isinstance(measured, str) and len(ops) > 1:
        tried = (_measure_turn([op], collectives, seconds / len(ops), session=session, run=run) for op in ops)
        return list(itertools.chain.from_iterable(tried))
    if isinstance(measured, str):
        return [FailedOp(written=now(), op=ops[0], reason=measured)]
    session.writer.append(measured.telemetry(written=now(), keys=[_name(op) for op in ops]))
    return [
        OpResult(
            written=now(),
            op=op,
            estimates=estimates,
            samples=replace(measured.samples[str(number)], task=op.op),
            in_pass=measured.samples.get(f"{IN_PASS}{number}"),
            overlapped=measured.samples.get(f"{OVERLAPPED}{number}"),
            delayed=measured.samples.get(f"{DELAYED}{number}"),
            marks=measured.marks,
            members=members_of(op.num_ranks, op.num_nodes, run.launch) if isinstance(op, Collective) else (),
        )
        for number, (op, estimates) in enumerate(zip(ops, priced, strict=True))
    ]


def _prices(op: Op, run: RunSettings) -> dict[TheoryName, OpEstimate]:
    """What the theories say of it; of what is part of no plan, nothing."""
    theories = [] if is_stream(op) else run.theories()
    return {theory.name: price for theory in theories if (price := theory.price(op)) is not None}


def _measure(
    ops: Sequence[Op], collectives: GroupCollectives, seconds: float, instruments: Instruments, run: RunSettings
) -> Measured:
    tasks = _tasks(ops, collectives, instruments, run.method)
    rounds = COLLECTIVE_ROUNDS if isinstance(ops[0], Collective) else COMPUTE_ROUNDS
    return measure(tasks, instruments=instruments, policy=Policy(max_seconds=seconds, max_rounds=rounds))


def _tasks(ops: Sequence[Op], collectives: GroupCollectives, instruments: Instruments, method: Method) -> list[Task]:
    """One task an op, named by its number; collectives once more with a rank late, where one is to be."""
    tasks: list[Task] = []
    for number, op in enumerate(ops):
        alone, *others = op_tasks(op, collectives, name=str(number))
        tasks += [replayed(alone) if method.graph else alone, *others]
        if isinstance(op, Collective) and method.delayed_rank is not None:
            tasks.append(delayed(alone, method.delay_of(instruments.ranks.rank)))
    return tasks


def _finished(run: RunSettings) -> tuple[frozenset[Op], frozenset[str]]:
    """The ops, and the cases of the launch probe, that the record holds."""
    world, network = run.launch.world, run.network
    cases = finished_cases(run.out, world=world, network=network)
    return frozenset(finished_ops(run.out, world=world, network=network)), frozenset(cases)


def _mesh(size: int, ops: Sequence[Op], run: RunSettings, session: Session) -> Mesh:
    """Groups of `size`, over the nodes that the ops say, which are alike in that."""
    nodes = next((op.num_nodes for op in ops if isinstance(op, Collective)), 1)
    return split_world(
        size, device=session.device, timeout_s=run.timeout_s, nodes=nodes, on_node=run.launch.local_world
    )


def _repeat_first(results: Sequence[OpResult], run: RunSettings, session: Session, *, seconds: float) -> None:
    """Time the first turn once more, so that the record tells how far the machine drifted meanwhile."""
    if not results:
        return
    instruments = session.instruments
    ops = [result.op for result in results]
    instruments.guard.at(_name(ops[0]), "timing once more")
    size = ops[0].num_ranks if isinstance(ops[0], Collective) else 1
    collectives = GroupCollectives(_mesh(size, ops, run, session))
    again = attempt(instruments.ranks, "timing", lambda: _measure(ops, collectives, seconds, instruments, run))
    if isinstance(again, str):
        return
    after = replace(again.samples["0"], task=results[0].samples.task)
    drift = drift_line(_name(ops[0]), results[0].samples, after)
    session.writer.append(drift)
    session.console.print(drift_sentence(drift), markup=False)


def _size(op: Op) -> float:
    return op.size_bytes if isinstance(op, Collective) else 0.0  # products and cores stay in the order they were timed


def _name(op: Op) -> str:
    """The op in a message."""
    if isinstance(op, Elementwise) and is_stream(op):
        return f"{op.kind} of {format_bytes(op.moved_bytes)}"
    return f"{op.part} {op.op}"


def _show(console: Console, results: Sequence[OpResult]) -> None:
    results = sorted(results, key=lambda result: (result.op.op, result.op.part, _size(result.op)))
    medians = [float(np.median(np.array(result.samples.times_s).max(axis=1))) for result in results]
    timed = list(zip([result.op for result in results], medians, strict=True))
    moved = [(op, median) for op, median in timed if isinstance(op, Elementwise) and is_stream(op)]
    if moved:
        console.print(memory_table(moved, world=len(results[0].samples.times_s[0])))
        return
    console.print(op_table(timed))
    sent = [result for result in results if isinstance(result.op, Collective)]
    if sent:
        console.print(arrival_table(sent))
