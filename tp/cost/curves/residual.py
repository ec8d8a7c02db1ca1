"""What a curve leaves over, interpolated between the rows: a Gaussian process over features of the shapes.

Kernel libraries choose among dozens of kernels by shape; no formula has the choice, but near shapes share it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tp.cost.curves.array import Array

# Shapes at a time, so that their distances to all rows stay in the cache.
BLOCK: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """The mean of a Gaussian process of exponential covariance (Matern 1/2; Rasmussen and Williams 2006, ch. 4)."""

    centre: tuple[float, ...]
    length: tuple[float, ...]
    """Of each feature, the distance over which the correction forgets."""
    points: tuple[tuple[float, ...], ...]
    """[row, feature]: features of the fitted rows, centred and over their lengths."""
    weights: tuple[float, ...]
    amplitude: float
    """Variance of the process, and below that of a single row about it, both of logarithms."""
    noise: float

    def __post_init__(self) -> None:
        widths = {len(self.centre), len(self.length), *(len(point) for point in self.points)}
        if len(self.points) != len(self.weights) or len(widths) > 1:
            raise ValueError("a residual whose points and weights do not go together; calibrate again")

    def log_correction(self, features: Array) -> Array:
        """[..., feature] to [...]: what to add to the logarithm of the curve's seconds."""
        from scipy.spatial.distance import cdist  # a tenth of a second, which calibrations without rows need not wait

        shape = features.shape[:-1]
        scaled = (features.reshape(-1, features.shape[-1]) - np.array(self.centre)) / np.array(self.length)
        points, weights = np.array(self.points), np.array(self.weights)
        correction = np.empty(len(scaled))
        for start in range(0, len(scaled), BLOCK):
            near = slice(start, start + BLOCK)
            # Single precision is a millionth of a correction of a few per cent, and twice as fast.
            covariance = np.exp(-cdist(scaled[near], points).astype(np.float32))
            correction[near] = covariance @ weights.astype(np.float32)
        return correction.reshape(shape)
