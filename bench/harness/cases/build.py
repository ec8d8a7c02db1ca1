"""Plans meet layers: a case built on this rank's device, ready to run under any wire."""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from tp.case import Case
from tp.layers.attention_weights import AttentionSizes
from tp.layers.block import Block
from tp.layers.build import BlockSizes, BlockWeights, block_weights, shard_block
from tp.layers.collectives import Collectives, FusedCollectives, GroupCollectives, SilentCollectives
from tp.layers.ffn_weights import FfnSizes
from tp.layers.mesh import Mesh
from tp.layers.positions import Cache, Positions
from tp.layers.random_weights import RandomWeights
from tp.layers.rope import rope_table
from tp.layers.spans import Span, kv_heads, rank_span
from tp.layers.split import Split
from tp.layers.wire import Wire
from tp.units import Dtype

TORCH_DTYPES: Final[dict[Dtype, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
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
    block: Block
    positions: Positions | None
    """None for a block without attention."""
    x: Tensor
    grad: Tensor
    silent_block: Block | None
    """The block once more where it sends by itself, over ranks that are never heard (`dtensor`)."""

    @property
    def silenced(self) -> "BuiltCase":
        """The case to be run under collectives that send nothing."""
        return self if self.silent_block is None else replace(self, block=self.silent_block)

    @property
    def trains(self) -> bool:
        return self.case.workload.phase == "train"

    def forget(self) -> None:
        """Drop the gradients of the pass before, so that each pass writes its own and adds to none."""
        self.block.zero_grad(set_to_none=True)
        self.x.grad = None

    def forward(self, wire: Wire) -> Tensor:
        """The block's output in the mode of its phase: with a graph in training, without one elsewhere."""
        if self.trains:
            return self._output(wire)
        # DTensor takes operators apart in inference mode, at several ms a pass; without gradients it is faster.
        with torch.no_grad() if self.case.strategy == "dtensor" else torch.inference_mode():
            return self._output(wire)

    def run(self, wire: Wire) -> Tensor:
        """One pass: forward, and in training backward, gradients kept; its last result, output or input gradient."""
        y = self.forward(wire)
        if not self.trains:
            return y
        wire.timeline.enter("residual", "backward")
        y.backward(self.grad)
        assert self.x.grad is not None, "the backward left its input without a gradient"
        return self.x.grad

    def _output(self, wire: Wire) -> Tensor:
        y: Tensor = self.block(self.x, self.positions, wire)
        return y


def block_sizes(case: Case) -> BlockSizes:
    """The sizes of the case's unsharded block."""
    model = case.model
    attention = AttentionSizes(
        hidden=model.hidden,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        norm=model.norm,
        qkv_bias=model.has_qkv_bias,
        out_bias=model.has_out_bias,
    )
    ffn = FfnSizes(
        hidden=model.hidden,
        width=model.ffn_width,
        gated=model.gated,
        norm=model.norm,
        bias=model.has_ffn_bias,
    )
    return BlockSizes(attention=attention if case.has_attention else None, ffn=ffn if case.has_ffn else None)


def make_generator(device: torch.device, seed: int) -> torch.Generator:
    """A seeded generator on the device; on fake tensors any will do, and a fake device has none."""
    return torch.Generator("cpu" if detect_fake_mode() else device).manual_seed(seed)


def _random(case: Case, device: torch.device, seed: int) -> RandomWeights:
    dtype = TORCH_DTYPES[case.workload.activation_dtype]
    return RandomWeights(dtype=dtype, device=device, generator=make_generator(device, seed))


def full_weights(case: Case, device: torch.device) -> BlockWeights:
    """The unsharded weights, the same on every rank and for every strategy."""
    return block_weights(block_sizes(case), _random(case, device, SEED))


def full_inputs(case: Case, device: torch.device) -> Inputs:
    """The unsharded inputs, the same on every rank and for every strategy."""
    w, model, normal = case.workload, case.model, _random(case, device, SEED + 1).normal
    cache_shape = (w.batch, model.num_kv_heads, w.context, model.head_dim)
    return Inputs(
        x=normal(w.tokens, model.hidden),
        grad=normal(w.tokens, model.hidden),
        past=(normal(*cache_shape), normal(*cache_shape)) if w.phase == "decode" and case.has_attention else None,
    )


def local_tokens(case: Case, mesh: Mesh) -> Span:
    """The tokens whose activations this rank holds between blocks: its share under token strategies, else all."""
    if case.splits_tokens:
        return rank_span(case.workload.tokens, rank=mesh.rank, num_ranks=mesh.size)
    return Span(start=0, length=case.workload.tokens)


def build_case(case: Case, mesh: Mesh, *, weights: BlockWeights, inputs: Inputs) -> BuiltCase:
    """This rank's shard of the case; `weights` and `inputs` are the full ones and stay untouched."""
    tokens = local_tokens(case, mesh)
    x = tokens.of(inputs.x).clone()
    return BuiltCase(
        case=case,
        mesh=mesh,
        block=shard_case(case, mesh, weights),
        positions=_positions(case, inputs, mesh) if case.has_attention else None,
        x=x.requires_grad_() if case.workload.phase == "train" else x,
        grad=tokens.of(inputs.grad).clone(),
        silent_block=_silent_block(case, mesh, weights),
    )


def collectives_of(case: Case, mesh: Mesh, *, overlaps: bool = True) -> Collectives:
    """What carries the case's data; without `overlaps` everything is waited for at once."""
    if mesh.emulated:
        return SilentCollectives(mesh)
    if case.strategy == "async-tp" and case.tp > 1 and overlaps:
        return FusedCollectives(mesh)
    return GroupCollectives(mesh, overlaps=overlaps)


def shard_case(case: Case, mesh: Mesh, weights: BlockWeights) -> Block:
    """This rank's block of the case."""
    split = Split(
        strategy=case.strategy, chunks=case.chunks, recompute=case.recompute, fp8=case.workload.dtype == "fp8"
    )
    return shard_block(weights, block_sizes(case), split, mesh)


def _silent_block(case: Case, mesh: Mesh, weights: BlockWeights) -> Block | None:
    if case.strategy != "dtensor" or mesh.silent_group is None:
        return None
    return shard_case(case, replace(mesh, group=mesh.silent_group), weights)


def _positions(case: Case, inputs: Inputs, mesh: Mesh) -> Positions:
    w, model = case.workload, case.model
    rope = None
    if model.position == "rope":
        rope = rope_table(
            first=w.context - w.seq,
            count=w.seq,
            head_dim=model.head_dim,
            dtype=TORCH_DTYPES[w.activation_dtype],
            device=mesh.device,
        )
    cache = None
    if inputs.past is not None:
        held = kv_heads(model.num_kv_heads, rank=mesh.rank, num_ranks=mesh.size)
        keys, values = (held.of(t, dim=1).clone() for t in inputs.past)
        cache = Cache(keys=keys, values=values)
    return Positions(batch=w.batch, rope=rope, cache=cache)
