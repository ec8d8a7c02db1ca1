"""Tile curves of products and attention cores: their laws, fitting them to a made-up machine, and arrays of sizes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.calibrate import ROW_BANDS
from analysis.fitting.attention import attention_candidates
from analysis.fitting.candidates import choose
from analysis.fitting.gemm import gemm_candidates, refit_candidates
from analysis.fitting.residual import fit_residual
from analysis.fitting.rows import Rows
from analysis.fitting.validate import describe
from tp.cost.calibrated import CalibratedTheory, Calibration
from tp.cost.curves.array import Array
from tp.cost.curves.attention import QUERY_TILE, SumAttention, TileAttention, attention_features
from tp.cost.curves.gemm import RooflineGemm, TileGemm, smooth_maximum
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.cost.lookup import LAYERS
from tp.cost.priors import guess, prior_attention, prior_gemm
from tp.hardware import load_node
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm, Op

pytestmark = pytest.mark.unit

NODE = load_node("a100-sxm-80gb")


def gemm(m: Any, n: Any, k: Any) -> Gemm:
    return Gemm(part="qkv", direction="forward", layout="nt", m=m, n=n, k=k, dtype="bf16")


def core(batch: Any, seq: Any, heads: Any, kv_heads: Any, *, head_dim: Any = 128) -> AttentionCore:
    return AttentionCore(
        part="core",
        direction="forward",
        batch=batch,
        seq=seq,
        context=seq,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        causal=True,
        dtype="bf16",
    )


def expected_gemm() -> TileGemm:
    curve = prior_gemm(NODE.device, "bf16")
    assert curve is not None
    return curve


def expected_core() -> TileAttention:
    curve = prior_attention(NODE.device, "bf16", backward=False)
    assert curve is not None
    return curve


# A machine that no data sheet has: quicker to start, slower at its peak and in memory, and with other waves.
MACHINE = replace(
    expected_gemm(),
    startup_s=3e-6,
    compute_efficiency=0.75,
    tile_s=1e-6,
    tile_area_s=2e-6,
    memory_efficiency=0.65,
    slowdown=0.02,
    wave_blur=0.5,
)
CORES = replace(
    expected_core(), startup_s=9e-6, compute_efficiency=0.4, diagonal_tokens=300.0, key_passes=3.0, tail=0.2
)

SIZE = st.integers(1, 2**15)


@given(SIZE, SIZE, SIZE, st.floats(0, 1), st.floats(0, 0.5))
@settings(deadline=None, max_examples=60)
def test_no_product_beats_its_machine(m: int, n: int, k: int, blur: float, l2_share: float) -> None:
    curve, op = replace(MACHINE, wave_blur=blur, l2_share=l2_share), gemm(m, n, k)
    found = float(curve.seconds(op))
    assert found >= 3e-6 + op.flops / (0.75 * curve.machine.flops_per_s)
    rate = 0.65 * curve.machine.bytes_per_s
    assert found >= 3e-6 + (op.moved_bytes + curve.ramp_bytes) / rate / curve.l2_speedup
    # What no cache holds is read from memory whole.
    missed = float(replace(curve, l2_share=0.0).seconds(op))
    assert missed >= max(found, 3e-6 + (op.moved_bytes + curve.ramp_bytes) / rate) * (1 - 1e-12)


@given(SIZE, SIZE, st.integers(1, 2**14), st.integers(1, 2**14))
@settings(deadline=None, max_examples=60)
def test_a_longer_reduction_takes_longer(m: int, n: int, k: int, more: int) -> None:
    """Of products that are not cut: a cut may pay from a length on."""
    curve = replace(MACHINE, split_s=1.0)
    short, long = (float(curve.seconds(gemm(m, n, each))) for each in (k, k + more))
    assert long > short
    assert float(MACHINE.seconds(gemm(m, n, k))) <= short


def waves_alone(blur: float) -> TileGemm:
    """A millisecond a tile and nothing else, so that the largest tiles are best."""
    return replace(
        MACHINE,
        machine=replace(MACHINE.machine, flops_per_s=1e30, bytes_per_s=1e30),
        startup_s=0.0,
        tile_s=1e-3,
        tile_area_s=0.0,
        slowdown=0.0,
        wave_blur=blur,
    )


@pytest.mark.parametrize(
    ("tiles", "whole", "fractions"),
    [(1, 1.0, 1.0), (107, 1.0, 1.0), (108, 1.0, 1.0), (109, 2.0, 109 / 108), (216, 2.0, 2.0), (217, 3.0, 217 / 108)],
)
def test_waves_by_hand(tiles: int, whole: float, fractions: float) -> None:
    op = gemm(256, 128 * tiles, 64)
    for blur, expected in ((0.0, whole), (1.0, fractions), (0.5, (whole + fractions) / 2)):
        assert waves_alone(blur).seconds(op) == pytest.approx(1e-3 * expected, rel=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 64), st.integers(1, 64), st.integers(1, 4096))
@settings(deadline=None, max_examples=60)
def test_two_shapes_with_the_same_tiles_take_the_same_time(rows: int, columns: int, m: int, n: int, k: int) -> None:
    """Of whatever size: all of them are made of pieces of 64."""
    curve = replace(
        MACHINE, machine=replace(MACHINE.machine, bytes_per_s=1e30), slowdown=0.0, wave_blur=0.0, ramp_bytes=0.0
    )
    full, part = gemm(64 * rows, 64 * columns, k), gemm(64 * (rows - 1) + m, 64 * (columns - 1) + n, k)
    assert curve.seconds(full) == pytest.approx(float(curve.seconds(part)), rel=1e-9)
    assert curve.seconds(gemm(64 * rows * 40, 64 * columns * 40, k)) > curve.seconds(full)


def test_a_cut_reduction_pays_where_tiles_are_few() -> None:
    few, many = gemm(64, 64, 16384), gemm(8192, 8192, 16384)
    uncut = replace(MACHINE, split_s=1.0)
    assert MACHINE.seconds(few) < 0.5 * uncut.seconds(few)
    assert MACHINE.seconds(many) == uncut.seconds(many)


def test_l2_holds_what_is_small() -> None:
    """A tenth of a quarter of L2 is read three times as quickly, ten times L2 as without."""
    curve = replace(MACHINE, l2_share=0.25, ramp_bytes=0.0)
    held = 0.25 * curve.machine.l2_bytes
    for share, quicker in ((0.1, 3.0), (1.0, 1.5), (40.0, 1.0)):
        # One row times a square: bytes, and hardly any arithmetic.
        width = round(math.sqrt(share * held / 2))
        op = gemm(1, width, width)
        plain = [curve._memory_s(op), replace(curve, l2_share=0.0)._memory_s(op)]
        assert plain[1] / plain[0] == pytest.approx(quicker, rel=0.01)


POSITIVE = st.floats(1e-9, 1e3)


@given(POSITIVE, POSITIVE, st.floats(1, 64))
def test_a_smooth_maximum_lies_between_the_maximum_and_the_sum(one: float, other: float, sharpness: float) -> None:
    found = float(smooth_maximum(np.array(one), np.array(other), sharpness))
    assert max(one, other) <= found <= (one + other) * (1 + 1e-12)
    assert found == float(smooth_maximum(np.array(other), np.array(one), sharpness))
    if sharpness == 1:
        assert found == pytest.approx(one + other)
    assert found <= max(one, other) * 2 ** (1 / sharpness) * (1 + 1e-12)
    assert np.isinf(smooth_maximum(np.array(np.inf), np.array(one), sharpness))


@given(st.integers(1, 64), st.integers(1, 2**15), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 4, 8]))
@settings(deadline=None, max_examples=60)
def test_no_core_beats_its_machine_or_its_longest_tile(batch: int, seq: int, kv_heads: int, group: int) -> None:
    op = core(batch, seq, kv_heads * group, kv_heads)
    found, rate = float(CORES.seconds(op)), 0.4 * CORES.flops_per_s
    assert found >= 9e-6 + op.flops / rate
    assert found >= 9e-6 + 4 * QUERY_TILE * seq * 128 / (rate / CORES.num_units)
    # Queries with results pass query_passes times, keys with values three times.
    queries, keys = 4 * batch * seq * kv_heads * group * 128, 4 * batch * seq * kv_heads * 128
    assert found >= 9e-6 + (CORES.query_passes * queries + 3 * keys) / CORES.bytes_per_s
    for larger in (core(batch + 1, seq, kv_heads * group, kv_heads), core(batch, seq + 1, kv_heads * group, kv_heads)):
        assert CORES.seconds(larger) > found


def test_a_core_without_bytes_and_tail_by_hand() -> None:
    curve = replace(CORES, query_passes=0.0, key_passes=0.0, tail=0.5, slowdown=0.0, startup_s=1e-6)
    rate = 0.4 * 312e12
    # Eight sequences of 32 heads: causal half of 4 * 4096^2 * 128 FLOP each, 300 tokens longer.
    whole = 8 * 32 * 2 * 4096**2 * 128 * (1 + 300 / 4096) / rate
    one = 4 * 128 * 4096 * 128 / (rate / 108)
    expected = 1e-6 + (whole**4 + one**4) ** 0.25 + 0.5 * one
    assert curve.seconds(core(8, 4096, 32, 32)) == pytest.approx(expected, rel=1e-9)
    backward = replace(core(8, 4096, 32, 32), direction="backward")
    assert curve.seconds(backward) == pytest.approx(1e-6 + 2.5 * (expected - 1e-6), rel=1e-9)


def scattered(seconds: Array, noise: float, seed: int) -> Array:
    result: Array = seconds * np.exp(noise * np.random.default_rng(seed).standard_normal(len(seconds)))
    return result


def gemm_rows(count: int, *, noise: float, seed: int, machine: TileGemm = MACHINE) -> Rows[Gemm]:
    rng = np.random.default_rng(seed)
    m = np.exp(rng.uniform(0, np.log(8192), count)).round()
    n, k = 64 * np.exp(rng.uniform(np.log(4), np.log(256), (2, count))).round()
    op = gemm(m, n, k)
    return Rows(op=op, seconds=scattered(machine.seconds(op), noise, seed + 1))


def core_rows(count: int, *, noise: float, seed: int) -> Rows[AttentionCore]:
    rng = np.random.default_rng(seed)
    batch, seq = 2.0 ** rng.integers(0, 6, count), np.exp(rng.uniform(np.log(32), np.log(16384), count)).round()
    kv_heads, group = 2.0 ** rng.integers(0, 4, count), 2.0 ** rng.integers(0, 4, count)
    op = core(batch, seq, kv_heads * group, kv_heads)
    return Rows(op=op, seconds=scattered(CORES.seconds(op), noise, seed + 1))


def error(curve: Any, rows: Rows[Any]) -> float:
    """Mean of |log(predicted / measured)|; of normal noise of one sigma it is 0.8 sigma."""
    return float(np.mean(np.abs(np.log(curve.seconds(rows.op) / rows.seconds))))


def test_a_machine_of_tiles_is_recovered_within_its_noise() -> None:
    rows, new = gemm_rows(120, noise=0.03, seed=1), gemm_rows(300, noise=0.03, seed=2)
    (fit,) = gemm_candidates(expected_gemm(), residuals=False)
    curve = fit(rows, None)
    assert isinstance(curve, TileGemm)
    assert error(MACHINE, new) == pytest.approx(0.8 * 0.03, rel=0.1)
    assert error(curve, new) < 1.3 * error(MACHINE, new)
    assert curve.memory_efficiency == pytest.approx(0.65, rel=0.08)
    # The efficiency and the slow-down of long products tell apart little, what they come to does.
    assert curve.seconds(gemm(8192, 8192, 8192)) == pytest.approx(
        float(MACHINE.seconds(gemm(8192, 8192, 8192))), rel=0.03
    )
    # What it started from knows nothing of this machine; nor does a fit to rows of another one.
    assert error(expected_gemm(), new) > 4 * error(curve, new)
    assert error(fit(replace(rows, seconds=rows.seconds[::-1]), None), new) > 4 * error(curve, new)


def test_a_machine_of_query_tiles_is_recovered_within_its_noise() -> None:
    rows, new = core_rows(80, noise=0.03, seed=3), core_rows(300, noise=0.03, seed=4)
    (fit,) = attention_candidates(expected_core(), residuals=False)
    curve = fit(rows, None)
    assert isinstance(curve, TileAttention)
    assert error(curve, new) < 1.3 * error(CORES, new)
    assert curve.startup_s == pytest.approx(9e-6, rel=0.1)
    assert error(expected_core(), new) > 4 * error(curve, new)


def test_few_rows_of_another_source_move_its_clocks() -> None:
    """Eight rows of a machine whose clocks are a fifth lower: the main curve with them fitted anew."""
    slower = replace(MACHINE, compute_efficiency=0.6)
    rows = gemm_rows(8, noise=0.02, seed=5, machine=slower)
    large = gemm_rows(200, noise=0.02, seed=6, machine=slower)
    large = large.take(large.op.flops > 1e10)
    (refit,) = refit_candidates(MACHINE, len(rows))
    curve = refit(rows, None)
    assert error(curve, large) < 0.5 * error(MACHINE, large)
    assert isinstance(curve, TileGemm)
    assert (curve.startup_s, curve.memory_efficiency) == pytest.approx((MACHINE.startup_s, MACHINE.memory_efficiency))
    assert len(refit_candidates(MACHINE, 40)) == 2


ROOFLINE = RooflineGemm(
    startup_s=5e-6,
    flops_per_s=1e13,
    bytes_per_s=1e11,
    sharpness=3.0,
    fit=guess(0.2, 3),
)


def test_a_residual_learns_a_smooth_factor_that_the_curve_has_not() -> None:
    def kernels(op: Gemm) -> Array:
        """Libraries choose another kernel as a product grows wider."""
        factor: Array = np.exp(0.3 * np.sin(1.5 * np.log2(np.asarray(op.n))))
        return factor

    rows, new = (gemm_rows(count, noise=0.01, seed=seed) for count, seed in ((80, 7), (200, 8)))
    rows, new = (
        replace(each, seconds=scattered(ROOFLINE.seconds(each.op) * kernels(each.op), 0.01, 9)) for each in (rows, new)
    )
    plain, with_residual = gemm_candidates(None)
    bare, learned = plain(rows, None), with_residual(rows, None)
    assert error(learned, new) < 0.5 * error(bare, new)
    chosen, errors = choose(rows, [plain, with_residual], lambda c, r: c.seconds(r.op))
    assert chosen.residual is not None
    # Its held-out error is what it has on new rows, not the little that it has on its own.
    assert error(learned, rows) < 0.5 * np.mean(np.abs(errors))
    assert np.mean(np.abs(errors)) == pytest.approx(error(learned, new), rel=0.5)


def test_few_rows_have_no_residual() -> None:
    rows = gemm_rows(29, noise=0.01, seed=10)
    _, with_residual = gemm_candidates(None)
    assert with_residual(rows, None).residual is None
    (tiles,) = gemm_candidates(expected_gemm())
    assert tiles(rows, None).residual is None


def shares_inside(*, slower: float = 1.0) -> Iterator[float]:
    """Of new rows of each draw, those inside of the interval; of a curve that may be made a wrong one."""
    for seed in (20, 30, 40):
        rows, new = gemm_rows(60, noise=0.04, seed=seed), gemm_rows(300, noise=0.04, seed=seed + 5)
        curve, errors = choose(rows, gemm_candidates(expected_gemm(), residuals=False), lambda c, r: c.seconds(r.op))
        fit = describe(rows.sizes, errors, edges=ROW_BANDS)
        found = fit.estimate(slower * curve.seconds(new.op), (new.op.m, new.op.n, new.op.k))
        yield float(np.mean((found.low_s <= new.seconds) & (new.seconds <= found.high_s)))


def test_intervals_hold_nine_in_ten_of_unseen_rows() -> None:
    assert 0.84 <= np.mean(list(shares_inside())) <= 0.96
    assert np.mean(list(shares_inside(slower=1.1))) < 0.7


def rough(features: Array) -> Any:
    """A residual that is not zero, over the features of some rows."""
    return fit_residual(features, 0.1 * np.sin(features.sum(axis=1)), like=None)


TRUST = Fit(
    rows=40,
    held_out_mape_percent=5.0,
    held_out_median_percent=4.0,
    log_error_90=0.1,
    low=(64.0, 256.0, 256.0),
    high=(2048.0, 8192.0, 8192.0),
    band_edges=ROW_BANDS,
    band_log_errors=(0.3, 0.2, 0.1),
)
BYTES = replace(TRUST, low=(1e4,), high=(1e7,), band_edges=(2e5,), band_log_errors=(0.3, 0.1))
SIZES = SizeCurve(
    latency_s=(1e-5, 1e-4),
    seconds_per_byte=(1e-8, 1e-9),
    log_size=(9.0, 12.0, 14.0),
    log_correction=(0.1, -0.2, 0.05),
    fit=BYTES,
)
SOME_GEMMS = gemm_rows(40, noise=0.0, seed=50).op
SOME_CORES = core_rows(40, noise=0.0, seed=51).op
GEMM_CURVES = (
    replace(ROOFLINE, fit=TRUST),
    replace(ROOFLINE, fit=TRUST, residual=rough(ROOFLINE.features(SOME_GEMMS, ROOFLINE.plain_seconds(SOME_GEMMS)))),
    replace(MACHINE, fit=TRUST),
    replace(MACHINE, fit=TRUST, residual=rough(MACHINE.features(SOME_GEMMS, MACHINE.plain_seconds(SOME_GEMMS)))),
)
CORE_FIT = replace(TRUST, low=(8.0, 64.0, 128.0), high=(512.0, 8192.0, 128.0), band_edges=(), band_log_errors=())
CORE_RESIDUAL = rough(attention_features(SOME_CORES))
SUM = SumAttention(startup_s=5e-6, seconds_per_flop=1e-13, seconds_per_byte=1e-11, fit=CORE_FIT)
CORE_CURVES = (
    SUM,
    replace(SUM, residual=CORE_RESIDUAL),
    replace(CORES, fit=CORE_FIT),
    replace(CORES, fit=CORE_FIT, residual=CORE_RESIDUAL),
)
GEMMS = [(1, 512, 512), (64, 256, 8192), (100, 4096, 1000), (300, 4096, 4096), (4096, 8192, 16384), (8192, 64, 64)]
SHAPES = [(1, 32, 8, 8), (4, 1000, 32, 8), (64, 4096, 32, 4), (2, 16384, 8, 1)]
NUM_BYTES = [1, 1000, 9000, 10**5, 3 * 10**6, 10**9]


def passes(size: Any) -> Elementwise:
    return Elementwise(part="norm", direction="forward", kind="norm", read_bytes=size, written_bytes=size, dtype="bf16")


def sends(size: Any, num_ranks: int = 8) -> Collective:
    return Collective(
        kind="all_reduce", direction="forward", num_ranks=num_ranks, size_bytes=size, dtype="bf16", backend="nccl"
    )


def columns(table: list[tuple[int, ...]]) -> list[Any]:
    return [np.array(column) for column in zip(*table, strict=True)]


def test_arrays_of_sizes_are_sizes_one_by_one() -> None:
    for curve in GEMM_CURVES:
        found, one_by_one = curve.seconds(gemm(*columns(GEMMS))), [float(curve.seconds(gemm(*each))) for each in GEMMS]
        assert found.tolist() == pytest.approx(one_by_one, rel=1e-9), curve
    for core_curve in CORE_CURVES:
        found = core_curve.seconds(core(*columns(SHAPES)))
        assert found.tolist() == pytest.approx([float(core_curve.seconds(core(*each))) for each in SHAPES], rel=1e-9)
    assert SIZES.seconds(sends(np.array(NUM_BYTES))).tolist() == pytest.approx(
        [float(SIZES.seconds(sends(each))) for each in NUM_BYTES], rel=1e-9
    )


def test_sizes_of_a_grid_are_broadcast() -> None:
    """A grid has its batches in one axis and its widths in another."""
    m, n = np.array([[1], [64], [4096]]), np.array([256, 8192])
    for curve in GEMM_CURVES:
        found = curve.seconds(gemm(m, n, 512))
        assert found.shape == (3, 2)
        assert found[2, 0] == pytest.approx(float(curve.seconds(gemm(4096, 256, 512))), rel=1e-9)
    for core_curve in CORE_CURVES:
        found = core_curve.seconds(core(np.array([[1], [8]]), np.array([128, 512, 4096]), 32, 8))
        assert found.shape == (2, 3)
        assert found[1, 2] == pytest.approx(float(core_curve.seconds(core(8, 4096, 32, 8))), rel=1e-6)


def same_prices(theory: CalibratedTheory, many: Op, singles: list[Op], *, source: str | None) -> set[bool]:
    """Whether each is extrapolated; that the grid has the numbers of its points is asserted."""
    found = theory.price(many, source=source)
    assert found is not None
    marks = np.broadcast_to(found.extrapolated, len(singles))
    for number, single in enumerate(singles):
        one = theory.price(single, source=source)
        assert one is not None
        assert isinstance(one.seconds, float) and isinstance(one.extrapolated, bool)
        assert (found.seconds[number], found.low_s[number], found.high_s[number]) == pytest.approx(  # type: ignore[index]
            (one.seconds, one.low_s, one.high_s), rel=1e-9
        )
        assert bool(marks[number]) == one.extrapolated
    return {bool(mark) for mark in marks}


CALIBRATION = Calibration(
    schema_version=2,
    hardware=NODE.device.name,
    created="2026-11-22T00:00:00+00:00",
    sources=(),
    gemm={
        "bf16/nt": replace(GEMM_CURVES[3], sources=("a",)),
        f"bf16/nt#{LAYERS}": replace(GEMM_CURVES[2], sources=("b",)),
    },
    attention={"bf16/forward": CORE_CURVES[3]},
    elementwise={"bf16/norm": SIZES},
    collectives={"all_reduce/8/bf16": SIZES},
)


@pytest.mark.parametrize("source", [None, "a", "b", "elsewhere"])
def test_prices_of_a_grid_are_those_of_its_points(source: str | None) -> None:
    theory = CalibratedTheory(calibration=CALIBRATION, device=NODE.device, link=NODE.link())
    foreign = {True} if source == "elsewhere" else {True, False}
    gemms = [gemm(*each) for each in GEMMS]
    assert same_prices(theory, gemm(*columns(GEMMS)), list(gemms), source=source) == foreign
    # The other curves name no source: whoever names one is a stranger to them.
    strange = {True, False} if source is None else {True}
    cores = [core(*each) for each in SHAPES]
    assert same_prices(theory, core(*columns(SHAPES)), list(cores), source=source) == strange
    many = np.array(NUM_BYTES)
    assert same_prices(theory, passes(many), [passes(each) for each in NUM_BYTES], source=source) == strange
    assert same_prices(theory, sends(many), [sends(each) for each in NUM_BYTES], source=source) == strange
    # A rank count that was not measured.
    assert same_prices(theory, sends(many, 4), [sends(each, 4) for each in NUM_BYTES], source=source) == {True}


def test_expected_prices_of_a_grid_are_those_of_its_points() -> None:
    nothing = replace(CALIBRATION, gemm={}, attention={}, elementwise={}, collectives={})
    theory = CalibratedTheory(calibration=nothing, device=NODE.device, link=NODE.link())
    same_prices(theory, gemm(*columns(GEMMS)), [gemm(*each) for each in GEMMS], source=None)
    same_prices(theory, core(*columns(SHAPES)), [core(*each) for each in SHAPES], source=None)
    many = np.array(NUM_BYTES)
    same_prices(theory, passes(many), [passes(each) for each in NUM_BYTES], source=None)
    assert same_prices(theory, sends(many), [sends(each) for each in NUM_BYTES], source=None) == {True}
    # Without a device nothing is expected of it.
    assert CalibratedTheory(calibration=nothing).price(gemm(64, 64, 64)) is None
