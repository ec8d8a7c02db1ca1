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
from tp.plan.shards import AttentionShard, attention_shard
from tp.units import DTYPE_BYTES

HoldingKind = Literal["weights", "gradients", "saved", "kv_cache", "workspace"]
HOLDING_KINDS = get_args(HoldingKind)
DeviceKind = Literal["cpu", "cuda"]

# Of what attention kernels and CUDA's norms keep in fp32: log-sum-exp, mean, reciprocal deviation.
FP32_BYTES = DTYPE_BYTES["fp32"]
# kMinBlockSize of c10/cuda/CUDACachingAllocator.
BLOCK_BYTES = 512

Moment = dict[str, int]
"""Bytes of tensors that are alive together, by name."""

# What CUDA's attention kernels note of the random generator, and autograd keeps, though nothing is dropped: two int64.
RANDOM_STATE: Moment = {"seed": 8, "offset": 8}


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
        """What lives only within the pass, at its widest moment; the pass's input is there before and not counted.

        An upper estimate beside what is saved: allocators reuse what a pass has dropped.
        """
        case = self.case
        moments = [
            *(self.attention_moments() if case.has_attention else ()),
            *(self.ffn_moments() if case.has_ffn else ()),
        ]
        widest = max(moments, key=lambda moment: sum(moment.values()))
        block = BLOCK_BYTES if self.device == "cuda" else 1
        for name, size in widest.items():
            yield Holding(name=name, kind="workspace", bytes=-(-size // block) * block)
        if case.recompute != "none":
            # The backward begins by making again what was not kept.
            everything = replace(self, case=replace(case, recompute="none"))
            remade = sum(size for _, size in everything.saved()) - sum(size for _, size in self.saved())
            yield Holding(name="remade", kind="workspace", bytes=remade)

    def attention_moments(self) -> Iterator[Moment]:
        """The products and the core between them."""
        model, s, m, e = self.case.model, attention_shard(self.case.model, self.case.tp), self.m, self.e
        normed, qkv = {"normed": self.stream_bytes}, {"qkv": m * s.qkv_width * e}
        yield from self.first_product(normed, qkv)
        rotated = {"rotated": m * (s.width + s.kv_width) * e} if model.position == "rope" else {}
        yield normed | qkv | rotated | {"z": m * s.width * e} | self.kernel(s)
        # The layer still has its first product in hand.
        yield from self.last_product(normed | qkv | {"z": m * s.width * e}, model.attention_width)
        yield from self.end(normed, model.attention_width, qkv, biased=model.has_out_bias)

    def kernel(self, s: AttentionShard) -> Moment:
        """What the attention kernel makes beside its result; CUDA's of one token share out the cache and add up.

        A share is at least the 128 tokens of a tile, and there are at most 128, by num_splits_heuristic of torch's
        flash_api.cpp; cuDNN made one share a tile at a context of 4096 on an H100 (torch 2.11).
        """
        w, rows = self.case.workload, self.m * s.num_heads * FP32_BYTES
        made = {"logsumexp": rows} | (RANDOM_STATE if self.device == "cuda" else {})
        if self.device == "cuda" and w.phase == "decode":
            shares = min(-(-w.context // 128), 128)
            made |= {"shares": shares * rows * s.head_dim, "shares.max": shares * rows, "shares.sum": shares * rows}
        return made

    def ffn_moments(self) -> Iterator[Moment]:
        """The products and the activation between them."""
        case, model = self.case, self.case.model
        size = self.m * (model.ffn_width // case.tp) * self.e
        # In a whole layer attention made the FFN's input.
        x = {"x": self.stream_bytes} if case.has_attention else {}
        normed = x | {"normed": self.stream_bytes}
        hidden = {"gate_and_up": 2 * size} if model.gated else {"up": size}
        yield from self.first_product(normed, hidden)
        active = normed | hidden | {"active": size}
        if model.gated and case.strategy == "dtensor":
            yield active | {"silu": size}
        yield from self.last_product(active, model.ffn_width)
        yield from self.end(normed, model.ffn_width, hidden, biased=model.has_ffn_bias)

    def first_product(self, held: Moment, made: Moment) -> Iterator[Moment]:
        """A half's norm, on CPUs several ops in fp32, and its first product, of all ranks' tokens."""
        case, size = self.case, self.m * self.case.model.hidden
        if self.device == "cpu" and case.model.norm == "rms":
            yield held | {"norm.fp32": 3 * case.local_tokens * case.model.hidden * FP32_BYTES}
        if case.splits_tokens:
            held = held | {"gathered": size * self.e}
        yield held | made
        if case.strategy == "async-tp" and case.tp > 1 and case.model.has_qkv_bias:
            yield held | made | {"biased": sum(made.values())}
        yield from self.quantised(held, size, made)

    def last_product(self, held: Moment, width: int) -> Iterator[Moment]:
        """A half's last product, with the buffers of what it is sent by; `width` counts all ranks' input columns."""
        case, m, e = self.case, self.m, self.e
        own, y = m * (width // case.tp), m * case.model.hidden * e
        if case.tp > 1 and case.strategy == "columns":  # gathered rank by rank, then put side by side
            gathered = held | {"gathered": m * width * e}
            yield gathered | {"stacked": m * width * e}
            yield from self.quantised(gathered, m * width, {"columns": y // case.tp})
            yield gathered | {"columns": y // case.tp}
            yield held | {"columns": y // case.tp, "stacked": y, "y": y}
            return
        copied = case.splits_tokens or case.tp > 1 and case.strategy == "dtensor"
        made = {"y": self.stream_bytes} | ({"partial": y} if copied else {})
        yield held | made
        yield from self.quantised(held, own, made)

    def quantised(self, held: Moment, elements: int, made: Moment) -> Iterator[Moment]:
        """In fp8 a product's input is scaled and cut in fp32, each in a copy, then multiplied in one byte a number."""
        if self.case.workload.dtype == "fp8":
            yield held | {"scale": FP32_BYTES, "scaled": elements * FP32_BYTES, "cut": elements * FP32_BYTES}
            yield held | {"quantised": elements} | made

    def end(self, normed: Moment, width: int, made: Moment, *, biased: bool) -> Iterator[Moment]:
        """The bias; all that the backward makes beside gradients of weights, as if none of it went before the rest."""
        case, m, e = self.case, self.m, self.e
        if biased:
            yield normed | {"y": self.stream_bytes, "biased": self.stream_bytes}
        if case.workload.phase != "train":
            return
        everyone = m * case.model.hidden * e
        moment = {"y": self.stream_bytes, "grad.y": self.stream_bytes, "grad.x": everyone}
        if case.splits_tokens:
            moment |= {"gathered": everyone, "grad.own": self.stream_bytes}
        if case.strategy == "columns" and case.tp > 1:
            moment |= {"grad.gathered": m * width * e, "stacked": m * width * e}
        moment |= {"grad.product": sum(made.values()), "grad.between": 3 * m * (width // case.tp) * e}
        if self.device == "cpu" and case.model.norm == "rms":
            moment["grad.norm.fp32"] = 4 * self.stream_bytes // e * FP32_BYTES
        yield moment
