"""Curves and their fits: known truths are recovered, and the error that is told is one of rows not seen."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import fit
from analysis.fit import Rows, conformal_quantile, fit_attention, fit_gemm, fit_size
from tp.cost.curves import Array, AttentionCurve, Fit, GemmCurve, SizeCurve
from tp.errors import ConfigError

pytestmark = pytest.mark.unit

FIT = Fit(rows=40, held_out_mape_percent=5.0, log_error_90=math.log(1.1), low=(1e3,), high=(1e6,))
GEMM_FIT = replace(FIT, low=(64, 64, 64), high=(8192, 8192, 8192))
GEMM = GemmCurve(startup_s=5e-6, flops_per_s=1e12, bytes_per_s=1e11, sharpness=2.0, fit=GEMM_FIT)
ATTENTION = AttentionCurve(startup_s=5e-6, seconds_per_flop=1e-12, seconds_per_byte=1e-11, fit=FIT)
LINES = SizeCurve(
    latency_s=(1e-5, 1e-4), seconds_per_byte=(1e-8, 1e-9), log_size=(0.0,), log_correction=(0.0,), fit=FIT
)


def test_the_limits_of_a_product() -> None:
    assert GEMM.seconds(1e15, 1e3) == pytest.approx(1000.0, rel=1e-6)  # compute-bound
    assert GEMM.seconds(1e3, 1e15) == pytest.approx(10_000.0, rel=1e-6)  # memory-bound
    assert GEMM.seconds(1.0, 1.0) == pytest.approx(5e-6, rel=1e-4)  # start-up
    assert GEMM.seconds(1e12, 1e11) == pytest.approx(math.sqrt(2), rel=1e-5)  # both a second, (1 + 1)^(1/2)


@given(st.floats(1, 1e18), st.floats(1, 1e18), st.floats(1, 8), st.floats(1, 10))
@settings(deadline=None)
def test_a_product_lies_between_the_maximum_and_the_sum_and_grows(
    flops: float, moved_bytes: float, sharpness: float, growth: float
) -> None:
    curve = replace(GEMM, sharpness=sharpness)
    found, compute, memory = float(curve.seconds(flops, moved_bytes)), flops / 1e12, moved_bytes / 1e11
    assert 5e-6 + max(compute, memory) <= found * (1 + 1e-9)
    assert found <= (5e-6 + compute + memory) * (1 + 1e-9)
    assert curve.seconds(flops * growth, moved_bytes) >= found * (1 - 1e-12)
    assert curve.seconds(flops, moved_bytes * growth) >= found * (1 - 1e-12)


def test_an_attention_curve_adds() -> None:
    assert ATTENTION.seconds(2e12, 3e11) == pytest.approx(5e-6 + 2 + 3)
    assert ATTENTION.seconds([0.0, 2e12], [0.0, 0.0]) == pytest.approx([5e-6, 2 + 5e-6])


@given(st.floats(1, 1e12), st.floats(1, 1e12))
@settings(deadline=None)
def test_a_size_is_the_lesser_line_and_grows(one: float, other: float) -> None:
    found = float(LINES.seconds(one))
    assert found == pytest.approx(min(1e-5 + one * 1e-8, 1e-4 + one * 1e-9), rel=1e-9)
    small, large = sorted((one, other))
    assert LINES.seconds(small) <= LINES.seconds(large)


def test_corrections_are_interpolated_in_the_logarithm() -> None:
    curve = replace(LINES, log_size=(math.log(1e4), math.log(1e6)), log_correction=(0.0, math.log(4)))
    ratio = [float(curve.seconds(size) / LINES.seconds(size)) for size in (1e4, 1e5, 1e6, 1e2, 1e9)]
    assert ratio == pytest.approx([1, 2, 4, 1, 4])  # beyond the ends the last one stands


@pytest.mark.parametrize(
    ("size", "outside"),
    [(1e3, False), (1e6, False), (810, False), (790, True), (1.24e6, False), (1.26e6, True), (math.inf, True)],
)
def test_extrapolation_is_marked_and_widens(size: float, outside: bool) -> None:
    found = FIT.estimate(2.0, (size,))
    assert found.extrapolated == outside
    width = 1.21 if outside else 1.1
    assert (found.low_s, found.high_s) == pytest.approx((2 / width, 2 * width))


def test_every_size_counts_for_the_range() -> None:
    for sizes in ((2.0, 512.0, 512.0), (512.0, 65536.0, 512.0), (512.0, 512.0, 1.0)):
        assert GEMM_FIT.estimate(1.0, sizes).extrapolated
    assert not GEMM_FIT.estimate(1.0, (64.0, 8192.0, 512.0)).extrapolated


def noisy(count: int, noise: float, seed: int) -> Array:
    """Factors around one."""
    factors: Array = np.exp(noise * np.random.default_rng(seed).standard_normal(count))
    return factors


def gemm_rows(count: int, *, noise: float, seed: int = 0) -> tuple[Rows, Array]:
    """Products on a machine of 5 us, 200 GFLOP/s, 10 GB/s, joined by the cubic root of the sum of cubes."""
    sizes = np.exp(np.random.default_rng(seed + 1000).uniform(np.log(16), np.log(8192), (count, 3)))
    m, n, k = sizes.T
    flops, moved = 2 * m * n * k, 4 * (m * k + n * k + m * n)
    seconds = 5e-6 + ((flops / 2e11) ** 3 + (moved / 1e10) ** 3) ** (1 / 3)
    return np.stack([flops, moved, seconds * noisy(count, noise, seed)], axis=1), sizes


def collective_rows(count: int, *, noise: float, seed: int = 0) -> tuple[Rows, Array]:
    """20 us and 250 MB/s up to 60 kB, then 200 us and 1 GB/s."""
    size = np.geomspace(1024, 2**25, count)
    seconds = np.minimum(2e-5 + size * 4e-9, 2e-4 + size * 1e-9) * noisy(count, noise, seed)
    return np.stack([0 * size, size, seconds], axis=1), size[:, None]


@pytest.mark.parametrize(("noise", "within"), [(0.0, 1e-4), (0.01, 0.03), (0.03, 0.1)])
def test_a_products_parameters_are_recovered(noise: float, within: float) -> None:
    curve = fit_gemm(*gemm_rows(60, noise=noise), name="gemm")
    assert curve.flops_per_s == pytest.approx(2e11, rel=within)
    assert curve.bytes_per_s == pytest.approx(1e10, rel=within)
    assert curve.startup_s == pytest.approx(5e-6, rel=5 * within)
    assert curve.sharpness == pytest.approx(3, rel=10 * within)
    # |z| of a normal error is 0.80 sigma on average and 1.64 sigma at 90 %; the fit adds a little.
    assert 0.7 * 80 * noise <= curve.fit.held_out_mape_percent <= 1.5 * 80 * noise + 1e-3
    assert 1.2 * noise <= curve.fit.log_error_90 <= 2.4 * noise + 1e-5


def test_an_attention_curves_parameters_are_recovered() -> None:
    random = np.random.default_rng(3)
    flops = np.exp(random.uniform(np.log(1e6), np.log(1e10), 40))
    moved = np.exp(random.uniform(np.log(1e4), np.log(1e8), 40))
    seconds = (5e-6 + flops * 1e-11 + moved * 2e-10) * noisy(40, 0.01, 3)
    curve = fit_attention(np.stack([flops, moved, seconds], axis=1), moved[:, None], name="attention")
    assert curve.startup_s == pytest.approx(5e-6, rel=0.2)
    assert curve.seconds_per_byte == pytest.approx(2e-10, rel=0.03)
    assert curve.seconds_per_flop == pytest.approx(1e-11, rel=0.03)


def test_a_collectives_regimes_are_recovered() -> None:
    rows, sizes = collective_rows(40, noise=0.01)
    curve = fit_size(rows, sizes, name="all_reduce")
    assert curve.latency_s == pytest.approx((2e-5, 2e-4), rel=0.1)
    assert curve.seconds_per_byte == pytest.approx((4e-9, 1e-9), rel=0.1)
    assert (curve.fit.rows, curve.fit.low, curve.fit.high) == (40, (1024.0,), (2.0**25,))
    # Between the lines it goes through every row, so that only rows kept out can tell its error.
    assert curve.seconds(rows[:, 1]) == pytest.approx(rows[:, 2], rel=1e-9)
    assert curve.fit.held_out_mape_percent > 0.5


def test_the_order_of_the_rows_does_not_bend_a_collective() -> None:
    rows, sizes = collective_rows(16, noise=0.0)
    shuffled = np.random.default_rng(5).permutation(16)
    mixed = fit_size(rows[shuffled], sizes[shuffled], name="x")
    assert mixed.log_size == tuple(sorted(mixed.log_size))
    assert mixed.seconds(1e5) == pytest.approx(float(fit_size(rows, sizes, name="x").seconds(1e5)), rel=1e-3)


def test_one_disturbed_row_does_not_bend_a_curve() -> None:
    rows, sizes = gemm_rows(40, noise=0.01)
    rows[7, 2] *= 20
    assert fit_gemm(rows, sizes, name="gemm").flops_per_s == pytest.approx(2e11, rel=0.05)


@dataclass(frozen=True)
class Memory:
    """A curve that knows the rows it was fitted to, and is half as slow again on all others."""

    seen: frozenset[tuple[float, ...]]
    fit: Fit = fit.NO_FIT

    def seconds(self, rows: Rows) -> Array:
        return np.array([row[2] * (1.0 if tuple(row) in self.seen else 1.5) for row in rows])


def remember(rows: Rows) -> Memory:
    return Memory(seen=frozenset(tuple(row) for row in rows))


@pytest.mark.parametrize("count", [6, 7, 16, 43])
def test_the_error_told_is_of_rows_that_the_fit_has_not_seen(count: int) -> None:
    rows, sizes = collective_rows(count, noise=0.1)
    curve = fit._validated(rows, sizes, remember, lambda curve, part: curve.seconds(part), name="x")  # type: ignore[type-var]
    told = curve.fit
    assert told.held_out_mape_percent == pytest.approx(50)
    assert told.log_error_90 == pytest.approx(math.log(1.5))
    assert len(curve.seen) == told.rows == count  # while the curve itself is of all rows


def test_a_collective_is_not_judged_by_its_own_correction() -> None:
    rows, sizes = collective_rows(9, noise=0.0)
    rows[4, 2] *= 10
    # Seen, the row would have been on the curve; under ten rows the largest error is the one told.
    assert fit_size(rows, sizes, name="x").fit.log_error_90 == pytest.approx(math.log(10), rel=0.1)


def test_sizes_measured_in_two_runs_are_kept_out_together() -> None:
    """A step at a size is in both runs: who has seen it in one is no stranger to it in the other."""
    rows, sizes = collective_rows(16, noise=0.3)
    once = fit_size(rows, sizes, name="x").fit
    twice = fit_size(np.concatenate([rows, rows]), np.concatenate([sizes, sizes]), name="x").fit
    assert twice.held_out_mape_percent > 0.9 * once.held_out_mape_percent


@pytest.mark.parametrize(
    ("count", "rank"),
    # ceil(0.9 * (n + 1)), at most n
    [(1, 1), (6, 6), (8, 8), (9, 9), (10, 10), (19, 18), (20, 19), (29, 27), (40, 37), (99, 90), (100, 91)],
)
def test_the_conformal_quantile_by_hand(count: int, rank: int) -> None:
    errors = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(errors) == rank


def test_the_conformal_quantile_covers_nine_in_ten() -> None:
    random = np.random.default_rng(11)
    # Of uniform errors the quantile is itself the share that stays under it: rank / (n + 1) on average.
    for count, covered in ((19, 18 / 20), (40, 37 / 41), (100, 91 / 101)):
        mean = np.mean([conformal_quantile(random.uniform(size=count)) for _ in range(1000)])
        assert mean == pytest.approx(covered, abs=0.01)
        assert mean > 0.89


def test_the_interval_holds_new_rows() -> None:
    inside = []
    for seed in range(12):
        curve = fit_gemm(*gemm_rows(40, noise=0.05, seed=seed), name="gemm")
        new, _ = gemm_rows(60, noise=0.05, seed=seed + 500)
        off = np.abs(np.log(curve.seconds(new[:, 0], new[:, 1]) / new[:, 2]))
        inside.append(np.mean(off <= curve.fit.log_error_90))
    assert 0.84 <= np.mean(inside) <= 0.96


def refusal(rows: Rows, sizes: Array) -> str:
    messages = set()
    for fit_kind in (fit_gemm, fit_attention, fit_size):
        with pytest.raises(ConfigError) as caught:
            fit_kind(rows, sizes, name="gemm bf16/nt")
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    return message


def test_too_few_rows_are_refused() -> None:
    rows, sizes = gemm_rows(5, noise=0)
    assert refusal(rows, sizes) == "gemm bf16/nt: 5 rows are too few to fit; measure at least 6 sizes"


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1e-3])
def test_a_time_that_is_none_is_refused(bad: float) -> None:
    rows, sizes = gemm_rows(8, noise=0)
    rows[3, 2] = bad
    assert refusal(rows, sizes) == "gemm bf16/nt: a time that is not a positive number; leave such rows out"


def test_rows_of_one_size_are_refused() -> None:
    rows, sizes = gemm_rows(1, noise=0)
    same = np.repeat(rows, 8, axis=0)
    assert (
        refusal(same, np.repeat(sizes, 8, axis=0))
        == "gemm bf16/nt: the rows have only a few sizes; measure at least 6 different ones"
    )
