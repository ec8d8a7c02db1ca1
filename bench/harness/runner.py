"""A run from end to end: cases, plans, estimates on disk, then measuring, then records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from bench.harness.block_flags import BlockSettings, read_block_flags
from bench.harness.cases import BuiltCase, build_case, full_inputs, full_weights
from bench.harness.checks import check_case
from bench.harness.clock import Clock, make_clock
from bench.harness.console import make_console, part_table, progress_bar
from bench.harness.dryrun import dry_run
from bench.harness.launch import pick_device, process_group
from bench.harness.lines import case_line, header_line, plan_line, worst_over_ranks
from bench.harness.measure import measure
from bench.harness.observe import observe
from bench.harness.parts import part_rows
from bench.harness.ranks import Ranks
from bench.harness.records import (
    CaseResult,
    CheckResult,
    Header,
    Observation,
    Planned,
    RecordWriter,
    Samples,
    Status,
    finished_keys,
)
from bench.harness.variants import variants
from tp.case import Block
from tp.errors import MeasurementError
from tp.layers.mesh import Mesh, emulated_mesh, split_world
from tp.plan.build import build_plan
from tp.plan.ops import Plan, planned_count
from tp.suite import PlannedCase, interleaved


def run_block(block: Block) -> None:
    """What `torchrun bench/<block>.py` does."""
    settings = read_block_flags(block)
    if settings.dry_run:
        dry_run(settings)
    else:
        run_suite(settings)


def run_suite(settings: BlockSettings) -> None:
    """Measure every case of the suite; MeasurementError when one was wrong against the oracle."""
    cases = settings.cases()
    plans = {planned.case.key: plan_line(planned, settings) for planned in cases}
    leads = settings.run.launch.leads
    finished = finished_keys(settings.run.out, world=settings.world) if settings.resume and leads else frozenset()
    console = make_console(leads=leads)
    with RecordWriter(settings.run.out, active=leads) as writer:
        console.print(f"{len(cases)} cases, {len(finished)} of them finished before; records: {settings.run.out}")
        with process_group(settings.run.launch, settings.run.device, timeout_s=settings.run.timeout_s) as ranks:
            # Only the leading rank's node has the file.
            finished = ranks.gather_objects(finished)[0]
            todo = [planned for planned in cases if planned.case.key not in finished]
            header = header_line(settings.run, ranks)
            writer.append(header)
            for planned in todo:
                writer.append(plans[planned.case.key])
            results = _measure_all(todo, header, plans, settings=settings, ranks=ranks, writer=writer, console=console)
    _advise(console, settings, header)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise MeasurementError(f"{failed[0].key}: {failed[0].reason} ({len(failed)} failed); see {settings.run.out}")


def _measure_all(
    todo: Sequence[PlannedCase],
    header: Header,
    plans: dict[str, Planned],
    *,
    settings: BlockSettings,
    ranks: Ranks,
    writer: RecordWriter,
    console: Console,
) -> list[CaseResult]:
    """Group after group, each case written and shown as soon as it is done."""
    device = pick_device(settings.run.device, settings.run.launch)
    clock = make_clock(device, cold=settings.run.cold)
    meshes: dict[int, Mesh] = {}
    results: list[CaseResult] = []
    with progress_bar(console) as bar:
        task = bar.add_task("measuring", total=len(todo))
        for group in interleaved(todo):
            tp = group[0].case.tp
            if tp not in meshes:
                meshes[tp] = (emulated_mesh if settings.emulates else split_world)(tp, device=device)
            bar.update(task, description=group[0].case.key)
            for result in run_group(group, meshes[tp], clock=clock, ranks=ranks, settings=settings):
                writer.append(result)
                results.append(result)
                _show(console, header, plans[result.key], result)
                bar.advance(task)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    planned: PlannedCase
    built: BuiltCase
    plan: Plan
    checks: tuple[CheckResult, ...]
    observed: Observation

    @property
    def problem(self) -> str | None:
        """Why the case may have no speed."""
        wrong = [check.tensor for check in self.checks if not check.passed]
        if wrong:
            return f"wrong against the oracle: {', '.join(wrong)}"
        sent = {each.kind: (each.count, each.size_bytes) for each in self.observed.sent}
        planned = planned_count(self.plan.collectives)
        return None if self.built.mesh.emulated or sent == planned else f"sends {sent}, planned {planned}"


def run_group(
    group: Sequence[PlannedCase], mesh: Mesh, *, clock: Clock, ranks: Ranks, settings: BlockSettings
) -> list[CaseResult]:
    """Check and time, against each other, cases that differ in their strategy only."""
    groups = max(1, ranks.size // mesh.size)
    skipped = [case_line(planned, "skipped", planned.skip, groups=groups) for planned in group if planned.skip]
    prepared = _prepare_all([planned for planned in group if not planned.skip], mesh, ranks, settings)
    right = [ready for ready in prepared if ready.problem is None]
    samples = iter(_time_all(right, clock=clock, ranks=ranks, settings=settings))
    done = []
    for ready in prepared:
        status: Status = "ok" if ready.problem is None else "failed"
        done.append(
            case_line(
                ready.planned,
                status,
                ready.problem,
                groups=groups,
                checks=ready.checks,
                samples=next(samples) if status == "ok" else (),
                observed=ready.observed,
            )
        )
    return [*skipped, *done]


def _prepare_all(group: Sequence[PlannedCase], mesh: Mesh, ranks: Ranks, settings: BlockSettings) -> list[_Ready]:
    """Build every case, hold it against the oracle, and watch a pass of it."""
    if not group:
        return []
    weights, inputs = full_weights(group[0].case, mesh.device), full_inputs(group[0].case, mesh.device)
    ready = []
    for planned in group:
        built = build_case(planned.case, mesh, weights=weights, inputs=inputs)
        # The oracle needs every rank's share.
        checks = () if mesh.emulated else worst_over_ranks(check_case(built, weights=weights, inputs=inputs), ranks)
        plan = build_plan(planned.case, backend=settings.run.backend)
        ready.append(_Ready(planned=planned, built=built, plan=plan, checks=checks, observed=observe(built, ranks)))
    return ready


def _time_all(
    group: Sequence[_Ready], *, clock: Clock, ranks: Ranks, settings: BlockSettings
) -> list[tuple[Samples, ...]]:
    """The samples of each case; the tasks of all of them take turns."""
    if not group:
        return []
    tasks = []
    for number, ready in enumerate(group):
        tasks += [replace(task, name=f"{number}#{task.name}") for task in variants(ready.built, ready.plan)]
    policy = replace(settings.policy, max_seconds=settings.policy.max_seconds * len(group))
    samples = measure(tasks, clock=clock, ranks=ranks, policy=policy)
    by_case: list[list[Samples]] = [[] for _ in group]
    for name, found in samples.items():
        position, task_name = name.split("#")
        by_case[int(position)].append(replace(found, task=task_name))
    return [tuple(found) for found in by_case]


def _show(console: Console, header: Header, planned: Planned, result: CaseResult) -> None:
    if result.status == "ok":
        console.print(part_table(part_rows(header, planned, result)))
        console.print()
    else:
        console.print(f"{result.key}: {result.status}, {result.reason}", markup=False)


def _advise(console: Console, settings: BlockSettings, header: Header) -> None:
    """What the user may want to do next."""
    if settings.emulates:
        console.print("emulated: one rank computed its shard, unchecked; communication is the estimate's")
    if header.oversubscribed is not None:
        console.print(f"times are not comparable: {header.oversubscribed}")
    idle = header.hardware.num_devices
    if settings.run.launch.world == 1 and idle > 1 and not settings.emulates:
        what = "GPUs" if settings.run.device == "cuda" else "cores"
        console.print(
            f"{idle} {what} here: torchrun --nproc-per-node {idle} bench/{settings.block}.py splits over them"
        )
    console.print(
        f"records: {settings.run.out}; report: python -m analysis report {settings.run.out} --out DIR", markup=False
    )
