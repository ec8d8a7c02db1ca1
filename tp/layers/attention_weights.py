"""The full weights of an attention half, made alike on every rank from a seed, and the shard that one rank holds.

Legend: H hidden, a heads, ak kv heads, d head dim; a bias or a norm's bias is None where the model has none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tp.layers.attention import HeadSizes, ParallelAttention
from tp.layers.block import Half, Norm, NormKind
from tp.layers.linear import ColumnParallelLinear, split_linear
from tp.layers.mesh import Mesh
from tp.layers.random_weights import RandomWeights
from tp.layers.spans import Span, kv_heads, rank_span
from tp.layers.split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSizes:
    """The sizes of an unsharded attention half."""

    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm: NormKind
    qkv_bias: bool
    out_bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWeights:
    """The unsharded weights of an attention half."""

    norm: Tensor  # [H]
    norm_bias: Tensor | None  # [H]
    q: Tensor  # [a*d, H]
    k: Tensor  # [ak*d, H]
    v: Tensor  # [ak*d, H]
    q_bias: Tensor | None  # [a*d]
    k_bias: Tensor | None  # [ak*d]
    v_bias: Tensor | None  # [ak*d]
    out: Tensor  # [H, a*d]
    out_bias: Tensor | None  # [H]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpans:
    """The rows of the full query and of the full key or value weights that a rank holds."""

    rows: Span
    kv_rows: Span
    heads: HeadSizes


def attention_weights(sizes: AttentionSizes, random: RandomWeights) -> AttentionWeights:
    """Random weights whose layers keep the scale of their input; norms and biases are not trivial either."""
    h, width, kv_width = sizes.hidden, sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    return AttentionWeights(
        norm=random.norm(h),
        norm_bias=random.bias(h, present=sizes.norm == "layer"),
        q=random.matrix(width, h),
        k=random.matrix(kv_width, h),
        v=random.matrix(kv_width, h),
        q_bias=random.bias(width, present=sizes.qkv_bias),
        k_bias=random.bias(kv_width, present=sizes.qkv_bias),
        v_bias=random.bias(kv_width, present=sizes.qkv_bias),
        out=random.matrix(h, width),
        out_bias=random.bias(h, present=sizes.out_bias),
    )


def attention_spans(sizes: AttentionSizes, mesh: Mesh) -> AttentionSpans:
    """Which heads this rank holds."""
    held = kv_heads(sizes.num_kv_heads, rank=mesh.rank, num_ranks=mesh.size)
    return AttentionSpans(
        rows=rank_span(sizes.num_heads * sizes.head_dim, rank=mesh.rank, num_ranks=mesh.size),
        kv_rows=Span(start=held.start * sizes.head_dim, length=held.length * sizes.head_dim),
        heads=HeadSizes(num_heads=sizes.num_heads // mesh.size, num_kv_heads=held.length, head_dim=sizes.head_dim),
    )


def shard_attention(full: AttentionWeights, sizes: AttentionSizes, *, split: Split, mesh: Mesh) -> Half:
    """This rank's half: QKV by heads for all strategies, the output projection by rows or by columns."""
    held = attention_spans(sizes, mesh)
    qkv_bias = None
    if full.q_bias is not None and full.k_bias is not None and full.v_bias is not None:
        qkv_bias = torch.cat((held.rows.of(full.q_bias), held.kv_rows.of(full.k_bias), held.kv_rows.of(full.v_bias)))
    qkv = ColumnParallelLinear(
        weight=torch.cat((held.rows.of(full.q), held.kv_rows.of(full.k), held.kv_rows.of(full.v))),
        bias=qkv_bias,
        split=split,
    )
    out, out_bias = split_linear(full.out, full.out_bias, split=split, mesh=mesh)
    return Half(
        norm=Norm(kind=sizes.norm, weight=full.norm, bias=full.norm_bias),
        layer=ParallelAttention(heads=held.heads, qkv=qkv, out=out, remake_core=split.recompute == "selective"),
        bias=out_bias,
        first="qkv",
        last="out",
    )
