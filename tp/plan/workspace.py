"""What lives only within a pass, moment by moment: which tensors are alive together beside what is kept.

The moments are those of the layers of `tp/layers` over torch's own kernels. Sizes may be arrays over a grid of
workloads (`tp/plan/grid.py`); at each point another moment may then be the widest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tp.case import Case
from tp.numbers import either, larger, lesser
from tp.plan.shards import AttentionShard, attention_shard
from tp.units import DTYPE_BYTES

DeviceKind = Literal["cpu", "cuda"]

# Of what attention kernels and CUDA's norms keep in fp32: log-sum-exp, mean, reciprocal deviation.
FP32_BYTES: Final = DTYPE_BYTES["fp32"]
# kMinBlockSize of c10/cuda/CUDACachingAllocator.
BLOCK_BYTES: Final = 512

Moment = dict[str, int]
"""Bytes of tensors that are alive together, by name."""

# What CUDA's attention kernels note of the random generator, and autograd keeps, though nothing is dropped: two int64.
RANDOM_STATE: Final[Moment] = {"seed": 8, "offset": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes that everything a rank holds is made of."""

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

    def allocated(self, size: int) -> int:
        """What a tensor of so many bytes takes: on CUDA whole blocks of the allocator."""
        block = BLOCK_BYTES if self.device == "cuda" else 1
        return -(-size // block) * block


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace(Sizes):
    """The moments of one pass through a block; its input is there before and not counted."""

    def widest(self) -> Moment:
        """The moment that holds most, each tensor as it is allocated."""
        moment = max(self.moments(), key=lambda moment: sum(moment.values()))
        return {name: self.allocated(size) for name, size in moment.items()}

    def widest_bytes(self) -> int:
        """What `widest` holds; over a grid, at each of its points."""
        held, taken = 0, 0
        for moment in self.moments():
            size = sum(moment.values())
            # The first of equals, as `max` has it.
            taken = either(size > held, sum(map(self.allocated, moment.values())), taken)
            held = larger(held, size)
        return taken

    def moments(self) -> Iterator[Moment]:
        """Those of the halves of a layer, in their order."""
        if self.case.has_attention:
            yield from self.attention_moments()
        if self.case.has_ffn:
            yield from self.ffn_moments()

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
            shares = lesser(-(-w.context // 128), 128)
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
        if case.pipelines_ffn:
            yield from self.pipelined(normed, sum(hidden.values()), size)
            yield from self.end(normed, model.ffn_width, hidden, biased=model.has_ffn_bias)
            return
        yield from self.first_product(normed, hidden)
        active = normed | hidden | {"active": size}
        if model.gated and case.strategy == "dtensor":
            yield active | {"silu": size}
        yield from self.last_product(active, model.ffn_width)
        yield from self.end(normed, model.ffn_width, hidden, biased=model.has_ffn_bias)

    def pipelined(self, held: Moment, hidden: int, active: int) -> Iterator[Moment]:
        """Both products chunk by chunk: all that comes and leaves, of what lies between this rank's own tokens."""
        case, everyone = self.case, self.m * self.case.model.hidden * self.e
        others = everyone - everyone // case.tp
        moment = held | {"gathered": everyone, "y": self.stream_bytes, "received": others, "partial": others}
        # As if in one chunk a rank; in more it is less.
        yield moment | {"own": active // case.tp, "chunk": hidden // case.tp, "chunk.active": active // case.tp}

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
