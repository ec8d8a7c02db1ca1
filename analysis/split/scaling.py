"""Time and efficiency of a whole layer over the tensor-parallel degree, under one theory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from typing import Final

from analysis.split.efficiency import UNKNOWN, Ranged, Reach, efficiency, ranged, reach
from analysis.split.need import Need, Rated, needed_rate, no_need
from analysis.split.remember import Remembered
from tp.case import Case, Phase, Strategy, Workload
from tp.cost.choose import choose_chunks
from tp.cost.theory import Estimate, Theory, estimate_plan
from tp.hardware import Node
from tp.model import ModelShape
from tp.plan.build import build_plan
from tp.plan.ops import Backend, Plan
from tp.plan.shards import misfit, token_misfit

OK: Final = "ok"
ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Degree:
    """A layer at one degree: seconds of a pass, how much of them each resource is busy, and what the link is asked."""

    tp: int
    chunks: int = 1
    status: str = OK
    """`ok`, or why the case cannot run or has no price."""
    seconds: Ranged = UNKNOWN
    efficiency: Ranged = UNKNOWN
    compute_share: float = nan
    """Of the time of the pass; with the next more than 1 together where communication is hidden."""
    communication_share: float = nan
    hidden_share: float = nan
    """Of communication, what goes on beside compute and costs nothing; NaN where nothing is sent."""
    sent_bytes: float = 0.0
    """By one rank in a pass."""
    reached_bytes_per_s: float = nan
    """What the theory expects of the link at these sizes: bytes of a ring over seconds of communication."""
    extrapolated: bool = False
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One strategy and phase over the degrees."""

    strategy: Strategy
    phase: Phase
    degrees: tuple[Degree, ...]
    targets: tuple[float, ...]

    @cached_property
    def reaches(self) -> tuple[Reach, ...]:
        """By target; empty where nothing has an efficiency."""
        points = [(each.tp, each.efficiency) for each in self.degrees]
        return tuple(found for target in self.targets if (found := reach(target, points)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A layer of a model, a workload and a machine under a theory, and the efficiencies that are asked for."""

    model: ModelShape
    workload: Workload
    theory: Theory
    backend: Backend
    most: int
    """The largest degree that is looked at."""
    targets: tuple[float, ...] = ()
    node: Node | None = None
    """Whose borders count; None: one link joins all ranks."""
    needs: bool = True
    """Whether to look for the rates that a link would need."""


def scale(question: Question, strategies: Sequence[Strategy]) -> list[Curve]:
    """The curve of every strategy; what several of them compute is priced once."""
    question = replace(question, theory=Remembered(theory=question.theory))
    return [_curve(question, strategy) for strategy in strategies]


def dividing(model: ModelShape, strategy: Strategy, most: int) -> tuple[int, ...]:
    """Every degree up to `most` that splits a layer of the model."""
    return tuple(tp for tp in range(1, most + 1) if misfit(model, "block", strategy, tp) is None)


def _curve(question: Question, strategy: Strategy) -> Curve:
    found = list[Degree]()
    undivided = UNKNOWN
    for tp in dividing(question.model, strategy, question.most):
        degree = _degree(question, strategy, tp, undivided)
        if tp == 1:
            undivided = degree.seconds
        found.append(degree)
    return Curve(strategy=strategy, phase=question.workload.phase, degrees=tuple(found), targets=question.targets)


def _degree(question: Question, strategy: Strategy, tp: int, undivided: Ranged) -> Degree:
    case = Case(block="block", model=question.model, strategy=strategy, tp=tp, workload=question.workload)
    status = _misfit(case, question.node)
    if status is not None:
        return Degree(tp=tp, status=status)
    case = replace(case, chunks=choose_chunks(case, [question.theory], backend=question.backend))
    plan = build_plan(case, backend=question.backend)
    estimate = estimate_plan(plan, question.theory)
    status = _unpriced(estimate, tp)
    if status is not None:
        return Degree(tp=tp, chunks=case.chunks, status=status)
    if tp > 1 and isnan(undivided.value):
        status = "the undivided layer has no time to compare with"
    return _priced(question, plan, estimate, undivided, status or OK)


def _misfit(case: Case, node: Node | None) -> str | None:
    """Why the case cannot run; degrees that do not split the model are not asked for."""
    if node is not None and case.tp > node.num_devices and case.tp % node.num_nodes(case.tp):
        return f"{case.tp} ranks do not fill {node.num_nodes(case.tp)} nodes of {node.num_devices} evenly"
    return token_misfit(case)


def _unpriced(estimate: Estimate, tp: int) -> str | None:
    """Which whole the theory leaves without a price; a bound without communication is no curve."""
    for name in ("compute", "communication", "total"):
        if (name != "communication" or tp > 1) and estimate.part(name).seconds is None:
            return f"the {estimate.theory} theory leaves {name} without a price"
    return None


def _priced(question: Question, plan: Plan, estimate: Estimate, undivided: Ranged, status: str) -> Degree:
    tp, total = plan.case.tp, ranged(estimate.part("total"))
    compute, sending = ranged(estimate.part("compute")), ranged(estimate.part("communication"))
    is_one = tp == 1 or not plan.sent_bytes
    hidden = nan if is_one else _hidden_share(compute.value, sending.value, total.value)
    rated = Rated(plan=plan, theory=question.theory, undivided_s=undivided.value)
    return Degree(
        tp=tp,
        chunks=plan.case.chunks,
        status=status,
        seconds=total,
        efficiency=efficiency(total if tp == 1 else undivided, total, tp, compute=compute, sending=sending),
        compute_share=compute.value / total.value,
        communication_share=0.0 if is_one else sending.value / total.value,
        hidden_share=hidden,
        sent_bytes=plan.sent_bytes,
        reached_bytes_per_s=nan if is_one else plan.sent_bytes / sending.value,
        extrapolated=estimate.part("total").extrapolated,
        needs=tuple(
            no_need(target) if is_one or isnan(undivided.value) else needed_rate(rated, target)
            for target in question.targets
        )
        if question.needs
        else (),
    )


def _hidden_share(compute: float, sending: float, total: float) -> float:
    """Of the communication, what the pass is shorter by than both one after the other; rounding hides nothing."""
    share = min(1.0, max(0.0, (compute + sending - total) / sending))
    return 0.0 if share < ROUNDING else share
