"""Ranks side by side in groups: times of all ranks, seen by group; loads without torch."""

import numpy as np
from numpy.typing import NDArray

Members = tuple[tuple[int, ...], ...]
"""The ranks of each group."""
Groups = int | Members
"""How many groups there are, each of ranks next to each other; or the ranks of each."""


def num_groups(groups: Groups) -> int:
    return groups if isinstance(groups, int) else len(groups)


def by_group(values: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """[iteration, rank] as [iteration, group, rank of the group]."""
    if isinstance(groups, int):
        return values.reshape(len(values), groups, -1)
    return values[:, np.array(groups)]


def rank_at(position: int, groups: Groups) -> int:
    """The rank at a position when groups are laid one after another."""
    return position if isinstance(groups, int) else [rank for group in groups for rank in group][position]
