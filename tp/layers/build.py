"""A block from full weights: attention, FFN or both, as one rank holds them under a strategy."""

from dataclasses import dataclass

from tp.layers.attention_weights import AttentionSizes, AttentionWeights, attention_weights, shard_attention
from tp.layers.block import Block, Half
from tp.layers.dtensor import parallel_attention, parallel_ffn
from tp.layers.ffn_weights import FfnSizes, FfnWeights, ffn_weights, shard_ffn
from tp.layers.mesh import Mesh
from tp.layers.random_weights import RandomWeights
from tp.layers.split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """The sizes of the halves that a block has."""

    attention: AttentionSizes | None
    ffn: FfnSizes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeights:
    """The unsharded weights of the halves that a block has."""

    attention: AttentionWeights | None
    ffn: FfnWeights | None


def block_weights(sizes: BlockSizes, random: RandomWeights) -> BlockWeights:
    """Random weights of a whole block."""
    return BlockWeights(
        attention=None if sizes.attention is None else attention_weights(sizes.attention, random),
        ffn=None if sizes.ffn is None else ffn_weights(sizes.ffn, random),
    )


def shard_block(weights: BlockWeights, sizes: BlockSizes, split: Split, mesh: Mesh) -> Block:
    """This rank's block; `weights` are the full ones and stay untouched."""
    return Block(
        attention=_attention_half(weights, sizes, split, mesh),
        ffn=_ffn_half(weights, sizes, split, mesh),
        remake=split.recompute == "full",
    )


def _attention_half(weights: BlockWeights, sizes: BlockSizes, split: Split, mesh: Mesh) -> Half | None:
    if weights.attention is None or sizes.attention is None:
        return None
    shard = parallel_attention if split.strategy == "dtensor" else shard_attention
    return shard(weights.attention, sizes.attention, split=split, mesh=mesh)


def _ffn_half(weights: BlockWeights, sizes: BlockSizes, split: Split, mesh: Mesh) -> Half | None:
    if weights.ffn is None or sizes.ffn is None:
        return None
    shard = parallel_ffn if split.strategy == "dtensor" else shard_ffn
    return shard(weights.ffn, sizes.ffn, split=split, mesh=mesh)
