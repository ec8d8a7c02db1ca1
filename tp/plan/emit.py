"""The ops of a case in the making: products, passes and collectives with the case's sizes and dtypes filled in."""

from collections.abc import Iterator
from dataclasses import dataclass, field

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
)
from tp.plan.shards import AttentionShard


@dataclass(frozen=True, kw_only=True)
class Emitter:
    """Makes the ops of one case; counts the collectives, so that pipelined products can say which ones they need."""

    case: Case
    backend: Backend
    _sent: list[CollectiveKind] = field(default_factory=list)

    @property
    def hidden(self) -> int:
        return self.case.model.hidden

    @property
    def tokens(self) -> int:
        return self.case.workload.tokens

    @property
    def num_sent(self) -> int:
        """Collectives so far."""
        return len(self._sent)

    def gemm(
        self,
        part: ComputePart,
        layout: Layout,
        m: int,
        n: int,
        k: int,
        *,
        backward: bool = False,
        needs: int | None = None,
    ) -> Iterator[Gemm | Elementwise]:
        """An [m, n] product over k; in fp8 its input is quantised first."""
        dtype = self.case.workload.dtype
        if dtype == "fp8":
            size = m * k
            yield Elementwise(
                part=part,
                direction=_direction(backward),
                kind="quantize",
                # Read for the largest magnitude and again to scale; written in one byte.
                read_bytes=2 * size * self.case.workload.element_bytes,
                written_bytes=size,
                dtype=self.case.workload.activation_dtype,
                needs=needs,
            )
        yield Gemm(part=part, direction=_direction(backward), layout=layout, m=m, n=n, k=k, dtype=dtype, needs=needs)

    def elementwise(
        self,
        part: ComputePart,
        kind: ElementwiseKind,
        elements: int,
        *,
        reads: int,
        writes: int,
        backward: bool = False,
        needs: int | None = None,
    ) -> Elementwise:
        """A pass that reads and writes tensors of `elements` so many times."""
        size = elements * self.case.workload.element_bytes
        return Elementwise(
            part=part,
            direction=_direction(backward),
            kind=kind,
            read_bytes=reads * size,
            written_bytes=writes * size,
            dtype=self.case.workload.activation_dtype,
            needs=needs,
        )

    def collective(
        self, kind: CollectiveKind, width: int, *, backward: bool = False, overlaps: bool = False
    ) -> Iterator[Collective]:
        """A collective over all tokens, [m, width]; none on one rank."""
        if self.case.tp > 1:
            yield self._collective(kind, self.tokens * width, backward=backward, overlaps=overlaps)

    def send_chunk(self, width: int, *, backward: bool = False) -> Collective:
        """One chunk of one rank's tokens, [m / (n*chunks), width], to the next rank while compute goes on."""
        return self._collective("send_recv", self.chunk_tokens * width, backward=backward, overlaps=True)

    @property
    def chunk_tokens(self) -> int:
        return self.tokens // (self.case.tp * self.case.chunks)

    def core(self, shard: AttentionShard, *, backward: bool = False) -> AttentionCore:
        w = self.case.workload
        return AttentionCore(
            part="core",
            direction=_direction(backward),
            batch=w.batch,
            seq=w.seq,
            context=w.context,
            num_heads=shard.num_heads,
            num_kv_heads=shard.num_kv_heads,
            head_dim=shard.head_dim,
            causal=w.phase != "decode",
            dtype=w.activation_dtype,
        )

    def _collective(self, kind: CollectiveKind, elements: int, *, backward: bool, overlaps: bool) -> Collective:
        self._sent.append(kind)
        return Collective(
            kind=kind,
            direction=_direction(backward),
            num_ranks=self.case.tp,
            size_bytes=elements * self.case.workload.element_bytes,
            dtype=self.case.workload.activation_dtype,
            backend=self.backend,
            overlaps=overlaps,
            num_nodes=self.case.nodes,
        )


def _direction(backward: bool) -> Direction:
    return "backward" if backward else "forward"
