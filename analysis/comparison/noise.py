"""What two versions differ by, and by how much two runs of one version would differ: ratios as differences of logs.

A time of row i in run r is taken as  row_i + version_i + common_r + noise_ir.  `common_r` is the state of the machine
in that run, which all rows share: found robustly over all rows, so that one slow row does not move it. The noise is
what sampling explains, with a floor, times an inflation: of the runs of one version among each other where there are
several (each row's own, moderated towards that of its kind: Smyth 2004), else the scatter of the rows of its kind
around their common change, as Birge's ratio has it. So without repeated runs most rows must be unchanged for one that
changed to stand out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from analysis.comparison.follow import slopes_between, slopes_within

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# What two runs of one thing differ by at the least however long they sample, as a difference of logs: where memory
# lies, how ranks were started.
FLOOR: Final = 0.005
# How many repetitions the noise of a kind of rows counts for beside a row's own, and so the freedom of its t: the
# changes of 167 comparisons of one thing with itself over their errors had a deviation of 0.6 to 1.3 by row, and of
# 1670 of them none was beyond 3.7 (DECISIONS.md).
PRIOR_FREEDOM: Final = 20.0
# Under this many rows nothing tells a common change from a row's own.
MIN_COMMON_ROWS: Final = 5
# And under this many their scatter says nothing of their noise.
MIN_SCATTER_ROWS: Final = 4
# Rows in which ranks wait for each other differ between runs by more than sampling explains, by this factor at the
# least; too few in a case to see it in one pair of runs.
WAITING_INFLATION: Final = 1.5
HUBER: Final = 1.345
# 1.4826 times the median absolute value of normal noise is its standard deviation.
MAD_TO_SIGMA: Final = 1.4826
MAX_STEPS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The runs of one version; NaN where a run does not have a row."""

    log_s: Array
    """[run, row] locations."""
    resampled: Array
    """[run, resample, row]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Changes new minus old in log seconds, [row], and their standard errors."""

    change: Array
    """As the clock saw it."""
    beside_common: Array
    """With what all rows share taken out; `change` where that is not to be told."""
    error: Array
    """What sampling and starting anew make of a row, its share in the machine's state aside."""
    beside_error: Array
    """Of `beside_common`, where what is common is the machine's state."""
    freedom: Array
    common: float | None
    """What all rows share; None of too few rows."""
    common_by_run: tuple[Array, Array]
    """[run] of the old and of the new side: what its rows share, around the middle of both."""
    inflation: Array
    """How much more the row differs between runs than sampling explains."""


def weigh(old: Side, new: Side, *, waits: Mask, whole: Mask) -> Evidence:
    """The evidence for every row; each has at least one run on either side.

    [row] `waits`: ranks wait in it; `whole`: it is the sum of others, and has no say in what all share, so that a part
    that got slower does not count several times.
    """
    log_s, resampled = np.vstack((old.log_s, new.log_s)), np.concatenate((old.resampled, new.resampled))
    is_new = np.arange(len(log_s)) >= len(old.log_s)
    apart = log_s - (_mean(log_s[~is_new]) + _mean(log_s[is_new])) / 2
    error = np.hypot(resampled.std(axis=1), FLOOR)
    leverage = np.zeros_like(log_s)
    if np.sum(~whole) >= MIN_COMMON_ROWS:
        leverage = np.array([_leverage(np.where(whole, np.nan, row), e) for row, e in zip(apart, error, strict=True)])
    shared = np.nansum(leverage * apart, axis=1)
    # What rows share in a resample, too, is not noise of the row beside the others.
    away = resampled - log_s[:, None]
    shared_too = np.nansum(leverage[:, None] * np.nan_to_num(away), axis=2)
    follow = slopes_within(away, shared_too)
    error = np.hypot((away - follow.slope * shared_too[..., None]).std(axis=1), FLOOR)
    follow = slopes_between(follow, apart, shared, error, is_new)
    own = apart - follow.slope * shared[:, None]
    # A row that is a tenth of what all share hides a tenth of its own change.
    hidden = 1 - follow.slope * leverage.mean(axis=0)
    beside = (_mean(own[is_new]) - _mean(own[~is_new])) / hidden
    sampling = np.sqrt(_variance_of_mean(error[is_new]) + _variance_of_mean(error[~is_new])) / hidden
    common = float(shared[is_new].mean() - shared[~is_new].mean())
    unequal = follow.deviation * common
    inflation, freedom = _inflation(own, error, is_new, beside / np.hypot(sampling, unequal), (waits, whole))
    return Evidence(
        change=_mean(apart[is_new]) - _mean(apart[~is_new]),
        beside_common=beside,
        error=inflation * sampling,
        beside_error=np.hypot(inflation * sampling, unequal),
        freedom=freedom,
        common=common if leverage.any() else None,
        common_by_run=(shared[~is_new], shared[is_new]),
        inflation=inflation,
    )


def _leverage(apart: Array, error: Array) -> Array:
    """[row] shares in Huber's mean of the deviations, weighed by their errors; rows that the run lacks have none."""
    known = np.isfinite(apart)
    # No row is taken as more precise than the middle one: a single quiet row among noisy ones is not what all share.
    error = np.maximum(error, np.median(error[known]))
    weight = np.where(known, 1 / error**2, 0.0)
    values = np.where(known, apart, 0.0)
    centre = float(np.median(apart[known]))
    kept = weight
    for _ in range(MAX_STEPS):
        away = np.abs(values - centre) / np.where(known, error, 1.0)
        scale = max(1.0, MAD_TO_SIGMA * float(np.median(away[known])))
        kept = weight * np.minimum(1.0, HUBER * scale / np.maximum(away, 1e-12))
        before, centre = centre, float((kept * values).sum() / kept.sum())
        if abs(centre - before) < 1e-9:
            break
    shares: Array = kept / kept.sum()
    return shares


def _inflation(own: Array, error: Array, is_new: Mask, scatter: Array, kinds: tuple[Mask, Mask]) -> tuple[Array, Array]:
    """[row] factors on the sampling errors, at least one, and degrees of freedom."""
    waits, whole = kinds
    squares, freedom = np.zeros(own.shape[1]), np.zeros(own.shape[1])
    for side in (own[is_new] / error[is_new], own[~is_new] / error[~is_new]):
        runs = np.isfinite(side).sum(axis=0)
        squares += np.where(runs > 1, np.nansum((side - _mean(side)) ** 2, axis=0), 0.0)
        freedom += np.maximum(runs - 1, 0)
    prior = np.ones(own.shape[1])
    for kind, asked, least in ((waits, waits, WAITING_INFLATION), (~waits, ~waits & ~whole, 1.0)):
        prior[kind] = _prior(squares[kind], freedom[kind], scatter[asked], least)
    moderated = (PRIOR_FREEDOM * prior + squares) / (PRIOR_FREEDOM + freedom)
    return np.sqrt(np.maximum(moderated, 1.0)), PRIOR_FREEDOM + freedom


def _prior(squares: Array, freedom: Array, scatter: Array, least: float) -> float:
    """The squared inflation of a kind of rows: its median row's, as one of a few wild rows is its own affair."""
    repeated = freedom > 0
    if repeated.any():
        return max(1.0, float(np.median(squares[repeated] / chi2.median(freedom[repeated]))))
    if len(scatter) < MIN_SCATTER_ROWS:
        return least**2
    return max(least, MAD_TO_SIGMA * float(np.median(np.abs(scatter)))) ** 2


def _mean(values: Array) -> Array:
    found: Array = np.nanmean(values, axis=0)
    return found


def _variance_of_mean(errors: Array) -> Array:
    """[row] variance of the mean over runs, from the error of each."""
    runs = np.isfinite(errors).sum(axis=0)
    found: Array = np.nansum(errors**2, axis=0) / runs**2
    return found
