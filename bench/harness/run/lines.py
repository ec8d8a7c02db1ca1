"""What a run writes down: its header, the plan and estimates of each case, and what came of it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite

from bench.harness.cases.checks import Check
from bench.harness.machine.environment import environment
from bench.harness.machine.judge import warnings
from bench.harness.machine.probe import Probe
from bench.harness.record.grouping import Members
from bench.harness.record.records import (
    BlockMark,
    CaseResult,
    CheckResult,
    End,
    Header,
    Observation,
    Planned,
    Samples,
    Status,
    Traffic,
)
from bench.harness.run.block_flags import BlockSettings
from bench.harness.run.cli import RunSettings
from bench.harness.timing.clock import Clock
from bench.harness.world.faults import RunEnded
from bench.harness.world.ranks import Place, Ranks
from tp.cost.theory import estimate_plan
from tp.plan.build import build_plan
from tp.plan.memory import plan_memory
from tp.suite import PlannedCase


def header_line(run: RunSettings, ranks: Ranks, clock: Clock, probe: Probe) -> Header:
    """The run's header; every rank calls it, since the environment of all of them goes in."""
    found = ranks.gather_objects((environment(probe), warnings(probe.facts(), probe.read())))
    return Header(
        created=now(),
        command=run.command,
        world=run.launch.world,
        num_nodes=run.launch.num_nodes,
        backend=run.backend,
        hardware=run.node,
        network=run.network,
        calibration=run.calibration_label,
        environment={"ranks": [ours for ours, _ in found]},
        oversubscribed=oversubscribed(run.device, ranks.places, run.node.num_devices),
        warnings=tuple(
            f"rank {rank} on {ranks.places[rank].node}: {warning}"
            for rank, (_, theirs) in enumerate(found)
            for warning in theirs
        ),
        method={
            "clock": clock.kind,
            "flush_bytes": clock.flush_bytes,
            "soak_s": clock.soak_s,
            "graph": run.method.graph,
            "delayed_rank": run.method.delayed_rank,
            "delay_s": run.method.delay_s,
            "timeout_s": run.timeout_s,
        },
    )


def oversubscribed(kind: str, places: Sequence[Place], num_devices: int) -> str | None:
    """Why the ranks share devices, if they do: their times are then not comparable with others'.

    Nodes that are namespaces or containers of one machine share its cores.
    """
    most = max(Counter(place.machine for place in places).values())
    if kind == "cpu" and most > num_devices:
        return f"{most} ranks share {num_devices} cores"
    return None


def plan_line(planned: PlannedCase, settings: BlockSettings) -> Planned:
    """The plan and its estimates under every theory that there is, as they stand before the first sample."""
    if planned.skip:
        return Planned(key=planned.case.key, written=now(), case=planned.case, ops=(), estimates=())
    plan = build_plan(planned.case, backend=settings.run.backend)
    return Planned(
        key=planned.case.key,
        written=now(),
        case=planned.case,
        ops=plan.ops,
        estimates=tuple(estimate_plan(plan, theory) for theory in settings.run.theories()),
        memory=plan_memory(planned.case, device=settings.run.device),
        emulated=settings.emulates,
    )


def case_line(
    planned: PlannedCase,
    status: Status,
    reason: str | None = None,
    *,
    groups: int,
    members: Members = (),
    checks: tuple[CheckResult, ...] = (),
    samples: tuple[Samples, ...] = (),
    observed: Observation | None = None,
    traffic: Traffic | None = None,
    marks: tuple[BlockMark, ...] = (),
) -> CaseResult:
    return CaseResult(
        key=planned.case.key,
        written=now(),
        status=status,
        reason=reason,
        groups=groups,
        members=members,
        checks=checks,
        samples=samples,
        observed=observed,
        traffic=traffic,
        marks=marks,
    )


def end_line(ended: RunEnded | None = None, *, interrupted: bool = False) -> End:
    """How the run ended; `ended` is why it could not go on."""
    if ended is None:
        return End(written=now(), status="done", reason=None)
    return End(written=now(), status="interrupted" if interrupted else "failed", reason=str(ended))


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def worst_over_ranks(checks: Sequence[Check], ranks: Ranks) -> tuple[CheckResult, ...]:
    """The checks with the worst figures of any rank, the same on all ranks."""
    everyone: list[Sequence[Check]] = ranks.gather_objects(checks)
    return tuple(
        CheckResult(
            tensor=of_ranks[0].tensor,
            error=_worst([check.error for check in of_ranks]),
            error_limit=of_ranks[0].error_limit,
            gain=_worst([check.gain for check in of_ranks]),
            gain_limit=of_ranks[0].gain_limit,
            passed=all(check.passed for check in of_ranks),
        )
        for of_ranks in zip(*everyone, strict=True)
    )


def _worst(values: Sequence[float]) -> float | None:
    """The value furthest from zero; None when any is not a number."""
    return max(values, key=abs) if all(map(isfinite, values)) else None
