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
    sizes: AttentionSizes, *, dtype: torch.dtype, device: torch.device, seed: int
) -> AttentionWeights:
    """Random weights whose layers keep the scale of their input; norms and biases are not trivial either."""
    generator = torch.Generator(device).manual_seed(seed)

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


def kv_rows(sizes: AttentionSizes, *, rank: int, num_ranks: int) -> slice:
    """This rank's rows of K and V; with fewer kv heads than ranks, neighbours hold the same head."""
    held = max(1, sizes.num_kv_heads // num_ranks)
    first = rank * sizes.num_kv_heads // num_ranks
    return slice(first * sizes.head_dim, (first + held) * sizes.head_dim)


def rank_rows(width: int, *, rank: int, num_ranks: int) -> slice:
    """This rank's share of `width` rows or columns."""
    return slice(rank * width // num_ranks, (rank + 1) * width // num_ranks)


def shard_attention(full: AttentionWeights, sizes: AttentionSizes, *, strategy: Strategy, mesh: Mesh) -> AttentionBlock:
    """This rank's block: QKV by heads for all strategies, the output projection by rows or by columns."""
    source, target = POLICY[strategy]
    width = sizes.num_heads * sizes.head_dim
    rows = rank_rows(width, rank=mesh.rank, num_ranks=mesh.size)
    kv = kv_rows(sizes, rank=mesh.rank, num_ranks=mesh.size)
    columns = rank_rows(sizes.hidden, rank=mesh.rank, num_ranks=mesh.size)
    out: RowParallelLinear | GatheredColumnLinear
    if target == "columns":
        out_bias = None if full.out_bias is None else full.out_bias[columns].clone()
        out = GatheredColumnLinear(weight=full.out[columns].clone(), bias=out_bias)
    else:
        out = RowParallelLinear(weight=full.out[:, rows].clone(), target=target)
    qkv_bias = None
    if full.q_bias is not None and full.k_bias is not None and full.v_bias is not None:
        qkv_bias = torch.cat((full.q_bias[rows], full.k_bias[kv], full.v_bias[kv]))
    qkv = ColumnParallelLinear(weight=torch.cat((full.q[rows], full.k[kv], full.v[kv])), bias=qkv_bias, source=source)
    heads = HeadSizes(
        num_heads=sizes.num_heads // mesh.size,
        num_kv_heads=(kv.stop - kv.start) // sizes.head_dim,
        head_dim=sizes.head_dim,
    )
    return AttentionBlock(
        norm=Norm(kind=sizes.norm, weight=full.norm.clone(), bias=_clone(full.norm_bias)),
        attention=ParallelAttention(heads=heads, qkv=qkv, out=out),
        out_bias=None if target == "columns" else _clone(full.out_bias),
    )


def _clone(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
