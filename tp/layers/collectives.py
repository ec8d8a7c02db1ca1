"""What the ranks of a group may say to each other; the only place that calls torch.distributed's collectives.

Shards are cut along the first dim, as torch's single-tensor collectives need. `GroupCollectives` sends, and waits at
once where it may not overlap; `FusedCollectives` multiplies meanwhile by torch's symmetric-memory operators;
`SilentCollectives` returns tensors of the same shapes without a word, for timing compute alone.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory  # registers torch.ops.symm_mem
from torch import Tensor

from tp.layers.mesh import Mesh
from tp.layers.transfers import PairedRing, PostedRing, Ring, SilentRing, start_direct_all_gather


def _single(new: str, old: str) -> Callable[..., object]:
    """torch 2.13 renamed the single-tensor collectives; the images for GPUs still carry 2.11."""
    return getattr(dist, new, None) or getattr(dist, old)  # type: ignore[no-any-return]


all_gather_single = _single("all_gather_single", "all_gather_into_tensor")
reduce_scatter_single = _single("reduce_scatter_single", "reduce_scatter_tensor")


Wait = Callable[[], None]
"""Blocks (on CUDA: the stream) until what was posted has arrived."""


@runtime_checkable  # for the checks of annotations under test
class Collectives(Protocol):
    """What tensor parallelism says over one group."""

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

    def start_all_reduce(self, x: Tensor) -> Wait:
        """Begin to sum `x` over the ranks, in place."""
        ...

    def start_all_gather(self, shard: Tensor) -> tuple[Tensor, Wait]:
        """Begin an all-gather; the tensor that it will fill."""
        ...

    def start_reduce_scatter(self, full: Tensor) -> tuple[Tensor, Wait]:
        """Begin a reduce-scatter of `full`, which must live until it is waited for; the tensor that it will fill."""
        ...

    def ring(self, received: Sequence[Tensor], tag: int) -> Ring:
        """Room for every receive of a ring of sends; two rings under way at once have different tags."""
        ...

    def gather_matmul(self, shard: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """[m/n, k] of every rank, concatenated to [m, k], and that times `matrix` [k, p]."""
        ...

    def matmul_scatter(self, x: Tensor, matrix: Tensor) -> Tensor:
        """[m, k] times `matrix` [k, p], summed over the ranks, this rank's [m/n, p] of it."""
        ...

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor to receive into."""
        ...


class _Composed:
    """Products beside collectives, one after the other."""

    def all_gather(self, shard: Tensor) -> Tensor:
        raise NotImplementedError

    def reduce_scatter(self, full: Tensor) -> Tensor:
        raise NotImplementedError

    def gather_matmul(self, shard: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        full = self.all_gather(shard)
        return full, full @ matrix

    def matmul_scatter(self, x: Tensor, matrix: Tensor) -> Tensor:
        return self.reduce_scatter(x @ matrix)


class GroupCollectives(_Composed):
    """Collectives that really send (on CUDA: beside the stream, which waits for them)."""

    def __init__(self, mesh: Mesh, *, overlaps: bool = True) -> None:
        """`overlaps`: whether what was started may still be under way when the call returns."""
        self.mesh = mesh
        self._overlaps = overlaps
        self._over_gloo = mesh.group is not None and dist.get_backend(mesh.group) == "gloo"

    def all_reduce(self, x: Tensor) -> Tensor:
        dist.all_reduce(x, group=self.mesh.group)
        return x

    def all_gather(self, shard: Tensor) -> Tensor:
        full, works = self._begin_all_gather(shard)
        for work in works:
            work.wait()
        return full

    def reduce_scatter(self, full: Tensor) -> Tensor:
        shard = self._room_for_own(full)
        reduce_scatter_single(shard, full.contiguous(), group=self.mesh.group)
        return shard

    def start_all_reduce(self, x: Tensor) -> Wait:
        return self._started([dist.all_reduce(x, group=self.mesh.group, async_op=True)])

    def start_all_gather(self, shard: Tensor) -> tuple[Tensor, Wait]:
        full, works = self._begin_all_gather(shard)
        return full, self._started(works)

    def start_reduce_scatter(self, full: Tensor) -> tuple[Tensor, Wait]:
        shard = self._room_for_own(full)
        return shard, self._started(
            [reduce_scatter_single(shard, full.contiguous(), group=self.mesh.group, async_op=True)]
        )

    def ring(self, received: Sequence[Tensor], tag: int) -> Ring:
        if self._over_gloo:
            return PostedRing(self.mesh, received, overlaps=self._overlaps, tag=tag)
        return PairedRing(self.mesh, received, overlaps=self._overlaps)

    def _begin_all_gather(self, shard: Tensor) -> tuple[Tensor, Sequence[Any]]:
        full, shard = self._room_for_all(shard), shard.contiguous()
        if self._over_gloo:
            return full, start_direct_all_gather(full, shard, self.mesh)
        return full, [all_gather_single(full, shard, group=self.mesh.group, async_op=True)]

    def _started(self, works: Sequence[Any]) -> Wait:
        def wait() -> None:
            for work in works:
                work.wait()

        if self._overlaps:
            return wait
        wait()
        return _nothing

    def _room_for_all(self, shard: Tensor) -> Tensor:
        return shard.new_empty((shard.shape[0] * self.mesh.size, *shard.shape[1:]))

    def _room_for_own(self, full: Tensor) -> Tensor:
        return full.new_empty((full.shape[0] // self.mesh.size, *full.shape[1:]))

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.mesh.device)


class FusedCollectives(GroupCollectives):
    """Products fused with their collectives by torch's symmetric-memory operators; CUDA only."""

    def gather_matmul(self, shard: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        # Told to keep the gathered tensor always: without it small sizes take a path that does not overlap.
        full, (product,) = torch.ops.symm_mem.fused_all_gather_matmul(
            shard.contiguous(), [matrix], 0, self._group_name, return_A=True
        )
        return full, product

    def matmul_scatter(self, x: Tensor, matrix: Tensor) -> Tensor:
        shard: Tensor = torch.ops.symm_mem.fused_matmul_reduce_scatter(
            x.contiguous(), matrix, "sum", 0, self._group_name
        )
        return shard

    @property
    def _group_name(self) -> str:
        assert self.mesh.group is not None, "a rank alone has no group"
        return str(self.mesh.group.group_name)


class SilentCollectives(_Composed):
    """Collectives that send nothing: right shapes, wrong numbers, for timing the compute between them."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        # One buffer a shape, made on first use (in the warm-up), so that no allocation or fill is timed.
        self._filled = functools.cache(self._make_filled)

    def all_reduce(self, x: Tensor) -> Tensor:
        return x

    def all_gather(self, shard: Tensor) -> Tensor:
        return self.room((shard.shape[0] * self.mesh.size, *shard.shape[1:]), shard.dtype)

    def reduce_scatter(self, full: Tensor) -> Tensor:
        return full.chunk(self.mesh.size)[self.mesh.rank]

    def start_all_reduce(self, x: Tensor) -> Wait:
        return _nothing

    def start_all_gather(self, shard: Tensor) -> tuple[Tensor, Wait]:
        return self.all_gather(shard), _nothing

    def start_reduce_scatter(self, full: Tensor) -> tuple[Tensor, Wait]:
        return self.reduce_scatter(full), _nothing

    def ring(self, received: Sequence[Tensor], tag: int) -> Ring:
        return SilentRing()

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self._filled(tuple(shape), dtype)

    def _make_filled(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        # Random, not zero or uninitialised: data changes power and hence clock, and denormals are slow.
        return torch.randn(shape, device=self.mesh.device, dtype=torch.float32).to(dtype)


def _nothing() -> None:
    """What was posted has arrived."""
