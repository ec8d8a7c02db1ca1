"""torch's own tensor parallelism: `parallelize_module` over the same weights, as a user would have it.

Set up as torch's tutorial and API pages advise: ColwiseParallel for queries, keys, values, gate and up, RowwiseParallel
for the outputs, and PrepareModuleInput around each layer, so that the backward sums the input's gradient once and not
once a weight. Rotation, core and activation are the functions of the other strategies, on local tensors.

Legend: M tokens, H hidden, Q, K and F columns of queries, of keys or values, and of the FFN; _tp this rank's.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from tp.layers.attention import HeadSizes, attend
from tp.layers.attention_weights import AttentionSizes, AttentionWeights, attention_spans
from tp.layers.block import Half, Norm
from tp.layers.ffn import plain_gelu
from tp.layers.ffn_weights import FfnSizes, FfnWeights
from tp.layers.mesh import Mesh
from tp.layers.positions import Positions
from tp.layers.rope import rotate
from tp.layers.spans import kv_heads
from tp.layers.split import Split
from tp.layers.wire import Wire, cut


class DTensorAttention(nn.Module):
    """Attention of plain linear layers that `parallelize_module` splits by heads."""

    def __init__(self, weights: AttentionWeights, *, heads: HeadSizes, split: Split) -> None:
        super().__init__()
        self.register_forward_pre_hook(_add_batch_dim)
        self.heads = heads
        self.remake_core = split.recompute == "selective"
        self.wq = _linear(weights.q, weights.q_bias)
        self.wk = _linear(weights.k, weights.k_bias)
        self.wv = _linear(weights.v, weights.v_bias)
        self.wo = _linear(weights.out, weights.out_bias)

    def forward(self, x: Tensor, positions: Positions | None, wire: Wire) -> Float[Tensor, "M H"]:
        """x is [1, M, H], a DTensor where it is split; the result is plain, [M, H]."""
        assert positions is not None, "attention needs the tokens' positions"
        q, k, v = (linear(x).squeeze(0) for linear in (self.wq, self.wk, self.wv))
        q = cut(q, wire, leave="qkv", enter="core")
        if self.remake_core and torch.is_grad_enabled():
            z = checkpoint(self._core, q, k, v, positions, use_reentrant=False, preserve_rng_state=False)
        else:
            z = self._core(q, k, v, positions)
        return _arrived(self.wo(cut(z, wire, leave="core", enter="out").unsqueeze(0))).squeeze(0)

    def _core(
        self,
        q: Float[Tensor, "M Q_tp"],
        k: Float[Tensor, "M K_tp"],
        v: Float[Tensor, "M K_tp"],
        positions: Positions,
    ) -> Float[Tensor, "M Q_tp"]:
        q, k, v = (
            t.view(positions.batch, -1, t.shape[1] // self.heads.head_dim, self.heads.head_dim) for t in (q, k, v)
        )
        if positions.rope is not None:
            q, k = rotate(q, positions.rope), rotate(k, positions.rope)
        return attend(q, k, v, positions.cache)


class DTensorFfn(nn.Module):
    """An FFN of plain linear layers that `parallelize_module` splits by columns and rows."""

    def __init__(self, weights: FfnWeights) -> None:
        super().__init__()
        self.register_forward_pre_hook(_add_batch_dim)
        self.gate = None if weights.gate is None else _linear(weights.gate, weights.gate_bias)
        self.up = _linear(weights.up, weights.up_bias)
        self.down = _linear(weights.down, weights.down_bias)

    def forward(self, x: Tensor, positions: Positions | None, wire: Wire) -> Float[Tensor, "M H"]:
        """x is [1, M, H], a DTensor where it is split; the result is plain, [M, H]."""
        if self.gate is None:
            active = plain_gelu(cut(self.up(x), wire, leave="up", enter="activation"))
        else:
            gate = self.gate(x)
            up = cut(self.up(x), wire, leave="up", enter="activation")
            active = silu(gate) * up
        return _arrived(self.down(cut(active, wire, leave="activation", enter="down"))).squeeze(0)


def parallel_attention(full: AttentionWeights, sizes: AttentionSizes, *, split: Split, mesh: Mesh) -> Half:
    """This rank's half; kv heads that are fewer than the ranks are repeated for torch to deal out."""
    held = attention_spans(sizes, mesh)
    layer = DTensorAttention(_enough_kv_heads(full, sizes, mesh), heads=held.heads, split=split)
    columns: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in ("wq", "wk", "wv")}
    return Half(
        norm=Norm(kind=sizes.norm, weight=full.norm, bias=full.norm_bias),
        layer=_parallelize(layer, mesh, columns | {"wo": RowwiseParallel()}),
        bias=None,
        first="qkv",
        last="out",
    )


def parallel_ffn(full: FfnWeights, sizes: FfnSizes, *, split: Split, mesh: Mesh) -> Half:
    """This rank's half."""
    names = ("gate", "up") if sizes.gated else ("up",)
    columns: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in names}
    return Half(
        norm=Norm(kind=sizes.norm, weight=full.norm, bias=full.norm_bias),
        layer=_parallelize(DTensorFfn(full), mesh, columns | {"down": RowwiseParallel()}),
        bias=None,
        first="up",
        last="down",
    )


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, which is all of a plain one."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _parallelize(layer: nn.Module, mesh: Mesh, plan: dict[str, ParallelStyle]) -> nn.Module:
    if mesh.size == 1:
        return layer
    assert mesh.group is not None
    # Meshes of the same ranks and names count as one to torch, whatever their groups: each group is a name of its own.
    name = f"tp{mesh.group.group_name}"
    with unset_fake_temporarily():  # the mesh reads its ranks from a real tensor
        device_mesh = DeviceMesh.from_group(mesh.group, mesh.device.type, mesh_dim_names=(name,))
    whole = (Replicate(), None, None)
    prepare = PrepareModuleInput(input_layouts=whole, desired_input_layouts=whole)
    # Autograd would look for the stream of a device that is only pretended.
    layer.requires_grad_(requires_grad=False)
    # Every rank has all weights: each cuts out its own, and none is sent.
    split = parallelize_module(layer, device_mesh, plan, src_data_rank=None)
    prepared: nn.Module = parallelize_module(split, device_mesh, prepare)
    return prepared.requires_grad_()


def _arrived(y: Tensor) -> Tensor:
    """Waited for here, on the layer's account; otherwise the residual would be the first to."""
    if isinstance(y, AsyncCollectiveTensor):
        y.trigger_wait()
    return y


def _add_batch_dim(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """[M, H] to [1, M, H], before DTensor: a biased row-split layer of two dims gathers its weights in inference."""
    return (args[0].unsqueeze(0), *args[1:])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())
    return linear


def _enough_kv_heads(full: AttentionWeights, sizes: AttentionSizes, mesh: Mesh) -> AttentionWeights:
    """The weights with every kv head as often as ranks hold it, so that equal cuts give each rank a whole one."""
    if mesh.size <= sizes.num_kv_heads:
        return full

    def dealt(t: Tensor) -> Tensor:
        heads = t.view(sizes.num_kv_heads, sizes.head_dim, *t.shape[1:])
        held = [kv_heads(sizes.num_kv_heads, rank=rank, num_ranks=mesh.size).of(heads) for rank in range(mesh.size)]
        return torch.cat(held).flatten(0, 1)

    def dealt_if_any(t: Tensor | None) -> Tensor | None:
        return None if t is None else dealt(t)

    return replace(
        full,
        k=dealt(full.k),
        v=dealt(full.v),
        k_bias=dealt_if_any(full.k_bias),
        v_bias=dealt_if_any(full.v_bias),
    )
