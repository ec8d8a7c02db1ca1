"""Curves over one size in bytes: two regimes, and what they leave over at the measured sizes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from analysis.fitting.least_squares import Parameter, solve
from analysis.fitting.rows import Rows
from analysis.fitting.validate import NO_FIT
from tp.cost.curves.array import Array
from tp.cost.curves.size import SizeCurve, regime_seconds
from tp.plan.ops import Collective, Elementwise

GAP_GROWTH: Final = float(np.log(1.5))

FitSize = Callable[[Rows[Collective] | Rows[Elementwise]], SizeCurve]

REGIMES: Final = tuple(
    Parameter(name=name, deviation=3.0) for name in ("first_s", "second_s", "first_per_byte", "second_per_byte")
)


def fit_size(rows: Rows[Collective] | Rows[Elementwise], *, corrected: bool = True) -> SizeCurve:
    """Two regimes and, where asked, a correction that leads through the measured sizes."""
    size, seconds = _one_time_a_size(rows)
    per_byte = seconds[-1] / size[-1]
    centre = {
        "first_s": float(seconds[0]),
        "second_s": float(max(seconds[0] * 4, seconds[-1] * 0.05)),
        "first_per_byte": float(4 * per_byte),
        "second_per_byte": float(per_byte),
    }

    def lines(values: dict[str, float]) -> Array:
        return regime_seconds(size, *_regimes(values))

    values = solve(lines, seconds, REGIMES, centre, [centre])
    latency_s, seconds_per_byte = _regimes(values)
    left = np.log(seconds / lines(values))
    return SizeCurve(
        latency_s=latency_s,
        seconds_per_byte=seconds_per_byte,
        log_size=tuple(np.log(size).tolist()) if corrected else (0.0,),
        log_correction=tuple(left.tolist()) if corrected else (0.0,),
        fit=NO_FIT,
    )


def _regimes(values: dict[str, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    return (values["first_s"], values["second_s"]), (values["first_per_byte"], values["second_per_byte"])


def _one_time_a_size(rows: Rows[Collective] | Rows[Elementwise]) -> tuple[Array, Array]:
    """The sizes in bytes, ascending, and the geometric mean of the times of each."""
    size, number = np.unique(rows.sizes[:, 0], return_inverse=True)
    logs = np.bincount(number, weights=np.log(rows.seconds)) / np.bincount(number)
    return size, np.exp(logs)


def between_sizes(rows: Rows[Collective] | Rows[Elementwise], fit: FitSize) -> tuple[Array, Array, Array]:
    """First sizes [row] and log errors [row] of sizes left out one by one, and log errors of two neighbours left out.

    The ends stay: beyond them a curve extrapolates, and says so.
    """
    sizes = rows.sizes[:, 0]
    inner = np.unique(sizes)[1:-1]
    alone, pairs = list[tuple[Array, Array]](), list[tuple[Array, Array]]()
    for out, errors in ((1, alone), (2, pairs)):
        for first in range(len(inner) - out + 1):
            mask = np.isin(sizes, inner[first : first + out])
            left = rows.take(mask)
            errors.append((left.sizes[:, 0], np.log(fit(rows.take(~mask)).seconds(left.op) / left.seconds)))
    return (
        np.concatenate([size for size, _ in alone]),
        np.concatenate([error for _, error in alone]),
        np.concatenate([error for _, error in pairs]),
    )


def share_between(alone: Array, pairs: Array) -> float:
    """The error between measured sizes, of that where one is left out, whose gap is twice as wide.

    From one to two left out the gap grows by half; the power by which the error grows with it, 0 where it is the noise
    of single rows, tells what half the gap leaves of it. What the rows cannot tell counts as noise: the power is taken
    a standard error smaller.
    """
    one, two = np.abs(alone), np.abs(pairs)
    growth = np.log(two.mean() / one.mean()) / GAP_GROWTH
    unsure = np.hypot(*(each.std() / each.mean() / np.sqrt(len(each)) for each in (one, two))) / GAP_GROWTH
    return float(0.5 ** np.clip(growth - unsure, 0.0, 1.0))


def scaled_pass(rows: Rows[Elementwise], expected: SizeCurve) -> SizeCurve:
    """The expected curve with the factor that its few rows have in the mean; half as unsure from two sizes on.

    Beyond those sizes it extrapolates: one factor serves start-up and rate, which need not be off by the same.
    """
    factor = float(np.exp(np.mean(np.log(rows.seconds / expected.seconds(rows.op)))))
    sizes = np.unique(rows.sizes[:, 0])
    unsure = expected.fit.log_error_90 / (2.0 if len(sizes) > 1 else 1.0)
    return replace(
        expected,
        latency_s=(expected.latency_s[0] * factor, expected.latency_s[1] * factor),
        seconds_per_byte=(expected.seconds_per_byte[0] * factor, expected.seconds_per_byte[1] * factor),
        fit=replace(
            expected.fit, rows=len(rows), log_error_90=unsure, low=(float(sizes[0]),), high=(float(sizes[-1]),)
        ),
    )
