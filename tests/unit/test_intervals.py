"""Intervals that follow the error usual among like sizes: narrow where a curve is good, wide where it is not."""

import math

import numpy as np
import pytest

from analysis.calibrate import ROW_BANDS
from analysis.fitting.candidates import choose
from analysis.fitting.gemm import gemm_candidates
from analysis.fitting.rows import Rows
from analysis.fitting.validate import describe
from tp.cost.curves.gemm import GemmCurve
from tp.cost.curves.trust import Fit
from tp.plan.ops import Gemm

pytestmark = pytest.mark.unit


def test_a_fit_without_bands_has_one_width() -> None:
    fit = Fit(
        rows=9,
        held_out_mape_percent=5.0,
        held_out_median_percent=5.0,
        log_error_90=math.log(1.2),
        low=(10.0,),
        high=(1000.0,),
    )
    for size in (10.0, 1000.0):
        found = fit.estimate(1.0, (size,))
        assert (found.low_s, found.high_s) == pytest.approx((1 / 1.2, 1.2))


def noisy_rows(seed: int, count: int = 60, *, small: float = 0.3, large: float = 0.02) -> Rows[Gemm]:
    """Products whose times scatter by 30 % under 64 rows and by 2 % above."""
    rng = np.random.default_rng(seed)
    m, n, k = np.exp(rng.uniform(np.log([2, 256, 256]), np.log([2048, 8192, 8192]), (count, 3))).round().T
    op = Gemm(part="qkv", direction="forward", layout="nt", m=m, n=n, k=k, dtype="fp32")
    spread = np.where(m < 64, small, large)
    seconds = (1e-5 + np.maximum(op.flops / 1e11, op.moved_bytes / 1e10)) * np.exp(rng.normal(0, 1, count) * spread)
    return Rows(op=op, seconds=seconds)


def fitted(rows: Rows[Gemm], *, edges: tuple[float, ...] = ROW_BANDS) -> tuple[GemmCurve, Fit]:
    curve, errors = choose(rows, gemm_candidates(None, residuals=False), lambda c, r: c.seconds(r.op))
    return curve, describe(rows.sizes, errors, edges=edges)


def test_large_products_get_the_narrower_interval() -> None:
    _, fit = fitted(noisy_rows(1))
    large, small = fit.estimate(1.0, (1024, 2048, 2048)), fit.estimate(1.0, (8, 2048, 2048))
    assert not (large.extrapolated or small.extrapolated)
    assert 1 < large.high_s < math.exp(fit.log_error_90) < small.high_s


def shares_inside(*, edges: tuple[float, ...], slower: float = 1.0) -> tuple[float, float]:
    """Of unseen rows those inside, under 64 rows of the product and above, of curves that may be made wrong ones."""
    small, large = [], []
    for seed in range(8):
        curve, fit = fitted(noisy_rows(seed), edges=edges)
        unseen = noisy_rows(seed + 100, count=200)
        found = fit.estimate(slower * curve.seconds(unseen.op), (unseen.op.m, unseen.op.n, unseen.op.k))
        inside = (found.low_s <= unseen.seconds) & (unseen.seconds <= found.high_s)
        small.append(inside[unseen.op.m < ROW_BANDS[0]].mean())
        large.append(inside[unseen.op.m >= ROW_BANDS[0]].mean())
    return float(np.mean(small)), float(np.mean(large))


def test_ninety_percent_of_unseen_rows_lie_inside_small_or_large() -> None:
    small, large = shares_inside(edges=ROW_BANDS)
    assert 0.8 <= small <= 0.97
    assert 0.84 <= large <= 0.99
    # One width for all is too narrow for the small and far too wide for the large.
    narrow, wide = shares_inside(edges=())
    assert narrow < 0.85 and wide == 1.0
    assert max(shares_inside(edges=ROW_BANDS, slower=2.0)) < 0.5


def test_made_up_rows_without_any_error_still_fit() -> None:
    _, fit = fitted(noisy_rows(3, small=0.0, large=0.0))
    found = fit.estimate(1.0, (512, 1024, 1024))
    assert 0.9 < found.low_s <= 1.0 <= found.high_s < 1.1
