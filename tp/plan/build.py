"""A case becomes a plan."""

from collections.abc import Iterator

from tp.case import Case
from tp.plan.attention import AttentionOps
from tp.plan.emit import Emitter
from tp.plan.ffn import FfnOps
from tp.plan.ops import Backend, Op, Plan
from tp.plan.shards import attention_shard, require_fit


def build_plan(case: Case, *, backend: Backend) -> Plan:
    """The plan of one rank for `case`; PlanError when the case cannot be split as asked."""
    require_fit(case)
    return Plan(case=case, backend=backend, ops=tuple(_ops(Emitter(case=case, backend=backend))))


def _ops(e: Emitter) -> Iterator[Op]:
    """A layer's halves one after the other, and in training back again."""
    halves: list[AttentionOps | FfnOps] = []
    if e.case.has_attention:
        halves.append(AttentionOps(e=e, shard=attention_shard(e.case.model, e.case.tp)))
    if e.case.has_ffn:
        halves.append(FfnOps(e=e))
    for half in halves:
        yield from half.forward()
    if e.case.workload.phase != "train":
        return
    if e.case.recompute == "full":
        for half in halves[:-1]:
            yield from half.forward()
        yield from halves[-1].remake()
    for half in reversed(halves):
        yield from half.backward()
