"""Linear layers split over the ranks by columns or by rows, with the strategy's collectives around them.

Legend: M tokens, K input columns, N output columns; a suffix _tp marks what one of n ranks holds.
"""

from typing import assert_never

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from tp.layers.fp8 import fp8_linear, quantize
from tp.layers.fused import fused_gather_linear, fused_linear_scatter
from tp.layers.mesh import Mesh
from tp.layers.overlap import ring_gather_linear, ring_linear_scatter
from tp.layers.regions import (
    copy_linear,
    gather_linear,
    gather_to_copies,
    gather_to_split,
    gather_tokens,
    reduce_from_ranks,
    scatter_to_tokens,
)
from tp.layers.spans import rank_span
from tp.layers.split import Split
from tp.layers.wire import Wire


class _Linear(nn.Module):
    """A weight [N, K] that is cut out of a full one, quantised if the split says so, and perhaps a bias [N]."""

    def __init__(self, *, weight: Tensor, bias: Tensor | None, split: Split) -> None:
        super().__init__()
        self.split = split
        self.scale: Tensor | None = None
        if split.fp8:
            weight, self.scale = quantize(weight)
        self.weight = nn.Parameter(weight, requires_grad=not split.fp8)
        self.bias = None if bias is None else nn.Parameter(bias)

    def product(self, x: Float[Tensor, "M K"]) -> Float[Tensor, "M N"]:
        """x W^T + b on this rank."""
        if self.scale is None:
            return linear(x, self.weight, self.bias)
        return fp8_linear(x, self.weight, self.scale, self.bias)


class ColumnParallelLinear(_Linear):
    """y[M, N_tp] = x W[N_tp, K]^T: every rank makes its own columns from all of the input."""

    def forward(self, x: Float[Tensor, "_ K"], wire: Wire) -> Float[Tensor, "M N_tp"]:
        """x is [M, K] on every rank, or this rank's [M_tp, K] under token strategies."""
        if wire.num_ranks == 1:
            return self.product(x)
        match self.split.strategy:
            case "columns" | "allreduce" if self.split.fp8:
                return self.product(x)
            case "columns" | "allreduce":
                return copy_linear(x, self.weight, self.bias, wire)
            case "sequence" if self.split.fp8:
                return self.product(gather_tokens(x, wire))
            case "sequence":
                return gather_linear(x, self.weight, self.bias, wire)
            case "overlap":
                return ring_gather_linear(x, self.weight, self.bias, self.split.chunks, wire)
            case "async-tp":
                return fused_gather_linear(x, self.weight, self.bias, wire)
            case "dtensor":
                raise NotImplementedError("torch's own layers are in tp/layers/dtensor.py")
            case _:
                assert_never(self.split.strategy)


class RowParallelLinear(_Linear):
    """y[M, N] = sum over ranks of x[M, K_tp] W[N, K_tp]^T; the bias is left to whoever adds the residual."""

    def forward(self, x: Float[Tensor, "M K_tp"], wire: Wire) -> Float[Tensor, "_ N"]:
        """Returns [M, N] on every rank, or this rank's [M_tp, N] under token strategies."""
        if wire.num_ranks == 1:
            return self.product(x)
        match self.split.strategy:
            case "allreduce":
                return reduce_from_ranks(self.product(x), wire)
            case "sequence":
                return scatter_to_tokens(self.product(x), wire)
            case "overlap":
                return ring_linear_scatter(x, self.weight, self.split.chunks, wire)
            case "async-tp":
                return fused_linear_scatter(x, self.weight, wire)
            case "columns" | "dtensor":
                raise NotImplementedError(f"{self.split.strategy} has no row-split layer of ours")
            case _:
                assert_never(self.split.strategy)


class GatheredColumnLinear(_Linear):
    """y[M, N] = x W^T with W split by columns although x is too: both are gathered (the article's form)."""

    def forward(self, x: Float[Tensor, "M K_tp"], wire: Wire) -> Float[Tensor, "M N"]:
        columns = self.product(gather_to_split(x, wire))  # [M, K] x [N_tp, K]^T
        return gather_to_copies(columns, wire)


def split_linear(
    weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"] | None, *, split: Split, mesh: Mesh
) -> tuple[RowParallelLinear | GatheredColumnLinear, Tensor | None]:
    """This rank's share of a block's output layer, and the bias that it leaves to the residual."""
    if split.strategy == "columns":
        columns = rank_span(weight.shape[0], rank=mesh.rank, num_ranks=mesh.size)
        own_bias = None if bias is None else columns.of(bias).clone()
        return GatheredColumnLinear(weight=columns.of(weight).clone(), bias=own_bias, split=split), None
    rows = rank_span(weight.shape[1], rank=mesh.rank, num_ranks=mesh.size)
    return RowParallelLinear(weight=rows.of(weight, dim=1).clone(), bias=None, split=split), bias
