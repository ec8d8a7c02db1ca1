"""The unsharded oracle: a block once more, on one rank, in a wider dtype, by other means.

It shares nothing with the sharded layers but the weights: the rotation is a product of complex numbers, kv heads
are repeated instead of grouped, norms and activations are written out, and every gradient is autograd's.
Legend: M tokens (B sequences of S), H hidden, C context, A heads, D head dim.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tp.layers.attention_weights import AttentionSizes, AttentionWeights
from tp.layers.block import NormKind
from tp.layers.build import BlockSizes, BlockWeights
from tp.layers.ffn_weights import FfnSizes, FfnWeights
from tp.layers.rope import BASE

# Llama 2's rms_norm_eps and GPT-2's layer_norm_epsilon (config.json of both), stated here once more on purpose.
NORM_EPSILON = 1e-5

W = TypeVar("W", AttentionWeights, FfnWeights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the oracle must know of the tokens' places."""

    batch: int
    first_position: int | None
    """Position of each sequence's first token; None for a model without rotation."""
    keys_and_values: tuple[Tensor, Tensor] | None
    """Of the tokens before, each [B, AK, C - 1, D], already rotated; None outside of decode."""


def widen(weights: BlockWeights, dtype: torch.dtype) -> BlockWeights:
    """The same numbers in `dtype`, as leaves that collect gradients."""
    return BlockWeights(
        attention=None if weights.attention is None else _widen(weights.attention, dtype),
        ffn=None if weights.ffn is None else _widen(weights.ffn, dtype),
    )


def gradients(weights: BlockWeights) -> BlockWeights:
    """The gradients of widened weights, each in its weight's place."""
    return BlockWeights(
        attention=None if weights.attention is None else _gradients(weights.attention),
        ffn=None if weights.ffn is None else _gradients(weights.ffn),
    )


def reference_update(
    x: Float[Tensor, "M H"], weights: BlockWeights, sizes: BlockSizes, past: Past
) -> Float[Tensor, "M H"]:
    """What the block adds to x."""
    update = torch.zeros_like(x)
    if weights.attention is not None and sizes.attention is not None:
        update = update + _attention(x, weights.attention, sizes.attention, past)
    if weights.ffn is not None and sizes.ffn is not None:
        update = update + _ffn(x + update, weights.ffn, sizes.ffn)
    return update


def _attention(x: Tensor, weights: AttentionWeights, sizes: AttentionSizes, past: Past) -> Tensor:
    normed = _norm(x, sizes.norm, weights.norm, weights.norm_bias)
    q = _heads(_linear(normed, weights.q, weights.q_bias), past.batch, sizes.head_dim)
    k = _heads(_linear(normed, weights.k, weights.k_bias), past.batch, sizes.head_dim)
    v = _heads(_linear(normed, weights.v, weights.v_bias), past.batch, sizes.head_dim)
    if past.first_position is not None:
        q, k = (_rotate(t, past.first_position) for t in (q, k))
    if past.keys_and_values is not None:
        k, v = (
            torch.cat((old.to(new.dtype), new), dim=2) for old, new in zip(past.keys_and_values, (k, v), strict=True)
        )
    group = sizes.num_heads // sizes.num_kv_heads
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    z = scaled_dot_product_attention(q, k, v, is_causal=past.keys_and_values is None)
    return _linear(z.transpose(1, 2).reshape(x.shape[0], -1), weights.out, weights.out_bias)


def _ffn(x: Tensor, weights: FfnWeights, sizes: FfnSizes) -> Tensor:
    normed = _norm(x, sizes.norm, weights.norm, weights.norm_bias)
    hidden = _linear(normed, weights.up, weights.up_bias)
    if weights.gate is not None:
        gate = _linear(normed, weights.gate, weights.gate_bias)
        active = gate / (1 + torch.exp(-gate)) * hidden
    else:
        active = hidden / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    return _linear(active, weights.down, weights.down_bias)


def _norm(x: Tensor, kind: NormKind, weight: Tensor, bias: Tensor | None) -> Tensor:
    if kind == "rms":
        return x * (x.square().mean(-1, keepdim=True) + NORM_EPSILON).rsqrt() * weight
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred * (centred.square().mean(-1, keepdim=True) + NORM_EPSILON).rsqrt() * weight
    return scaled if bias is None else scaled + bias


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.t() if bias is None else x @ weight.t() + bias


def _heads(x: Tensor, batch: int, head_dim: int) -> Tensor:
    """[M, A*D] -> [B, A, S, D]."""
    return x.view(batch, -1, x.shape[1] // head_dim, head_dim).transpose(1, 2)


def _rotate(x: Float[Tensor, "B A S D"], first: int) -> Float[Tensor, "B A S D"]:
    dim = x.shape[-1]
    frequencies = BASE ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(first, first + x.shape[2], dtype=torch.float64)[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), angles).to(x.device, x.dtype.to_complex())
    pairs = torch.view_as_complex(torch.stack(x.chunk(2, dim=-1), dim=-1).contiguous())
    return torch.cat(torch.view_as_real(pairs * turn).unbind(-1), dim=-1)


def _widen(weights: W, dtype: torch.dtype) -> W:
    wide = {
        field.name: value.detach().to(dtype).requires_grad_()
        for field in fields(weights)
        if (value := getattr(weights, field.name)) is not None
    }
    return replace(weights, **wide)


def _gradients(weights: W) -> W:
    found = {}
    for field in fields(weights):
        leaf = getattr(weights, field.name)
        if leaf is not None:
            assert leaf.grad is not None, f"the oracle's backward left {field.name} without a gradient"
            found[field.name] = leaf.grad
    return replace(weights, **found)
