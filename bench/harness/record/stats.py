"""Statistics of timed iterations; loads without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A sample of iteration times: median with its interval, and the tails."""

    median_s: float
    low_s: float
    high_s: float
    p5_s: float
    p95_s: float
    num_samples: int

    def later_by(self, seconds: float) -> "Summary":
        """The same spread, so many seconds later."""
        return replace(
            self,
            median_s=self.median_s + seconds,
            low_s=self.low_s + seconds,
            high_s=self.high_s + seconds,
            p5_s=self.p5_s + seconds,
            p95_s=self.p95_s + seconds,
        )

    @property
    def relative_half_width(self) -> float:
        """Half of the interval over the median: what sampling tries to bring under its target."""
        return (self.high_s - self.low_s) / 2 / self.median_s if self.median_s else 0.0


def summarise(times_s: Sequence[float]) -> Summary:
    """The summary of at least one iteration time."""
    ordered = np.sort(np.asarray(times_s, dtype=np.float64))
    assert ordered.size > 0, "nothing was timed"
    first, last = _median_ranks(ordered.size)
    return Summary(
        median_s=_quantile(ordered, 0.5),
        low_s=float(ordered[first]),
        high_s=float(ordered[last]),
        p5_s=_quantile(ordered, 0.05),
        p95_s=_quantile(ordered, 0.95),
        num_samples=int(ordered.size),
    )


def _quantile(ordered: NDArray[np.float64], share: float) -> float:
    """Of values in order, interpolated between neighbours: numpy's own, which takes ten times as long on a few."""
    place = share * (ordered.size - 1)
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
    return low + (high - low) * (place - below)


@lru_cache(maxsize=1024)
def _median_ranks(count: int) -> tuple[int, int]:
    """Indices of the order statistics between which the median lies with 95 % confidence.

    Free of any distribution: the number of values under the median is binomial with p = 1/2 (David & Nagaraja,
    Order Statistics, 2003, section 7.1). Under six values even the extremes do not reach 95 %; they are given.
    """
    # The quantile of the binomial; scipy.stats has it too, and takes a second to load, in every rank.
    below = np.searchsorted(bdtr(np.arange(count + 1), count, 0.5), (1 - CONFIDENCE) / 2)
    first = max(int(below) - 1, 0)
    return first, count - 1 - first
