"""A run from end to end: cases, plans, estimates on disk, then measuring, then records."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from bench.harness.record.files import finished_cases
from bench.harness.record.interference import drift_sentence
from bench.harness.record.parts import part_rows
from bench.harness.record.records import CaseResult, Header, Planned
from bench.harness.run.block_flags import BlockSettings, read_block_flags
from bench.harness.run.console import make_console, part_table, progress_bar
from bench.harness.run.drift import drift_line
from bench.harness.run.dryrun import dry_run
from bench.harness.run.groups import run_group, time_again
from bench.harness.run.lines import plan_line
from bench.harness.run.remarks import remarks
from bench.harness.run.session import Session, session
from tp.case import Block
from tp.errors import ConfigError, MeasurementError
from tp.layers.mesh import Mesh, emulated_mesh, split_world
from tp.suite import PlannedCase, interleaved

Placement = tuple[int, int]
"""Ranks of a group, and the nodes that they lie over."""


def run_block(block: Block) -> None:
    """What `torchrun bench/<block>.py` does."""
    settings = read_block_flags(block)
    if settings.dry_run:
        dry_run(settings)
    else:
        run_suite(settings)


def run_suite(settings: BlockSettings) -> None:
    """Measure every case of the suite; MeasurementError when one could not be, or was wrong against the oracle."""
    cases = settings.cases()
    plans = {planned.case.key: plan_line(planned, settings) for planned in cases}
    run, leads = settings.run, settings.run.launch.leads
    finished = _finished(cases, settings) if run.resume and leads else frozenset()
    console = make_console(leads=leads)
    console.print(f"{len(cases)} cases, {len(finished)} of them finished before; records: {run.out}", markup=False)
    with session(run, console) as opened:
        # Only the leading rank's node has the file.
        finished = opened.ranks.gather_objects(finished)[0]
        todo = [planned for planned in cases if planned.case.key not in finished]
        for planned in todo:
            opened.writer.append(plans[planned.case.key])
        results = _measure_all(todo, plans, settings=settings, session=opened)
    _advise(console, settings, opened.header)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise MeasurementError(f"{failed[0].key}: {failed[0].reason} ({len(failed)} failed); see {run.out}")


def _finished(cases: Sequence[PlannedCase], settings: BlockSettings) -> frozenset[str]:
    """The cases that the record holds; ConfigError when one of a key was another case then."""
    out = settings.run.out
    before = finished_cases(out, world=settings.world, network=settings.run.network)
    for planned in cases:
        if planned.case.key in before and before[planned.case.key] != planned.case:
            raise ConfigError(f"--out {out}: {planned.case.key} was of another shape there; name another file")
    return frozenset(before)


def _measure_all(
    todo: Sequence[PlannedCase], plans: dict[str, Planned], *, settings: BlockSettings, session: Session
) -> list[CaseResult]:
    """Group after group, each case written and shown as soon as it is done; the first case once more at the end."""
    meshes: dict[Placement, Mesh] = {}
    results: list[CaseResult] = []
    with progress_bar(session.console) as bar:
        task = bar.add_task("measuring", total=len(todo))
        for group in interleaved(todo):
            placement = _placement(group)
            if placement not in meshes:
                meshes[placement] = _mesh(placement, settings, session)
            bar.update(task, description=escape(group[0].case.key))
            telemetry, found = run_group(group, meshes[placement], session=session, settings=settings)
            if telemetry is not None:
                session.writer.append(telemetry)
            for result in found:
                session.writer.append(result)
                results.append(result)
                _show(session, plans[result.key], result)
                bar.advance(task)
    _repeat_first(todo, results, meshes, settings=settings, session=session)
    return results


def _placement(group: Sequence[PlannedCase]) -> Placement:
    return group[0].case.tp, group[0].case.nodes


def _mesh(placement: Placement, settings: BlockSettings, session: Session) -> Mesh:
    tp, nodes = placement
    session.instruments.guard.at(f"tp {tp}", "joining groups")
    if settings.emulates:
        return emulated_mesh(tp, device=session.device)
    return split_world(
        tp, device=session.device, timeout_s=settings.run.timeout_s, nodes=nodes, on_node=settings.on_node
    )


def _repeat_first(
    todo: Sequence[PlannedCase],
    results: Sequence[CaseResult],
    meshes: dict[Placement, Mesh],
    *,
    settings: BlockSettings,
    session: Session,
) -> None:
    """Time the first group that has a speed once more, so that the record tells how far the machine drifted."""
    good = {result.key: result for result in results if result.status == "ok"}
    groups = ([planned for planned in group if planned.case.key in good] for group in interleaved(todo))
    group = next((group for group in groups if group), None)
    if group is None:
        return
    first = good[group[0].case.key]
    again = time_again(group, meshes[_placement(group)], session=session, settings=settings)
    if again is None:
        return
    before = next(sample for sample in first.samples if sample.task == again.task)
    drift = drift_line(first.key, before, again)
    session.writer.append(drift)
    session.console.print(drift_sentence(drift), markup=False)


def _show(session: Session, planned: Planned, result: CaseResult) -> None:
    console = session.console
    session.instruments.guard.at(result.key, "showing")
    if result.status == "ok":
        console.print(part_table(part_rows(session.header, planned, result)))
        for remark in remarks(planned, result, late_rank=session.header.method["delayed_rank"]):
            console.print(remark, markup=False)
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
