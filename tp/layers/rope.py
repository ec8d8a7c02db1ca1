"""Rotary position embedding (Su et al. 2021), in the half-split form of Llama's published weights.

Legend: B batch, S positions, A heads, D head dim.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Llama 2's base; longer-context models raise it, which changes numbers but not time.
BASE = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeTable:
    """cos and sin of position x frequency, each [S, 1, D/2]."""

    cos: Tensor
    sin: Tensor


def rope_table(*, first: int, count: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> RopeTable:
    """The table for `count` positions from `first` on."""
    # On the device from the start: a fake device takes no copies from the host.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim
    positions = torch.arange(first, first + count, dtype=torch.float64, device=device)
    angles = positions.unsqueeze(1) * BASE**-exponents
    cos, sin = (part.unsqueeze(1).to(dtype) for part in (angles.cos(), angles.sin()))
    return RopeTable(cos=cos, sin=sin)


def rotate(x: Float[Tensor, "B S A D"], table: RopeTable) -> Float[Tensor, "B S A D"]:
    """Turn each pair (x_i, x_{i + D/2}) by its position's angle."""
    return _Rotate.apply(x, table.cos, table.sin)  # type: ignore[no-untyped-call,no-any-return]


class _Rotate(torch.autograd.Function):
    # By hand, because the backward of a rotation is the rotation back: nothing but the table is saved.
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    out_low, out_high = turned.chunk(2, dim=-1)
    torch.mul(low, cos, out=out_low).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=out_high).addcmul_(low, sin)
    return turned
