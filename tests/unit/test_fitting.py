"""Curves and their fits: known truths are recovered, and the error that is told is one of rows not seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting.attention import plain_sum
from analysis.fitting.candidates import choose
from analysis.fitting.gemm import gemm_candidates, roofline
from analysis.fitting.rows import Rows, require_different, stack, too_few
from analysis.fitting.size import between_sizes, fit_size, scaled_pass, share_between
from analysis.fitting.validate import banded_errors, conformal_quantile, describe, held_out
from tp.cost.curves.array import Array
from tp.cost.curves.attention import SumAttention
from tp.cost.curves.gemm import RooflineGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.errors import ConfigError
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm

pytestmark = pytest.mark.unit

FIT = Fit(
    rows=40,
    held_out_mape_percent=5.0,
    held_out_median_percent=4.0,
    log_error_90=math.log(1.1),
    low=(1e3,),
    high=(1e6,),
)
GEMM_FIT = replace(FIT, low=(64.0, 64.0, 64.0), high=(8192.0, 8192.0, 8192.0))
GEMM = RooflineGemm(startup_s=5e-6, flops_per_s=1e12, bytes_per_s=1e11, sharpness=2.0, fit=GEMM_FIT)
LINES = SizeCurve(
    latency_s=(1e-5, 1e-4), seconds_per_byte=(1e-8, 1e-9), log_size=(0.0,), log_correction=(0.0,), fit=FIT
)


def gemm(m: Any, n: Any, k: Any) -> Gemm:
    return Gemm(part="qkv", direction="forward", layout="nt", m=m, n=n, k=k, dtype="fp32")


def sends(size_bytes: Any) -> Collective:
    return Collective(
        kind="all_reduce", direction="forward", num_ranks=2, size_bytes=size_bytes, dtype="fp32", backend="gloo"
    )


def norm(size_bytes: Any) -> Elementwise:
    return Elementwise(
        part="norm", direction="forward", kind="norm", read_bytes=size_bytes, written_bytes=0, dtype="bf16"
    )


def core(**sizes: Any) -> AttentionCore:
    base = AttentionCore(
        part="core",
        direction="forward",
        batch=1,
        seq=1024,
        context=1024,
        num_heads=8,
        num_kv_heads=8,
        head_dim=64,
        causal=True,
        dtype="bf16",
    )
    return replace(base, **sizes)


def test_the_limits_of_a_product() -> None:
    # Squares are bound by compute, outer products by memory: 2 n^3 / 1e12 against 12 n^2 / 1e11, 2 n^2 against 4 n^2.
    assert GEMM.seconds(gemm(10**6, 10**6, 10**6)) == pytest.approx(2e6, rel=1e-6)
    assert GEMM.seconds(gemm(10**7, 10**7, 1)) == pytest.approx(math.hypot(200, 4000), rel=1e-6)
    assert GEMM.seconds(gemm(1, 1, 1)) == pytest.approx(5e-6, rel=1e-4)  # start-up
    # m = n, k small: 2 m^2 k / 1e12 = 4 m^2 / 1e11 at k = 20: both the same, (1 + 1)^(1/2).
    large = 10**9
    assert GEMM.seconds(gemm(large, large, 20)) == pytest.approx(math.sqrt(2) * 4e7, rel=1e-3)


SIZE = st.integers(1, 10**6)


@given(SIZE, SIZE, SIZE, st.floats(1, 8), st.integers(1, 10))
@settings(deadline=None)
def test_a_roofline_lies_between_the_maximum_and_the_sum_and_grows(
    m: int, n: int, k: int, sharpness: float, growth: int
) -> None:
    curve, op = replace(GEMM, sharpness=sharpness), gemm(m, n, k)
    found, compute, memory = float(curve.seconds(op)), op.flops / 1e12, op.moved_bytes / 1e11
    assert 5e-6 + max(compute, memory) <= found * (1 + 1e-9)
    assert found <= (5e-6 + compute + memory) * (1 + 1e-9)
    for larger in (gemm(m * growth, n, k), gemm(m, n * growth, k), gemm(m, n, k * growth)):
        assert curve.seconds(larger) >= found * (1 - 1e-12)


def test_an_attention_curve_adds() -> None:
    curve = SumAttention(startup_s=5e-6, seconds_per_flop=1e-12, seconds_per_byte=1e-11, fit=FIT)
    op = core(batch=np.array([1, 4]))
    # 4 * 1024^2 / 2 * 8 * 64 FLOP, 2 * (2 + 2) * 1024 * 8 * 64 bytes a sequence
    assert curve.seconds(op) == pytest.approx(5e-6 + np.array([1, 4]) * (2**30 * 1e-12 + 2**22 * 1e-11))


@given(st.floats(1, 1e12), st.floats(1, 1e12))
@settings(deadline=None)
def test_a_size_is_the_lesser_line_and_grows(one: float, other: float) -> None:
    found = float(LINES.seconds(sends(one)))
    assert found == pytest.approx(min(1e-5 + one * 1e-8, 1e-4 + one * 1e-9), rel=1e-9)
    small, large = sorted((one, other))
    assert LINES.seconds(sends(small)) <= LINES.seconds(sends(large))


def test_corrections_are_interpolated_in_the_logarithm() -> None:
    curve = replace(LINES, log_size=(math.log(1e4), math.log(1e6)), log_correction=(0.0, math.log(4)))
    sizes = np.array([1e4, 1e5, 1e6, 1e2, 1e9])
    # Beyond the ends the last one stands.
    assert curve.at(sizes) / LINES.at(sizes) == pytest.approx([1, 2, 4, 1, 4])


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


def test_what_stands_between_rows_and_point_widens_by_the_root_of_squares() -> None:
    found = FIT.estimate(1.0, (1e4,), widening=0.4)
    assert found.extrapolated
    assert math.log(found.high_s) == pytest.approx(math.hypot(math.log(1.1), 0.4))


def noisy(count: int, noise: float, seed: int) -> Array:
    """Factors around one."""
    factors: Array = np.exp(noise * np.random.default_rng(seed).standard_normal(count))
    return factors


def gemm_rows(count: int, *, noise: float, seed: int = 0) -> Rows[Gemm]:
    """Products on a machine of 5 us, 200 GFLOP/s, 10 GB/s, joined by the cubic root of the sum of cubes."""
    sizes = np.exp(np.random.default_rng(seed + 1000).uniform(np.log(16), np.log(8192), (count, 3))).round()
    m, n, k = sizes.T
    flops, moved = 2 * m * n * k, 4 * (m * k + n * k + m * n)
    seconds = 5e-6 + ((flops / 2e11) ** 3 + (moved / 1e10) ** 3) ** (1 / 3)
    return Rows(op=gemm(m, n, k), seconds=seconds * noisy(count, noise, seed))


def collective_rows(count: int, *, noise: float, seed: int = 0) -> Rows[Collective]:
    """20 us and 250 MB/s up to 60 kB, then 200 us and 1 GB/s."""
    size = np.geomspace(1024, 2**25, count)
    seconds = np.minimum(2e-5 + size * 4e-9, 2e-4 + size * 1e-9) * noisy(count, noise, seed)
    return Rows(op=sends(size), seconds=seconds)


def test_rows_are_stacked_and_taken() -> None:
    rows = stack([gemm(m, 64, 32) for m in (1, 2, 3)], [0.1, 0.2, 0.3])
    assert (len(rows), rows.sizes.tolist()) == (3, [[1, 64, 32], [2, 64, 32], [3, 64, 32]])
    taken = rows.take(np.array([True, False, True]))
    assert taken.seconds.tolist() == [0.1, 0.3]
    assert taken.op.flops == pytest.approx([2 * 64 * 32, 6 * 64 * 32])
    assert (taken.op.dtype, taken.op.layout) == ("fp32", "nt")


@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.01), (0.01, 0.03), (0.03, 0.1)])
def test_a_products_parameters_are_recovered(noise: float, within: float) -> None:
    rows = gemm_rows(60, noise=noise)
    curve, errors = choose(rows, gemm_candidates(None, residuals=False), lambda c, r: c.seconds(r.op))
    assert isinstance(curve, RooflineGemm)
    assert curve.flops_per_s == pytest.approx(2e11, rel=within)
    assert curve.bytes_per_s == pytest.approx(1e10, rel=within)
    assert curve.startup_s == pytest.approx(5e-6, rel=5 * within)
    assert curve.sharpness == pytest.approx(3, rel=10 * within)
    # |z| of a normal error is 0.80 sigma on average and 1.64 sigma at 90 %; the fit and its priors add a little.
    told = describe(rows.sizes, errors, edges=())
    assert 0.7 * 80 * noise <= told.held_out_mape_percent <= 1.5 * 80 * noise + 0.2
    assert 1.2 * noise <= told.log_error_90 <= 2.4 * noise + 3e-3


def test_an_attention_curves_parameters_are_recovered() -> None:
    random = np.random.default_rng(3)
    seq = np.exp(random.uniform(np.log(16), np.log(8192), 40)).round()
    op = core(batch=random.integers(1, 9, 40), seq=seq, context=seq)
    seconds = (5e-6 + op.flops * 1e-13 + op.moved_bytes * 2e-11) * noisy(40, 0.01, 3)
    curve = plain_sum(Rows(op=op, seconds=seconds), None)
    assert isinstance(curve, SumAttention)
    assert curve.startup_s == pytest.approx(5e-6, rel=0.2)
    assert curve.seconds_per_byte == pytest.approx(2e-11, rel=0.03)
    assert curve.seconds_per_flop == pytest.approx(1e-13, rel=0.03)


def test_a_collectives_regimes_are_recovered() -> None:
    rows = collective_rows(40, noise=0.01)
    curve = fit_size(rows)
    assert curve.latency_s == pytest.approx((2e-5, 2e-4), rel=0.1)
    assert curve.seconds_per_byte == pytest.approx((4e-9, 1e-9), rel=0.1)
    # Between the lines it goes through every row, so that only rows kept out can tell its error.
    assert curve.seconds(rows.op) == pytest.approx(rows.seconds, rel=1e-9)
    sizes, alone, _ = between_sizes(rows, fit_size)
    assert (sizes[0], sizes[-1]) == (rows.sizes[1, 0], rows.sizes[-2, 0])  # the ends stay
    assert np.mean(np.abs(alone)) > 0.005


def test_lines_alone_pass_between_the_rows() -> None:
    rows = collective_rows(40, noise=0.05)
    bare = fit_size(rows, corrected=False)
    assert (bare.log_size, bare.log_correction) == ((0.0,), (0.0,))
    off = np.abs(np.log(bare.seconds(rows.op) / rows.seconds))
    assert 0.02 < off.mean() < 0.06


def shuffled(rows: Rows[Any], seed: int = 5) -> Rows[Any]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return Rows(
        op=replace(
            rows.op,
            **{
                name: getattr(rows.op, name)[order]
                for name in ("m", "n", "k", "size_bytes")
                if isinstance(getattr(rows.op, name, None), np.ndarray)
            },
        ),
        seconds=rows.seconds[order],
    )


def test_the_order_of_the_rows_does_not_bend_a_curve() -> None:
    rows, products = collective_rows(16, noise=0.05), gemm_rows(30, noise=0.05)
    mixed = fit_size(shuffled(rows))
    assert mixed.log_size == tuple(sorted(mixed.log_size))
    assert mixed.seconds(rows.op) == pytest.approx(fit_size(rows).seconds(rows.op), rel=1e-3)
    again = roofline(shuffled(products), None)
    assert again.seconds(products.op) == pytest.approx(roofline(products, None).seconds(products.op), rel=1e-3)


def test_one_disturbed_row_does_not_bend_a_curve() -> None:
    rows = gemm_rows(40, noise=0.01)
    rows.seconds[7] *= 20
    curve = roofline(rows, None)
    assert isinstance(curve, RooflineGemm)
    assert curve.flops_per_s == pytest.approx(2e11, rel=0.05)


@dataclass(frozen=True)
class Memory:
    """A curve that knows the rows it was fitted to, and is half as slow again on all others."""

    seen: frozenset[tuple[float, ...]]

    def seconds(self, rows: Rows[Any]) -> Array:
        keys = map(tuple, rows.sizes.tolist())
        return rows.seconds * np.array([1.0 if key in self.seen else 1.5 for key in keys])


def remember(rows: Rows[Any], like: Memory | None = None) -> Memory:
    return Memory(seen=frozenset(map(tuple, rows.sizes.tolist())))


def cheat(rows: Rows[Any], like: Memory | None = None) -> Memory:
    """Keeps what it was shown of all rows, as no honest fit does."""
    return like or remember(rows)


@pytest.mark.parametrize("count", [6, 7, 16, 43])
@pytest.mark.parametrize("make", [collective_rows, gemm_rows])
def test_the_error_told_is_of_rows_that_the_fit_has_not_seen(make: Callable[..., Rows[Any]], count: int) -> None:
    rows = make(count, noise=0.1)
    curve, errors = choose(rows, [remember], lambda curve, part: curve.seconds(part))
    told = describe(rows.sizes, errors, edges=())
    assert (told.held_out_mape_percent, told.held_out_median_percent) == pytest.approx((50, 50))
    assert told.log_error_90 == pytest.approx(math.log(1.5))
    assert len(curve.seen) == told.rows == count  # while the curve itself is of all rows
    # Who had seen them would be told to be without error.
    assert not held_out(rows, cheat, remember(rows), lambda curve, part: curve.seconds(part)).any()


def test_rows_of_one_size_are_kept_out_together() -> None:
    """Who has seen one measurement of a size is no stranger to the other."""
    once = gemm_rows(16, noise=0.1)
    twice = Rows(
        op=gemm(*(np.tile(size, 2) for size in (once.op.m, once.op.n, once.op.k))), seconds=np.tile(once.seconds, 2)
    )
    errors = held_out(twice, remember, remember(twice), lambda curve, part: curve.seconds(part))
    assert errors == pytest.approx(math.log(1.5))


def test_the_form_that_is_least_far_off_is_chosen() -> None:
    rows = collective_rows(20, noise=0.1)

    def off_by(factor: float) -> Callable[[Rows[Any], float | None], float]:
        return lambda rows, like: factor

    def chosen(*factors: float) -> float:
        return choose(rows, [off_by(f) for f in factors], lambda factor, part: part.seconds * factor)[0]

    assert chosen(1.2, 1.1, 1.3) == 1.1
    # The simplest comes first, and what is better by luck alone does not replace it.
    assert chosen(1.100, 1.099) == 1.1


def test_a_collective_is_not_judged_by_its_own_correction() -> None:
    rows = collective_rows(9, noise=0.0)
    rows.seconds[4] *= 10
    assert fit_size(rows).seconds(rows.op)[4] == pytest.approx(rows.seconds[4])
    sizes, alone, _ = between_sizes(rows, fit_size)
    at = np.flatnonzero(sizes == rows.sizes[4, 0])[0]
    assert abs(alone[at]) == pytest.approx(math.log(10), rel=0.1)
    # Under ten rows the largest error is the one told.
    assert describe(rows.sizes, alone, edges=(), pool=(sizes, alone)).log_error_90 == pytest.approx(
        math.log(10), rel=0.1
    )


def test_sizes_measured_in_two_runs_are_kept_out_together() -> None:
    """A step at a size is in both runs: who has seen it in one is no stranger to it in the other."""
    once = collective_rows(16, noise=0.3)
    twice = Rows(op=sends(np.tile(once.op.size_bytes, 2)), seconds=np.tile(once.seconds, 2))
    one, two = (np.mean(np.abs(between_sizes(rows, fit_size)[1])) for rows in (once, twice))
    assert one > 0.1
    assert two > 0.9 * one


@pytest.mark.parametrize(
    ("pairs_over_alone", "share"),
    # The power by which the error grows with the gap: 0 for noise; 1 for a line; no more than that.
    [(0.8, 1.0), (1.0, 1.0), (1.5**0.5, 0.5**0.5), (1.5, 0.5), (4.0, 0.5)],
)
def test_the_share_between_sizes_by_hand(pairs_over_alone: float, share: float) -> None:
    alone = np.array([0.2, -0.2, 0.2])  # all of one size: nothing is unsure
    assert share_between(alone, pairs_over_alone * alone) == pytest.approx(share)


def test_what_few_rows_cannot_tell_counts_as_noise() -> None:
    alone = np.abs(np.random.default_rng(5).standard_normal(1000))
    assert share_between(alone[:7], 1.3 * alone[:7]) == 1.0
    # log 1.3 / log 1.5 less one standard error, 0.756 * sqrt(2 / 1000) / log 1.5
    assert share_between(alone, 1.3 * alone) == pytest.approx(0.5 ** (0.647 - 0.083), rel=0.02)


def test_a_pass_of_few_rows_is_the_expected_one_times_its_factor() -> None:
    size = np.array([1e5, 1e6])
    rows = Rows(op=norm(size), seconds=LINES.at(size) * np.array([2.0, 8.0]))
    scaled = scaled_pass(rows, LINES)
    assert scaled.at(np.array([3e3, 3e7])) == pytest.approx(4 * LINES.at(np.array([3e3, 3e7])))
    assert scaled.fit.log_error_90 == pytest.approx(FIT.log_error_90 / 2)
    alone = scaled_pass(Rows(op=norm(size[:1]), seconds=LINES.at(size[:1])), LINES)
    assert (alone.fit.rows, alone.fit.log_error_90) == (1, FIT.log_error_90)


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


def test_bands_by_hand() -> None:
    """Three rows under the edge err by 0.1, three from it on by 0.4; overall 0.25, which counts for two rows."""
    first, errors = np.array([1.0, 2.0, 3.0, 64.0, 65.0, 66.0]), np.array([0.1] * 3 + [0.4] * 3)
    usual = ((0.3 + 0.5) / 5, (1.2 + 0.5) / 5)
    # Each row against the two others of its band and twice the overall mean; the largest of six is the quantile.
    quantile = max(0.1 / ((0.2 + 0.5) / 4), 0.4 / ((0.8 + 0.5) / 4))
    assert banded_errors(first, errors, (64.0,)) == pytest.approx([quantile * each for each in usual])
    fit = describe(first[:, None], np.array([0.1, -0.1, 0.1, 0.4, 0.4, -0.4]), edges=(64.0,))
    assert fit.band_log_errors == banded_errors(first, errors, (64.0,))
    assert (fit.low, fit.high) == ((1.0,), (66.0,))
    assert fit.log_error_at(np.array([2.0, 63.0, 64.0, 1e9])) == pytest.approx(
        [fit.band_log_errors[0]] * 2 + [fit.band_log_errors[1]] * 2
    )


def test_no_bands_where_none_are_asked_for_or_nothing_is_wrong() -> None:
    sizes = np.arange(1.0, 9.0)
    assert banded_errors(sizes, sizes, ()) == ()
    assert banded_errors(sizes, 0 * sizes, (4.0,)) == ()


def inside_share(rows: Rows[Gemm], new: Rows[Gemm], *, slower: float = 1.0) -> float:
    """Of new rows, those inside of the interval of a curve fitted to others, which may be made a wrong one."""
    curve, errors = choose(rows, gemm_candidates(None, residuals=False), lambda c, r: c.seconds(r.op))
    fit = describe(rows.sizes, errors, edges=())
    found = fit.estimate(slower * curve.seconds(new.op), (new.op.m, new.op.n, new.op.k))
    return float(np.mean((found.low_s <= new.seconds) & (new.seconds <= found.high_s)))


def test_the_interval_holds_new_rows() -> None:
    seeds = range(12)
    pairs = [(gemm_rows(40, noise=0.05, seed=s), gemm_rows(60, noise=0.05, seed=s + 500)) for s in seeds]
    assert 0.84 <= np.mean([inside_share(*pair) for pair in pairs]) <= 0.96
    assert np.mean([inside_share(*pair, slower=1.1) for pair in pairs]) < 0.7


def refusal(rows: Rows[Any]) -> str:
    if (few := too_few(rows, "gemm bf16/nt")) is not None:
        return few
    with pytest.raises(ConfigError) as caught:
        require_different(rows, "gemm bf16/nt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_that_allow_no_curve_are_refused() -> None:
    require_different(gemm_rows(6, noise=0), "gemm bf16/nt")
    assert too_few(gemm_rows(6, noise=0), "gemm bf16/nt") is None
    assert refusal(gemm_rows(5, noise=0)) == "gemm bf16/nt: 5 rows are too few to fit; measure at least 6 sizes"
    one = gemm_rows(1, noise=0)
    same = Rows(op=gemm(*(np.repeat(size, 8) for size in one.sizes[0])), seconds=np.arange(1.0, 9.0))
    assert refusal(same).endswith("the rows have only a few sizes; measure at least 6 different ones")
    constant = replace(gemm_rows(8, noise=0), seconds=np.full(8, 1e-3))
    assert refusal(constant).endswith("every row has the same time; these are no measurements of different sizes")


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1e-3])
def test_a_time_that_is_none_is_refused(bad: float) -> None:
    rows = gemm_rows(8, noise=0)
    rows.seconds[3] = bad
    assert refusal(rows) == "gemm bf16/nt: a time that is not a positive number; leave such rows out"
