"""A case becomes a plan."""

from collections.abc import Callable
from typing import Final

from tp.case import Block, Case
from tp.plan.attention import attention_ops
from tp.plan.ops import Backend, Op, Plan
from tp.plan.shards import require_fit

_OPS: Final[dict[Block, Callable[[Case, Backend], tuple[Op, ...]]]] = {"attention": attention_ops}


def build_plan(case: Case, *, backend: Backend) -> Plan:
    """The plan of one rank for `case`; PlanError when the case cannot be split as asked."""
    require_fit(case)
    return Plan(case=case, backend=backend, ops=_OPS[case.block](case, backend))
