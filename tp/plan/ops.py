"""The ops a plan is made of: matrix products, attention cores, elementwise passes and collectives.

The sizes that follow from a workload are numbers, or arrays of them over a grid of workloads (`tp/plan/grid.py`); the
FLOPs and bytes are then arrays too.

An op computes once everything listed before it is done. Around collectives that overlap, `needs` says more: of all
collectives of the plan the first so many must have arrived before the op, the others may still be under way.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tp.case import Case
from tp.units import DTYPE_BYTES, Dtype

ComputePart = Literal["norm", "qkv", "core", "out", "up", "activation", "down", "residual"]
CollectiveKind = Literal["all_gather", "reduce_scatter", "all_reduce", "send_recv"]
Part = ComputePart | CollectiveKind
COMPUTE_PARTS: Final[tuple[ComputePart, ...]] = get_args(ComputePart)
COLLECTIVE_KINDS: Final[tuple[CollectiveKind, ...]] = get_args(CollectiveKind)
PARTS: Final[tuple[Part, ...]] = (*COMPUTE_PARTS, *COLLECTIVE_KINDS)

Direction = Literal["forward", "backward"]
Backend = Literal["nccl", "gloo"]

Layout = Literal["nt", "nn", "tn"]
"""Storage of the operands as in BLAS: `nt` is y = x W^T, `nn` the input gradient, `tn` the weight gradient."""

PassKind = Literal[
    "norm",
    "norm_backward",
    "rope",
    "residual",
    "concat",
    "bias_grad",
    "swiglu",
    "swiglu_backward",
    "gelu",
    "gelu_backward",
    "quantize",
]
StreamKind = Literal["copy", "triad", "read", "to_device", "to_host", "both_ways"]
"""What moves memory and does next to nothing else (bench/harness/cases/streams.py): part of no plan."""
STREAM_KINDS: Final[tuple[StreamKind, ...]] = get_args(StreamKind)
ElementwiseKind = PassKind | StreamKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """One matrix product with an [m, n] result and reduction length k; 2*m*n*k FLOPs."""

    part: ComputePart
    direction: Direction
    layout: Layout
    m: int
    n: int
    k: int
    dtype: Dtype
    """Of the operands; the result of an fp8 product is bf16."""
    needs: int | None = None
    op: Literal["gemm"] = "gemm"

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k

    @property
    def moved_bytes(self) -> float:
        """Both operands read and the result written once."""
        result_bytes = DTYPE_BYTES["bf16" if self.dtype == "fp8" else self.dtype]
        return DTYPE_BYTES[self.dtype] * (self.m * self.k + self.k * self.n) + result_bytes * self.m * self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCore:
    """Scaled-dot-product attention over the heads of one rank: softmax(Q K^T / sqrt(d)) V.

    4*b*s*c*a*d FLOPs, when causal less the s*s/2 pairs above the diagonal: half of it with s = c. The backward of a
    kernel that recomputes the scores makes five products where the forward makes two, hence 2.5 times (Dao,
    FlashAttention-2, 2023, section 4.1).
    """

    part: ComputePart
    direction: Direction
    batch: int
    seq: int
    context: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    causal: bool
    dtype: Dtype
    needs: int | None = None
    op: Literal["attention"] = "attention"

    @property
    def flops(self) -> float:
        pairs = self.seq * self.context - (self.seq * self.seq / 2 if self.causal else 0)
        forward = 4.0 * self.batch * pairs * self.num_heads * self.head_dim
        return forward * (2.5 if self.direction == "backward" else 1.0)

    @property
    def moved_bytes(self) -> float:
        """Q, K, V and the output once; in the backward also their gradients."""
        queries = 2 * self.batch * self.seq * self.num_heads * self.head_dim
        keys = 2 * self.batch * self.context * self.num_kv_heads * self.head_dim
        passes = 2 if self.direction == "backward" else 1
        return 1.0 * (DTYPE_BYTES[self.dtype] * (queries + keys) * passes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """One pass over activations that is bound by memory."""

    part: ComputePart
    direction: Direction
    kind: ElementwiseKind
    read_bytes: int
    written_bytes: int
    dtype: Dtype
    needs: int | None = None
    op: Literal["elementwise"] = "elementwise"

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def moved_bytes(self) -> float:
        return 1.0 * (self.read_bytes + self.written_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective of `num_ranks`.

    `size_bytes` follows nccl-tests (doc/PERFORMANCE.md): the buffer of an all-reduce or a send, the whole
    gathered output of an all-gather, the whole input of a reduce-scatter.
    """

    kind: CollectiveKind
    direction: Direction
    num_ranks: int
    size_bytes: int
    dtype: Dtype
    backend: Backend
    overlaps: bool = False
    """Whether compute goes on while it is under way; otherwise it is waited for at once."""
    num_nodes: int = 1
    """Over which its ranks lie, as many on each."""
    op: Literal["collective"] = "collective"

    @property
    def part(self) -> CollectiveKind:
        return self.kind

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def sent_bytes(self) -> float:
        """Bytes that one rank sends, by the algorithm that the backend runs."""
        return self.size_bytes * sent_factor(self.kind, self.num_ranks, self.backend)


ComputeOp = Gemm | AttentionCore | Elementwise
Op = ComputeOp | Collective


def is_stream(op: Op) -> bool:
    """Whether an op only moves memory, as no plan has it."""
    return isinstance(op, Elementwise) and op.kind in STREAM_KINDS


def bus_factor(kind: CollectiveKind, num_ranks: int) -> float:
    """busbw / algbw of nccl-tests (doc/PERFORMANCE.md): the share of the size that a ring sends from each rank."""
    ring = (num_ranks - 1) / num_ranks
    return {"all_reduce": 2 * ring, "all_gather": ring, "reduce_scatter": ring, "send_recv": 1.0}[kind]


def sent_factor(kind: CollectiveKind, num_ranks: int, backend: Backend) -> float:
    """Share of the size that one rank sends.

    A ring's, but for gloo's reduce-scatter, which torch builds on an all-reduce (seen on the loopback counters:
    1.00*S at 2 ranks and 1.50*S at 4, as the all-reduce; DECISIONS.md).
    """
    if backend == "gloo" and kind == "reduce_scatter":
        return bus_factor("all_reduce", num_ranks)
    return bus_factor(kind, num_ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The ops of one rank for one pass through a block, in the order in which they run."""

    case: Case
    backend: Backend
    ops: tuple[Op, ...]

    @property
    def compute(self) -> tuple[ComputeOp, ...]:
        return tuple(op for op in self.ops if not isinstance(op, Collective))

    @property
    def collectives(self) -> tuple[Collective, ...]:
        return tuple(op for op in self.ops if isinstance(op, Collective))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that occur, in canonical order."""
        present = {op.part for op in self.ops}
        return tuple(part for part in PARTS if part in present)

    @property
    def flops(self) -> float:
        return sum_flops(self.ops)

    @property
    def sent_bytes(self) -> float:
        return sum(op.sent_bytes for op in self.collectives)


def sum_flops(ops: Iterable[Op]) -> float:
    """FLOPs of all `ops` together."""
    return sum(op.flops for op in ops)


def sum_bytes(ops: Iterable[Op]) -> float:
    """Bytes of all `ops` together: moved through memory by compute, sent by collectives."""
    return sum(op.sent_bytes if isinstance(op, Collective) else op.moved_bytes for op in ops)


Count = dict[CollectiveKind, tuple[int, int]]
"""Collectives of a kind and their bytes together."""


def planned_count(ops: Iterable[Op]) -> Count:
    """What a census of the collectives among `ops` must find."""
    count: Count = {}
    for op in ops:
        if not isinstance(op, Collective):
            continue
        number, size = count.get(op.kind, (0, 0))
        count[op.kind] = (number + 1, size + op.size_bytes)
    return count
