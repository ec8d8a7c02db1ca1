"""Timing single ops, with all ranks busy at the same one: what a calibration of the machine is fitted to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from rich.console import Console

from bench.harness.cases.ops import op_tasks
from bench.harness.cases.sweeps import (
    RANGES,
    attention_ops,
    collective_ops,
    elementwise_ops,
    gemm_ops,
    single_token_ops,
)
from bench.harness.cases.variants import delayed
from bench.harness.record.files import finished_cases, finished_ops
from bench.harness.record.interference import drift_sentence
from bench.harness.record.names import DELAYED, IN_PASS, OVERLAPPED
from bench.harness.record.records import FailedOp, OpResult
from bench.harness.run.cli import RunFlags, RunSettings, resolve_run
from bench.harness.run.console import arrival_table, make_console, op_table, progress_bar
from bench.harness.run.drift import drift_line
from bench.harness.run.launch_probe import measure_launches
from bench.harness.run.lines import now
from bench.harness.run.runnable import require_runnable
from bench.harness.run.session import Session, session
from bench.harness.timing.gathered import Measured
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.method import Method
from bench.harness.timing.replay import replayed
from bench.harness.timing.task import Instruments, Task
from bench.harness.world.faults import attempt
from tp.errors import ConfigError, MeasurementError
from tp.flags import choice, parse_flags, positive_float, positive_int
from tp.layers.collectives import GroupCollectives
from tp.layers.mesh import split_world
from tp.plan.ops import Collective, Op
from tp.probe import native_dtypes
from tp.suite import defaults
from tp.units import DTYPES, Dtype, activation_dtype

# Ops that take turns, so that each finds the caches as another one left them.
TURN: Final = 8
# Most rounds an op gets. A fit over many shapes gains more from further shapes than from tighter ones; collectives
# are few and vary more.
COMPUTE_ROUNDS: Final = 12
COLLECTIVE_ROUNDS: Final = 40
# Of the budget, for the first op once more.
DRIFT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFlags(RunFlags):
    """How many sizes to measure."""

    shapes: str = "40"
    """Matrix shapes, each in three layouts; half as many attention cores, a quarter as many elementwise sizes."""


def measure_compute() -> None:
    """`bench/gemm.py`: matrix products, attention cores and elementwise passes."""
    flags = parse_flags(OpFlags, prog="bench/gemm.py", description="Measure the compute ops that a calibration needs.")
    run = resolve_run(flags, name="gemm")
    dtype = _dtype(flags, run)
    shapes, ranges = positive_int(flags.shapes, flag="--shapes"), RANGES[run.device]
    if shapes < 8:
        raise ConfigError(f"--shapes {shapes}: too few to fit anything; use at least 8")
    require_runnable((), (), dtype, device=run.device, dry_run=False)
    activations = activation_dtype(dtype)
    ops: list[Op] = [
        *gemm_ops(ranges, dtype, count=shapes),
        *single_token_ops(ranges, dtype, count=max(shapes // 5, 6)),
        *attention_ops(ranges, activations, count=max(shapes // 2, 8)),
        *elementwise_ops(ranges, activations, count=max(shapes // 4, 8), quantizes=dtype == "fp8"),
    ]
    _run([(1, ops)], run, seconds=flags.seconds, title="compute", launches=dtype)


def measure_collectives() -> None:
    """`bench/collectives.py`: every collective over sizes that double, for every degree that divides the world."""
    flags = parse_flags(
        RunFlags, prog="bench/collectives.py", description="Measure all-reduce, all-gather, reduce-scatter, send/recv."
    )
    run = resolve_run(flags, name="collectives")
    dtype = activation_dtype(_dtype(flags, run))
    world, backend = run.launch.world, run.backend
    if world == 1:
        raise ConfigError("bench/collectives.py: one rank says nothing to itself; use torchrun --nproc-per-node 2")
    degrees = [n for n in range(2, world + 1) if world % n == 0]
    sweeps = [(n, list[Op](collective_ops(RANGES[run.device], dtype, num_ranks=n, backend=backend))) for n in degrees]
    _run(sweeps, run, seconds=flags.seconds, title="collectives")


def _dtype(flags: RunFlags, run: RunSettings) -> Dtype:
    if flags.dtype:
        return choice(flags.dtype, DTYPES, flag="--dtype")
    return defaults(run.device, native_dtypes()).dtype


def _run(
    sweeps: Sequence[tuple[int, list[Op]]],
    run: RunSettings,
    *,
    seconds: str,
    title: str,
    launches: Dtype | None = None,
) -> None:
    """Measure the ops of every degree in turn, each recorded as soon as its turn is over, and the host's `launches`."""
    budget_s = positive_float(seconds or "45", flag="--seconds")
    leads = run.launch.leads
    console = make_console(leads=leads)
    finished = finished_ops(run.out, world=run.launch.world) if run.resume and leads else frozenset()
    probed = frozenset(finished_cases(run.out, world=run.launch.world)) if run.resume and leads else frozenset()
    with session(run, console) as opened:
        finished, probed = opened.ranks.gather_objects((finished, probed))[0]
        todo = [(size, [op for op in ops if op not in finished]) for size, ops in sweeps]
        num_ops = sum(len(ops) for _, ops in todo)
        console.print(f"{num_ops} ops, {len(finished)} of them finished before; records: {run.out}", markup=False)
        results: list[OpResult | FailedOp] = []
        with progress_bar(console) as bar:
            task = bar.add_task(f"measuring {title}", total=num_ops)
            for size, ops in todo:
                mesh = split_world(size, device=opened.device, timeout_s=run.timeout_s)
                for turn in _turns(ops):
                    share_s = budget_s * len(turn) / num_ops
                    for result in _measure_turn(turn, GroupCollectives(mesh), share_s, session=opened, run=run):
                        opened.writer.append(result)
                        results.append(result)
                        bar.advance(task)
        if launches is not None:
            measure_launches(launches, run, opened, seconds=budget_s, finished=probed)
        timed = [result for result in results if isinstance(result, OpResult)]
        _repeat_first(timed, run, opened, seconds=budget_s * DRIFT_SHARE)
    _show(console, timed)
    if opened.header.oversubscribed is not None:
        console.print(f"times are not comparable: {opened.header.oversubscribed}")
    console.print(f"records: {run.out}; calibrate: python -m analysis calibrate {run.out} ... --out FILE", markup=False)
    failed = [result for result in results if isinstance(result, FailedOp)]
    if failed:
        raise MeasurementError(f"{_name(failed[0].op)}: {failed[0].reason} ({len(failed)} failed); see {run.out}")


def _turns(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """Ops far apart in the list share a turn, so that large and small ones alternate."""
    num_turns = -(-len(ops) // TURN)
    for first in range(num_turns):
        yield ops[first::num_turns]


def _measure_turn(
    ops: Sequence[Op], collectives: GroupCollectives, seconds: float, *, session: Session, run: RunSettings
) -> Sequence[OpResult | FailedOp]:
    """Time the ops in turns; one that cannot run here fails its turn, and the run goes on."""
    priced = [
        {theory.name: price for theory in run.theories() if (price := theory.price(op)) is not None} for op in ops
    ]
    instruments = session.instruments
    instruments.guard.at(_name(ops[0]), "timing")
    measured = attempt(instruments.ranks, "timing", lambda: _measure(ops, collectives, seconds, instruments, run))
    if isinstance(measured, str):
        return [FailedOp(written=now(), op=op, reason=measured) for op in ops]
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
        )
        for number, (op, estimates) in enumerate(zip(ops, priced, strict=True))
    ]


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


def _repeat_first(results: Sequence[OpResult], run: RunSettings, session: Session, *, seconds: float) -> None:
    """Time the first turn once more, so that the record tells how far the machine drifted meanwhile."""
    if not results:
        return
    turn, instruments = results[:TURN], session.instruments
    ops = [result.op for result in turn]
    instruments.guard.at(_name(ops[0]), "timing once more")
    size = ops[0].num_ranks if isinstance(ops[0], Collective) else 1
    collectives = GroupCollectives(split_world(size, device=session.device, timeout_s=run.timeout_s))
    again = attempt(instruments.ranks, "timing", lambda: _measure(ops, collectives, seconds, instruments, run))
    if isinstance(again, str):
        return
    after = replace(again.samples["0"], task=turn[0].samples.task)
    drift = drift_line(_name(ops[0]), turn[0].samples, after)
    session.writer.append(drift)
    session.console.print(drift_sentence(drift), markup=False)


def _size(op: Op) -> float:
    return op.size_bytes if isinstance(op, Collective) else 0.0  # products and cores stay in the order they were timed


def _name(op: Op) -> str:
    """The op in a message."""
    return f"{op.part} {op.op}"


def _show(console: Console, results: Sequence[OpResult]) -> None:
    results = sorted(results, key=lambda result: (result.op.op, result.op.part, _size(result.op)))
    medians = [float(np.median(np.array(result.samples.times_s).max(axis=1))) for result in results]
    console.print(op_table([(result.op, median) for result, median in zip(results, medians, strict=True)]))
    sent = [result for result in results if isinstance(result.op, Collective)]
    if sent:
        console.print(arrival_table(sent, world=len(sent[0].samples.times_s[0])))
