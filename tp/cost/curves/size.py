"""Seconds over one size in bytes, of collectives and elementwise passes: two regimes and what they leave over."""

from dataclasses import dataclass

import numpy as np

from tp.cost.curves.array import Array
from tp.cost.curves.trust import Fit
from tp.plan.ops import Collective, Elementwise


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
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.log_size or len(self.log_size) != len(self.log_correction) or len(self.fit.low) > 1:
            raise ValueError("a curve whose sizes and corrections do not go together; calibrate again")

    def seconds(self, op: Collective | Elementwise) -> Array:
        """[...], the shape of the op's sizes."""
        return self.at(np.asarray(op.size_bytes if isinstance(op, Collective) else op.moved_bytes, dtype=np.float64))

    def at(self, size: Array) -> Array:
        """At sizes in bytes."""
        lines = regime_seconds(size, self.latency_s, self.seconds_per_byte)
        result: Array = lines * np.exp(np.interp(np.log(size), self.log_size, self.log_correction))
        return result


def regime_seconds(size: Array, latency_s: tuple[float, float], seconds_per_byte: tuple[float, float]) -> Array:
    """min(a1 + S b1, a2 + S b2)."""
    result: Array = np.minimum(latency_s[0] + size * seconds_per_byte[0], latency_s[1] + size * seconds_per_byte[1])
    return result
