"""Linear layers split over the ranks by columns or by rows, with the strategy's collectives around them.

Legend: M tokens, K input columns, N output columns; a suffix _tp marks what one of n ranks holds.
"""

from typing import Final, Literal, assert_never

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from tp.case import Strategy
from tp.layers.regions import (
    copy_to_ranks,
    gather_linear,
    gather_to_copies,
    gather_to_split,
    reduce_from_ranks,
    scatter_to_tokens,
)
from tp.layers.wire import Wire

InputKind = Literal["copies", "tokens"]
OutputKind = Literal["all_reduce", "reduce_scatter", "columns"]

# How the input of a block reaches its column-split layer, and how the output leaves it.
POLICY: Final[dict[Strategy, tuple[InputKind, OutputKind]]] = {
    "columns": ("copies", "columns"),
    "allreduce": ("copies", "all_reduce"),
    "sequence": ("tokens", "reduce_scatter"),
}


class ColumnParallelLinear(nn.Module):
    """y[M, N_tp] = x W[N_tp, K]^T: every rank makes its own columns from all of the input."""

    def __init__(self, *, weight: Tensor, bias: Tensor | None, source: InputKind) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.source = source

    def forward(self, x: Float[Tensor, "_ K"], wire: Wire) -> Float[Tensor, "M N_tp"]:
        """x is [M, K] on every rank (`copies`), or this rank's [M_tp, K] (`tokens`)."""
        if self.source == "tokens":
            return gather_linear(x, self.weight, self.bias, wire)
        return linear(copy_to_ranks(x, wire), self.weight, self.bias)


class RowParallelLinear(nn.Module):
    """y[M, N] = sum over ranks of x[M, K_tp] W[N, K_tp]^T; the bias is left to whoever adds the residual."""

    def __init__(self, *, weight: Tensor, target: Literal["all_reduce", "reduce_scatter"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.target = target

    def forward(self, x: Float[Tensor, "M K_tp"], wire: Wire) -> Float[Tensor, "_ N"]:
        """Returns [M, N] on every rank (`all_reduce`), or this rank's [M_tp, N] (`reduce_scatter`)."""
        partial = linear(x, self.weight)
        match self.target:
            case "all_reduce":
                return reduce_from_ranks(partial, wire)
            case "reduce_scatter":
                return scatter_to_tokens(partial, wire)
            case _:
                assert_never(self.target)


class GatheredColumnLinear(nn.Module):
    """y[M, N] = x W^T with W split by columns although x is too: both are gathered (the article's form)."""

    def __init__(self, *, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "M K_tp"], wire: Wire) -> Float[Tensor, "M N"]:
        columns = linear(gather_to_split(x, wire), self.weight, self.bias)  # [M, K] x [N_tp, K]^T
        return gather_to_copies(columns, wire)
