"""What a rank holds during a pass, tensor by tensor: weights, gradients, saved activations, KV cache, workspace.

Saved activations are the storages that autograd keeps from the forward for the backward, each counted once however
many ops share it, weights and tables that are there anyway not at all. They are what the layers of `tp/layers` save
through torch's own kernels; a rank's m tokens are b*s, of which it holds m/n between blocks under token strategies.
Compare Korthikanti et al. 2022, section 4, whose 34*s*b*h counts 16-bit activations with dropout and without flash
attention.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tp.case import Case
from tp.plan.shards import attention_shard
from tp.units import DTYPE_BYTES

HoldingKind = Literal["weights", "gradients", "saved", "kv_cache", "workspace"]
HOLDING_KINDS = get_args(HoldingKind)
DeviceKind = Literal["cpu", "cuda"]

# Of what attention kernels and CUDA's norms keep in fp32: log-sum-exp, mean, reciprocal deviation.
FP32_BYTES = DTYPE_BYTES["fp32"]


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


def held_bytes(holdings: Iterable[Holding], kind: HoldingKind | None = None) -> int:
    """The bytes of one kind, or the peak: all of them at once."""
    return sum(each.bytes for each in holdings if kind in (None, each.kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    case: Case
    device: DeviceKind

    @property
    def e(self) -> int:
        return self.case.workload.element_bytes

    @property
    def m(self) -> int:
        return self.case.workload.tokens

    @property
    def stream_bytes(self) -> int:
        """The activation between blocks, as this rank holds it."""
        return self.case.local_tokens * self.case.model.hidden * self.e

    def holdings(self) -> Iterator[Holding]:
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
        yield from self.workspace()

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
        """The largest tensors that live only within the pass: the input, the widest product and what follows it.

        An upper estimate: allocators reuse what a pass has dropped.
        """
        case, m, e = self.case, self.m, self.e
        wide = []
        if case.has_attention:
            wide.append(2 * attention_shard(case.model, case.tp).qkv_width)
        if case.has_ffn:
            wide.append(case.model.ffn_width // case.tp * (3 if case.model.gated else 2))
        # The stream, its normed copy, and under token strategies the gathered one.
        stream = 2 * self.stream_bytes + (m * case.model.hidden * e if case.splits_tokens else 0)
        yield Holding(name="stream", kind="workspace", bytes=stream)
        yield Holding(name="widest", kind="workspace", bytes=m * max(wide) * e)
        if case.recompute != "none":
            # The backward begins by making again what was not kept.
            everything = replace(self, case=replace(case, recompute="none"))
            remade = sum(size for _, size in everything.saved()) - sum(size for _, size in self.saved())
            yield Holding(name="remade", kind="workspace", bytes=remade)
