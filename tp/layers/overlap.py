"""The linear layers of `overlap`: tokens go round the ring of ranks in chunks while the chunk at hand is multiplied.

After Wang et al. 2023, "Overlap Communication with Dependent Computation via Decomposition"; `tp/plan/rings.py` is the
same in ops. Step by step a gather has here the tokens of this rank, of the one before it, and so on; partial sums
leave for the rank that is furthest and come last for this rank's own tokens. What is posted at a step is waited for
`chunks` steps later.

Legend: M tokens, M_tp this rank's tokens, K and N columns, _tp this rank's share of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tp.layers.collectives import Wait
from tp.layers.spans import Span, rank_span
from tp.layers.wire import Wire, apply
from tp.plan.ops import Direction


def ring_gather_linear(
    x: Float[Tensor, "M_tp K"],
    weight: Float[Tensor, "N_tp K"],
    bias: Float[Tensor, " N_tp"] | None,
    chunks: int,
    wire: Wire,
) -> Float[Tensor, "M N_tp"]:
    """The product of every rank's tokens, each chunk multiplied while the next one is sent."""
    return apply(_RingGatherLinear, x, weight, bias, chunks, wire)


def ring_linear_scatter(
    x: Float[Tensor, "M K_tp"], weight: Float[Tensor, "N K_tp"], chunks: int, wire: Wire
) -> Float[Tensor, "M_tp N"]:
    """This rank's tokens of the product summed over the ranks, partial sums sent while the next are made."""
    return apply(_RingLinearScatter, x, weight, chunks, wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """The order in which chunks of [M, ...] are at a rank."""

    rank: int
    size: int
    chunks: int
    tokens: int

    @property
    def num_steps(self) -> int:
        return self.size * self.chunks

    @property
    def num_sends(self) -> int:
        return (self.size - 1) * self.chunks

    @property
    def length(self) -> int:
        """Tokens of a chunk."""
        return self.tokens // self.num_steps

    @property
    def own(self) -> Span:
        """This rank's tokens."""
        return rank_span(self.tokens, rank=self.rank, num_ranks=self.size)

    def gathered(self, step: int) -> Span:
        """The tokens that a gather has here at `step`: first this rank's own."""
        return self._chunk(self.rank - step // self.chunks, step)

    def reduced(self, step: int) -> Span:
        """The tokens whose partial sums are made here at `step`: last this rank's own."""
        return self._chunk(self.rank - 1 - step // self.chunks, step)

    def _chunk(self, owner: int, step: int) -> Span:
        return Span(start=(owner % self.size * self.chunks + step % self.chunks) * self.length, length=self.length)


def _ring(tokens: int, chunks: int, wire: Wire) -> _Ring:
    mesh = wire.collectives.mesh
    return _Ring(rank=mesh.rank, size=mesh.size, chunks=chunks, tokens=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gather:
    """Every rank's chunks of [M, K], each at its step; what came from others lies in `full`."""

    ring: _Ring
    wire: Wire
    direction: Direction
    full: Tensor
    waits: list[Wait] = field(default_factory=list)

    def at(self, step: int, own: Tensor) -> Tensor:
        """The chunk of `step`, and the one after it on its way; `own` are this rank's tokens."""
        ring, chunks = self.ring, self.ring.chunks
        with self.wire.sending("send_recv", self.direction) as collectives:
            if step >= chunks:
                self.waits[step - chunks]()
                chunk = ring.gathered(step).of(self.full)
            else:
                chunk = own.narrow(0, step * ring.length, ring.length)
            if step < ring.num_sends:
                self.waits.append(collectives.exchange(chunk, ring.gathered(step + chunks).of(self.full)))
        return chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    """Partial sums on their way to the ranks whose tokens they are."""

    ring: _Ring
    wire: Wire
    direction: Direction
    waits: list[Wait] = field(default_factory=list)
    received: list[Tensor] = field(default_factory=list)

    def pass_on(self, step: int, partial: Tensor) -> None:
        """Add what came for the tokens of `step` to this rank's part, and send the sum on."""
        if step >= self.ring.chunks:
            self._add(step - self.ring.chunks, partial)
        with self.wire.sending("send_recv", self.direction) as collectives:
            self.received.append(collectives.room(partial.shape, partial.dtype))
            self.waits.append(collectives.exchange(partial, self.received[-1]))

    def finish(self, own: Float[Tensor, "M_tp N"]) -> None:
        """Add to this rank's part of its own tokens what the others have summed."""
        for position in range(self.ring.chunks):
            chunk = own.narrow(0, position * self.ring.length, self.ring.length)
            self._add(self.ring.num_sends - self.ring.chunks + position, chunk)

    def _add(self, sent: int, partial: Tensor) -> None:
        with self.wire.sending("send_recv", self.direction):
            self.waits[sent]()
        partial.add_(self.received[sent])


def _partials(ring: _Ring, own: Float[Tensor, "M_tp N"]) -> Iterator[tuple[int, Span, Tensor]]:
    """Each step's tokens and where their partial sum is to be written: this rank's own into `own`."""
    for step in range(ring.num_steps):
        if step < ring.num_sends:
            place = torch.empty((ring.length, own.shape[1]), dtype=own.dtype, device=own.device)
        else:
            place = own.narrow(0, (step - ring.num_sends) * ring.length, ring.length)
        yield step, ring.reduced(step), place


class _RingGatherLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, chunks: int, wire: Wire) -> Tensor:
        ctx.wire, ctx.chunks, ctx.has_bias = wire, chunks, bias is not None
        ctx.save_for_backward(x, weight)
        tokens = x.shape[0] * wire.num_ranks
        gather = _Gather(
            ring=_ring(tokens, chunks, wire),
            wire=wire,
            direction="forward",
            full=wire.collectives.room((tokens, x.shape[1]), x.dtype),
        )
        y = x.new_empty((tokens, weight.shape[0]))
        for step in range(gather.ring.num_steps):
            chunk, place = gather.at(step, x), gather.ring.gathered(step).of(y)
            if bias is None:
                torch.mm(chunk, weight.t(), out=place)
            else:
                torch.addmm(bias, chunk, weight.t(), out=place)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        (grad,), (x, weight), wire = grads, ctx.saved_tensors, ctx.wire
        grad_bias = grad.sum(0) if ctx.has_bias else None
        ring = _ring(grad.shape[0], ctx.chunks, wire)
        full = wire.collectives.room((grad.shape[0], x.shape[1]), x.dtype)
        ring.own.of(full).copy_(x)
        gather = _Gather(ring=ring, wire=wire, direction="backward", full=full)
        scatter = _Scatter(ring=ring, wire=wire, direction="backward")
        grad_x = torch.empty_like(x)
        for step, tokens, partial in _partials(ring, grad_x):
            gather.at(step, x)
            torch.mm(tokens.of(grad), weight, out=partial)  # [m, N_tp] x [N_tp, K]
            if step < ring.num_sends:
                scatter.pass_on(step, partial)
        grad_weight = grad.t() @ full  # [M, N_tp]^T x [M, K], while the last partial sums are under way
        scatter.finish(grad_x)
        return grad_x, grad_weight, grad_bias, None, None


class _RingLinearScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, chunks: int, wire: Wire) -> Tensor:
        ctx.wire, ctx.chunks = wire, chunks
        ctx.save_for_backward(x, weight)
        ring = _ring(x.shape[0], chunks, wire)
        scatter = _Scatter(ring=ring, wire=wire, direction="forward")
        y = x.new_empty((x.shape[0] // wire.num_ranks, weight.shape[0]))
        for step, tokens, partial in _partials(ring, y):
            torch.mm(tokens.of(x), weight.t(), out=partial)  # [m, K_tp] x [N, K_tp]^T
            if step < ring.num_sends:
                scatter.pass_on(step, partial)
        scatter.finish(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, (x, weight), wire = grads[0].contiguous(), ctx.saved_tensors, ctx.wire
        ring = _ring(x.shape[0], ctx.chunks, wire)
        full = wire.collectives.room((x.shape[0], grad.shape[1]), grad.dtype)
        ring.own.of(full).copy_(grad)
        gather = _Gather(ring=ring, wire=wire, direction="backward", full=full)
        grad_x = torch.empty_like(x)
        for step in range(ring.num_steps):
            torch.mm(gather.at(step, grad), weight, out=ring.gathered(step).of(grad_x))  # [m, N] x [N, K_tp]
        return grad_x, full.t() @ x, None, None  # [M, N]^T x [M, K_tp]
