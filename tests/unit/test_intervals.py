"""Intervals that follow the error usual near a point: narrow where a curve is good, wide where it is not."""

import math

import numpy as np
import pytest

from analysis.fit import fit_gemm
from tp.cost.curves import NEIGHBOURS, OVERALL_SHARE, Fit, usual_error

pytestmark = pytest.mark.unit


def test_the_usual_error_by_hand() -> None:
    """Eight rows near the point err by 0.1, two far away by 0.5: 0.1 + 0.3 * 0.18."""
    log_sizes = np.array([[float(i)] for i in range(8)] + [[100.0], [101.0]])
    log_errors = np.array([0.1] * 8 + [0.5] * 2)
    assert (NEIGHBOURS, OVERALL_SHARE) == (8, 0.3)
    assert usual_error(np.array([3.0]), log_sizes, log_errors) == pytest.approx(0.1 + 0.3 * 0.18)
    # Near the far ones: two of 0.5 and the six next of 0.1.
    assert usual_error(np.array([100.0]), log_sizes, log_errors) == pytest.approx((2 * 0.5 + 6 * 0.1) / 8 + 0.3 * 0.18)


def test_a_fit_without_rows_has_one_width() -> None:
    fit = Fit(rows=9, held_out_mape_percent=5.0, log_error_90=math.log(1.2), low=(10.0,), high=(1000.0,))
    for size in (10.0, 1000.0):
        found = fit.estimate(1.0, (size,))
        assert (found.low_s, found.high_s) == pytest.approx((1 / 1.2, 1.2))


def noisy_rows(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Products whose times scatter by 30 % under 64 rows and by 2 % above."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log([2, 256, 256]), np.log([2048, 8192, 8192]), (count, 3))).round()
    m, n, k = sizes.T
    flops, moved = 2 * m * n * k, 4 * (m * k + k * n + m * n)
    spread = np.where(m < 64, 0.3, 0.02)
    seconds = (1e-5 + np.maximum(flops / 1e11, moved / 1e10)) * np.exp(rng.normal(0, spread))
    return np.column_stack((flops, moved, seconds)), sizes


def test_large_products_get_the_narrower_interval() -> None:
    rows, sizes = noisy_rows(1)
    curve = fit_gemm(rows, sizes, name="gemm")
    large, small = curve.fit.estimate(1.0, (1024, 2048, 2048)), curve.fit.estimate(1.0, (8, 2048, 2048))
    assert not (large.extrapolated or small.extrapolated)
    assert 1 < large.high_s < math.exp(curve.fit.log_error_90) < small.high_s


def test_ninety_percent_of_unseen_rows_lie_inside() -> None:
    inside = []
    for seed in range(8):
        rows, sizes = noisy_rows(seed)
        curve = fit_gemm(rows, sizes, name="gemm")
        unseen, unseen_sizes = noisy_rows(seed + 100, count=200)
        for (flops, moved, seconds), at in zip(unseen, unseen_sizes, strict=True):
            found = curve.fit.estimate(float(curve.seconds(flops, moved)), tuple(at))
            inside.append(found.low_s <= seconds <= found.high_s)
    assert 0.85 <= np.mean(inside) <= 0.97


def test_made_up_rows_without_any_error_still_fit() -> None:
    _, sizes = noisy_rows(3)
    m, n, k = sizes.T
    flops, moved = 2 * m * n * k, 4 * (m * k + k * n + m * n)
    rows = np.column_stack((flops, moved, 1e-5 + flops / 1e11))
    curve = fit_gemm(rows, sizes, name="gemm")
    found = curve.fit.estimate(1.0, (512, 1024, 1024))
    assert 0.9 < found.low_s <= 1.0 <= found.high_s < 1.1
