"""How rows follow the machine's speed: found where it wanders, left at one where nothing tells."""

import numpy as np
import pytest

from analysis.comparison.follow import MISMATCH, SPREAD, slopes_between, slopes_within

pytestmark = pytest.mark.unit

SLOPES = np.array([0.7, 1.0, 1.4])


def wandering(random: np.random.Generator, *, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """[run, resample, row] and [run, resample]: a machine whose speed wanders by 5 %, and what the rows make of it."""
    shared = random.normal(0, 0.05, (4, 200))
    return shared[..., None] * SLOPES + random.normal(0, noise, (4, 200, 3)), shared


def test_slopes_are_found_where_the_speed_wanders() -> None:
    found = slopes_within(*wandering(np.random.default_rng(1), noise=0.01))
    assert found.slope == pytest.approx(SLOPES, abs=0.05)
    assert np.all(found.deviation < MISMATCH + 0.05) and np.all(found.deviation >= MISMATCH)


def test_a_speed_that_stands_still_tells_no_slope() -> None:
    random = np.random.default_rng(2)
    for shared in (np.zeros((2, 200)), random.normal(0, 1e-5, (2, 200))):
        found = slopes_within(random.normal(0, 0.02, (2, 200, 3)), shared)
        assert found.slope == pytest.approx(np.ones(3), abs=0.05)
        assert found.deviation == pytest.approx(np.full(3, np.hypot(SPREAD, MISMATCH)), rel=0.02)


def test_runs_of_one_version_teach_what_a_single_run_does_not() -> None:
    """Of twelve runs the slopes are known, whatever one version is slower by."""
    random = np.random.default_rng(3)
    shared, is_new = random.normal(0, 0.08, 12), np.arange(12) % 2 == 1
    apart = shared[:, None] * SLOPES + random.normal(0, 0.01, (12, 3)) + is_new[:, None] * np.array([0.0, 0.08, 0.0])
    within = slopes_within(np.zeros((12, 200, 3)), np.zeros((12, 200)))
    found = slopes_between(within, apart, shared, np.full((12, 3), 0.01), is_new)
    assert found.slope == pytest.approx(SLOPES, abs=0.1)
    assert np.all(found.deviation < 0.06)


def test_a_row_that_a_run_lacks_is_no_evidence() -> None:
    random = np.random.default_rng(4)
    rows, shared = wandering(random, noise=0.01)
    rows[2:, :, 1] = np.nan
    found = slopes_within(rows, shared)
    assert found.slope == pytest.approx(SLOPES, abs=0.1) and np.all(np.isfinite(found.deviation))
    apart, error = np.full((4, 3), np.nan), np.full((4, 3), 0.01)
    unchanged = slopes_between(found, apart, np.zeros(4), error, np.arange(4) > 1)
    assert unchanged.slope == pytest.approx(found.slope) and unchanged.deviation == pytest.approx(found.deviation)
