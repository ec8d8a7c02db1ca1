"""A layer so small that its time is the host's: what a calibration learns of launches beside the ops.

Ops timed alone say nothing of what a pass does between them: modules called, autograd's start, memory asked for.
"""

from typing import Final

from bench.harness.record.names import PROBE_MODEL
from bench.harness.run.block_flags import BlockSettings
from bench.harness.run.cli import RunSettings
from bench.harness.run.groups import run_group
from bench.harness.run.lines import plan_line
from bench.harness.run.session import Session
from bench.harness.timing.measure import Policy
from tp.case import Case, Phase, Workload
from tp.layers.mesh import split_world
from tp.model import ModelShape
from tp.probe import native_dtypes
from tp.suite import PlannedCase, Suite, defaults
from tp.units import Dtype, activation_dtype

MODEL: Final = ModelShape(
    name=PROBE_MODEL,
    hidden=256,
    num_heads=4,
    num_kv_heads=4,
    head_dim=64,
    ffn_width=512,
    gated=True,
    num_layers=1,
    vocab_size=256,
    tied_embeddings=False,
    norm="rms",
    position="rope",
    max_positions=256,
    bias="none",
    source="the smallest layer that calls all that a layer calls",
)
TOKENS: Final = 16
PHASES: Final[tuple[Phase, ...]] = ("prefill", "train", "decode")
# For each phase, and of what all ops are given; a pass takes milliseconds at most.
MOST_SECONDS: Final = 2.0
SHARE: Final = 0.05


def probe_cases(dtype: Dtype) -> list[PlannedCase]:
    """The probe in every phase, on one rank a group."""
    shared = {"batch": 1, "context": TOKENS, "dtype": activation_dtype(dtype)}
    workloads = [Workload(phase=phase, seq=1 if phase == "decode" else TOKENS, **shared) for phase in PHASES]  # type: ignore[arg-type]
    return [
        PlannedCase(case=Case(block="block", model=MODEL, strategy="allreduce", tp=1, workload=workload), skip=None)
        for workload in workloads
    ]


def measure_launches(
    dtype: Dtype, run: RunSettings, session: Session, *, seconds: float, finished: frozenset[str]
) -> None:
    """Time the probe on every rank for itself, all at once, and write it beside the ops."""
    settings = BlockSettings(
        run=run,
        block="block",
        suite=Suite(name="launch probe"),
        chosen=defaults(run.device, native_dtypes()),
        policy=Policy(max_seconds=min(MOST_SECONDS, SHARE * seconds)),
        world=run.launch.world,
        dry_run=False,
        emulates=False,
    )
    mesh = split_world(1, device=session.device, timeout_s=run.timeout_s)
    for planned in probe_cases(dtype):
        if planned.case.key in finished:
            continue
        session.writer.append(plan_line(planned, settings))
        telemetry, results = run_group([planned], mesh, session=session, settings=settings)
        for line in (telemetry, *results):
            if line is not None:
                session.writer.append(line)
