"""How a curve was fitted and how far it may be trusted: rows, range, and the interval around what it says."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from tp.cost.curves.array import Array
from tp.cost.theory import OpEstimate

# A size this far outside of the fitted range still counts as inside; curves are smooth on that scale.
RANGE_SLACK: Final = 1.25
# An extrapolated point's interval is wider by this on a log scale; a convention until an error is measured there.
EXTRAPOLATION_WIDENING: Final = 2.0
# What is left between two layers of one machine once all that errs for both alike is taken out: totals of layers were
# 2.8 % (two CPU cores, a calibration of their own) and 3.7 % (an H100, the shipped one) off in the mean, and 90 % of
# normal errors are within twice their mean.
LAYER_LOG_ERROR_90: Final = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Where a curve comes from and how far off it is on rows kept out of the fit.

    Small products are predicted far worse than large ones, so the error has a scale for each band of the first size
    (rows of a product, bytes of a message): conformal residuals over a local scale, after Papadopoulos et al. 2011.
    """

    rows: int
    held_out_mape_percent: float
    """Mean absolute error on rows kept out of the fit, by cross-validation."""
    held_out_median_percent: float
    log_error_90: float
    """90 % of the held-out rows are within this of the curve, as a difference of natural logarithms."""
    low: tuple[float, ...]
    """The smallest of each size among the rows."""
    high: tuple[float, ...]
    band_edges: tuple[float, ...] = ()
    """First sizes at which a band ends and the next begins."""
    band_log_errors: tuple[float, ...] = ()
    """What 90 % of the held-out rows of each band stay within."""

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or len(self.band_log_errors) not in (0, len(self.band_edges) + 1):
            raise ValueError("a fit whose range or bands do not go together; calibrate again")

    def estimate(self, seconds: ArrayLike, sizes: tuple[ArrayLike, ...], *, widening: float = 0.0) -> OpEstimate:
        """Points on the curve with their intervals, wider and marked where a size leaves the fitted range.

        `widening` is a further log error, of what stands between the rows and the point (another source or layout).
        """
        outside = self.outside(sizes)
        within = self.log_error_at(sizes[0]) * np.where(outside, EXTRAPOLATION_WIDENING, 1.0)
        return interval(seconds, np.hypot(within, widening), extrapolated=outside | (widening > 0) | (self.rows == 0))

    def outside(self, sizes: tuple[ArrayLike, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether any of the sizes leaves the fitted range."""
        found = np.asarray(False)
        for size, low, high in zip(sizes, self.low, self.high, strict=True):
            found = found | (np.asarray(size) < low / RANGE_SLACK) | (np.asarray(size) > high * RANGE_SLACK)
        return found

    def log_error_at(self, size: ArrayLike) -> Array:
        """What 90 % stay within where the first size is `size`."""
        if not self.band_log_errors:
            return np.asarray(self.log_error_90)
        return np.asarray(self.band_log_errors)[np.searchsorted(self.band_edges, size, side="right")]


def interval(seconds: ArrayLike, log_error: ArrayLike, *, extrapolated: ArrayLike) -> OpEstimate:
    """Seconds with an interval that is symmetric in the logarithm; plain numbers where the sizes were plain."""
    points, width = np.asarray(seconds, dtype=np.float64), np.exp(np.asarray(log_error, dtype=np.float64))
    low, high, marks = points / width, points * width, np.asarray(extrapolated)
    if points.ndim == 0 and width.ndim == 0 and marks.ndim == 0:
        return OpEstimate(seconds=float(points), low_s=float(low), high_s=float(high), extrapolated=bool(marks))
    return OpEstimate(seconds=points, low_s=low, high_s=high, extrapolated=marks)  # type: ignore[arg-type]
