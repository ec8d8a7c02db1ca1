"""How the ranks of a run agree with each other, outside of what is timed."""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

# Differs from one start of a kernel to the next: processes that read the same share a host and its clocks.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rank runs."""

    node: str
    """The node's name: Slurm's where it gives one, else the host's."""
    host: str
    """The same for all ranks that share a host, its clocks and its process numbers."""
    machine: str
    """The same for all ranks that share a kernel, and so its cores, whatever it calls itself to each of them."""
    pid: int


def own_place() -> Place:
    """Where this process runs."""
    host = os.uname().nodename
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else ""
    node = os.environ.get("SLURMD_NODENAME", host)
    return Place(node=node, host=f"{host} {boot}".strip(), machine=boot or host, pid=os.getpid())


class Ranks(Protocol):
    """All ranks of a run."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def places(self) -> tuple[Place, ...]: ...

    def barrier(self) -> None:
        """Nobody goes on before everybody is here."""
        ...

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every rank's `values` [...], stacked to [ranks, ...]."""
        ...

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's value, by rank."""
        ...

    def decide(self, choice: int) -> int:
        """Rank 0's choice, on all ranks."""
        ...

    def agree(self, problem: str | None) -> list[str | None]:
        """Every rank's problem, by rank; a rank that fails may call it while the others are elsewhere."""
        ...

    def ask_time(self, peer: int) -> tuple[float, float, float] | None:
        """Rank 0 and `peer` call it. On rank 0: when it asked, what `peer`'s clock said, when the answer was there."""
        ...


class LoneRank:
    """A run of one rank."""

    rank = 0
    size = 1

    @property
    def places(self) -> tuple[Place, ...]:
        return (own_place(),)

    def barrier(self) -> None:
        pass

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[None]

    def gather_objects(self, value: Any) -> list[Any]:
        return [value]

    def decide(self, choice: int) -> int:
        return choice

    def agree(self, problem: str | None) -> list[str | None]:
        return [problem]

    def ask_time(self, peer: int) -> tuple[float, float, float] | None:
        return None


class WorldRanks:
    """The ranks of torch.distributed's world, talking over gloo so that no device is disturbed."""

    def __init__(self, *, timeout_s: float) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        # A group of its own has torch's 30 minutes unless it is told otherwise.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        # On a group of its own, so that a rank's problem is never taken for another's numbers.
        self._problems = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        self.places: tuple[Place, ...] = tuple(self.gather_objects(own_place()))

    def barrier(self) -> None:
        dist.barrier(group=self._group)

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        mine = torch.from_numpy(np.ascontiguousarray(values))
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine, group=self._group)
        return torch.stack(everyone).numpy()

    def gather_objects(self, value: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, value, group=self._group)
        return everyone

    def agree(self, problem: str | None) -> list[str | None]:
        everyone: list[str | None] = [None] * self.size
        dist.all_gather_object(everyone, problem, group=self._problems)
        return everyone

    def decide(self, choice: int) -> int:
        tensor = torch.tensor([choice])
        dist.broadcast(tensor, src=0, group=self._group)
        return int(tensor.item())

    def ask_time(self, peer: int) -> tuple[float, float, float] | None:
        box = torch.zeros(1, dtype=torch.float64)
        if self.rank == 0:
            sent_s = time.perf_counter()
            dist.send(box, dst=peer, group=self._group)
            dist.recv(box, src=peer, group=self._group)
            return sent_s, float(box.item()), time.perf_counter()
        if self.rank == peer:
            dist.recv(box, src=0, group=self._group)
            box.fill_(time.perf_counter())
            dist.send(box, dst=0, group=self._group)
        return None
