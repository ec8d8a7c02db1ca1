"""Plans meet layers: a case built on this rank's device, ready to run under any wire."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from tp.case import Case
from tp.layers.attention import Cache, Positions
from tp.layers.block import AttentionBlock
from tp.layers.mesh import Mesh
from tp.layers.rope import rope_table
from tp.layers.weights import (
    AttentionSizes,
    AttentionWeights,
    Span,
    attention_weights,
    kv_heads,
    rank_span,
    shard_attention,
)
from tp.layers.wire import Wire
from tp.units import Dtype

TORCH_DTYPES: Final[dict[Dtype, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
SEED: Final = 20_261_122


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the unsharded block is given; alike on every rank."""

    x: Tensor  # [M, H]
    grad: Tensor  # [M, H], the gradient of the block's output
    past: tuple[Tensor, Tensor] | None  # keys and values, each [B, AK, C, D]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltCase:
    """This rank's block of a case with its inputs."""

    case: Case
    mesh: Mesh
    block: AttentionBlock
    positions: Positions
    x: Tensor
    grad: Tensor

    @property
    def trains(self) -> bool:
        return self.case.workload.phase == "train"

    def forget(self) -> None:
        """Drop the gradients of the pass before, so that each pass writes its own and adds to none."""
        self.block.zero_grad(set_to_none=True)
        self.x.grad = None

    def run(self, wire: Wire) -> None:
        """One pass: forward, and in training backward, gradients kept."""
        if not self.trains:
            with torch.inference_mode():
                self.block(self.x, self.positions, wire)
            return
        y = self.block(self.x, self.positions, wire)
        wire.timeline.enter("residual", "backward")
        y.backward(self.grad)


def attention_sizes(case: Case) -> AttentionSizes:
    """The sizes of the case's unsharded attention block."""
    model = case.model
    return AttentionSizes(
        hidden=model.hidden,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        norm=model.norm,
        bias=model.bias,
    )


def make_generator(device: torch.device, seed: int) -> torch.Generator:
    """A seeded generator on the device; on fake tensors any will do, and a fake device has none."""
    return torch.Generator("cpu" if detect_fake_mode() else device).manual_seed(seed)


def full_weights(case: Case, device: torch.device) -> AttentionWeights:
    """The unsharded weights, the same on every rank and for every strategy."""
    return attention_weights(
        attention_sizes(case),
        dtype=TORCH_DTYPES[case.workload.dtype],
        device=device,
        generator=make_generator(device, SEED),
    )


def full_inputs(case: Case, device: torch.device) -> Inputs:
    """The unsharded inputs, the same on every rank and for every strategy."""
    generator = make_generator(device, SEED + 1)
    dtype, w, model = TORCH_DTYPES[case.workload.dtype], case.workload, case.model

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    cache_shape = (w.batch, model.num_kv_heads, w.context, model.head_dim)
    return Inputs(
        x=normal(w.tokens, model.hidden),
        grad=normal(w.tokens, model.hidden),
        past=(normal(*cache_shape), normal(*cache_shape)) if w.phase == "decode" else None,
    )


def local_tokens(case: Case, mesh: Mesh) -> Span:
    """The tokens whose activations this rank holds between blocks: its share under `sequence`, else all."""
    if case.strategy == "sequence":
        return rank_span(case.workload.tokens, rank=mesh.rank, num_ranks=mesh.size)
    return Span(start=0, length=case.workload.tokens)


def build_case(case: Case, mesh: Mesh, *, weights: AttentionWeights, inputs: Inputs) -> BuiltCase:
    """This rank's shard of the case; `weights` and `inputs` are the full ones and stay untouched."""
    sizes = attention_sizes(case)
    tokens = local_tokens(case, mesh)
    x = tokens.of(inputs.x).clone()
    return BuiltCase(
        case=case,
        mesh=mesh,
        block=shard_attention(weights, sizes, strategy=case.strategy, mesh=mesh),
        positions=_positions(case, sizes, inputs, mesh),
        x=x.requires_grad_() if case.workload.phase == "train" else x,
        grad=tokens.of(inputs.grad).clone(),
    )


def _positions(case: Case, sizes: AttentionSizes, inputs: Inputs, mesh: Mesh) -> Positions:
    w = case.workload
    rope = None
    if case.model.position == "rope":
        rope = rope_table(
            first=w.context - w.seq,
            count=w.seq,
            head_dim=sizes.head_dim,
            dtype=TORCH_DTYPES[w.dtype],
            device=mesh.device,
        )
    cache = None
    if inputs.past is not None:
        held = kv_heads(sizes, rank=mesh.rank, num_ranks=mesh.size)
        keys, values = (held.of(t, dim=1).clone() for t in inputs.past)
        cache = Cache(keys=keys, values=values)
    return Positions(batch=w.batch, rope=rope, cache=cache)
