"""The ops of the attention block: norm, QKV, core, output projection, residual, and what is sent between.

Shapes in a comment are per rank: m tokens, h hidden, w = a/n*d the columns of this rank's heads, q the rows of
its QKV weight. The backward mirrors the forward; its products are two for each of the forward's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tp.case import Case
from tp.plan.ops import (
    AttentionCore,
    Backend,
    Collective,
    CollectiveKind,
    ComputePart,
    Direction,
    Elementwise,
    ElementwiseKind,
    Gemm,
    Layout,
    Op,
)
from tp.plan.shards import AttentionShard, attention_shard


def attention_ops(case: Case, backend: Backend) -> tuple[Op, ...]:
    """The ops of one pass through the attention block, in order."""
    block = _AttentionBlock(case=case, backend=backend, shard=attention_shard(case.model, case.tp))
    if case.workload.phase == "train":
        return (*block.forward(), *block.backward())
    return tuple(block.forward())


@dataclass(frozen=True, slots=True, kw_only=True)
class _AttentionBlock:
    case: Case
    backend: Backend
    shard: AttentionShard

    @property
    def h(self) -> int:
        return self.case.model.hidden

    @property
    def m(self) -> int:
        return self.case.workload.tokens

    @property
    def local_tokens(self) -> int:
        """Tokens whose norm and residual this rank computes."""
        return self.m // self.case.tp if self.case.strategy == "sequence" else self.m

    def forward(self) -> Iterator[Op]:
        case, model, s = self.case, self.case.model, self.shard
        yield self._pass("norm", "norm", self.local_tokens * self.h, reads=1, writes=1)
        if case.strategy == "sequence":
            yield from self._send("all_gather", self.h)
        yield self._gemm("qkv", "nt", self.m, s.qkv_width, self.h)  # [m, h] x [q, h]^T
        if model.position == "rope":
            yield self._pass("core", "rope", self.m * (s.width + s.kv_width), reads=1, writes=1)
        if case.workload.phase == "decode":
            yield self._pass("core", "concat", self.m * 2 * s.kv_width, reads=1, writes=1)  # into the KV cache
        yield self._core("forward")
        if case.strategy == "columns":
            yield from self._gather_columns(model.attention_width)
            yield self._gemm("out", "nt", self.m, self.h // case.tp, model.attention_width)  # [m, a*d] x [h/n, a*d]^T
            yield from self._gather_columns(self.h)
        else:
            yield self._gemm("out", "nt", self.m, self.h, s.width)  # [m, w] x [h, w]^T
            yield from self._send("all_reduce" if case.strategy == "allreduce" else "reduce_scatter", self.h)
            if model.has_out_bias:
                yield self._pass("residual", "residual", self.local_tokens * self.h, reads=1, writes=1)
        yield self._pass("residual", "residual", self.local_tokens * self.h, reads=2, writes=1)

    def backward(self) -> Iterator[Op]:
        case, s = self.case, self.shard
        yield from self._out_backward()
        yield self._core("backward")
        if case.model.position == "rope":
            yield self._pass("core", "rope", self.m * (s.width + s.kv_width), reads=1, writes=1, backward=True)
        yield self._pass("core", "concat", self.m * s.qkv_width, reads=1, writes=1, backward=True)  # dQ | dK | dV
        yield self._gemm("qkv", "nn", self.m, self.h, s.qkv_width, backward=True)  # [m, q] x [q, h]
        if case.strategy == "sequence":
            yield from self._send("all_gather", self.h, backward=True)  # the input again, for the weight gradient
        yield self._gemm("qkv", "tn", s.qkv_width, self.h, self.m, backward=True)  # [m, q]^T x [m, h]
        if case.model.has_qkv_bias:
            yield self._pass("qkv", "bias_grad", self.m * s.qkv_width, reads=1, writes=0, backward=True)
        yield from self._send("reduce_scatter" if case.strategy == "sequence" else "all_reduce", self.h, backward=True)
        elements = self.local_tokens * self.h
        yield self._pass("norm", "norm_backward", elements, reads=2, writes=1, backward=True)
        # The gradient that skipped the block is added when the norm's arrives, on the norm's time.
        yield self._pass("norm", "residual", elements, reads=2, writes=1, backward=True)

    def _out_backward(self) -> Iterator[Op]:
        case, model, s = self.case, self.case.model, self.shard
        bias = model.has_out_bias
        if case.strategy == "columns":
            columns, width = self.h // case.tp, model.attention_width
            yield self._gemm("out", "nn", self.m, width, columns, backward=True)  # [m, h/n] x [h/n, a*d]
            yield self._gemm("out", "tn", columns, width, self.m, backward=True)  # [m, h/n]^T x [m, a*d]
            if bias:
                yield self._pass("out", "bias_grad", self.m * columns, reads=1, writes=0, backward=True)
            if case.tp > 1:
                yield self._pass("out", "concat", self.m * width, reads=1, writes=1, backward=True)
            yield from self._send("reduce_scatter", width, backward=True)
            return
        if bias:
            elements = self.local_tokens * self.h
            yield self._pass("residual", "bias_grad", elements, reads=1, writes=0, backward=True)
        if case.strategy == "sequence":
            yield from self._send("all_gather", self.h, backward=True)
        yield self._gemm("out", "nn", self.m, s.width, self.h, backward=True)  # [m, h] x [h, w]
        yield self._gemm("out", "tn", self.h, s.width, self.m, backward=True)  # [m, h]^T x [m, w]

    def _gather_columns(self, width: int) -> Iterator[Op]:
        """All-gather [m, width/n] and lay the shards side by side, a copy that the output projection pays."""
        yield from self._send("all_gather", width)
        if self.case.tp > 1:
            yield self._pass("out", "concat", self.m * width, reads=1, writes=1)

    def _send(self, kind: CollectiveKind, width: int, *, backward: bool = False) -> Iterator[Op]:
        """A collective over [m, width]; none on one rank."""
        if self.case.tp > 1:
            yield Collective(
                kind=kind,
                direction=_direction(backward),
                num_ranks=self.case.tp,
                size_bytes=self.m * width * self.case.workload.element_bytes,
                dtype=self.case.workload.dtype,
                backend=self.backend,
            )

    def _gemm(self, part: ComputePart, layout: Layout, m: int, n: int, k: int, *, backward: bool = False) -> Gemm:
        dtype = self.case.workload.dtype
        return Gemm(part=part, direction=_direction(backward), layout=layout, m=m, n=n, k=k, dtype=dtype)

    def _pass(
        self,
        part: ComputePart,
        kind: ElementwiseKind,
        elements: int,
        *,
        reads: int,
        writes: int,
        backward: bool = False,
    ) -> Elementwise:
        """A pass that reads and writes tensors of `elements` so many times."""
        size = elements * self.case.workload.element_bytes
        return Elementwise(
            part=part,
            direction=_direction(backward),
            kind=kind,
            read_bytes=reads * size,
            written_bytes=writes * size,
            dtype=self.case.workload.dtype,
        )

    def _core(self, direction: Direction) -> AttentionCore:
        w = self.case.workload
        return AttentionCore(
            part="core",
            direction=direction,
            batch=w.batch,
            seq=w.seq,
            context=w.context,
            num_heads=self.shard.num_heads,
            num_kv_heads=self.shard.num_kv_heads,
            head_dim=self.shard.head_dim,
            causal=w.phase != "decode",
            dtype=w.dtype,
        )


def _direction(backward: bool) -> Direction:
    return "backward" if backward else "forward"
