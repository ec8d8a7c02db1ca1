"""Measured rows to fit a curve to: ops of one kind with their sizes in arrays, and seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tp.cost.curves.array import Array
from tp.cost.lookup import curve_sizes
from tp.errors import ConfigError
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm

O = TypeVar("O", Gemm, AttentionCore, Elementwise, Collective)  # noqa: E741
Mask = NDArray[np.bool_]

# Fewest rows, and different sizes among them, that say something about a curve of four parameters and its error.
MIN_ROWS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Generic[O]):
    """Ops that one curve prices, stacked: every size is an array over the rows."""

    op: O
    seconds: Array

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def sizes(self) -> Array:
        """[row, size]: what the range of a fit is kept of."""
        return np.stack([np.asarray(size, dtype=np.float64) for size in curve_sizes(self.op)], axis=1)

    def take(self, mask: Mask) -> "Rows[O]":
        """The rows of a mask."""
        arrays = {f.name: v[mask] for f in fields(self.op) if isinstance(v := getattr(self.op, f.name), np.ndarray)}
        return Rows(op=_with(self.op, arrays), seconds=self.seconds[mask])


def stack(ops: Sequence[O], seconds: Sequence[float]) -> Rows[O]:
    """Rows of ops that differ in sizes alone."""
    first = ops[0]
    sizes = {
        f.name: np.array([getattr(op, f.name) for op in ops], dtype=np.float64)
        for f in fields(first)
        if isinstance(value := getattr(first, f.name), int) and not isinstance(value, bool) and f.name != "needs"
    }
    return Rows(op=_with(first, sizes), seconds=np.array(seconds, dtype=np.float64))


def too_few(rows: Rows[O], name: str, *, least: int = MIN_ROWS) -> str | None:
    """Why the rows are too few for a curve, or None."""
    if len(rows) < least:
        return f"{name}: {len(rows)} rows are too few to fit; measure at least {least} sizes"
    if len(np.unique(rows.sizes, axis=0)) < least:
        return f"{name}: the rows have only a few sizes; measure at least {least} different ones"
    return None


def require_positive(rows: Rows[O], name: str) -> None:
    """ConfigError when a time is none."""
    if not np.all(np.isfinite(rows.seconds)) or np.any(rows.seconds <= 0):
        raise ConfigError(f"{name}: a time that is not a positive number; leave such rows out")


def require_different(rows: Rows[O], name: str) -> None:
    """ConfigError when the times cannot be measurements of ops of different sizes."""
    require_positive(rows, name)
    if len(np.unique(rows.seconds)) == 1:
        raise ConfigError(f"{name}: every row has the same time; these are no measurements of different sizes")


def _with(op: O, arrays: dict[str, Any]) -> O:
    return replace(op, **arrays)
