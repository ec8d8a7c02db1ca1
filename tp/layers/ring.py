"""Chunks of tokens on their way round the ring of ranks: what a gather has at each step, and where partial sums go.

Step by step a gather has here the tokens of this rank, of the one before it, and so on; partial sums leave for the rank
that is furthest and come last for this rank's own tokens. A rank's own tokens all leave before its first product; what
comes from others is sent on as it comes.

Legend: M tokens, M_tp this rank's tokens, K and N columns, _tp this rank's share of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tp.layers.spans import Span, rank_span
from tp.layers.transfers import GATHER_TAG, SCATTER_TAG
from tp.layers.wire import Wire
from tp.plan.ops import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
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


def ring_of(tokens: int, chunks: int, wire: Wire) -> Ring:
    mesh = wire.collectives.mesh
    return Ring(rank=mesh.rank, size=mesh.size, chunks=chunks, tokens=tokens)


class Gather:
    """Every rank's chunks of [M, K], each at its step; what came from others lies in `full`."""

    def __init__(self, ring: Ring, wire: Wire, direction: Direction, *, own: Tensor, full: Tensor) -> None:
        """`own` are this rank's tokens, which leave at once."""
        self.ring, self.wire, self.direction, self.own, self.full = ring, wire, direction, own, full
        self._here = 0
        with wire.sending("send_recv", direction) as collectives:
            places = [ring.gathered(sent + ring.chunks).of(full) for sent in range(ring.num_sends)]
            self._sends = collectives.ring(places, GATHER_TAG)
            for step in range(ring.chunks):
                self._sends.send(self._own(step))

    def at(self, step: int) -> Tensor:
        """The chunk of `step`, which is here when this returns, and on its way to the next rank."""
        if step < self.ring.chunks:
            return self._own(step)
        self.forward(step)
        self._wait_until(step)
        return self.ring.gathered(step).of(self.full)

    def forward(self, step: int) -> None:
        """Send on what is to be here at `step`, once it is, if the next rank does not have it yet."""
        if self.ring.chunks <= step < self.ring.num_sends:
            self._wait_until(step)
            with self.wire.sending("send_recv", self.direction):
                self._sends.send(self.ring.gathered(step).of(self.full))

    def finish(self) -> None:
        """All chunks are here, and what was sent has left."""
        self._wait_until(self.ring.num_steps - 1)
        with self.wire.sending("send_recv", self.direction):
            self._sends.finish()

    def _own(self, step: int) -> Tensor:
        return self.own.narrow(0, step * self.ring.length, self.ring.length)

    def _wait_until(self, step: int) -> None:
        last = step - self.ring.chunks + 1
        if self._here < last:
            with self.wire.sending("send_recv", self.direction):
                for number in range(self._here, last):
                    self._sends.arrived(number)
            self._here = last


class Scatter:
    """Partial sums on their way to the ranks whose tokens they are."""

    def __init__(self, ring: Ring, wire: Wire, direction: Direction, *, like: Float[Tensor, "M_tp N"]) -> None:
        """`like` is a tensor of this rank's own sums."""
        self.ring, self.wire, self.direction = ring, wire, direction
        with wire.sending("send_recv", direction) as collectives:
            shape = (ring.length, like.shape[1])
            self._received = [collectives.room(shape, like.dtype) for _ in range(ring.num_sends)]
            self._sends = collectives.ring(self._received, SCATTER_TAG)

    def pass_on(self, step: int, partial: Tensor) -> None:
        """Add what came for the tokens of `step` to this rank's part, and send the sum on."""
        if step >= self.ring.chunks:
            self._add(step - self.ring.chunks, partial)
        with self.wire.sending("send_recv", self.direction):
            self._sends.send(partial)

    def finish(self, own: Float[Tensor, "M_tp N"]) -> None:
        """Add to this rank's part of its own tokens what the others have summed."""
        for position in range(self.ring.chunks):
            chunk = own.narrow(0, position * self.ring.length, self.ring.length)
            self._add(self.ring.num_sends - self.ring.chunks + position, chunk)
        with self.wire.sending("send_recv", self.direction):
            self._sends.finish()

    def _add(self, sent: int, partial: Tensor) -> None:
        with self.wire.sending("send_recv", self.direction):
            self._sends.arrived(sent)
        partial.add_(self._received[sent])


def partials(ring: Ring, own: Float[Tensor, "M_tp N"]) -> Iterator[tuple[int, Span, Tensor]]:
    """Each step's tokens and where their partial sum is to be written: this rank's own into `own`."""
    for step in range(ring.num_steps):
        if step < ring.num_sends:
            place = torch.empty((ring.length, own.shape[1]), dtype=own.dtype, device=own.device)
        else:
            place = own.narrow(0, (step - ring.num_sends) * ring.length, ring.length)
        yield step, ring.reduced(step), place
