"""The interval of a median: which order statistics it lies between, and how often it holds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.record.stats import Summary, summarise

pytestmark = pytest.mark.unit


def ranks(count: int) -> tuple[int, int]:
    """Which order statistics, from 1, bound the interval of so many samples."""
    found = summarise([float(i) for i in np.random.default_rng(count).permutation(count) + 1])
    return int(found.low_s), int(found.high_s)


@pytest.mark.parametrize(
    ("count", "expected"),
    # Tables of the sign test at 95 %: n = 10 has the 2nd and 9th, 20 the 6th and 15th, 100 the 40th and 61st.
    [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33)), (100, (40, 61))],
)
def test_the_order_statistics_are_those_of_the_tables(count: int, expected: tuple[int, int]) -> None:
    assert ranks(count) == expected


def below(count: int, limit: int) -> float:
    """P(B < limit) of B heads in `count` tosses."""
    return sum(math.comb(count, heads) for heads in range(limit)) / 2**count


@given(st.integers(6, 400))
@settings(deadline=None)
def test_the_interval_is_the_narrowest_that_reaches_95_percent(count: int) -> None:
    low, high = ranks(count)
    assert low + high == count + 1
    # The median is under the low-th smallest value when fewer than `low` values are under the median.
    assert 1 - 2 * below(count, low) >= 0.95
    assert 1 - 2 * below(count, low + 1) < 0.95


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_under_six_samples_the_interval_is_their_range(count: int) -> None:
    assert ranks(count) == (1, count)
    assert 1 - 2 * below(count, 1) < 0.95  # 1 - 2/2**5 = 93.75 %: all there is does not reach it


@pytest.mark.parametrize(("count", "covered"), [(8, 0.9922), (20, 0.9586), (60, 0.9726)])
def test_the_interval_holds_the_median_about_95_times_in_100(count: int, covered: float) -> None:
    random = np.random.default_rng(count)
    # Skewed, as iteration times are; the median of a lognormal is exp(mu) = 1.
    found = [summarise(random.lognormal(0, 0.5, count).tolist()) for _ in range(800)]
    held = np.mean([summary.low_s <= 1 <= summary.high_s for summary in found])
    assert held == pytest.approx(covered, abs=0.02)  # three standard errors of 800 tries


def test_a_summary_by_hand() -> None:
    times = [0.001 * i for i in range(101)][::-1]
    found = summarise(times)
    assert (found.median_s, found.p5_s, found.p95_s) == pytest.approx((0.050, 0.005, 0.095))
    assert found.num_samples == 101
    assert times[0] == pytest.approx(0.1)  # the caller's list is left as it was
    # The 41st and 61st of 101: P(B < 41) = 0.0230.
    assert (found.low_s, found.high_s) == pytest.approx((0.040, 0.060))
    assert found.relative_half_width == pytest.approx((0.060 - 0.040) / 2 / 0.050)


def test_one_sample_is_its_own_summary() -> None:
    found = summarise([0.25])
    assert found == Summary(median_s=0.25, low_s=0.25, high_s=0.25, p5_s=0.25, p95_s=0.25, num_samples=1)
    assert found.relative_half_width == 0


def test_an_even_number_has_the_mean_of_the_middle_two() -> None:
    assert summarise([4.0, 1.0, 3.0, 2.0]).median_s == 2.5


def test_nothing_timed_has_no_summary() -> None:
    with pytest.raises(AssertionError, match="nothing was timed"):
        summarise([])


TIMES = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


@given(TIMES, st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_parts_of_a_summary_are_ordered_and_scale(times: list[float], scale: float) -> None:
    found = summarise(times)
    assert min(times) <= found.low_s <= found.median_s <= found.high_s <= max(times)
    assert found.p5_s <= found.median_s * (1 + 1e-12)
    assert found.median_s <= found.p95_s * (1 + 1e-12)
    scaled = summarise([time * scale for time in times])
    assert scaled.median_s == pytest.approx(found.median_s * scale)
    assert scaled.relative_half_width == pytest.approx(found.relative_half_width)


@given(TIMES)
@settings(deadline=None)
def test_the_order_of_the_samples_does_not_matter(times: list[float]) -> None:
    assert summarise(times) == summarise(sorted(times)) == summarise(times[::-1])
