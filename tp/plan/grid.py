"""Plans over a grid of workloads: built once for a small one, its ops then spread over arrays of sizes.

Everything in a plan but the attention core is in proportion to the tokens m = b*s, so its sizes are arrays over the T
distinct token counts of a grid, of which a grid of batches and lengths has fewer than its P points. The core's are
arrays over the points.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tp.case import Case, Workload
from tp.numbers import as_number
from tp.plan.build import build_plan
from tp.plan.ops import AttentionCore, Backend, Collective, Elementwise, Gemm, Op, Plan

Ints = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """P workloads, of decode or of a phase that attends to its own tokens; an entry a point, but for `tokens`."""

    decodes: bool
    batch: Ints
    seq: Ints
    context: Ints
    tokens: Ints
    """The T distinct token counts, ascending."""
    where: Ints
    """The index of each point among `tokens`."""

    def __len__(self) -> int:
        return len(self.batch)

    def gathered(self, values: NDArray[T]) -> NDArray[T]:
        """What is known of each of `tokens`, at every point."""
        return values.take(self.where)


def make_points(batches: Sequence[int], lengths: Sequence[int], *, decodes: bool = False) -> Points:
    """Every batch with every length, which in decode is the context of its one token."""
    batch = np.repeat(np.array(batches, dtype=np.int64), len(lengths))
    length = np.tile(np.array(lengths, dtype=np.int64), len(batches))
    seq = np.ones_like(length) if decodes else length
    tokens, where = np.unique(batch * seq, return_inverse=True)
    return Points(decodes=decodes, batch=batch, seq=seq, context=length, tokens=tokens, where=where.astype(np.int64))


def template_tokens(cases: Iterable[Case]) -> int:
    """The fewest tokens that all `cases` can be cut into.

    With templates of one size for all of them, ops that are equal at every point are equal there.
    """
    return int(np.lcm.reduce([case.tp * case.chunks for case in cases], dtype=object))


def template_plan(case: Case, tokens: int, *, backend: Backend) -> Plan:
    """The plan of `case` with a small workload of its phase and dtype instead of its own; PlanError as `build_plan`."""
    w = case.workload
    if w.phase == "decode":
        small = replace(w, batch=tokens, seq=1, context=1)
    else:
        small = replace(w, batch=1, seq=tokens, context=tokens)
    return build_plan(replace(case, workload=small), backend=backend)


def spread(op: Op, tokens: int, points: Points) -> Op:
    """An op of a template of so many tokens with the sizes that it has at all points.

    Where the tokens of a point cannot be cut as the op's strategy needs, they are rounded up.
    """

    def scaled(size: int) -> int:
        common = gcd(size, tokens)
        return as_number(-(-points.tokens // (tokens // common)) * (size // common)) if size else 0

    match op:
        case Gemm():
            # The tokens are the rows of the result, and of a weight gradient the reduction length.
            return replace(op, k=scaled(op.k)) if op.layout == "tn" else replace(op, m=scaled(op.m))
        case AttentionCore():
            seq = op.seq if points.decodes else as_number(points.seq)
            return replace(op, batch=as_number(points.batch), seq=seq, context=as_number(points.context))
        case Elementwise():
            return replace(op, read_bytes=scaled(op.read_bytes), written_bytes=scaled(op.written_bytes))
        case Collective():
            return replace(op, size_bytes=scaled(op.size_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadGrid(Workload):
    """Many workloads of one phase and dtype: `batch`, `seq` and `context` are arrays."""

    def __post_init__(self) -> None:
        """The checks of one workload do not apply; `make_points` keeps them."""


def over_grid(case: Case, points: Points) -> Case:
    """The case with the workloads of all points, for what is held (`tp/plan/memory.py`)."""
    batch, seq, context = as_number(points.batch), as_number(points.seq), as_number(points.context)
    workload = WorkloadGrid(phase=case.workload.phase, batch=batch, seq=seq, context=context, dtype=case.workload.dtype)
    return replace(case, workload=workload)
