"""Cases that differ in their strategy only: built, checked, timed against each other, and looked at once more."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from bench.harness.cases.build import BuiltCase, Inputs, build_case, collectives_of, full_inputs, full_weights
from bench.harness.cases.checks import Check, check_again, check_case
from bench.harness.cases.observe import most_of, observe
from bench.harness.cases.traffic import count_traffic
from bench.harness.cases.variants import variants
from bench.harness.record.names import COMPUTE, FULL
from bench.harness.record.records import CaseResult, CheckResult, Observation, Samples, Telemetry, Traffic
from bench.harness.run.block_flags import BlockSettings
from bench.harness.run.drift import briefly
from bench.harness.run.lines import case_line, now, worst_over_ranks
from bench.harness.run.session import Session
from bench.harness.timing.gathered import Measured
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.task import Task
from bench.harness.world.faults import attempt
from bench.harness.world.launch import members_of
from tp.layers.build import BlockWeights
from tp.layers.mesh import Mesh
from tp.layers.wire import Unwatched, Wire
from tp.plan.build import build_plan
from tp.plan.ops import Plan, planned_count
from tp.suite import PlannedCase

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A case that was built, checked and watched."""

    planned: PlannedCase
    built: BuiltCase
    plan: Plan
    output: Tensor | None
    """Of the forward that is timed, before it was; None where one rank stands for all."""
    checks: tuple[CheckResult, ...]
    observed: Observation

    @property
    def problem(self) -> str | None:
        """Why the case may have no speed."""
        wrong = wrong_tensors(self.checks)
        if wrong:
            return wrong
        sent = {each.kind: (each.count, each.size_bytes) for each in self.observed.sent}
        planned = planned_count(self.plan.collectives)
        return None if self.built.mesh.emulated or sent == planned else f"sends {sent}, planned {planned}"


def wrong_tensors(checks: Sequence[CheckResult]) -> str | None:
    """What differs from the oracle, in a sentence."""
    wrong = [check.tensor for check in checks if not check.passed]
    return f"wrong against the oracle: {', '.join(wrong)}" if wrong else None


def run_group(
    group: Sequence[PlannedCase], mesh: Mesh, *, session: Session, settings: BlockSettings
) -> tuple[Telemetry | None, list[CaseResult]]:
    """Check and time the cases; the machine's state meanwhile, and what came of each, in the order they were given."""
    return _Group(mesh, group[0].case.nodes, session, settings).run(group)


def time_again(
    group: Sequence[PlannedCase], mesh: Mesh, *, session: Session, settings: BlockSettings
) -> Samples | None:
    """The first case's whole pass, all cases of the group taking turns once more; None where that fails."""
    return _Group(mesh, group[0].case.nodes, session, settings).time_again(group)


class _Group:
    def __init__(self, mesh: Mesh, nodes: int, session: Session, settings: BlockSettings) -> None:
        self.mesh, self.session, self.settings = mesh, session, settings
        self.groups = max(1, session.ranks.size // mesh.size)
        self.members = members_of(mesh.size, nodes, settings.run.launch)

    def run(self, group: Sequence[PlannedCase]) -> tuple[Telemetry | None, list[CaseResult]]:
        done: dict[str, CaseResult] = {}
        ready: list[Ready] = []
        for planned in group:
            if planned.skip is not None:
                done[planned.case.key] = case_line(planned, "skipped", planned.skip, groups=self.groups)
        todo = [planned for planned in group if planned.skip is None]
        for planned, prepared in zip(todo, self.prepare(todo), strict=True):
            if isinstance(prepared, Ready) and prepared.problem is None:
                ready.append(prepared)
            else:
                done[planned.case.key] = self.refused(planned, prepared)
        telemetry = None
        if ready:
            telemetry, timed = self.time(ready)
            done |= timed
        return telemetry, [done[planned.case.key] for planned in group]

    def prepare(self, group: Sequence[PlannedCase]) -> list[Ready | str]:
        """Build every case, hold it against the oracle, and watch a pass of it; or say why that cannot be."""
        if not group:
            return []
        first, device = group[0].case, self.mesh.device

        def make_tensors() -> tuple[BlockWeights, Inputs]:
            return full_weights(first, device), full_inputs(first, device)

        made = self.tried(first.key, "making weights", make_tensors)
        if isinstance(made, str):
            return [made] * len(group)
        prepared = []
        for planned in group:
            prepared.append(self.prepare_one(planned, *made))
            if isinstance(prepared[-1], str):
                _free_memory()
        return prepared

    def prepare_one(self, planned: PlannedCase, weights: BlockWeights, inputs: Inputs) -> Ready | str:
        key, mesh = planned.case.key, self.mesh
        built = self.tried(key, "building", lambda: build_case(planned.case, mesh, weights=weights, inputs=inputs))
        if isinstance(built, str):
            return built
        checked = self.tried(key, "checking", lambda: _checked(built, weights, inputs))
        if isinstance(checked, str):
            return checked
        output, checks = checked
        observed = self.tried(key, "watching a pass", lambda: observe(built))
        if isinstance(observed, str):
            return observed
        return Ready(
            planned=planned,
            built=built,
            plan=build_plan(planned.case, backend=self.settings.run.backend),
            output=output,
            checks=worst_over_ranks(checks, self.session.ranks),
            observed=most_of(self.session.ranks.gather_objects(observed)),
        )

    def time(self, group: Sequence[Ready]) -> tuple[Telemetry | None, dict[str, CaseResult]]:
        """Take samples of all cases in turns, then look at each once more."""
        keys = [ready.planned.case.key for ready in group]
        cases = [(ready.built, ready.plan) for ready in group]
        measured = self.tried(keys[0], "timing", lambda: self.measure(cases, self.settings.policy))
        if isinstance(measured, str):
            _free_memory()
            return None, {ready.planned.case.key: self.refused(ready.planned, measured) for ready in group}
        results = {
            key: self.looked_at_again(number, ready, measured)
            for number, (key, ready) in enumerate(zip(keys, group, strict=True))
        }
        return measured.telemetry(written=now(), keys=keys), results

    def time_again(self, group: Sequence[PlannedCase]) -> Samples | None:
        key, device, backend = group[0].case.key, self.mesh.device, self.settings.run.backend

        def work() -> Samples:
            weights, inputs = full_weights(group[0].case, device), full_inputs(group[0].case, device)
            cases = [build_case(planned.case, self.mesh, weights=weights, inputs=inputs) for planned in group]
            plans = [build_plan(planned.case, backend=backend) for planned in group]
            measured = self.measure(list(zip(cases, plans, strict=True)), briefly(self.settings.policy))
            whole = COMPUTE if self.mesh.emulated else FULL
            return replace(measured.samples[f"0#{whole}"], task=whole)

        again = self.tried(key, "timing once more", work)
        return None if isinstance(again, str) else again

    def measure(self, cases: Sequence[tuple[BuiltCase, Plan]], policy: Policy) -> Measured:
        """All variants of all cases in turns."""
        tasks: list[Task] = []
        for number, (built, plan) in enumerate(cases):
            made = variants(built, plan, self.session.instruments, self.settings.run.method)
            tasks += [replace(task, name=f"{number}#{task.name}") for task in made]
        shared = replace(policy, max_seconds=policy.max_seconds * len(cases))
        return measure(tasks, instruments=self.session.instruments, policy=shared)

    def looked_at_again(self, number: int, ready: Ready, measured: Measured) -> CaseResult:
        """What came of a case: its output must still be what it was, or its times are of something else."""
        key, ranks = ready.planned.case.key, self.session.ranks
        again = self.tried(key, "checking again", lambda: _checked_again(ready))
        checks = (*ready.checks, *(() if isinstance(again, str) else worst_over_ranks(again, ranks)))
        traffic = None if isinstance(again, str) else self.traffic(ready)
        problem = again if isinstance(again, str) else wrong_tensors(checks)
        prefix = f"{number}#"
        return case_line(
            ready.planned,
            "ok" if problem is None else "failed",
            problem,
            groups=self.groups,
            members=self.members,
            checks=checks,
            samples=tuple(
                replace(found, task=name.removeprefix(prefix))
                for name, found in measured.samples.items()
                if name.startswith(prefix)
            ),
            observed=ready.observed,
            traffic=traffic if isinstance(traffic, Traffic) else None,
            marks=measured.marks,
        )

    def traffic(self, ready: Ready) -> Traffic | str | None:
        if not ready.plan.collectives or self.mesh.emulated:
            return None
        built, instruments = ready.built, self.session.instruments
        wire = Wire(collectives=collectives_of(built.case, built.mesh), timeline=Unwatched())

        def run() -> None:
            built.forget()
            built.run(wire)
            instruments.clock.settle()

        sent = ready.plan.sent_bytes
        return self.tried(
            ready.planned.case.key,
            "counting traffic",
            lambda: count_traffic(run, round(sent), ranks=instruments.ranks, probe=instruments.probe),
        )

    def refused(self, planned: PlannedCase, prepared: Ready | str) -> CaseResult:
        """A case that has no speed."""
        if isinstance(prepared, str):
            return case_line(planned, "failed", prepared, groups=self.groups)
        return case_line(
            planned,
            "failed",
            prepared.problem,
            groups=self.groups,
            checks=prepared.checks,
            observed=prepared.observed,
        )

    def tried(self, key: str, phase: str, work: Callable[[], T]) -> T | str:
        self.session.instruments.guard.at(key, phase)
        return attempt(self.session.ranks, phase, work)


def _checked(built: BuiltCase, weights: BlockWeights, inputs: Inputs) -> tuple[Tensor | None, list[Check]]:
    """The output and how it compares; an emulated rank has neither, since the oracle needs every rank's share."""
    return (None, []) if built.mesh.emulated else check_case(built, weights=weights, inputs=inputs)


def _checked_again(ready: Ready) -> list[Check]:
    return [] if ready.output is None else [check_again(ready.built, ready.output)]


def _free_memory() -> None:
    """Give back what a case held that did not fit, for the next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
