"""Tensors from rank to rank: the sends of a ring, and gloo's all-gather made of sends.

How a backend wants them posted decides whether both directions of a link are used. NCCL takes a send and a receive in
one launch, in the order of its stream. gloo's receiver tells the sender that it is ready on the connection that carries
its own data the other way: a receive that is posted after a send waits behind that send's bytes, and two ranks that
exchange 16 MB over a full-duplex link take turns, at half its rate (measured at 100 Mbit/s to 4 Gbit/s: 50 % posted
behind, 93 to 99 % posted before). So over gloo all receives of a ring are posted before its first send. gloo's own
all-gather sends first, in halves, and reaches two thirds of the rate; hence the one here, of the same bytes.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch.distributed as dist
from torch import Tensor

from tp.layers.census import counted_as
from tp.layers.mesh import Mesh

# What two rings under way at once, and an all-gather, are told apart by; only gloo looks at it.
GATHER_TAG, SCATTER_TAG, ALL_GATHER_TAG = 1, 2, 3


@runtime_checkable  # for the checks of annotations under test
class Ring(Protocol):
    """Sends to the next rank, each matched by one from the rank before, in order."""

    def send(self, tensor: Tensor) -> None:
        """Begin the next send; the tensor must stay as it is until `finish`."""
        ...

    def arrived(self, number: int) -> None:
        """Wait (on CUDA: let the stream wait) until the receive of that number is here; ask once for each."""
        ...

    def finish(self) -> None:
        """Wait until all that was sent has left."""
        ...


class PairedRing:
    """Each send with its receive in one launch, as NCCL needs it."""

    def __init__(self, mesh: Mesh, received: Sequence[Tensor], *, overlaps: bool) -> None:
        self._mesh, self._received, self._overlaps = mesh, received, overlaps
        self._works: list[Sequence[Any]] = []

    def send(self, tensor: Tensor) -> None:
        group, rank, size = self._mesh.group, self._mesh.rank, self._mesh.size
        self._works.append(
            dist.batch_isend_irecv(
                [
                    dist.P2POp(dist.isend, tensor, group=group, group_peer=(rank + 1) % size),
                    dist.P2POp(dist.irecv, self._received[len(self._works)], group=group, group_peer=(rank - 1) % size),
                ]
            )
        )
        if not self._overlaps:
            self._wait(len(self._works) - 1)

    def arrived(self, number: int) -> None:
        if self._overlaps:
            self._wait(number)

    def finish(self) -> None:
        pass

    def _wait(self, number: int) -> None:
        for work in self._works[number]:
            work.wait()


class PostedRing:
    """All receives posted before the first send, as gloo needs it to use both directions at once."""

    def __init__(self, mesh: Mesh, received: Sequence[Tensor], *, overlaps: bool, tag: int) -> None:
        self._mesh, self._overlaps, self._tag = mesh, overlaps, tag
        source = (mesh.rank - 1) % mesh.size
        self._receives = [dist.irecv(room, group=mesh.group, group_src=source, tag=tag) for room in received]
        self._sends: list[Any] = []

    def send(self, tensor: Tensor) -> None:
        target = (self._mesh.rank + 1) % self._mesh.size
        self._sends.append(dist.isend(tensor, group=self._mesh.group, group_dst=target, tag=self._tag))
        if not self._overlaps:
            _wait_for(self._receives[len(self._sends) - 1])
            _wait_for(self._sends[-1])

    def arrived(self, number: int) -> None:
        if self._overlaps:
            _wait_for(self._receives[number])

    def finish(self) -> None:
        if self._overlaps:
            for work in self._sends:
                _wait_for(work)


class SilentRing:
    """Nothing is sent, and all is here at once."""

    def send(self, tensor: Tensor) -> None:
        pass

    def arrived(self, number: int) -> None:
        pass

    def finish(self) -> None:
        pass


def start_direct_all_gather(full: Tensor, shard: Tensor, mesh: Mesh) -> Sequence[Any]:
    """Begin to send `shard` [m/n, ...] to every other rank and to receive theirs into `full` [m, ...].

    Of n ranks each sends (n-1)/n of the size, as a ring does.
    """
    places = full.chunk(mesh.size)
    others = [rank for rank in range(mesh.size) if rank != mesh.rank]
    with counted_as("all_gather", full.numel() * full.element_size()):
        works = [dist.irecv(places[rank], group=mesh.group, group_src=rank, tag=ALL_GATHER_TAG) for rank in others]
        works += [dist.isend(shard, group=mesh.group, group_dst=rank, tag=ALL_GATHER_TAG) for rank in others]
    places[mesh.rank].copy_(shard)
    return works


def _wait_for(work: Any) -> None:
    """A point-to-point work is None on a rank that the group does not have, which no ring asks for."""
    assert work is not None, "every rank of a ring is in its group"
    work.wait()
