"""The linear layers of `async-tp`: torch's symmetric-memory operators that gather or reduce while they multiply.

`fused_all_gather_matmul` and `fused_matmul_reduce_scatter` (torch.distributed._symmetric_memory) have kernels for CUDA
only and no autograd formula. The weight gradient's second gather is plain: its gathered dim is summed over.

Legend: M tokens, M_tp this rank's tokens, K and N columns, _tp this rank's share of them.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tp.layers.wire import Wire, apply


def fused_gather_linear(
    x: Float[Tensor, "M_tp K"], weight: Float[Tensor, "N_tp K"], bias: Float[Tensor, " N_tp"] | None, wire: Wire
) -> Float[Tensor, "M N_tp"]:
    """The product of every rank's tokens, gathered by the operator that multiplies."""
    y = apply(_FusedGatherLinear, x, weight, wire)
    return y if bias is None else y + bias


def fused_linear_scatter(
    x: Float[Tensor, "M K_tp"], weight: Float[Tensor, "N K_tp"], wire: Wire
) -> Float[Tensor, "M_tp N"]:
    """This rank's tokens of the product summed over the ranks, reduced by the operator that multiplies."""
    return apply(_FusedLinearScatter, x, weight, wire)


class _FusedGatherLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        ctx.save_for_backward(x, weight)
        return wire.collectives.gather_matmul(x, weight.t())[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad, (x, weight), wire = grads[0].contiguous(), ctx.saved_tensors, ctx.wire
        with wire.sending("all_gather", "backward") as collectives:
            full = collectives.all_gather(x)
        grad_weight = grad.t() @ full  # [M, N_tp]^T x [M, K]
        return wire.collectives.matmul_scatter(grad, weight), grad_weight, None


class _FusedLinearScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        ctx.save_for_backward(x, weight)
        return wire.collectives.matmul_scatter(x, weight.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad, (x, weight), wire = grads[0].contiguous(), ctx.saved_tensors, ctx.wire
        full, grad_x = wire.collectives.gather_matmul(grad, weight)
        return grad_x, full.t() @ x, None  # [M, N]^T x [M, K_tp]
