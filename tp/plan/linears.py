"""The two linear layers of a block as each strategy splits them: columns on the way in, rows on the way out.

Per rank: m tokens, h hidden, `widths` the rows of the column-split weights (queries, keys and values; gate and up),
`local` and `whole` the row-split layer's inputs on this rank and on all. Products are `nt` forward, `nn` for the
input gradient, `tn` for the weight gradient.
"""

from collections.abc import Iterator, Sequence

from tp.plan.emit import Emitter
from tp.plan.ops import ComputePart, Op
from tp.plan.rings import ring_column_backward, ring_gather, ring_scatter


def column_forward(e: Emitter, part: ComputePart, widths: Sequence[int]) -> Iterator[Op]:
    """x [m, h] to [m, sum(widths)]: one product of the fused weights, under `dtensor` one a weight."""
    if _pipelines(e):
        yield from ring_gather(e, part, "nt", outputs=sum(widths), inputs=e.hidden)
        return
    if e.case.splits_tokens:
        yield from e.collective("all_gather", e.hidden, overlaps=_fuses(e))
    for width in _products(e, widths):
        yield from e.gemm(part, "nt", e.tokens, width, e.hidden, needs=_fused_needs(e))


def column_backward(e: Emitter, part: ComputePart, widths: Sequence[int], *, bias: bool) -> Iterator[Op]:
    """The gradient [m, sum(widths)] to those of the weights and of x."""
    m, h, width = e.tokens, e.hidden, sum(widths)
    if bias:
        yield e.elementwise(part, "bias_grad", m * width, reads=1, writes=0, backward=True)
    if _pipelines(e):
        yield from ring_column_backward(e, part, width)
        return
    if _fuses(e):
        yield from e.collective("all_gather", h, backward=True)  # the input again, for the weight gradient
        yield from e.gemm(part, "tn", width, h, m, backward=True)
        yield from e.collective("reduce_scatter", h, backward=True, overlaps=True)
        yield from e.gemm(part, "nn", m, h, width, backward=True, needs=_fused_needs(e))
    elif e.case.strategy == "dtensor":
        yield from _weight_by_weight_backward(e, part, widths)
    else:
        # The input comes again beside its gradient's product, and its gradient is sent beside the weight's.
        before = e.num_sent
        if e.case.splits_tokens:
            yield from e.collective("all_gather", h, backward=True, overlaps=True)
        yield from e.gemm(part, "nn", m, h, width, backward=True, needs=before)
        here = e.num_sent
        yield from e.collective(
            "reduce_scatter" if e.case.splits_tokens else "all_reduce", h, backward=True, overlaps=True
        )
        yield from e.gemm(part, "tn", width, h, m, backward=True, needs=here)


def _weight_by_weight_backward(e: Emitter, part: ComputePart, widths: Sequence[int]) -> Iterator[Op]:
    m, h = e.tokens, e.hidden
    for each in widths:
        yield from e.gemm(part, "nn", m, h, each, backward=True)
        yield from e.gemm(part, "tn", each, h, m, backward=True)
    for _ in widths[1:]:  # each weight has given an input gradient of its own
        yield e.elementwise(part, "residual", m * h, reads=2, writes=1, backward=True)
    yield from e.collective("all_reduce", h, backward=True)


def row_forward(e: Emitter, part: ComputePart, *, local: int, whole: int, until_saved: bool = False) -> Iterator[Op]:
    """[m, local] to the block's output; `until_saved` stops where autograd has all that the backward needs.

    That is before a plain product, which saves its operands first (torch.utils.checkpoint stops there early), and
    after a product that is fused with its collective, which saves them last.
    """
    m, h = e.tokens, e.hidden
    if e.case.strategy == "columns":
        yield from _gather_columns(e, part, whole)
    if until_saved and not (_pipelines(e) or _fuses(e)):
        return
    if e.case.strategy == "columns":
        yield from e.gemm(part, "nt", m, h // e.case.tp, whole)
        yield from _gather_columns(e, part, h)
    elif _pipelines(e):
        yield from ring_scatter(e, part, "nt", outputs=h, inputs=local)
    elif _fuses(e):
        yield from e.collective("reduce_scatter", h, overlaps=True)
        yield from e.gemm(part, "nt", m, h, local, needs=_fused_needs(e))
    else:
        yield from e.gemm(part, "nt", m, h, local)
        yield from e.collective("reduce_scatter" if e.case.splits_tokens else "all_reduce", h)


def row_backward(e: Emitter, part: ComputePart, *, local: int, whole: int, bias: bool) -> Iterator[Op]:
    """The output's gradient to those of the weight and of [m, local]; `bias`: the split layer holds its own."""
    m, h = e.tokens, e.hidden
    if e.case.strategy == "columns":
        yield from _columns_row_backward(e, part, whole, bias=bias)
        return
    if _pipelines(e):
        yield from ring_gather(e, part, "nn", outputs=local, inputs=h, backward=True)
    else:
        if e.case.splits_tokens:
            yield from e.collective("all_gather", h, backward=True, overlaps=_fuses(e))
        yield from e.gemm(part, "nn", m, local, h, backward=True, needs=_fused_needs(e))
    yield from e.gemm(part, "tn", h, local, m, backward=True)


def _columns_row_backward(e: Emitter, part: ComputePart, whole: int, *, bias: bool) -> Iterator[Op]:
    m, columns = e.tokens, e.hidden // e.case.tp
    yield from e.gemm(part, "nn", m, whole, columns, backward=True)  # [m, h/n] x [h/n, whole]
    yield from e.gemm(part, "tn", columns, whole, m, backward=True)  # [m, h/n]^T x [m, whole]
    if bias:
        yield e.elementwise(part, "bias_grad", m * columns, reads=1, writes=0, backward=True)
    if e.case.tp > 1:
        yield e.elementwise(part, "concat", m * whole, reads=1, writes=1, backward=True)
    yield from e.collective("reduce_scatter", whole, backward=True)


def _gather_columns(e: Emitter, part: ComputePart, width: int) -> Iterator[Op]:
    """All-gather [m, width/n] and lay the shards side by side, a copy that the row-split layer pays."""
    yield from e.collective("all_gather", width)
    if e.case.tp > 1:
        yield e.elementwise(part, "concat", e.tokens * width, reads=1, writes=1)


def _products(e: Emitter, widths: Sequence[int]) -> tuple[int, ...]:
    """The weights that are multiplied one by one: fused into one, but under `dtensor`."""
    return tuple(widths) if e.case.strategy == "dtensor" else (sum(widths),)


def _pipelines(e: Emitter) -> bool:
    return e.case.strategy == "overlap" and e.case.tp > 1


def _fuses(e: Emitter) -> bool:
    return e.case.strategy == "async-tp" and e.case.tp > 1


def _fused_needs(e: Emitter) -> int | None:
    """A product and the collective that it is fused with, listed before it, begin together."""
    return e.num_sent - 1 if _fuses(e) else None
