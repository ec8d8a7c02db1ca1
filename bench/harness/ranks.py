"""How the ranks of a run agree with each other, outside of what is timed."""

from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray


class Ranks(Protocol):
    """All ranks of a run."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

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


class LoneRank:
    """A run of one rank."""

    rank = 0
    size = 1

    def barrier(self) -> None:
        pass

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[None]

    def gather_objects(self, value: Any) -> list[Any]:
        return [value]

    def decide(self, choice: int) -> int:
        return choice


class WorldRanks:
    """The ranks of torch.distributed's world, talking over gloo so that no device is disturbed."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._group = dist.new_group(backend="gloo")

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

    def decide(self, choice: int) -> int:
        tensor = torch.tensor([choice])
        dist.broadcast(tensor, src=0, group=self._group)
        return int(tensor.item())
