"""The forms that a calibration fits: start-up and rates for compute, two regimes over a size.

Every curve gives seconds for arrays of sizes and carries how it was fitted: rows, range, and held-out error.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tp.cost.theory import OpEstimate

Array = NDArray[np.float64]

# A size this far outside of the fitted range still counts as inside; curves are smooth on that scale.
RANGE_SLACK: Final = 1.25
# An extrapolated point's interval is wider by this on a log scale; a convention until an error is measured there.
EXTRAPOLATION_WIDENING: Final = 2.0
# Rows that tell how far off a curve usually is near a point, and the weight of the overall mean beside theirs.
NEIGHBOURS: Final = 8
OVERALL_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Where a curve comes from and how far it may be trusted."""

    rows: int
    held_out_mape_percent: float
    """Mean absolute error on rows kept out of the fit, by cross-validation."""
    log_error_90: float
    """90 % of the held-out rows are within this of the curve, as a difference of natural logarithms."""
    low: tuple[float, ...]
    """The smallest of each size among the rows."""
    high: tuple[float, ...]
    log_sizes: tuple[tuple[float, ...], ...] = ()
    """Logarithms of the sizes of every row."""
    log_errors: tuple[float, ...] = ()
    """How far off the curve was on each of them, unsigned, when it was kept out."""
    scales_90: float | None = None
    """90 % of the held-out rows are within so many times the error usual near them (`usual_error`)."""

    def estimate(self, seconds: float, sizes: tuple[float, ...]) -> OpEstimate:
        """A point on the curve with its interval, wider and marked where a size leaves the fitted range."""
        outside = any(
            size < low / RANGE_SLACK or size > high * RANGE_SLACK
            for size, low, high in zip(sizes, self.low, self.high, strict=True)
        )
        width = np.exp(self._log_error_at(sizes) * (EXTRAPOLATION_WIDENING if outside else 1.0))
        return OpEstimate(seconds=seconds, low_s=seconds / width, high_s=seconds * width, extrapolated=outside)

    def _log_error_at(self, sizes: tuple[float, ...]) -> float:
        """What 90 % stay within near `sizes`; a size that is not finite has no neighbours."""
        if self.scales_90 is None or not np.all(np.isfinite(sizes)):
            return self.log_error_90
        return self.scales_90 * usual_error(np.log(sizes), np.array(self.log_sizes), np.array(self.log_errors))


def usual_error(at: Array, log_sizes: Array, log_errors: Array) -> float:
    """The error usual near a point: the mean over its nearest rows, and a share of the mean over all.

    Small products are predicted far worse than large ones; one width for all would be too wide for these and too
    narrow for those. Local scaling of conformal residuals: Papadopoulos et al. 2011.
    """
    distance = np.abs(log_sizes - at).sum(axis=1)
    nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS]
    return float(log_errors[nearest].mean() + OVERALL_SHARE * log_errors.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmCurve:
    """Start-up plus a smooth maximum of arithmetic and memory time: a + (c^p + b^p)^(1/p)."""

    startup_s: float
    flops_per_s: float
    bytes_per_s: float
    sharpness: float
    fit: Fit

    def seconds(self, flops: ArrayLike, moved_bytes: ArrayLike) -> Array:
        return gemm_seconds(
            np.asarray(flops, dtype=np.float64),
            np.asarray(moved_bytes, dtype=np.float64),
            np.array([self.startup_s, 1 / self.flops_per_s, 1 / self.bytes_per_s, self.sharpness]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCurve:
    """Start-up plus arithmetic time plus memory time, which an attention core takes in turn: a + c F + b B."""

    startup_s: float
    seconds_per_flop: float
    seconds_per_byte: float
    fit: Fit

    def seconds(self, flops: ArrayLike, moved_bytes: ArrayLike) -> Array:
        return attention_seconds(
            np.asarray(flops, dtype=np.float64),
            np.asarray(moved_bytes, dtype=np.float64),
            np.array([self.startup_s, self.seconds_per_flop, self.seconds_per_byte]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCurve:
    """Time over one size in bytes: the lesser of two lines, times a correction interpolated over the measured sizes.

    For collectives, whose protocols switch, and elementwise passes, which leave one cache after another: the lines
    carry the curve beyond the measured sizes, the correction between them, where a step is no line.
    """

    latency_s: tuple[float, float]
    seconds_per_byte: tuple[float, float]
    log_size: tuple[float, ...]
    log_correction: tuple[float, ...]
    fit: Fit

    def seconds(self, size_bytes: ArrayLike) -> Array:
        size = np.asarray(size_bytes, dtype=np.float64)
        lines = regime_seconds(size, np.array([*self.latency_s, *self.seconds_per_byte]))
        return lines * np.exp(np.interp(np.log(size), self.log_size, self.log_correction))


def gemm_seconds(flops: Array, moved_bytes: Array, p: Array) -> Array:
    """a + ((flops c)^q + (bytes b)^q)^(1/q) for p = (a, c, b, q)."""
    startup, per_flop, per_byte, sharpness = p
    compute, memory = flops * per_flop, moved_bytes * per_byte
    slower = np.maximum(compute, memory)
    lesser = np.minimum(compute, memory)
    joined: Array = startup + slower * (1 + (lesser / slower) ** sharpness) ** (1 / sharpness)
    return joined


def attention_seconds(flops: Array, moved_bytes: Array, p: Array) -> Array:
    """a + flops c + bytes b for p = (a, c, b)."""
    result: Array = p[0] + flops * p[1] + moved_bytes * p[2]
    return result


def regime_seconds(size: Array, p: Array) -> Array:
    """min(a1 + S b1, a2 + S b2) for p = (a1, a2, b1, b2)."""
    result: Array = np.minimum(p[0] + size * p[2], p[1] + size * p[3])
    return result
