"""Who a rank computes with: its place in a tensor-parallel group, and the group."""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.testing._internal.distributed.fake_pg  # registers the backend "fake"

from tp.placement import groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """One rank's view of its tensor-parallel group."""

    rank: int
    """Rank inside the group."""
    size: int
    """Tensor-parallel degree."""
    device: torch.device
    group: dist.ProcessGroup | None
    """None for a group of one, which says nothing to anybody."""
    silent_group: dist.ProcessGroup | None = None
    """The same ranks, where collectives return at once and send nothing."""

    @property
    def emulated(self) -> bool:
        """Whether the other ranks are not there."""
        return self.size > 1 and self.group is None


def lone_mesh(device: torch.device) -> Mesh:
    """The mesh of a rank that computes alone."""
    return Mesh(rank=0, size=1, device=device, group=None)


def emulated_mesh(size: int, *, device: torch.device) -> Mesh:
    """The mesh of the first of `size` ranks, of which the others are not there."""
    return Mesh(rank=0, size=size, device=device, group=None)


def split_world(
    size: int, *, device: torch.device, timeout_s: float | None = None, nodes: int = 1, on_node: int | None = None
) -> Mesh:
    """Cut the world into groups of `size`, each over `nodes`; every rank of the world must call it.

    `on_node` ranks are on each node, by default all. A collective that takes longer than `timeout_s` fails (torch's
    default where None: 10 to 30 minutes).
    """
    if size == 1:
        return lone_mesh(device)
    world = dist.get_world_size()
    ranks = groups(size, world=world, on_node=on_node or world, nodes=nodes)
    timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
    group, _ = dist.new_subgroups_by_enumeration(ranks, timeout=timeout)
    silent_group, _ = dist.new_subgroups_by_enumeration(ranks, backend="fake")
    return Mesh(rank=dist.get_rank(group), size=size, device=device, group=group, silent_group=silent_group)
