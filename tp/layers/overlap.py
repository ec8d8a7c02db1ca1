"""The linear layers of `overlap`: tokens go round the ring of ranks in chunks while the chunk at hand is multiplied.

After Wang et al. 2023, "Overlap Communication with Dependent Computation via Decomposition"; `tp/plan/rings.py` is the
same in ops.

Legend: M tokens, M_tp this rank's tokens, K and N columns, _tp this rank's share of them.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tp.layers.ring import Gather, Scatter, partials, ring_of
from tp.layers.wire import Wire, apply


def ring_gather_linear(
    x: Float[Tensor, "M_tp K"],
    weight: Float[Tensor, "N_tp K"],
    bias: Float[Tensor, " N_tp"] | None,
    chunks: int,
    wire: Wire,
) -> Float[Tensor, "M N_tp"]:
    """The product of every rank's tokens, each chunk multiplied while the next one is sent."""
    return apply(_RingGatherLinear, x, weight, bias, chunks, wire)


def ring_linear_scatter(
    x: Float[Tensor, "M K_tp"], weight: Float[Tensor, "N K_tp"], chunks: int, wire: Wire
) -> Float[Tensor, "M_tp N"]:
    """This rank's tokens of the product summed over the ranks, partial sums sent while the next are made."""
    return apply(_RingLinearScatter, x, weight, chunks, wire)


class _RingGatherLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, chunks: int, wire: Wire) -> Tensor:
        ctx.wire, ctx.chunks, ctx.has_bias = wire, chunks, bias is not None
        ctx.save_for_backward(x, weight)
        tokens = x.shape[0] * wire.num_ranks
        full = wire.collectives.room((tokens, x.shape[1]), x.dtype)
        gather = Gather(ring_of(tokens, chunks, wire), wire, "forward", own=x, full=full)
        y = x.new_empty((tokens, weight.shape[0]))
        for step in range(gather.ring.num_steps):
            chunk, place = gather.at(step), gather.ring.gathered(step).of(y)
            if bias is None:
                torch.mm(chunk, weight.t(), out=place)
            else:
                torch.addmm(bias, chunk, weight.t(), out=place)
        gather.finish()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        (grad,), (x, weight), wire = grads, ctx.saved_tensors, ctx.wire
        grad_bias = grad.sum(0) if ctx.has_bias else None
        ring = ring_of(grad.shape[0], ctx.chunks, wire)
        full = wire.collectives.room((grad.shape[0], x.shape[1]), x.dtype)
        gather = Gather(ring, wire, "backward", own=x, full=full)
        ring.own.of(full).copy_(x)
        grad_x = torch.empty_like(x)
        scatter = Scatter(ring, wire, "backward", like=grad_x)
        for step, tokens, partial in partials(ring, grad_x):
            gather.forward(step)
            torch.mm(tokens.of(grad), weight, out=partial)  # [m, N_tp] x [N_tp, K]
            if step < ring.num_sends:
                scatter.pass_on(step, partial)
        gather.finish()
        grad_weight = grad.t() @ full  # [M, N_tp]^T x [M, K], while the last partial sums are under way
        scatter.finish(grad_x)
        return grad_x, grad_weight, grad_bias, None, None


class _RingLinearScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, chunks: int, wire: Wire) -> Tensor:
        ctx.wire, ctx.chunks = wire, chunks
        ctx.save_for_backward(x, weight)
        ring = ring_of(x.shape[0], chunks, wire)
        y = x.new_empty((x.shape[0] // wire.num_ranks, weight.shape[0]))
        scatter = Scatter(ring, wire, "forward", like=y)
        for step, tokens, partial in partials(ring, y):
            torch.mm(tokens.of(x), weight.t(), out=partial)  # [m, K_tp] x [N, K_tp]^T
            if step < ring.num_sends:
                scatter.pass_on(step, partial)
        scatter.finish(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, (x, weight), wire = grads[0].contiguous(), ctx.saved_tensors, ctx.wire
        ring = ring_of(x.shape[0], ctx.chunks, wire)
        full = wire.collectives.room((x.shape[0], grad.shape[1]), grad.dtype)
        gather = Gather(ring, wire, "backward", own=grad, full=full)
        ring.own.of(full).copy_(grad)
        grad_x = torch.empty_like(x)
        for step in range(ring.num_steps):
            torch.mm(gather.at(step), weight, out=ring.gathered(step).of(grad_x))  # [m, N] x [N, K_tp]
        gather.finish()
        return grad_x, full.t() @ x, None, None  # [M, N]^T x [M, K_tp]
