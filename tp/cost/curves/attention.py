"""Seconds of an attention core: a plain sum, or query tiles on streaming multiprocessors."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from tp.cost.curves.array import Array
from tp.cost.curves.residual import Residual
from tp.cost.curves.trust import Fit
from tp.plan.ops import AttentionCore
from tp.units import DTYPE_BYTES

# Query rows that one multiprocessor works on, as in FlashAttention-2 (Dao 2023).
QUERY_TILE: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SumAttention:
    """Start-up plus arithmetic time plus memory time, which a core takes in turn: a + F / c + B / b."""

    startup_s: float
    seconds_per_flop: float
    seconds_per_byte: float
    fit: Fit
    sources: tuple[str, ...] = ()
    residual: Residual | None = None
    form: Literal["sum"] = "sum"

    def seconds(self, op: AttentionCore) -> Array:
        """[...], the shape of the op's sizes."""
        flops, moved = (np.asarray(value, dtype=np.float64) for value in (op.flops, op.moved_bytes))
        return corrected(self.startup_s + flops * self.seconds_per_flop + moved * self.seconds_per_byte, self, op)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAttention:
    """Causal cores: a + (T^4 + one^4)^(1/4) + tau one + (kq q + kk kv) / B.

    T is the whole arithmetic, blocks on the diagonal included, slowed down by GFLOP^g; `one` the longest query tile on
    one multiprocessor, under which no core comes; q and kv are the bytes of queries with results and of keys with
    values.
    """

    num_units: int
    flops_per_s: float
    bytes_per_s: float
    startup_s: float
    compute_efficiency: float
    diagonal_tokens: float
    """Tokens by which the causal half is longer: blocks on the diagonal are computed whole."""
    query_passes: float
    key_passes: float
    tail: float
    slowdown: float
    fit: Fit
    sources: tuple[str, ...] = ()
    residual: Residual | None = None
    form: Literal["tiles"] = "tiles"

    def seconds(self, op: AttentionCore) -> Array:
        """[...], the shape of the op's sizes."""
        flops = np.asarray(op.flops, dtype=np.float64)
        seq = np.asarray(op.seq, dtype=np.float64)
        whole = flops * (1 + self.diagonal_tokens / seq)
        rate = self.compute_efficiency * self.flops_per_s
        arithmetic = whole * np.maximum(1.0, whole * 1e-9) ** self.slowdown / rate
        recomputed = 2.5 if op.direction == "backward" else 1.0
        one = recomputed * 4 * QUERY_TILE * np.asarray(op.context) * op.head_dim / (rate / self.num_units)
        queries, keys = moved_by_sort(op)
        moved = (self.query_passes * queries + self.key_passes * keys) / self.bytes_per_s
        plain: Array = self.startup_s + np.sqrt(np.sqrt(arithmetic**4 + one**4)) + self.tail * one + moved
        return corrected(plain, self, op)


AttentionCurve = Annotated[SumAttention | TileAttention, Field(discriminator="form")]


def corrected(plain: Array, curve: AttentionCurve, op: AttentionCore) -> Array:
    """With what near shapes left over."""
    if curve.residual is None:
        return plain
    result: Array = plain * np.exp(curve.residual.log_correction(attention_features(op)))
    return result


def moved_by_sort(op: AttentionCore) -> tuple[Array, Array]:
    """Bytes of queries and results, and of keys and values; in a backward with their gradients."""
    element = DTYPE_BYTES[op.dtype] * (2 if op.direction == "backward" else 1)
    rows = np.asarray(op.batch, dtype=np.float64)
    queries: Array = 2 * element * rows * op.seq * op.num_heads * op.head_dim
    keys: Array = 2 * element * rows * op.context * op.num_kv_heads * op.head_dim
    return queries, keys


def attention_features(op: AttentionCore) -> Array:
    """[..., 6]: log2 of batch, context, heads, kv heads, all heads of the batch, and head dim."""
    sizes = (op.batch, op.context, op.num_heads, op.num_kv_heads, np.multiply(op.batch, op.num_heads), op.head_dim)
    return np.stack(np.broadcast_arrays(*(np.log2(np.asarray(size, dtype=np.float64)) for size in sizes)), axis=-1)
