"""The attention block of a transformer: x + Attention(norm(x)), on whole tokens or on this rank's share of them.

Legend: M tokens, H hidden.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm

from tp.layers.attention import ParallelAttention, Positions
from tp.layers.wire import Wire, cut

EPSILON = 1e-5

NormKind = Literal["rms", "layer"]


class Norm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016) over the hidden dim."""

    def __init__(self, *, kind: NormKind, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.kind: NormKind = kind
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "M H"]) -> Float[Tensor, "M H"]:
        if self.kind == "rms":
            return rms_norm(x, x.shape[-1:], self.weight, EPSILON)
        return layer_norm(x, x.shape[-1:], self.weight, self.bias, EPSILON)


class AttentionBlock(nn.Module):
    """Norm, attention and residual; the output bias of a row-split projection is added here, once."""

    def __init__(self, *, norm: Norm, attention: ParallelAttention, out_bias: Tensor | None) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention
        self.out_bias = None if out_bias is None else nn.Parameter(out_bias)

    def update(self, x: Float[Tensor, "M H"], positions: Positions, wire: Wire) -> Float[Tensor, "M H"]:
        """What the block adds to `x`: [M, H], or this rank's tokens of it under sequence strategies."""
        x = cut(x, wire, leave="residual", enter="norm")
        normed = cut(self.norm(x), wire, leave="norm", enter="qkv")
        y = cut(self.attention(normed, positions, wire), wire, leave="out", enter="residual")
        return y if self.out_bias is None else y + self.out_bias

    def forward(self, x: Float[Tensor, "M H"], positions: Positions, wire: Wire) -> Float[Tensor, "M H"]:
        return x + self.update(x, positions, wire)
