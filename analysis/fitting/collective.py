"""Fitting the law of a collective over size and rank count to the rank counts that were measured."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from analysis.fitting.least_squares import SOFT
from analysis.fitting.validate import conformal_quantile
from tp.cost.collective import RankLaw, law_terms
from tp.cost.curves.array import Array
from tp.errors import ConfigError
from tp.plan.ops import CollectiveKind

Rows = NDArray[np.float64]
"""[row, (size_bytes, num_ranks, seconds)]."""
# Two rank counts of so many sizes are more rows than the law's six coefficients.
MIN_SIZES: Final = 4
# A term that is nowhere more of the time than this is none.
LEAST_SHARE: Final = 1e-4


def fit_rank_law(rows: Rows, *, kind: CollectiveKind, name: str) -> RankLaw:
    """The law of one collective in one link domain, ConfigError when the rows do not allow it.

    With three rank counts or more each is left out in turn: how far off the law is there is its error elsewhere.
    """
    _require_usable(rows, name)
    law = _fit(rows, kind)
    if len(law.num_ranks) < 3:
        return law
    errors = []
    for count in law.num_ranks:
        out = rows[:, 1] == count
        found = _fit(rows[~out], kind).seconds(rows[out, 0], rows[out, 1])
        errors.append(np.abs(np.log(found / rows[out, 2])))
    return replace(law, held_out_log_error_90=conformal_quantile(np.concatenate(errors)))


def _fit(rows: Rows, kind: CollectiveKind) -> RankLaw:
    """Least squares on the logarithms, soft so that a disturbed row bends little; no coefficient below zero."""
    size, ranks, seconds = rows.T
    terms = np.array(law_terms(kind, size, ranks))
    # In shares of the time: a share of one is the most that a term can have at any row.
    scale = np.max(terms / seconds, axis=1)
    shares = terms / scale[:, None] / seconds

    def residuals(x: Array) -> Array:
        result: Array = np.log(x @ shares)
        return result

    start = np.full(len(terms), 1 / len(terms))
    solved = least_squares(residuals, start, bounds=(0, np.inf), loss="soft_l1", f_scale=SOFT)
    kept = np.where(solved.x > LEAST_SHARE, solved.x / scale, 0.0).tolist()
    return RankLaw(
        kind=kind,
        latency_s=kept[0],
        latency_per_step_s=kept[1],
        per_root_byte=kept[2],
        per_root_byte_step=kept[3],
        per_byte=kept[4],
        per_byte_own=kept[5],
        num_ranks=tuple(int(count) for count in np.unique(ranks)),
        rows=len(rows),
        held_out_log_error_90=None,
    )


def _require_usable(rows: Rows, name: str) -> None:
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows):
        raise ConfigError(f"{name}: no rows of size, rank count and seconds; measure some")
    if not np.all(np.isfinite(rows)) or np.any(rows[:, [0, 2]] <= 0):
        raise ConfigError(f"{name}: a size or a time that is not a positive number; leave such rows out")
    if np.any(rows[:, 1] < 2) or np.any(rows[:, 1] % 1):
        raise ConfigError(f"{name}: a rank count that is not a whole number from 2 on; leave such rows out")
    counts = np.unique(rows[:, 1])
    if len(counts) < 2:
        raise ConfigError(
            f"{name}: all rows are of {counts[0]:g} ranks, of which no law follows; measure another count"
        )
    for count in counts:
        sizes = len(np.unique(rows[rows[:, 1] == count, 0]))
        if sizes < MIN_SIZES:
            raise ConfigError(f"{name}: {sizes} sizes of {count:g} ranks are too few; measure at least {MIN_SIZES}")
