"""Head-partitioned attention: each rank computes its own heads, the output projection puts them together.

Legend: M tokens (B sequences of S), H hidden, A heads and AK kv heads of this rank, D head dim, C context,
_tp what one rank holds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from tp.layers.linear import ColumnParallelLinear, GatheredColumnLinear, RowParallelLinear
from tp.layers.positions import Cache, Positions
from tp.layers.rope import rotate
from tp.layers.wire import Wire, cut


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSizes:
    """The heads of one rank."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def split(self) -> tuple[int, int, int]:
        """Heads in the fused QKV output, in its order."""
        return self.num_heads, self.num_kv_heads, self.num_kv_heads


class ParallelAttention(nn.Module):
    """QKV split by heads, scaled-dot-product attention over this rank's heads, output projection."""

    def __init__(
        self,
        *,
        heads: HeadSizes,
        qkv: ColumnParallelLinear,
        out: RowParallelLinear | GatheredColumnLinear,
        remake_core: bool,
    ) -> None:
        """`remake_core`: keep only the core's input for the backward."""
        super().__init__()
        self.heads = heads
        self.qkv = qkv
        self.out = out
        self.remake_core = remake_core

    def forward(self, x: Float[Tensor, "_ H"], positions: Positions | None, wire: Wire) -> Float[Tensor, "_ H"]:
        """x and the result are [M, H] on every rank, or this rank's [M_tp, H] under token strategies."""
        assert positions is not None, "attention needs the tokens' positions"
        qkv = cut(self.qkv(x, wire), wire, leave="qkv", enter="core")
        if self.remake_core and torch.is_grad_enabled():
            z = checkpoint(self._core, qkv, positions, use_reentrant=False, preserve_rng_state=False)
        else:
            z = self._core(qkv, positions)
        y: Tensor = self.out(cut(z, wire, leave="core", enter="out"), wire)
        return y

    def _core(self, qkv: Float[Tensor, "M Q_tp"], positions: Positions) -> Float[Tensor, "M K_tp"]:
        heads = qkv.view(positions.batch, -1, sum(self.heads.split), self.heads.head_dim)  # [B, S, A + 2 AK, D]
        if positions.rope is None:
            q, k, v = heads.split(self.heads.split, dim=2)
        else:
            turned, v = heads.split((self.heads.num_heads + self.heads.num_kv_heads, self.heads.num_kv_heads), dim=2)
            q, k = rotate(turned, positions.rope).split(self.heads.split[:2], dim=2)
        return attend(q, k, v, positions.cache)


def attend(
    q: Float[Tensor, "B S A D"], k: Float[Tensor, "B S AK D"], v: Float[Tensor, "B S AK D"], cache: Cache | None
) -> Float[Tensor, "M K_tp"]:
    """Causal attention of tokens to each other, or of the newest to all in the cache; heads side by side again."""
    batch, seq = q.shape[:2]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [B, A, S, D], a view
    if cache is not None:
        k, v = _append(cache, k, v)
    z = scaled_dot_product_attention(q, k, v, is_causal=cache is None, enable_gqa=q.shape[1] != k.shape[1])
    return z.transpose(1, 2).reshape(batch * seq, -1)


def _append(cache: Cache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Write the newest token's keys and values into their place; returns all of them."""
    with torch.no_grad():
        newest = cache.keys.shape[2] - 1
        cache.keys.narrow(2, newest, 1).copy_(k)
        cache.values.narrow(2, newest, 1).copy_(v)
    return cache.keys, cache.values
