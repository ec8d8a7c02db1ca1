"""Record files made up for tests: real dataclasses, times and estimates as the test wants them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.load import Run, load_run
from bench.harness.machine.reading import Reading
from bench.harness.record.files import RecordWriter
from bench.harness.record.records import (
    AnyLine,
    CaseResult,
    CheckResult,
    Drift,
    End,
    Header,
    Moment,
    Observation,
    OpResult,
    PartTimes,
    Planned,
    Samples,
    Sent,
    Status,
    Telemetry,
    Times,
)
from tp.case import Block, Case, Phase, Recompute, Strategy, Workload
from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, Theory, TheoryName, estimate_plan, point
from tp.hardware import Device, Link, Node, Peak
from tp.model import ModelShape
from tp.plan.build import build_plan
from tp.plan.memory import held_bytes, plan_memory
from tp.plan.ops import COLLECTIVE_KINDS, Collective, Op

NUM_SAMPLES = 8
# Every pass lies within this of its median.
SPREAD = 0.01
LATER = "2026-11-22T16:00:03.000+00:00"

TOY = ModelShape(
    name="toy",
    hidden=64,
    num_heads=8,
    num_kv_heads=8,
    head_dim=8,
    ffn_width=128,
    gated=True,
    num_layers=2,
    vocab_size=100,
    tied_embeddings=False,
    norm="rms",
    position="rope",
    max_positions=64,
    bias="none",
    source="made up",
)
NODE = Node(
    name="toy-node",
    num_devices=4,
    device=Device(
        name="toy core",
        vendor="none",
        kind="cpu-core",
        num_units=1,
        memory_bytes=1e9,
        memory_bytes_per_s=1e10,
        peaks=(Peak(dtype="fp32", flops_per_s=1e11, sparsity="dense", source="made up", doubt="it is a toy"),),
        source="made up",
        date="2026-11-22",
    ),
    links=(Link(name="wire", kind="host-memory", bytes_per_s=None, direction="one-way", source="no source"),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedTheory:
    """The same seconds for every op; silent where `speaks_of` says so."""

    name: TheoryName = "calibrated"
    bounds: bool = True
    seconds: float = 1e-3
    width: float = 0.1
    speaks_of: Callable[[Op], bool] = lambda op: True
    extrapolated: bool = False
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        if not self.speaks_of(op):
            return None
        low, high = self.seconds * (1 - self.width), self.seconds * (1 + self.width)
        return OpEstimate(seconds=self.seconds, low_s=low, high_s=high, extrapolated=self.extrapolated)


def compute_only(op: Op) -> bool:
    """Speaks of everything but collectives, as the datasheet of a CPU does."""
    return not isinstance(op, Collective)


def header(**changes: Any) -> Header:
    """A run of four gloo ranks on one machine."""
    rank = {"host": "here", "python": "3.11", "packages": {"torch": "2.13"}, "git": {"commit": "abc", "dirty": True}}
    base = Header(
        created="2026-11-22T16:00:00.000+00:00",
        command=("bench/attention.py", "--out", "a b.jsonl"),
        world=4,
        num_nodes=1,
        backend="gloo",
        hardware=NODE,
        calibration=None,
        environment={"ranks": [rank, rank]},
        oversubscribed=None,
    )
    return replace(base, **changes)


def planned(
    *theories: Theory,
    model: ModelShape = TOY,
    phase: Phase = "prefill",
    strategy: Strategy = "allreduce",
    tp: int = 2,
    seq: int = 16,
    block: Block = "attention",
    recompute: Recompute = "none",
    chunks: int = 1,
    emulated: bool = False,
) -> Planned:
    """A case with its plan and memory, and its estimates under `theories`."""
    context = 16 if phase == "decode" else seq
    workload = Workload(phase=phase, batch=1, seq=1 if phase == "decode" else seq, context=context, dtype="fp32")
    case = Case(
        block=block,
        model=model,
        strategy=strategy,
        tp=tp,
        workload=workload,
        recompute=recompute,
        chunks=chunks,
    )
    plan = build_plan(case, backend="gloo")
    return Planned(
        key=case.key,
        written="2026-11-22T16:00:01.000+00:00",
        case=case,
        ops=plan.ops,
        estimates=tuple(estimate_plan(plan, theory) for theory in theories),
        memory=plan_memory(case, device="cpu"),
        emulated=emulated,
    )


def observation(plan: Planned, **changes: Any) -> Observation:
    """One pass of `plan` that sent and held just what was planned, but for `changes`."""
    kinds = [op.kind for op in plan.ops if isinstance(op, Collective)]
    sizes = {
        kind: [op.size_bytes for op in plan.ops if op.part == kind and isinstance(op, Collective)] for kind in kinds
    }
    seen = Observation(
        sent=tuple(Sent(kind=kind, count=len(each), size_bytes=sum(each)) for kind, each in sorted(sizes.items())),
        weight_bytes=held_bytes(plan.memory, "weights"),
        gradient_bytes=held_bytes(plan.memory, "gradients"),
        saved_bytes=held_bytes(plan.memory, "saved"),
        kv_cache_bytes=held_bytes(plan.memory, "kv_cache"),
        peak_bytes=None,
        attention_kernel="flash (CPU)",
    )
    return replace(seen, **changes)


def result(
    plan: Planned,
    *,
    total_s: float = 10e-3,
    compute_s: float | None = None,
    serial_s: float | None = None,
    collectives_timed: bool = True,
    observed: Observation | None = None,
    status: Status = "ok",
    reason: str | None = None,
    error: float | None = 1e-7,
    timed: bool = True,
) -> CaseResult:
    """What came of `plan`: a pass of `total_s`, its parts in equal shares, and one check against a limit of 1e-6."""
    passed = error is not None and error <= 1e-6
    check = CheckResult(tensor="output", error=error, error_limit=1e-6, gain=1e-9, gain_limit=1e-6, passed=passed)
    return CaseResult(
        key=plan.key,
        written="2026-11-22T16:00:02.000+00:00",
        status=status,
        reason=reason,
        groups=max(4 // plan.case.tp, 1),
        checks=() if status == "skipped" else (check,),
        samples=samples(
            plan, total_s=total_s, compute_s=compute_s, serial_s=serial_s, collectives_timed=collectives_timed
        )
        if timed and status != "skipped"
        else (),
        observed=observed,
    )


def samples(
    plan: Planned,
    *,
    total_s: float,
    compute_s: float | None = None,
    serial_s: float | None = None,
    collectives_timed: bool = True,
) -> tuple[Samples, ...]:
    """All variants of a case on two ranks, of which the second is slower by a thousandth.

    Not `collectives_timed`: they run within operators of torch and have no part of their own.
    """
    wire = any(isinstance(op, Collective) for op in plan.ops)
    compute = compute_s if compute_s is not None else (total_s * 0.75 if wire else total_s)
    wholes = {"compute": compute, "serial": serial_s or total_s, "full": total_s, "parts": total_s}
    if wire:
        wholes["communication"] = total_s - compute
    share = total_s / len(plan.ops)
    parts = tuple(
        PartTimes(part=op.part, direction=op.direction, times_s=times(share))
        for op in plan.ops
        if collectives_timed or op.part not in COLLECTIVE_KINDS
    )
    return tuple(
        Samples(
            task=task,
            warmup_s=times(seconds, count=2),
            times_s=times(seconds),
            parts=parts if task == "parts" else (),
            stopped_by="rounds",
        )
        for task, seconds in wholes.items()
    )


def times(seconds: float, *, count: int = NUM_SAMPLES) -> Times:
    """Passes around `seconds` on the slowest of two ranks, evenly within SPREAD."""
    steps = [seconds * (1 + SPREAD * (2 * i / (count - 1) - 1)) for i in range(count)]
    return tuple((step * 0.999, step) for step in steps)


def one_task(task: str, passes: Times, **changes: Any) -> Samples:
    """Samples of one variant whose passes are given, on every rank."""
    base = Samples(task=task, warmup_s=passes[:1], times_s=passes, parts=(), stopped_by="rounds")
    return replace(base, **changes)


def op_result(size_bytes: int, seconds: float) -> OpResult:
    """An all-reduce of two ranks timed alone."""
    op = Collective(
        kind="all_reduce", direction="forward", num_ranks=2, size_bytes=size_bytes, dtype="fp32", backend="gloo"
    )
    timed = Samples(task="collective", warmup_s=(), times_s=times(seconds), parts=(), stopped_by="rounds")
    return OpResult(written=LATER, op=op, estimates={"article": point(seconds)}, samples=timed)


def telemetry(*plans: Planned) -> Telemetry:
    """Two ranks' readings before and after the cases of `plans`."""
    reading = Reading(values={"cpu_clock_hz": 3e9, "steal_ticks": 4}, unread={"power_w": "no GPU"})
    return Telemetry(
        written=LATER,
        keys=tuple(plan.key for plan in plans),
        moments=tuple(Moment(rounds=n, since_s=0.1 * n, ranks=(reading, reading)) for n in (0, NUM_SAMPLES)),
        clock_offsets_s=(0.0, 1e-6),
        clock_uncertainty_s=(0.0, 2e-6),
    )


def drift(plan: Planned, *, before_s: float = 10e-3, after_s: float = 10e-3) -> Drift:
    """The full pass of a case before and after the run."""
    before, after = (
        Samples(task="full", warmup_s=(), times_s=times(seconds), parts=(), stopped_by="rounds")
        for seconds in (before_s, after_s)
    )
    return Drift(key=plan.key, written=LATER, before=before, after=after)


def write_run(path: Path, *lines: AnyLine) -> Run:
    """Write the lines as a record file, with an end where they have none, and read it back as the analysis does."""
    path.unlink(missing_ok=True)
    with RecordWriter(path) as writer:
        for line in lines:
            writer.append(line)
        if not any(isinstance(line, End) for line in lines):
            writer.append(End(written=LATER, status="done", reason=None))
    return load_run(path)


def scaling_run(path: Path, totals_s: dict[int, float], **case: Any) -> Run:
    """A run of one strategy whose total at each TP degree is given; estimated by a FixedTheory."""
    plans = [planned(FixedTheory(), tp=tp, **case) for tp in totals_s]
    results = [result(plan, total_s=total_s) for plan, total_s in zip(plans, totals_s.values(), strict=True)]
    return write_run(path, header(), *plans, *results)
