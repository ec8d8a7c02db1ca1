"""What passes cost beside their ops: launch terms from the probe's layer, contention from layers that were measured."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from analysis.load import Case, Run
from analysis.measured.op import marked_seconds, seconds_of
from bench.harness.record.interference import Contention as Beside
from bench.harness.record.interference import contention
from bench.harness.record.names import PARTS, PROBE_MODEL
from tp.cost.overheads import Contention, Overheads, launch_key
from tp.cost.theory import Theory
from tp.plan.ops import Collective, Direction, Part, sum_bytes


def fit_overheads(runs: Sequence[Run], theory: Theory) -> Overheads:
    """Launch terms and contention as far as the runs hold layers that tell them."""
    cases = [case for run in runs for case in run.cases if case.result.status == "ok" and not case.planned.emulated]
    launches = [term for case in cases if is_probe(case) for term in _launches(case, theory)]
    return Overheads(
        launch_s=dict(launches),
        wait_s=_wait_s(runs),
        contention=_contention([case for case in cases if not is_probe(case)]),
    )


def is_probe(case: Case) -> bool:
    """Whether a case is the layer of the launch probe."""
    return case.planned.case.model.name == PROBE_MODEL


def _launches(case: Case, theory: Theory) -> Iterator[tuple[str, float]]:
    """What each part of the probe took beyond its ops, on the slowest rank."""
    took: defaultdict[tuple[Direction, Part], float] = defaultdict(float)
    for sample in case.result.samples:
        if sample.task == PARTS:
            for times in sample.parts:
                took[times.direction, times.part] += float(np.median(np.array(times.times_s).max(axis=1)))
    for (direction, part), seconds in took.items():
        prices = [theory.price(op) for op in case.planned.ops if (op.direction, op.part) == (direction, part)]
        known = [price.seconds for price in prices if price is not None]
        if len(known) == len(prices):
            key = launch_key(case.planned.case.workload.phase, direction, part)
            yield key, max(0.0, seconds - sum(known))


def _wait_s(runs: Sequence[Run]) -> float:
    """The median wait for a send beside a product that took longer than the send does alone."""
    waits = []
    for result in (result for run in runs for result in run.ops):
        if result.overlapped is not None:
            product_s = max(float(np.median(p.times_s)) for p in result.overlapped.parts if p.part != result.op.part)
            if product_s > 2 * seconds_of(result):
                waits.append(marked_seconds(result, result.overlapped))
    return float(np.median(waits)) if waits else 0.0


def _contention(cases: Sequence[Case]) -> Contention:
    """The median slow-down of compute and of communication beside each other."""
    by_case = [(case, each) for case in cases if (each := contention(case.result)) is not None]
    if not by_case:
        return Contention()
    found = [each for _, each in by_case]
    # Over a network hosts do more for each byte than beside a link.
    inside = [each for case, each in by_case if case.planned.case.nodes == 1] or found
    return Contention(
        compute=max(0.0, float(np.median([each.compute_slowdown for each in inside])) - 1),
        communication=max(0.0, float(np.median([each.communication_slowdown for each in found])) - 1),
        rows=len(found),
        compute_s_per_byte=_compute_per_byte(by_case),
    )


def _compute_per_byte(by_case: Sequence[tuple[Case, Beside]]) -> float | None:
    """The median, over layers whose ranks sent between nodes, of what compute lost for a byte that was under way."""
    costs = []
    for case, each in by_case:
        plan = case.planned
        if plan.case.nodes == 1 or case.header.network is None:
            continue
        sent = sum_bytes(op for op in plan.ops if isinstance(op, Collective))
        costs.append((each.compute_slowdown - 1) * each.contended_communication_s / sent)
    return max(0.0, float(np.median(costs))) if costs else None
