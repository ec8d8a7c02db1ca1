"""Who this process is among those that torchrun started, and the process group they form."""

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from bench.harness.world.interfaces import offers, own_offer, publish
from bench.harness.world.ranks import LoneRank, Ranks, WorldRanks, own_place
from tp.errors import ConfigError, MeasurementError
from tp.placement import groups
from tp.plan.ops import Backend

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MAX_INT: Final = 2**31 - 1

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """This process's place in the run, as torchrun tells it."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def leads(self) -> bool:
        """Whether this is the rank that speaks to the user and writes the records."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        return self.world // self.local_world


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """The place that torchrun's environment variables give; without them, a world of one. ConfigError for nonsense."""
    world = _number(environ, "WORLD_SIZE", 1)
    local_world = _number(environ, "LOCAL_WORLD_SIZE", world)
    nodes = _number(environ, "GROUP_WORLD_SIZE", world // max(local_world, 1))
    if local_world * nodes != world:
        raise ConfigError(
            f"--nproc-per-node {local_world}: {nodes} nodes hold {world} ranks, not as many each; start all nodes alike"
        )
    return Launch(
        rank=_number(environ, "RANK", 0),
        world=world,
        local_rank=_number(environ, "LOCAL_RANK", 0),
        local_world=local_world,
    )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"{name}={text}: is not a number; start the ranks with torchrun, or unset it")
    return int(text)


def members_of(size: int, nodes: int, launch: Launch) -> tuple[tuple[int, ...], ...]:
    """The ranks of each group of `size` over `nodes`; none where they are next to each other."""
    if nodes == 1 or launch.world == size:
        return ()
    found = groups(size, world=launch.world, on_node=launch.local_world, nodes=nodes)
    return () if found == groups(size, world=launch.world, on_node=launch.world, nodes=1) else tuple(map(tuple, found))


def backend_of(kind: DeviceKind) -> Backend:
    return "nccl" if kind == "cuda" else "gloo"


def pick_device(kind: DeviceKind, launch: Launch) -> torch.device:
    """This rank's device: its own GPU, or one compute thread of the CPU."""
    if kind == "cpu":
        # One thread a rank, so that a rank stands for one device whatever the size of the world.
        torch.set_num_threads(1)
        _keep_freed_memory()
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise MeasurementError(
            f"--nproc-per-node {launch.local_world}: rank {launch.rank} has no GPU of its own, there are {count}; "
            f"start at most {count} ranks a node"
        )
    device = torch.device("cuda", launch.local_rank)
    torch.cuda.set_device(device)
    return device


def _keep_freed_memory() -> None:
    """Let malloc reuse large blocks, as torch's allocator on GPUs does.

    glibc hands blocks above 32 MiB back to the kernel at once; the next pass then pays a page fault for every 4 KiB,
    which doubled the time of a weight gradient. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAX_INT)
        mallopt(_M_TRIM_THRESHOLD, _MAX_INT)


@contextmanager
def joined(launch: Launch, kind: DeviceKind, *, timeout_s: float) -> Iterator[tuple[Ranks, Store | None]]:
    """The ranks, joined for as long as the context lasts, and the store by which they met, which torchrun keeps.

    A collective that hangs ends after `timeout_s`. After a failure the group is left as it is: to end it in good order
    would wait for whoever failed.
    """
    if launch.world == 1:
        yield LoneRank(), None
        return
    who = f"rank {launch.rank} of {launch.world} on {own_place().node}"
    late = f"the ranks did not meet within {timeout_s:g} s (--timeout)"
    timeout = timedelta(seconds=timeout_s)
    try:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        publish(PrefixStore("offers", store), launch.rank, own_offer(own_place().node, os.environ))
    except (RuntimeError, ValueError) as error:
        hint = "look at MASTER_ADDR, MASTER_PORT, and whether all ranks started"
        raise MeasurementError(f"{who}: {late}: {_first_line(error)}; {hint}") from error
    try:
        ranks = _join(kind, launch, store, timeout)
    except RuntimeError as error:
        where = offers(PrefixStore("offers", store), launch.world)
        hint = "name interfaces that reach each other by GLOO_SOCKET_IFNAME (NCCL_SOCKET_IFNAME) on every node"
        raise MeasurementError(f"{who}: {late}: {_first_line(error)}; {where}; {hint}") from error
    yield ranks, PrefixStore("faults", store)
    dist.destroy_process_group()


def _join(kind: DeviceKind, launch: Launch, store: Store, timeout: timedelta) -> Ranks:
    # NCCL's own watchdog would end the process without a word of where it was; ours comes first.
    backend, patience = ("cpu:gloo,cuda:nccl", 1.5) if kind == "cuda" else ("gloo", 1.0)
    dist.init_process_group(
        backend,
        store=PrefixStore("groups", store),
        rank=launch.rank,
        world_size=launch.world,
        timeout=timeout * patience,
    )
    return WorldRanks(timeout_s=timeout.total_seconds())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
