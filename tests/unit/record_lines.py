"""One line of every kind, as record files of tests hold them."""

from pathlib import Path

from bench.harness.record.files import RecordWriter
from bench.harness.record.records import (
    AnyLine,
    CaseResult,
    CheckResult,
    Header,
    OpResult,
    PartTimes,
    Planned,
    Samples,
)
from tp.case import Case, Workload
from tp.cost.theory import Estimate, OpEstimate, PartEstimate
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import Collective

NOW = "2026-11-22T12:00:00.000+00:00"
HEADER = Header(
    created=NOW,
    command=("bench/attention.py", "--out", "läufe/größe.jsonl"),
    world=2,
    num_nodes=1,
    backend="gloo",
    hardware=load_node("h100-sxm"),
    calibration=None,
    environment={"ranks": [{"torch": "2.13.0", "git": {"dirty": True}, "load": 0.25}, None]},
    oversubscribed="2 ranks share 1 cores",
)
CASE = Case(
    block="attention",
    model=load_model("llama2-70b"),
    strategy="sequence",
    tp=8,
    workload=Workload(phase="train", batch=1, seq=64, context=64, dtype="bf16"),
)
PLANNED = Planned(
    key=CASE.key,
    written=NOW,
    case=CASE,
    ops=build_plan(CASE, backend="nccl").ops,  # products, cores, passes and collectives
    estimates=(
        Estimate(
            theory="calibrated",
            parts=(
                PartEstimate(part="qkv", seconds=1e-3, low_s=9e-4, high_s=1.1e-3, extrapolated=True),
                PartEstimate(part="total", seconds=None, low_s=None, high_s=None, extrapolated=False),
            ),
        ),
    ),
)
SAMPLES = Samples(
    task="parts",
    warmup_s=((1.5, 0.5),),
    times_s=((0.1, 0.2), (0.3, 0.4)),
    parts=(PartTimes(part="all_gather", direction="backward", times_s=((0.01, 0.02), (0.03, 0.04))),),
    stopped_by="target",
)
CHECK = CheckResult(tensor="output", error=1e-3, error_limit=1e-2, gain=-1e-4, gain_limit=1e-3, passed=True)
RESULT = CaseResult(key=CASE.key, written=NOW, status="ok", reason=None, groups=1, checks=(CHECK,), samples=(SAMPLES,))
OP = OpResult(
    written=NOW,
    op=Collective(kind="all_reduce", direction="forward", num_ranks=2, size_bytes=1024, dtype="bf16", backend="gloo"),
    estimates={"datasheet": OpEstimate(seconds=1e-6, low_s=1e-6, high_s=1e-6)},
    samples=SAMPLES,
)
LINES: tuple[AnyLine, ...] = (HEADER, PLANNED, RESULT, OP)


def write(path: Path, *lines: AnyLine) -> Path:
    with RecordWriter(path) as writer:
        for line in lines:
            writer.append(line)
    return path
