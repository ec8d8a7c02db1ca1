"""Collectives as autograd sees them: what is sent forward and what its gradient sends backward.

| region              | forward                      | backward                         |
| ------------------- | ---------------------------- | -------------------------------- |
| `copy_linear`       | x W^T                        | all-reduce                       |
| `reduce_from_ranks` | all-reduce                   | nothing                          |
| `scatter_to_tokens` | reduce-scatter over tokens   | all-gather over tokens           |
| `gather_linear`     | all-gather over tokens, x W^T| all-gather again, reduce-scatter |
| `gather_to_split`   | all-gather over columns      | reduce-scatter over columns      |
| `gather_to_copies`  | all-gather over columns      | own columns, nothing sent        |

The first two are f and g of Megatron-LM (Shoeybi et al. 2019, section 3), the next two those of sequence
parallelism (Korthikanti et al. 2022, section 4.2) with the gathered input not kept; the last two are the article's
Z, read by every rank's own columns, and its output, read alike by every rank. As in Megatron-LM the input's gradient
is sent while the weight's is computed (core/tensor_parallel/layers.py).

Legend: M tokens, M_tp this rank's tokens, K and N columns, K_tp and N_tp this rank's columns.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from tp.layers.wire import Wire, apply


def copy_linear(
    x: Float[Tensor, "M K"], weight: Float[Tensor, "N_tp K"], bias: Float[Tensor, " N_tp"] | None, wire: Wire
) -> Float[Tensor, "M N_tp"]:
    """A column-split linear of the same input on every rank; the backward sums their gradients of it."""
    return apply(_CopyLinear, x, weight, bias, wire)


def reduce_from_ranks(y: Float[Tensor, "M N"], wire: Wire) -> Float[Tensor, "M N"]:
    """The ranks' partial sums, added up for all of them; overwrites `y`."""
    return y if wire.num_ranks == 1 else apply(_ReduceFromRanks, y, wire)


def scatter_to_tokens(y: Float[Tensor, "M N"], wire: Wire) -> Float[Tensor, "M_tp N"]:
    """The ranks' partial sums, added up, each rank keeping its own tokens."""
    return y if wire.num_ranks == 1 else apply(_ScatterToTokens, y, wire)


def gather_linear(
    x: Float[Tensor, "M_tp K"], weight: Float[Tensor, "N_tp K"], bias: Float[Tensor, " N_tp"] | None, wire: Wire
) -> Float[Tensor, "M N_tp"]:
    """A linear layer over the tokens of all ranks, of which each keeps only its own for the backward."""
    if wire.num_ranks == 1:
        return linear(x, weight, bias)
    return apply(_GatherLinear, x, weight, bias, wire)


def gather_tokens(x: Float[Tensor, "M_tp K"], wire: Wire) -> Float[Tensor, "M K"]:
    """Every rank's tokens; forward only."""
    with wire.sending("all_gather", "forward") as collectives:
        return collectives.all_gather(x)


def gather_to_split(z: Float[Tensor, "M K_tp"], wire: Wire) -> Float[Tensor, "M K"]:
    """The ranks' columns side by side, for a reader that differs by rank."""
    return z if wire.num_ranks == 1 else apply(_GatherToSplit, z, wire)


def gather_to_copies(y: Float[Tensor, "M N_tp"], wire: Wire) -> Float[Tensor, "M N"]:
    """The ranks' columns side by side, for a reader that is the same on every rank."""
    return y if wire.num_ranks == 1 else apply(_GatherToCopies, y, wire)


class _CopyLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, wire: Wire) -> Tensor:
        ctx.wire, ctx.has_bias = wire, bias is not None
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)  # [M, K] x [N_tp, K]^T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (grad,), (x, weight), wire = grads, ctx.saved_tensors, ctx.wire
        grad_x = grad @ weight  # [M, N_tp] x [N_tp, K]
        with wire.sending("all_reduce", "backward") as collectives:
            wait = collectives.start_all_reduce(grad_x)
        grad_weight = grad.t() @ x  # [M, N_tp]^T x [M, K]
        grad_bias = grad.sum(0) if ctx.has_bias else None
        with wire.sending("all_reduce", "backward"):
            wait()
        return grad_x, grad_weight, grad_bias, None


class _ReduceFromRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, wire: Wire) -> Tensor:
        ctx.mark_dirty(y)
        with wire.sending("all_reduce", "forward") as collectives:
            return collectives.all_reduce(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _ScatterToTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        with wire.sending("reduce_scatter", "forward") as collectives:
            return collectives.reduce_scatter(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        with ctx.wire.sending("all_gather", "backward") as collectives:
            return collectives.all_gather(grads[0]), None


class _GatherLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, wire: Wire) -> Tensor:
        ctx.wire, ctx.has_bias = wire, bias is not None
        ctx.save_for_backward(x, weight)
        with wire.sending("all_gather", "forward") as collectives:
            full = collectives.all_gather(x)
        return linear(full, weight, bias)  # [M, K] x [N_tp, K]^T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (grad,), (x, weight), wire = grads, ctx.saved_tensors, ctx.wire
        with wire.sending("all_gather", "backward") as collectives:
            full, here = collectives.start_all_gather(x)
        grad_full = grad @ weight  # [M, N_tp] x [N_tp, K]
        with wire.sending("all_gather", "backward"):
            here()
        with wire.sending("reduce_scatter", "backward") as collectives:
            grad_x, gone = collectives.start_reduce_scatter(grad_full)
        grad_weight = grad.t() @ full  # [M, N_tp]^T x [M, K]
        grad_bias = grad.sum(0) if ctx.has_bias else None
        with wire.sending("reduce_scatter", "backward"):
            gone()
        return grad_x, grad_weight, grad_bias, None


class _GatherToSplit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        return _gather_columns(z, wire)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        wire, rows = ctx.wire, grad.shape[0]
        # [M, n, K_tp] -> [n, M, K_tp]: the collective cuts along the first dim.
        stacked = grad.view(rows, wire.num_ranks, -1).transpose(0, 1).contiguous()
        with wire.sending("reduce_scatter", "backward") as collectives:
            return collectives.reduce_scatter(stacked).view(rows, -1), None


class _GatherToCopies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        return _gather_columns(y, wire)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        mesh = ctx.wire.collectives.mesh
        return grads[0].chunk(mesh.size, dim=1)[mesh.rank], None


def _gather_columns(shard: Tensor, wire: Wire) -> Tensor:
    """[M, K_tp] -> [M, K]: gathered as [n, M, K_tp], then copied into place."""
    with wire.sending("all_gather", "forward") as collectives:
        stacked = collectives.all_gather(shard)
    return stacked.view(wire.num_ranks, *shard.shape).transpose(0, 1).reshape(shard.shape[0], -1)
