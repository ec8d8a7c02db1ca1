"""The full weights of an FFN half, made alike on every rank from a seed, and the shard that one rank holds.

Legend: H hidden, F the FFN's width; the gate is None in a plain FFN, a bias where the model has none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tp.layers.block import Half, Norm, NormKind
from tp.layers.ffn import ParallelFfn
from tp.layers.linear import ColumnParallelLinear, split_linear
from tp.layers.mesh import Mesh
from tp.layers.random_weights import RandomWeights
from tp.layers.spans import rank_span
from tp.layers.split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnSizes:
    """The sizes of an unsharded FFN half."""

    hidden: int
    width: int
    gated: bool
    norm: NormKind
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnWeights:
    """The unsharded weights of an FFN half."""

    norm: Tensor  # [H]
    norm_bias: Tensor | None  # [H]
    gate: Tensor | None  # [F, H]
    up: Tensor  # [F, H]
    gate_bias: Tensor | None  # [F]
    up_bias: Tensor | None  # [F]
    down: Tensor  # [H, F]
    down_bias: Tensor | None  # [H]


def ffn_weights(sizes: FfnSizes, random: RandomWeights) -> FfnWeights:
    """Random weights whose layers keep the scale of their input; norms and biases are not trivial either."""
    return FfnWeights(
        norm=random.norm(sizes.hidden),
        norm_bias=random.bias(sizes.hidden, present=sizes.norm == "layer"),
        gate=random.matrix(sizes.width, sizes.hidden) if sizes.gated else None,
        up=random.matrix(sizes.width, sizes.hidden),
        gate_bias=random.bias(sizes.width, present=sizes.bias and sizes.gated),
        up_bias=random.bias(sizes.width, present=sizes.bias),
        down=random.matrix(sizes.hidden, sizes.width),
        down_bias=random.bias(sizes.hidden, present=sizes.bias),
    )


def shard_ffn(full: FfnWeights, sizes: FfnSizes, *, split: Split, mesh: Mesh) -> Half:
    """This rank's half: gate and up by columns for all strategies, down by rows or by columns."""
    columns = rank_span(sizes.width, rank=mesh.rank, num_ranks=mesh.size)
    weights = [columns.of(weight) for weight in (full.gate, full.up) if weight is not None]
    biases = [columns.of(bias) for bias in (full.gate_bias, full.up_bias) if bias is not None]
    up = ColumnParallelLinear(weight=torch.cat(weights), bias=torch.cat(biases) if biases else None, split=split)
    down, down_bias = split_linear(full.down, full.down_bias, split=split, mesh=mesh)
    return Half(
        norm=Norm(kind=sizes.norm, weight=full.norm, bias=full.norm_bias),
        layer=ParallelFfn(up=up, down=down, gated=sizes.gated),
        bias=down_bias,
        first="up",
        last="down",
    )
