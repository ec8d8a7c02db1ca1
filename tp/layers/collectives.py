"""What the ranks of a group may say to each other; the only place that calls torch.distributed's collectives.

Shards are cut along the first dim, as torch's single-tensor collectives need. `GroupCollectives` sends;
`SilentCollectives` returns tensors of the same shapes without a word, for timing compute alone.
"""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from tp.layers.mesh import Mesh


def _single(new: str, old: str) -> Callable[..., object]:
    """torch 2.13 renamed the single-tensor collectives; the images for GPUs still carry 2.11."""
    return getattr(dist, new, None) or getattr(dist, old)  # type: ignore[no-any-return]


all_gather_single = _single("all_gather_single", "all_gather_into_tensor")
reduce_scatter_single = _single("reduce_scatter_single", "reduce_scatter_tensor")


@runtime_checkable  # for the checks of annotations under test
class Collectives(Protocol):
    """The three collectives of tensor parallelism over one group."""

    @property
    def mesh(self) -> Mesh: ...

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum `x` over the ranks, in place; returns `x`."""
        ...

    def all_gather(self, shard: Tensor) -> Tensor:
        """[m/n, ...] of every rank, concatenated to [m, ...]."""
        ...

    def reduce_scatter(self, full: Tensor) -> Tensor:
        """[m, ...] summed over the ranks, this rank's [m/n, ...] of it."""
        ...


class GroupCollectives:
    """Collectives that really send, complete for the caller when they return (on CUDA: on its stream)."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def all_reduce(self, x: Tensor) -> Tensor:
        dist.all_reduce(x, group=self.mesh.group)
        return x

    def all_gather(self, shard: Tensor) -> Tensor:
        full = shard.new_empty((shard.shape[0] * self.mesh.size, *shard.shape[1:]))
        all_gather_single(full, shard.contiguous(), group=self.mesh.group)
        return full

    def reduce_scatter(self, full: Tensor) -> Tensor:
        shard = full.new_empty((full.shape[0] // self.mesh.size, *full.shape[1:]))
        reduce_scatter_single(shard, full.contiguous(), group=self.mesh.group)
        return shard

    def pass_on(self, x: Tensor) -> Tensor:
        """Send `x` to the next rank and receive the one before's, all ranks at once: one step of a ring."""
        received = torch.empty_like(x)
        group, rank, size = self.mesh.group, self.mesh.rank, self.mesh.size
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, x, group=group, group_peer=(rank + 1) % size),
                dist.P2POp(dist.irecv, received, group=group, group_peer=(rank - 1) % size),
            ]
        )
        for work in works:
            work.wait()
        return received


class SilentCollectives:
    """Collectives that send nothing: right shapes, wrong numbers, for timing the compute between them."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        # One buffer a shape, made on first use (in the warm-up), so that no allocation or fill is timed.
        self._gathered = functools.cache(self._make_gathered)

    def all_reduce(self, x: Tensor) -> Tensor:
        return x

    def all_gather(self, shard: Tensor) -> Tensor:
        return self._gathered((shard.shape[0] * self.mesh.size, *shard.shape[1:]), shard.dtype)

    def reduce_scatter(self, full: Tensor) -> Tensor:
        return full.chunk(self.mesh.size)[self.mesh.rank]

    def _make_gathered(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        # Random, not zero or uninitialised: data changes power and hence clock, and denormals are slow.
        return torch.randn(shape, device=self.mesh.device, dtype=torch.float32).to(dtype)
