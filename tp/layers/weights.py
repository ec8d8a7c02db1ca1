"""The full weights of a block, made alike on every rank from a seed, and the shard of them that one rank holds.

Legend: H hidden, a heads, ak kv heads, d head dim; a bias or a norm's bias is None where the model has none.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tp.case import Strategy
from tp.layers.attention import HeadSizes, ParallelAttention
from tp.layers.block import AttentionBlock, Norm, NormKind
from tp.layers.linear import POLICY, ColumnParallelLinear, GatheredColumnLinear, RowParallelLinear
from tp.layers.mesh import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSizes:
    """The sizes of an unsharded attention block."""

    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm: NormKind
    bias: Literal["none", "qkv", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWeights:
    """The unsharded weights of an attention block."""

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


def attention_weights(
    sizes: AttentionSizes, *, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> AttentionWeights:
    """Random weights whose layers keep the scale of their input; norms and biases are not trivial either."""

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).mul_(scale).to(dtype)

    def bias(width: int, *, present: bool) -> Tensor | None:
        return normal(width, scale=0.1) if present else None

    h, width, kv_width = sizes.hidden, sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    return AttentionWeights(
        norm=normal(h, scale=0.1) + 1,
        norm_bias=bias(h, present=sizes.norm == "layer"),
        q=normal(width, h, scale=h**-0.5),
        k=normal(kv_width, h, scale=h**-0.5),
        v=normal(kv_width, h, scale=h**-0.5),
        q_bias=bias(width, present=sizes.bias != "none"),
        k_bias=bias(kv_width, present=sizes.bias != "none"),
        v_bias=bias(kv_width, present=sizes.bias != "none"),
        out=normal(h, width, scale=width**-0.5),
        out_bias=bias(h, present=sizes.bias == "all"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of rows or columns."""

    start: int
    length: int

    def of(self, x: Tensor, *, dim: int = 0) -> Tensor:
        """The view of `x` along `dim`; by narrowing, which fake tensors of absent devices know and indexing not."""
        return x.narrow(dim, self.start, self.length)


def kv_heads(sizes: AttentionSizes, *, rank: int, num_ranks: int) -> Span:
    """This rank's kv heads; with fewer of them than ranks, neighbours hold the same one."""
    return Span(start=rank * sizes.num_kv_heads // num_ranks, length=max(1, sizes.num_kv_heads // num_ranks))


def rank_span(width: int, *, rank: int, num_ranks: int) -> Span:
    """This rank's share of `width` rows or columns."""
    return Span(start=rank * width // num_ranks, length=width // num_ranks)


def shard_attention(full: AttentionWeights, sizes: AttentionSizes, *, strategy: Strategy, mesh: Mesh) -> AttentionBlock:
    """This rank's block: QKV by heads for all strategies, the output projection by rows or by columns."""
    source, target = POLICY[strategy]
    width = sizes.num_heads * sizes.head_dim
    rows = rank_span(width, rank=mesh.rank, num_ranks=mesh.size)
    heads_kv = kv_heads(sizes, rank=mesh.rank, num_ranks=mesh.size)
    kv = Span(start=heads_kv.start * sizes.head_dim, length=heads_kv.length * sizes.head_dim)
    columns = rank_span(sizes.hidden, rank=mesh.rank, num_ranks=mesh.size)
    out: RowParallelLinear | GatheredColumnLinear
    if target == "columns":
        out_bias = None if full.out_bias is None else columns.of(full.out_bias).clone()
        out = GatheredColumnLinear(weight=columns.of(full.out).clone(), bias=out_bias)
    else:
        out = RowParallelLinear(weight=rows.of(full.out, dim=1).clone(), target=target)
    qkv_bias = None
    if full.q_bias is not None and full.k_bias is not None and full.v_bias is not None:
        qkv_bias = torch.cat((rows.of(full.q_bias), kv.of(full.k_bias), kv.of(full.v_bias)))
    qkv = ColumnParallelLinear(
        weight=torch.cat((rows.of(full.q), kv.of(full.k), kv.of(full.v))), bias=qkv_bias, source=source
    )
    heads = HeadSizes(
        num_heads=sizes.num_heads // mesh.size,
        num_kv_heads=heads_kv.length,
        head_dim=sizes.head_dim,
    )
    return AttentionBlock(
        norm=Norm(kind=sizes.norm, weight=full.norm.clone(), bias=_clone(full.norm_bias)),
        attention=ParallelAttention(heads=heads, qkv=qkv, out=out),
        out_bias=None if target == "columns" else _clone(full.out_bias),
    )


def _clone(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
