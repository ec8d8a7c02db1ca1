"""How far off a fit is on rows that it has not seen, and the interval that follows from it."""

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

from analysis.fitting.rows import O, Rows
from tp.cost.curves.array import Array
from tp.cost.curves.trust import Fit

FOLDS: Final = 5
INTERVAL: Final = 0.9
# Rows of the overall error that are added to those of a band, so that a band of few rows does not stand alone.
SHRINKAGE: Final = 2.0
NO_FIT: Final = Fit(rows=0, held_out_mape_percent=0.0, held_out_median_percent=0.0, log_error_90=0.0, low=(), high=())

C = TypeVar("C")


def held_out(
    rows: Rows[O], fit: Callable[[Rows[O], C | None], C], whole: C, predict: Callable[[C, Rows[O]], Array]
) -> Array:
    """[row]: logarithm of predicted over measured, each row judged by a fit of the folds that it is not in."""
    # By size, not by row: a second measurement of a size would tell what the first one was.
    _, size_number = np.unique(rows.sizes, axis=0, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(size_number.max() + 1)
    folds = shuffled[size_number.ravel()] % FOLDS
    errors = np.empty(len(rows))
    for fold in np.unique(folds):
        out = folds == fold
        errors[out] = np.log(predict(fit(rows.take(~out), whole), rows.take(out)) / rows.seconds[out])
    return errors


def describe(sizes: Array, errors: Array, *, edges: Sequence[float], pool: tuple[Array, Array] | None = None) -> Fit:
    """The range of rows [row, size] and the interval of their held-out errors [row], in bands of the first size.

    `pool` gives first sizes and errors of more rows of the same kind, where one curve's are too few to say.
    """
    first, errors_of_kind = (sizes[:, 0], errors) if pool is None else pool
    return Fit(
        rows=len(sizes),
        held_out_mape_percent=float(100 * np.mean(np.abs(np.expm1(errors)))),
        held_out_median_percent=float(100 * np.median(np.abs(np.expm1(errors)))),
        log_error_90=conformal_quantile(np.abs(errors_of_kind)),
        low=tuple(sizes.min(axis=0).tolist()),
        high=tuple(sizes.max(axis=0).tolist()),
        band_edges=tuple(edges),
        band_log_errors=banded_errors(first, np.abs(errors_of_kind), edges),
    )


def banded_errors(first: Array, errors: Array, edges: Sequence[float]) -> tuple[float, ...]:
    """What 90 % of each band stay within: its usual error times one conformal quantile for all.

    The usual error is the band's mean with a few rows of the overall mean; each row is held against that of the
    others.
    """
    if not edges or not errors.any():
        return ()
    band = np.searchsorted(edges, first, side="right")
    overall = errors.mean()
    count = np.bincount(band, minlength=len(edges) + 1)
    total = np.bincount(band, weights=errors, minlength=len(edges) + 1)
    others = (total[band] - errors + SHRINKAGE * overall) / (count[band] - 1 + SHRINKAGE)
    quantile = conformal_quantile(errors / others)
    usual = (total + SHRINKAGE * overall) / (count + SHRINKAGE)
    return tuple((quantile * usual).tolist())


def conformal_quantile(errors: Array) -> float:
    """The error that a further row stays under with 90 %: the ceil(0.9 (n + 1))-th smallest of n.

    Split-conformal (Lei et al. 2018); with under nine rows it is the largest there is, which promises less.
    """
    rank = min(math.ceil(INTERVAL * (len(errors) + 1)), len(errors))
    return float(np.sort(errors)[rank - 1])
