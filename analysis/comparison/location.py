"""Where a row's times lie in one run, and how far that may be off: the steady shorter half, and the tail.

What disturbs a time only ever lengthens it, so on a shared machine the mean of the shorter half is far steadier
between runs of the same thing than the median is (DECISIONS, comparison). How far it may be off is seen by a
moving-block bootstrap (Kunsch 1989), since neighbouring rounds share their disturbances. All rows of a run are
resampled by the same rounds: what they share then stays shared, and can be taken out of every resample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

LOWER_SHARE: Final = 0.5
TAIL_QUANTILE: Final = 0.9
# As many as a run takes at the least.
MIN_SAMPLES: Final = 8
# Rounds of a bootstrap block: what one reading of the machine's state spans at the least.
BLOCK: Final = 4
RESAMPLES: Final = 200
SEED: Final = 20261123

Array = NDArray[np.float64]
Estimator = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The natural logarithm of a typical time in seconds, and [resample] the same of the resampled run."""

    log_s: float
    resampled: Array


def lower(times_s: Array) -> Array:
    """The mean of the shorter half along the last axis, seconds."""
    count = max(2, round(times_s.shape[-1] * LOWER_SHARE))
    mean: Array = np.partition(times_s, count - 1, axis=-1)[..., :count].mean(axis=-1)
    return mean


def tail(times_s: Array) -> Array:
    """The 90th percentile along the last axis, seconds."""
    place = int(TAIL_QUANTILE * (times_s.shape[-1] - 1))
    found: Array = np.partition(times_s, place, axis=-1)[..., place]
    return found


def locate(times_s: Array, estimator: Estimator) -> Location:
    """The location of at least MIN_SAMPLES positive times."""
    assert len(times_s) >= MIN_SAMPLES and bool(np.all(times_s > 0)), "checked by who calls"
    log_s = float(np.log(estimator(times_s)))
    resampled = np.log(estimator(times_s[_blocks(len(times_s))]))
    # A bootstrap of n values sees (n - 1) / n of the variance.
    wider = np.sqrt(len(times_s) / (len(times_s) - 1))
    return Location(log_s=log_s, resampled=(resampled - resampled.mean()) * wider + log_s)


@lru_cache(maxsize=8)
def _blocks(rounds: int) -> NDArray[np.intp]:
    """[resample, round] indices: blocks of neighbouring rounds, round the end; the same in every call."""
    random = np.random.default_rng(SEED)
    first = random.integers(0, rounds, (RESAMPLES, -(-rounds // BLOCK), 1))
    picked: NDArray[np.intp] = ((first + np.arange(BLOCK)) % rounds).reshape(RESAMPLES, -1)[:, :rounds]
    return picked
