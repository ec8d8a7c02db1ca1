"""Ops become seconds: data-sheet numbers by hand, what a curve does at its limits, what a calibration looks up."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp.case import Case, Workload
from tp.cost.article import ArticleTheory
from tp.cost.calibrated import CalibratedTheory, Calibration
from tp.cost.choose import make_theories
from tp.cost.curves.attention import SumAttention
from tp.cost.curves.gemm import RooflineGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.cost.datasheet import DatasheetTheory
from tp.cost.known import load_calibration
from tp.cost.lookup import FOREIGN_LOG_ERROR, LAYERS, OTHER_DTYPE_LOG_ERROR, OTHER_LAYOUT_LOG_ERROR, curve_key, find
from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, Theory, TheoryName, estimate_plan, point
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import AttentionCore, Collective, CollectiveKind, Elementwise, Gemm, Op, Plan
from tp.schema import to_json

pytestmark = pytest.mark.unit


def gemm(m: int, n: int, k: int) -> Gemm:
    return Gemm(part="qkv", direction="forward", layout="nt", m=m, n=n, k=k, dtype="bf16")


def core(*, seq: int = 4096, context: int = 4096, backward: bool = False) -> AttentionCore:
    return AttentionCore(
        part="core",
        direction="backward" if backward else "forward",
        batch=1,
        seq=seq,
        context=context,
        num_heads=8,
        num_kv_heads=1,
        head_dim=128,
        causal=seq == context,
        dtype="bf16",
    )


def elementwise(moved_bytes: int) -> Elementwise:
    return Elementwise(
        part="norm", direction="forward", kind="norm", read_bytes=moved_bytes, written_bytes=0, dtype="bf16"
    )


def collective(kind: CollectiveKind, num_ranks: int, size_bytes: int) -> Collective:
    return Collective(
        kind=kind, direction="forward", num_ranks=num_ranks, size_bytes=size_bytes, dtype="bf16", backend="nccl"
    )


def datasheet(name: str) -> DatasheetTheory:
    node = load_node(name)
    return DatasheetTheory(node=node, link=node.link())


def seconds(theory: Theory, op: Op) -> float:
    price = theory.price(op)
    assert price is not None
    assert price.low_s == price.high_s == price.seconds
    return price.seconds


@pytest.mark.parametrize(
    ("hardware", "op", "expected_s"),
    [
        # 2 * 8192**3 = 1.0995e12 FLOP at 989.4e12; its 403 MB would take 0.120 ms.
        ("h100-sxm", gemm(8192, 8192, 8192), 1.111291e-3),
        # The same at 312e12.
        ("a100-sxm-80gb", gemm(8192, 8192, 8192), 3.524076e-3),
        # One row: 2 * (8192 + 8192**2 + 8192) = 134,250,496 bytes at 3.35e12; its 134 MFLOP would take 0.136 us.
        ("h100-sxm", gemm(1, 8192, 8192), 4.007477e-5),
        # 2.039e12
        ("a100-sxm-80gb", gemm(1, 8192, 8192), 6.584134e-5),
        # 4 * 4096**2 * 1024 / 2 = 34.36 GFLOP
        ("h100-sxm", core(), 3.472785e-5),
        # Decode: 2 * (2*1024 + 2*4096*128) = 2,101,248 bytes
        ("h100-sxm", core(seq=1), 6.272382e-7),
        ("h100-sxm", elementwise(67_108_864), 2.003250e-5),
        # Its switch reduces: 9/8 * 512 MiB at 450e9 one way, not 900e9; a ring's 2 * 7/8 would take 2.09 ms.
        ("h100-sxm", collective("all_reduce", 8, 2**29), 1.342177e-3),
        # On two ranks a ring sends less than the switch needs: 2 * 1/2, not 3/2.
        ("h100-sxm", collective("all_reduce", 2, 2**29), 1.193046e-3),
        # No reduction in the A100's switch: 2 * 7/8 * 512 MiB at 300e9
        ("a100-sxm-80gb", collective("all_reduce", 8, 2**29), 3.131747e-3),
        ("h100-sxm", collective("all_gather", 8, 2**29), 1.043916e-3),
        ("a100-sxm-80gb", collective("reduce_scatter", 4, 2**29), 1.342177e-3),
    ],
)
def test_the_roofline_by_hand(hardware: str, op: Op, expected_s: float) -> None:
    assert seconds(datasheet(hardware), op) == pytest.approx(expected_s, rel=1e-6)


SIZES = st.integers(1, 2**15)


@given(SIZES, SIZES, SIZES)
@settings(deadline=None, max_examples=50)
def test_no_product_beats_the_sheet(m: int, n: int, k: int) -> None:
    found = seconds(datasheet("h100-sxm"), gemm(m, n, k))
    assert found >= 2 * m * n * k / 989.4e12 * (1 - 1e-12)
    assert found >= 2 * (m * k + n * k + m * n) / 3.35e12 * (1 - 1e-12)
    for larger in (gemm(m + 1, n, k), gemm(m, n + 1, k), gemm(m, n, k + 1)):
        assert seconds(datasheet("h100-sxm"), larger) >= found


def test_what_no_source_states_bounds_nothing() -> None:
    node = load_node("h100-sxm")
    link = replace(node.link(), bytes_per_s=None, num_lanes=None, lane_bytes_per_s=None)
    no_memory = DatasheetTheory(node=replace(node, device=replace(node.device, memory_bytes_per_s=None)), link=link)
    assert no_memory.price(collective("all_reduce", 8, 2**20)) is None
    assert no_memory.price(elementwise(2**20)) is None
    assert seconds(no_memory, gemm(1, 8192, 8192)) == pytest.approx(134_217_728 / 989.4e12)
    no_peak = DatasheetTheory(node=replace(node, device=replace(node.device, peaks=())), link=link)
    assert seconds(no_peak, gemm(8192, 8192, 8192)) == pytest.approx(402_653_184 / 3.35e12)
    assert ArticleTheory(node=no_peak.node, link=link).price(gemm(8, 8, 8)) is None
    assert ArticleTheory(node=node, link=link).price(collective("all_gather", 8, 2**20)) is None


def test_the_articles_arithmetic() -> None:
    node = load_node("a100-pcie-80gb")
    article = ArticleTheory(node=node, link=node.link())
    assert seconds(article, gemm(1, 8192, 8192)) == pytest.approx(134_217_728 / 312e12)  # memory is free
    assert seconds(article, core()) == seconds(article, elementwise(2**30)) == 0
    # Whole activations at 31.5 GB/s, whatever a ring would send.
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        assert seconds(article, collective(kind, 8, 63_000_000)) == pytest.approx(2e-3)


def small_plan() -> Plan:
    workload = Workload(phase="prefill", batch=1, seq=128, context=128, dtype="bf16")
    case = Case(block="attention", model=load_model("llama2-70b"), strategy="sequence", tp=8, workload=workload)
    return build_plan(case, backend="nccl")


class Priced:
    """A theory that has a price for each word, and for some none."""

    name: TheoryName = "calibrated"
    bounds: bool = True
    overheads: Overheads = NONE

    def __init__(self, prices: dict[str, OpEstimate | None]) -> None:
        self.prices = prices

    def price(self, op: Op) -> OpEstimate | None:
        return self.prices.get(op.op)


class Forecast(Priced):
    """A theory whose prices are no bounds."""

    bounds = False


def test_a_plan_is_the_sum_of_its_parts() -> None:
    prices = {
        "gemm": OpEstimate(seconds=3.0, low_s=2.0, high_s=5.0),
        "attention": OpEstimate(seconds=10.0, low_s=9.0, high_s=12.0, extrapolated=True),
        "elementwise": point(0.5),
        "collective": OpEstimate(seconds=100.0, low_s=90.0, high_s=120.0),
    }
    found = estimate_plan(small_plan(), Priced(dict(prices)))
    parts = {part.part: (part.seconds, part.low_s, part.high_s, part.extrapolated) for part in found.parts}
    assert parts == {
        "norm": (0.5, 0.5, 0.5, False),
        "qkv": (3.0, 2.0, 5.0, False),
        "core": (10.5, 9.5, 12.5, True),  # the attention and the rotation
        "out": (3.0, 2.0, 5.0, False),
        "residual": (0.5, 0.5, 0.5, False),
        "all_gather": (100.0, 90.0, 120.0, False),
        "reduce_scatter": (100.0, 90.0, 120.0, False),
        "compute": (17.5, 14.5, 23.5, True),
        "communication": (200.0, 180.0, 240.0, False),
        "serial": (217.5, 194.5, 263.5, True),
        "total": (217.5, 194.5, 263.5, True),  # nothing overlaps
    }
    assert found.part("total").seconds == 217.5
    pytest.raises(KeyError, found.part, "up")


def test_a_part_of_which_nothing_is_known_has_no_seconds() -> None:
    found = estimate_plan(small_plan(), Priced({"gemm": point(3.0)}))
    assert [found.part(name).seconds for name in ("norm", "communication", "qkv")] == [None, None, 3.0]
    # A sum of bounds without some of its terms is still a bound; a forecast without some of them is none.
    assert found.part("total").seconds == 6.0
    assert estimate_plan(small_plan(), Forecast({"gemm": point(3.0)})).part("total").seconds is None
    # Nothing to send takes no time, which is not the same as an unknown one.
    alone = replace(small_plan(), ops=small_plan().compute)
    assert estimate_plan(alone, Priced({"gemm": point(3.0)})).part("communication").seconds == 0.0


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
ATTENTION = SumAttention(startup_s=5e-6, seconds_per_flop=1e-12, seconds_per_byte=1e-11, fit=FIT)
LINES = SizeCurve(
    latency_s=(1e-5, 1e-4), seconds_per_byte=(1e-8, 1e-9), log_size=(0.0,), log_correction=(0.0,), fit=FIT
)


CALIBRATION = Calibration(
    schema_version=2,
    hardware="mine",
    created="2026-11-22T00:00:00+00:00",
    sources=("runs/x.jsonl",),
    gemm={"bf16/nt": GEMM},
    attention={"bf16/forward": replace(ATTENTION, fit=replace(GEMM_FIT, low=(1.0, 64.0, 64.0)))},
    elementwise={"bf16/norm": LINES},
    collectives={
        "all_reduce/2/bf16": replace(LINES, latency_s=(1e-5, 1e-5), seconds_per_byte=(1e-9, 1e-9)),
        "all_reduce/8/bf16": LINES,
        "send_recv/2/bf16": replace(LINES, latency_s=(1e-5, 1e-5), seconds_per_byte=(1e-9, 1e-9)),
    },
)


def calibrated(op: Op, *, source: str | None = None, calibration: Calibration = CALIBRATION) -> OpEstimate | None:
    return CalibratedTheory(calibration=calibration).price(op, source=source)


def test_an_op_is_looked_up_by_what_it_is() -> None:
    found = calibrated(gemm(1000, 1000, 500))  # 1e9 FLOP: 1 ms; 2 * (5e5 + 5e5 + 1e6) bytes: 40 us
    assert found is not None
    assert not found.extrapolated
    assert found.seconds == pytest.approx(5e-6 + math.hypot(1e-3, 4e-5))
    assert found.high_s == pytest.approx(1.1 * found.seconds)
    assert calibrated(replace(gemm(1000, 1000, 500), dtype="fp32")) is None
    assert calibrated(core()) is not None
    assert calibrated(core(backward=True)) is calibrated(core(seq=1)) is None
    assert calibrated(replace(elementwise(4096), kind="rope")) is None
    norm = calibrated(elementwise(100_000))
    assert norm is not None
    assert norm.seconds == pytest.approx(1e-4 + 1e-4)  # the second line, under 1e-5 + 1e-3 of the first


@pytest.mark.parametrize(
    ("op", "between"),
    [
        (replace(gemm(1000, 1000, 500), dtype="fp16"), OTHER_DTYPE_LOG_ERROR),
        (replace(gemm(1000, 1000, 500), layout="tn"), OTHER_LAYOUT_LOG_ERROR),
        (replace(gemm(1000, 1000, 500), layout="nn", dtype="fp16"), OTHER_LAYOUT_LOG_ERROR),
    ],
)
def test_a_sibling_stands_in_with_a_wider_interval_and_is_marked(op: Gemm, between: float) -> None:
    own, found = calibrated(gemm(1000, 1000, 500)), calibrated(op)
    assert own is not None and found is not None
    assert (found.seconds, found.extrapolated, own.extrapolated) == (own.seconds, True, False)
    # Both errors stand between the rows and the op, independent of each other.
    width = math.exp(math.hypot(math.log(1.1), between))
    assert (found.low_s, found.high_s) == pytest.approx((own.seconds / width, own.seconds * width))


def test_another_layout_of_the_same_source_is_still_another_op() -> None:
    made = replace(CALIBRATION, gemm={"bf16/nt": replace(GEMM, sources=("a",))})
    own = calibrated(gemm(1000, 1000, 500), source="a", calibration=made)
    found = calibrated(replace(gemm(1000, 1000, 500), layout="tn"), source="a", calibration=made)
    assert own is not None and found is not None
    assert (own.extrapolated, found.extrapolated) == (False, True)
    assert found.high_s > own.high_s


def test_of_a_source_with_several_dtypes_each_has_its_own_curve() -> None:
    curves = {f"{dtype}/nt": quick(GEMM, "a") for dtype in ("bf16", "fp16")}
    for dtype in ("bf16", "fp16"):
        found = find(curves, replace(gemm(1, 1, 1), dtype=dtype), "a")
        assert found is not None and found[0] is curves[f"{dtype}/nt"], dtype


def quick(curve: RooflineGemm, *sources: str) -> RooflineGemm:
    """Ten times as fast; what prices an op is told by its seconds."""
    return replace(curve, startup_s=0.0, flops_per_s=1e13, bytes_per_s=1e12, sources=sources)


def test_a_source_has_its_own_curve_and_layers_price_plans() -> None:
    curves = {
        "bf16/nt": replace(GEMM, sources=("a", "b")),
        "bf16/nt#c": quick(GEMM, "c"),
        f"bf16/nt#{LAYERS}": replace(GEMM, flops_per_s=5e11, sources=("d",)),
    }
    op = gemm(1000, 1000, 500)
    assert find(curves, op, "b") == (curves["bf16/nt"], 0.0)
    assert find(curves, op, "c") == (curves["bf16/nt#c"], 0.0)
    # A plan's products run one after another, as a layer's do.
    assert find(curves, op, None) == (curves[f"bf16/nt#{LAYERS}"], 0.0)
    stranger = find(curves, op, "e")
    assert stranger == (curves["bf16/nt"], FOREIGN_LOG_ERROR)
    assert find(curves, replace(op, dtype="fp32"), "b") is None
    made = replace(CALIBRATION, gemm=curves)
    known, unknown = calibrated(op, source="b", calibration=made), calibrated(op, source="e", calibration=made)
    assert known is not None and unknown is not None
    assert (known.extrapolated, unknown.extrapolated) == (False, True)
    assert known.high_s == pytest.approx(1.1 * known.seconds)
    assert unknown.high_s == pytest.approx(math.exp(math.hypot(math.log(1.1), FOREIGN_LOG_ERROR)) * unknown.seconds)


def test_keys_tell_curves_apart() -> None:
    ops = (gemm(1, 1, 1), core(), core(backward=True), core(seq=1), collective("all_gather", 4, 8))
    assert [curve_key(op) for op in ops] == "bf16/nt bf16/forward bf16/backward bf16/decode all_gather/4/bf16".split()


def test_a_rank_count_that_was_not_measured_is_scaled_and_marked() -> None:
    measured = calibrated(collective("all_reduce", 2, 1_000_000))
    assert measured is not None
    assert (measured.seconds, measured.extrapolated) == (pytest.approx(1e-5 + 1e-3), False)
    # 3 is nearest to 2: twice the steps, and 2*(2/3) of the bytes instead of 2*(1/2).
    scaled = calibrated(collective("all_reduce", 3, 1_000_000))
    assert scaled is not None
    assert scaled.seconds == pytest.approx(2e-5 + 1e-3 * 4 / 3)
    assert scaled.extrapolated
    assert scaled.high_s == pytest.approx(1.21 * scaled.seconds)
    assert calibrated(collective("all_gather", 2, 1_000_000)) is None


def test_a_send_to_the_neighbour_is_one_step_whatever_the_world() -> None:
    found = calibrated(collective("send_recv", 8, 1_000_000))
    assert found is not None and found.seconds == pytest.approx(1e-5 + 1e-3)


def test_the_best_theory_is_the_last() -> None:
    node = load_node("h100-sxm")
    for calibration, names in ((CALIBRATION, ["article", "datasheet", "calibrated"]), (None, ["article", "datasheet"])):
        assert [t.name for t in make_theories(node=node, link=node.link(), calibration=calibration)] == names


POSITIVE = st.floats(1e-15, 1e15)


@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE)
@settings(deadline=None, max_examples=30)
def test_a_calibration_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, a: float, b: float, c: float, d: float
) -> None:
    curve = SizeCurve(latency_s=(a, b), seconds_per_byte=(c, d), log_size=(a, b), log_correction=(-c, d), fit=FIT)
    kept = replace(CALIBRATION, collectives={"all_gather/2/bf16": curve}, gemm={"bf16/nn": replace(GEMM, startup_s=a)})
    path = tmp_path_factory.mktemp("calibration") / "c.json"
    path.write_text(to_json(kept, indent=2), encoding="utf-8")
    assert load_calibration(path, device="mine") == kept


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", "not valid JSON"),
        ('"schema_version":2', '"schema_version":3', "schema_version = 3: Input should be 2"),
        ('"hardware":"mine",', "", "key 'hardware' is missing; add it"),
        ('"sharpness"', '"sharpnes"', "sharpnes'; did you mean 'sharpness'?"),
        ('"startup_s":5e-6', '"startup_s":"fast"', "startup_s = 'fast': Input should be a valid number"),
        ('"startup_s":5e-6', '"startup_s":NaN', "startup_s = nan: Input should be a finite number"),
    ],
)
def test_a_bad_calibration_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = to_json(CALIBRATION)
    assert old in text
    path = tmp_path / "c.json"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_calibration(path, device="mine")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_calibration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: no such file; make one with 'python -m analysis calibrate'$"):
        load_calibration(tmp_path / "absent.json", device="mine")
