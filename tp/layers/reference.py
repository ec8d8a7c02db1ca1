"""The unsharded oracle: the attention block once more, on one rank, in a wider dtype, by other means.

It shares nothing with the sharded layers but the weights: the rotation is a product of complex numbers, kv heads
are repeated instead of grouped, the norms are written out, and every gradient is autograd's.
Legend: M tokens (B sequences of S), H hidden, C context, A heads, D head dim.
"""

from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tp.layers.block import EPSILON
from tp.layers.rope import BASE
from tp.layers.weights import AttentionSizes, AttentionWeights


def widen(weights: AttentionWeights, dtype: torch.dtype) -> AttentionWeights:
    """The same numbers in `dtype`, as leaves that collect gradients."""
    wide = {
        field.name: value.detach().to(dtype).requires_grad_()
        for field in fields(weights)
        if (value := getattr(weights, field.name)) is not None
    }
    return replace(weights, **wide)


def reference_update(
    x: Float[Tensor, "M H"],
    weights: AttentionWeights,
    sizes: AttentionSizes,
    *,
    batch: int,
    first_position: int | None,
    past: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "M H"]:
    """What the attention block adds to x.

    `first_position` is the position of each sequence's first token, None for a model without rotation; `past` the
    keys and values [B, AK, C - 1, D] before it, already rotated, in decode.
    """
    normed = _norm(x, weights, sizes)
    q = _heads(normed, weights.q, weights.q_bias, batch, sizes.head_dim)
    k = _heads(normed, weights.k, weights.k_bias, batch, sizes.head_dim)
    v = _heads(normed, weights.v, weights.v_bias, batch, sizes.head_dim)
    if first_position is not None:
        q, k = (_rotate(t, first_position) for t in (q, k))
    if past is not None:
        k, v = (torch.cat((old.to(new.dtype), new), dim=2) for old, new in zip(past, (k, v), strict=True))
    group = sizes.num_heads // sizes.num_kv_heads
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    z = scaled_dot_product_attention(q, k, v, is_causal=past is None)
    y = z.transpose(1, 2).reshape(x.shape[0], -1) @ weights.out.t()
    return y if weights.out_bias is None else y + weights.out_bias


def _norm(x: Tensor, weights: AttentionWeights, sizes: AttentionSizes) -> Tensor:
    if sizes.norm == "rms":
        return x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weights.norm
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred * (centred.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weights.norm
    return scaled if weights.norm_bias is None else scaled + weights.norm_bias


def _heads(x: Tensor, weight: Tensor, bias: Tensor | None, batch: int, head_dim: int) -> Tensor:
    """[M, H] -> [B, A, S, D]."""
    y = x @ weight.t() if bias is None else x @ weight.t() + bias
    return y.view(batch, -1, weight.shape[0] // head_dim, head_dim).transpose(1, 2)


def _rotate(x: Float[Tensor, "B A S D"], first: int) -> Float[Tensor, "B A S D"]:
    dim = x.shape[-1]
    frequencies = BASE ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(first, first + x.shape[2], dtype=torch.float64)[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), angles).to(x.device, x.dtype.to_complex())
    pairs = torch.view_as_complex(torch.stack(x.chunk(2, dim=-1), dim=-1).contiguous())
    return torch.cat(torch.view_as_real(pairs * turn).unbind(-1), dim=-1)
