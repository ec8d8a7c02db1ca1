"""A transformer layer: its halves x + attention(norm(x)) and x + ffn(norm(x)), on whole tokens or a rank's share.

Legend: M tokens, H hidden.
"""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm
from torch.utils.checkpoint import checkpoint

from tp.layers.positions import Positions
from tp.layers.wire import Wire, cut
from tp.plan.ops import ComputePart

EPSILON = 1e-5

NormKind = Literal["rms", "layer"]


class Norm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016) over the hidden dim."""

    def __init__(self, *, kind: NormKind, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.kind: NormKind = kind
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())

    def forward(self, x: Float[Tensor, "M H"]) -> Float[Tensor, "M H"]:
        if self.kind == "rms":
            return rms_norm(x, x.shape[-1:], self.weight, EPSILON)
        return layer_norm(x, x.shape[-1:], self.weight, self.bias, EPSILON)


@runtime_checkable  # for the checks of annotations under test
class SplitLayer(Protocol):
    """What stands between a norm and a residual: attention or an FFN, split over the ranks."""

    def __call__(self, x: Tensor, positions: Positions | None, wire: Wire) -> Tensor: ...


class Half(nn.Module):
    """Norm, split layer and residual; the bias that a row-split output leaves is added here, once."""

    def __init__(
        self, *, norm: Norm, layer: nn.Module, bias: Tensor | None, first: ComputePart, last: ComputePart
    ) -> None:
        """`first` and `last` are the parts that the layer begins and ends with."""
        super().__init__()
        self.norm = norm
        self.layer = layer
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.first: ComputePart = first
        self.last: ComputePart = last

    def forward(self, x: Float[Tensor, "M H"], positions: Positions | None, wire: Wire) -> Float[Tensor, "M H"]:
        """What the half adds to `x`: [M, H], or this rank's tokens of it under token strategies."""
        x = cut(x, wire, leave="residual", enter="norm")
        normed = cut(self.norm(x), wire, leave="norm", enter=self.first)
        y = cut(self.layer(normed, positions, wire), wire, leave=self.last, enter="residual")
        return y if self.bias is None else y + self.bias


class Block(nn.Module):
    """A whole layer, or either half of it."""

    def __init__(self, *, attention: Half | None, ffn: Half | None, remake: bool) -> None:
        """`remake`: keep nothing of the forward but its input, and make it again in the backward."""
        super().__init__()
        self.attention = attention
        self.ffn = ffn
        self.remake = remake

    @property
    def halves(self) -> list[Half]:
        return [half for half in (self.attention, self.ffn) if half is not None]

    def forward(self, x: Float[Tensor, "M H"], positions: Positions | None, wire: Wire) -> Float[Tensor, "M H"]:
        """The layer's output, [M, H] or this rank's tokens of it."""
        return self._keeping_little(self._output, x, positions, wire)

    def update(self, x: Float[Tensor, "M H"], positions: Positions | None, wire: Wire) -> Float[Tensor, "M H"]:
        """What the layer adds to `x` altogether: for checks, where `x` itself would cover errors."""
        return self._keeping_little(self._update, x, positions, wire)

    def _keeping_little(self, run: Callable[..., Tensor], *args: object) -> Tensor:
        if not self.remake or not torch.is_grad_enabled():
            return run(*args)
        remade: Tensor = checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)
        return remade

    def _output(self, x: Tensor, positions: Positions | None, wire: Wire) -> Tensor:
        for half in self.halves:
            x = x + half(x, positions, wire)
        return x

    def _update(self, x: Tensor, positions: Positions | None, wire: Wire) -> Tensor:
        first, *rest = self.halves
        total: Tensor = first(x, positions, wire)
        for half in rest:
            total = total + half(x + total, positions, wire)
        return total
