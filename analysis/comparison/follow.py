"""How far each row follows the machine's speed: when all share a step of 10 %, an attention core may take one of 14 %.

A row's slope on what all share is seen within runs, where their speed wanders from round to round, and where there are
several runs of a version between these too. Both are drawn towards one, at which a row follows as all do.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Slopes differ so much from one another before anything is known of them (40 runs of an attention block on a shared
# host whose speed stepped by 20 %: 0.7 a product, 1.4 a core).
SPREAD: Final = 0.35
# And so much within runs from what they are between them (the same runs, root mean square).
MISMATCH: Final = 0.15
# What a run's resamples are worth, as independent stretches of it.
STRETCHES: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """[row] log seconds of a row for one of what all share, and the standard deviation of that."""

    slope: Array
    deviation: Array


def slopes_within(rows: Array, shared: Array) -> Slopes:
    """From [run, resample, row] and [run, resample] deviations of resamples from their run."""
    known = np.isfinite(rows)
    x = np.where(known, shared[..., None], 0.0)
    y = np.where(known, rows, 0.0)
    square = (x**2).mean(axis=1).sum(axis=0)
    measured = np.divide((x * y).mean(axis=1).sum(axis=0), square, out=np.ones_like(square), where=square > 0)
    left = ((y - measured * x) ** 2).mean(axis=1).sum(axis=0)
    runs = known.any(axis=1).sum(axis=0)
    variance = np.divide(left, square * STRETCHES * runs, out=np.full_like(square, np.inf), where=square > 0)
    weight = SPREAD**2 / (SPREAD**2 + variance)
    slope = 1 + weight * (measured - 1)
    return Slopes(slope=slope, deviation=np.hypot(SPREAD * np.sqrt(1 - weight), MISMATCH))


def slopes_between(within: Slopes, apart: Array, shared: Array, error: Array, is_new: Mask) -> Slopes:
    """The slopes with what [run, row] times `apart` and [run] `shared` say between the runs of each version."""
    square, product = np.zeros(apart.shape[1]), np.zeros(apart.shape[1])
    for side in (is_new, ~is_new):
        known = np.isfinite(apart[side])
        x = np.where(known, shared[side][:, None], np.nan)
        x, y = x - _mean(x), apart[side] - within.slope * shared[side][:, None]
        y = y - _mean(y)
        weight = np.where(known, 1 / error[side] ** 2, 0.0)
        square += np.nansum(weight * x**2, axis=0)
        product += np.nansum(weight * x * y, axis=0)
    precision = 1 / within.deviation**2 + square
    return Slopes(slope=within.slope + product / precision, deviation=1 / np.sqrt(precision))


def _mean(values: Array) -> Array:
    """[row] means over the runs that have the row."""
    count = np.isfinite(values).sum(axis=0)
    found: Array = np.divide(np.nansum(values, axis=0), count, out=np.zeros(values.shape[1]), where=count > 0)
    return found
