"""Fitting the curves of tp.cost.curves to measured rows, and how far off they are on rows kept out of the fit.

Errors are relative, so residuals are differences of logarithms; a soft L1 loss keeps one disturbed row from bending
a curve.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tp.cost.curves import (
    Array,
    AttentionCurve,
    Fit,
    GemmCurve,
    SizeCurve,
    attention_seconds,
    gemm_seconds,
    regime_seconds,
    usual_error,
)
from tp.errors import ConfigError

# Fewest rows that say something about a curve of four parameters and its error.
MIN_ROWS: Final = 6
FOLDS: Final = 5
INTERVAL: Final = 0.9
# Log residuals beyond this count linearly, not squared.
SOFT: Final = 0.1
# Parameters are fitted as logarithms; a rate this slow a unit is nothing.
TINY: Final = 1e-18
SHARPNESS: Final = (1.0, 8.0)


C = TypeVar("C", GemmCurve, AttentionCurve, SizeCurve)
Rows = NDArray[np.float64]
"""[row, (flops, bytes, seconds)]."""
Sizes = NDArray[np.float64]
"""[row, size]: what the range of a fit is kept of."""
NO_FIT: Final = Fit(rows=0, held_out_mape_percent=0.0, log_error_90=0.0, low=(), high=())


def fit_gemm(rows: Rows, sizes: Sizes, *, name: str) -> GemmCurve:
    """Start-up, arithmetic rate, memory rate and sharpness; ConfigError when the rows do not allow it."""

    def fit(part: Rows) -> GemmCurve:
        flops, moved, seconds = part.T
        start = [seconds.min() / 2, np.min(seconds / flops), np.min(seconds / moved) / 2, 2.0]
        p = _least_squares(lambda p: gemm_seconds(flops, moved, p), seconds, start, last=SHARPNESS)
        return GemmCurve(startup_s=p[0], flops_per_s=1 / p[1], bytes_per_s=1 / p[2], sharpness=p[3], fit=NO_FIT)

    return _validated(rows, sizes, fit, lambda c, part: c.seconds(part[:, 0], part[:, 1]), name=name)


def fit_attention(rows: Rows, sizes: Sizes, *, name: str) -> AttentionCurve:
    """Start-up, seconds a FLOP and seconds a byte; ConfigError when the rows do not allow it."""

    def fit(part: Rows) -> AttentionCurve:
        flops, moved, seconds = part.T
        per_flop = np.min(seconds / flops) / 2 if flops.all() else TINY
        start = [seconds.min() / 2, per_flop, np.min(seconds / moved) / 2]
        p = _least_squares(lambda p: attention_seconds(flops, moved, p), seconds, start)
        return AttentionCurve(startup_s=p[0], seconds_per_flop=p[1], seconds_per_byte=p[2], fit=NO_FIT)

    return _validated(rows, sizes, fit, lambda c, part: c.seconds(part[:, 0], part[:, 1]), name=name)


def fit_size(rows: Rows, sizes: Sizes, *, name: str) -> SizeCurve:
    """Two regimes and what they leave over at the measured sizes; ConfigError when the rows do not allow it."""

    def fit(part: Rows) -> SizeCurve:
        size, seconds = _one_time_a_size(part)
        per_byte = seconds[-1] / size[-1]
        start = [seconds[0], max(seconds[0] * 4, seconds[-1] * 0.05), 4 * per_byte, per_byte]
        p = _least_squares(lambda p: regime_seconds(size, p), seconds, start)
        left = np.log(seconds / regime_seconds(size, np.array(p)))
        return SizeCurve(
            latency_s=(p[0], p[1]),
            seconds_per_byte=(p[2], p[3]),
            log_size=tuple(np.log(size).tolist()),
            log_correction=tuple(left.tolist()),
            fit=NO_FIT,
        )

    return _validated(rows, sizes, fit, lambda c, part: c.seconds(part[:, 1]), name=name)


def _validated(
    rows: Rows, sizes: Sizes, fit: Callable[[Rows], C], predict: Callable[[C, Rows], Array], *, name: str
) -> C:
    """The curve of all rows, described by its errors on folds that did not see the rows they judge."""
    _require_usable(rows, sizes, name)
    held_out = np.empty(len(rows))
    # By size, not by row: a second measurement of a size would tell what the first one was.
    _, size_number = np.unique(sizes, axis=0, return_inverse=True)
    folds = size_number % FOLDS
    for fold in np.unique(folds):
        kept_out = folds == fold
        held_out[kept_out] = np.log(predict(fit(rows[~kept_out]), rows[kept_out]) / rows[kept_out, 2])
    errors, log_sizes = np.abs(held_out), np.log(sizes)
    others = [np.arange(len(rows)) != i for i in range(len(rows))]
    usual = [usual_error(log_sizes[i], log_sizes[rest], errors[rest]) for i, rest in enumerate(others)]
    described = Fit(
        rows=len(rows),
        held_out_mape_percent=float(100 * np.mean(np.abs(np.expm1(held_out)))),
        log_error_90=conformal_quantile(errors),
        low=tuple(sizes.min(axis=0).tolist()),
        high=tuple(sizes.max(axis=0).tolist()),
        log_sizes=tuple(tuple(row) for row in log_sizes.tolist()),
        log_errors=tuple(errors.tolist()),
        # Rows that are met exactly, as made-up ones may be, have no error to scale by.
        scales_90=conformal_quantile(errors / np.array(usual)) if min(usual) > 0 else None,
    )
    return replace(fit(rows), fit=described)


def conformal_quantile(errors: Array) -> float:
    """The error that a further row stays under with 90 %: the ceil(0.9 (n + 1))-th smallest of n.

    Split-conformal (Lei et al. 2018); with under nine rows it is the largest there is, which promises less.
    """
    rank = min(math.ceil(INTERVAL * (len(errors) + 1)), len(errors))
    return float(np.sort(errors)[rank - 1])


def _one_time_a_size(rows: Rows) -> tuple[Array, Array]:
    """The sizes in bytes, ascending, and the geometric mean of the times of each."""
    size, number = np.unique(rows[:, 1], return_inverse=True)
    logs = np.bincount(number, weights=np.log(rows[:, 2])) / np.bincount(number)
    return size, np.exp(logs)


def _require_usable(rows: Rows, sizes: Sizes, name: str) -> None:
    if len(rows) < MIN_ROWS:
        raise ConfigError(f"{name}: {len(rows)} rows are too few to fit; measure at least {MIN_ROWS} sizes")
    if not np.all(np.isfinite(rows)) or np.any(rows[:, 2] <= 0):
        raise ConfigError(f"{name}: a time that is not a positive number; leave such rows out")
    if len(np.unique(sizes, axis=0)) < MIN_ROWS:
        raise ConfigError(f"{name}: the rows have only a few sizes; measure at least {MIN_ROWS} different ones")


def _least_squares(
    predict: Callable[[Array], Array],
    seconds: Array,
    start: list[float],
    *,
    last: tuple[float, float] | None = None,
) -> list[float]:
    """Positive parameters that bring the logarithms together; `last` bounds the last one."""
    low = np.full(len(start), np.log(TINY))
    high = np.full(len(start), np.inf)
    if last is not None:
        low[-1], high[-1] = np.log(last)

    def residuals(logs: Array) -> Array:
        result: Array = np.log(predict(np.exp(logs)) / seconds)
        return result

    solved = least_squares(
        residuals,
        np.log(np.maximum(start, 2 * TINY)),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=SOFT,
        x_scale="jac",
    )
    return [float(value) for value in np.exp(solved.x)]
