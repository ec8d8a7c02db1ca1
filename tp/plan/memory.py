"""What a rank holds during a pass, tensor by tensor: weights, gradients, saved activations, KV cache, workspace.

Saved activations are the storages that autograd keeps from the forward for the backward, each counted once however
many ops share it, weights and tables that are there anyway not at all. They are what the layers of `tp/layers` save
through torch's own kernels; a rank's m tokens are b*s, of which it holds m/n between blocks under token strategies.
Compare Korthikanti et al. 2022, section 4, whose 34*s*b*h counts 16-bit activations with dropout and without flash
attention.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from tp.case import Case
from tp.plan.shards import attention_shard
from tp.plan.workspace import FP32_BYTES, RANDOM_STATE, DeviceKind, Sizes, Workspace
from tp.units import DTYPE_BYTES

HoldingKind = Literal["weights", "gradients", "saved", "kv_cache", "workspace"]
HOLDING_KINDS: Final[tuple[HoldingKind, ...]] = get_args(HoldingKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One tensor of a rank."""

    name: str
    kind: HoldingKind
    bytes: int


def plan_memory(case: Case, *, device: DeviceKind) -> tuple[Holding, ...]:
    """Everything that a rank holds for a case, in the order of the layers."""
    memory = _Memory(case=case, device=device)
    return tuple(memory.holdings())


def bytes_by_kind(case: Case, *, device: DeviceKind) -> dict[HoldingKind, int]:
    """The bytes of each kind that `plan_memory` would list; over a grid of workloads, at each of its points."""
    memory = _Memory(case=case, device=device)
    kept = tuple(memory.kept())
    found = {kind: held_bytes(kept, kind) for kind in HOLDING_KINDS}
    found["workspace"] = Workspace(case=case, device=device).widest_bytes() + memory.remade_bytes
    return found


def held_bytes(holdings: Iterable[Holding], kind: HoldingKind | None = None) -> int:
    """The bytes of one kind, or the peak: all of them at once."""
    return sum(each.bytes for each in holdings if kind in (None, each.kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory(Sizes):
    """Which tensors a rank holds, and which of them are kept for the backward."""

    def holdings(self) -> Iterator[Holding]:
        yield from self.kept()
        yield from self.workspace()

    def kept(self) -> Iterator[Holding]:
        """All but the workspace."""
        case, w = self.case, self.case.workload
        weights = [
            *(self.attention_weights() if case.has_attention else ()),
            *(self.ffn_weights() if case.has_ffn else ()),
        ]
        yield from weights
        if w.phase == "train":
            yield from (Holding(name=each.name, kind="gradients", bytes=each.bytes) for each in weights)
            yield from (Holding(name=name, kind="saved", bytes=size) for name, size in self.saved())
        if w.phase == "decode" and case.has_attention:
            size = w.batch * w.context * attention_shard(case.model, case.tp).kv_width * self.e
            yield Holding(name="keys", kind="kv_cache", bytes=size)
            yield Holding(name="values", kind="kv_cache", bytes=size)

    def saved(self) -> Iterator[tuple[str, int]]:
        """What autograd keeps of a training forward."""
        if self.case.recompute == "full":
            yield "x", self.stream_bytes
            return
        if self.case.has_attention:
            yield from (("attention." + name, size) for name, size in self.saved_attention())
        if self.case.has_ffn:
            yield from (("ffn." + name, size) for name, size in self.saved_ffn())

    def saved_norm(self) -> Iterator[tuple[str, int]]:
        """Its input and what its kernel keeps, then its result.

        torch has no fused RMSNorm for CPUs: there the input is copied to fp32 and x / rms(x) kept too, in fp32.
        """
        case, h = self.case, self.case.model.hidden
        if case.model.norm == "layer":
            size = case.local_tokens * (FP32_BYTES if self.device == "cuda" else self.e)
            yield "x", self.stream_bytes
            yield "norm.mean", size
            yield "norm.rstd", size
        elif self.device == "cuda":
            yield "x", self.stream_bytes
            yield "norm.rstd", case.local_tokens * FP32_BYTES
        else:
            yield "x", case.local_tokens * h * FP32_BYTES
            yield "norm.rstd", case.local_tokens * FP32_BYTES
            yield "norm.scaled", case.local_tokens * h * FP32_BYTES
        yield "normed", self.stream_bytes

    def saved_attention(self) -> Iterator[tuple[str, int]]:
        case, s, m, e = self.case, attention_shard(self.case.model, self.case.tp), self.m, self.e
        yield from self.saved_norm()
        if case.strategy == "dtensor":  # each of the three has a storage of its own
            yield "q", m * s.width * e
            yield "k", m * s.kv_width * e
            yield "v", m * s.kv_width * e
        else:  # values are a view of the product, which stays whole
            yield "qkv", m * s.qkv_width * e
            if case.model.position == "rope" and case.recompute == "none":
                yield "rotated", m * (s.width + s.kv_width) * e
        if case.recompute == "none":
            yield "logsumexp", m * s.num_heads * FP32_BYTES
            if self.device == "cuda":
                yield from RANDOM_STATE.items()
        gathers = case.strategy == "columns" and case.tp > 1
        if case.recompute == "none" or not gathers:
            yield "z", m * s.width * e
        if gathers:
            yield "z.gathered", m * case.model.attention_width * e

    def saved_ffn(self) -> Iterator[tuple[str, int]]:
        case, m, e = self.case, self.m, self.e
        width = case.model.ffn_width // case.tp
        yield from self.saved_norm()
        if not case.model.gated:
            yield "up", m * width * e
        elif case.strategy == "dtensor":
            yield from ((name, m * width * e) for name in ("gate", "up", "silu"))
        else:
            yield "gate_and_up", m * 2 * width * e
        gathers = case.strategy == "columns" and case.tp > 1
        yield "active", m * (case.model.ffn_width if gathers else width) * e

    def attention_weights(self) -> Iterator[Holding]:
        model, s = self.case.model, attention_shard(self.case.model, self.case.tp)
        yield from self.norm_weights("attention")
        yield self.weight("attention.qkv", s.qkv_width * model.hidden)
        if model.has_qkv_bias:
            yield self.weight("attention.qkv.bias", s.qkv_width)
        yield self.weight("attention.out", s.width * model.hidden)
        if model.has_out_bias:
            yield self.weight("attention.out.bias", self.output_bias)

    def ffn_weights(self) -> Iterator[Holding]:
        model = self.case.model
        width = model.ffn_width // self.case.tp
        up = width * (2 if model.gated else 1)
        yield from self.norm_weights("ffn")
        yield self.weight("ffn.up", up * model.hidden)
        if model.has_ffn_bias:
            yield self.weight("ffn.up.bias", up)
        yield self.weight("ffn.down", width * model.hidden)
        if model.has_ffn_bias:
            yield self.weight("ffn.down.bias", self.output_bias)

    def norm_weights(self, half: str) -> Iterator[Holding]:
        yield self.weight(f"{half}.norm", self.case.model.hidden)
        if self.case.model.norm == "layer":
            yield self.weight(f"{half}.norm.bias", self.case.model.hidden)

    @property
    def output_bias(self) -> int:
        """Elements of the bias of a half's output: its own columns' or all."""
        model, columns = self.case.model, self.case.strategy == "columns"
        return model.hidden // self.case.tp if columns else model.hidden

    def weight(self, name: str, elements: int) -> Holding:
        """In fp8 the matrices alone are quantised."""
        matrix = not name.endswith((".bias", "norm"))
        size = DTYPE_BYTES[self.case.workload.dtype] if matrix else self.e
        return Holding(name=name, kind="weights", bytes=elements * size)

    def workspace(self) -> Iterator[Holding]:
        """What lives only within the pass, at its widest moment.

        An upper estimate beside what is saved: allocators reuse what a pass has dropped.
        """
        for name, size in Workspace(case=self.case, device=self.device).widest().items():
            yield Holding(name=name, kind="workspace", bytes=size)
        if self.case.recompute != "none":
            yield Holding(name="remade", kind="workspace", bytes=self.remade_bytes)

    @property
    def remade_bytes(self) -> int:
        """What was not kept, and is made again where the backward begins."""
        if self.case.recompute == "none":
            return 0
        everything = replace(self, case=replace(self.case, recompute="none"))
        return sum(size for _, size in everything.saved()) - sum(size for _, size in self.saved())
