"""Head-partitioned attention: each rank computes its own heads, the output projection puts them together.

Legend: M tokens (B sequences of S), H hidden, A heads and AK kv heads of this rank, D head dim, C context,
_tp what one rank holds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tp.layers.linear import ColumnParallelLinear, GatheredColumnLinear, RowParallelLinear
from tp.layers.rope import RopeTable, rotate
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Keys and values of earlier tokens, each [B, AK, C, D]; the newest token's place is the last."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Where the tokens stand: how many sequences, their rotation if the model has one, what came before."""

    batch: int
    rope: RopeTable | None
    cache: Cache | None


class ParallelAttention(nn.Module):
    """QKV split by heads, scaled-dot-product attention over this rank's heads, output projection."""

    def __init__(
        self,
        *,
        heads: HeadSizes,
        qkv: ColumnParallelLinear,
        out: RowParallelLinear | GatheredColumnLinear,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = qkv
        self.out = out

    def forward(self, x: Float[Tensor, "_ H"], positions: Positions, wire: Wire) -> Float[Tensor, "_ H"]:
        """x and the result are [M, H] on every rank, or this rank's [M_tp, H] under sequence strategies."""
        qkv = cut(self.qkv(x, wire), wire, leave="qkv", enter="core")
        z = cut(self._core(qkv, positions), wire, leave="core", enter="out")
        y: Tensor = self.out(z, wire)
        return y

    def _core(self, qkv: Float[Tensor, "M Q_tp"], positions: Positions) -> Float[Tensor, "M K_tp"]:
        heads = qkv.view(positions.batch, -1, sum(self.heads.split), self.heads.head_dim)  # [B, S, A + 2 AK, D]
        if positions.rope is None:
            q, k, v = heads.split(self.heads.split, dim=2)
        else:
            turned, v = heads.split((self.heads.num_heads + self.heads.num_kv_heads, self.heads.num_kv_heads), dim=2)
            q, k = rotate(turned, positions.rope).split(self.heads.split[:2], dim=2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [B, A, S, D], a view
        if positions.cache is not None:
            k, v = _append(positions.cache, k, v)
        z = scaled_dot_product_attention(
            q, k, v, is_causal=positions.cache is None, enable_gqa=self.heads.num_heads != self.heads.num_kv_heads
        )
        return z.transpose(1, 2).reshape(qkv.shape[0], -1)


def _append(cache: Cache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Write the newest token's keys and values into their place; returns all of them."""
    with torch.no_grad():
        newest = cache.keys.shape[2] - 1
        cache.keys.narrow(2, newest, 1).copy_(k)
        cache.values.narrow(2, newest, 1).copy_(v)
    return cache.keys, cache.values
