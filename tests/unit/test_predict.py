"""Predictions and the article's arithmetic, by hand; and the verb that prints them, from its flags to its exit code."""

from dataclasses import replace
from math import isclose
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.forecast.predict import PREDICTION_COLUMNS, predict, prediction_table
from analysis.trial.degrees import article_ratio, article_table
from tp.case import STRATEGIES
from tp.cost.article import as_multi_head, flops_per_byte, largest_degree
from tp.cost.calibrated import Calibration
from tp.cost.curves.gemm import RooflineGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.cost.datasheet import DatasheetTheory
from tp.hardware import load_node
from tp.model import load_model
from tp.schema import to_json
from tp.suite import Defaults, PlannedCase, Suite, expand

pytestmark = pytest.mark.unit

LLAMA = load_model("llama2-70b")


def test_the_articles_384_and_what_it_asks_of_a_link() -> None:
    ratio = article_ratio(LLAMA)
    assert ratio.tp == 64
    assert ratio.multi_head == 2 * 3 * 8192 / 64 / 2 == 384
    # 64 query heads and 8 + 8 kv heads, each counted once: 2 * (64 + 16) / 64 * 128 / 2
    assert ratio.grouped == 160
    assert ratio.needed_bytes_per_s == pytest.approx(330e12 / 384)
    assert round(ratio.needed_bytes_per_s / 1e9) == 859


@pytest.mark.parametrize("tp", [1, 2, 8, 64])
def test_flops_a_byte_fall_as_the_ranks_grow(tp: int) -> None:
    assert flops_per_byte(as_multi_head(LLAMA), tp) == 24576 / tp
    # A replicated kv head is computed by each of its holders: at 64 ranks again three projections of one head.
    assert flops_per_byte(LLAMA, tp) == {1: 10240, 2: 5120, 8: 1280, 64: 384}[tp]


# The article prints 2.4, 5.5, 2.4, 0.8: 24576 over its thresholds of 10000, 4400, 10000, 30000, cut to a decimal.
# Unrounded: 24576 * half the two-way link / 330 or 1979 T. Corrected: 24576 * one-way link / dense peak.
ARTICLE = [
    ("A100 on PCIe 4", 2.4, 24576 * 32e9 / 330e12, 24576 * 31.5e9 / 312e12),  # 2.383, 2.481
    ("H100 on NVLink", 5.5, 24576 * 450e9 / 1979e12, 24576 * 450e9 / 989.4e12),  # 5.588, 11.178
    ("H800 on NVLink", 2.4, 24576 * 200e9 / 1979e12, 24576 * 200e9 / 989.4e12),  # 2.484, 4.968
    ("H100 on PCIe 5", 0.8, 24576 * 64e9 / 1979e12, 24576 * 63e9 / 756.5e12),  # 0.795, 2.047
]


@pytest.mark.parametrize(("number", "expected"), list(enumerate(ARTICLE)))
def test_the_articles_degrees(number: int, expected: tuple[str, float, float, float]) -> None:
    label, printed, unrounded, corrected = expected
    degree = article_table(LLAMA)[number]
    assert degree.pair.label == label
    assert degree.rounded == degree.pair.largest_degree == printed
    assert degree.unrounded == pytest.approx(unrounded)
    assert degree.right.by_the_rule == pytest.approx(corrected)


def test_the_corrected_degrees_to_two_places() -> None:
    assert [round(degree.right.by_the_rule, 2) for degree in article_table(LLAMA)] == [2.48, 11.18, 4.97, 2.05]


def test_at_the_largest_degree_computing_and_receiving_take_the_same_time() -> None:
    model = as_multi_head(load_model("llama2-7b"))
    degree = largest_degree(model, flops_per_s=1e14, bytes_per_s=1e11)
    tokens = 4096
    computing = 2 * 3 * tokens * 4096 * 4096 / degree / 1e14
    receiving = tokens * 4096 * 2 / 1e11
    assert isclose(computing, receiving)


def planned(**swept: object) -> list[PlannedCase]:
    suite = replace(Suite(name="x", model=("llama2-70b",), phase=("prefill",)), **swept)  # type: ignore[arg-type]
    chosen = Defaults(model="llama2-70b", seq=4096, dtype="bf16", strategies=STRATEGIES)
    return expand(suite, "attention", world=None, chosen=chosen, choose_chunks=lambda case: 1)


def test_a_prediction_is_the_sum_of_its_rooflines() -> None:
    node = load_node("h100-sxm")
    theory = DatasheetTheory(node=node, link=node.link())
    (found,) = predict(planned(tp=(8,), strategy=("allreduce",)), theory, backend="nccl")
    assert found.estimate is not None
    s_bytes = 4096 * 8192 * 2
    by_hand = {
        "norm": 2 * s_bytes / 3.35e12,
        "qkv": 2 * 4096 * 8192 * 1280 / 989.4e12,
        # 8 heads of 128: the rotation of 8 + 1 heads at memory speed, the core at its peak
        "core": 4096 * 1152 * 2 * 2 / 3.35e12 + 2 * 4096**2 * 1024 / 989.4e12,
        "out": 2 * 4096 * 1024 * 8192 / 989.4e12,
        "residual": 3 * s_bytes / 3.35e12,
        "all_reduce": 9 / 8 * s_bytes / 450e9,  # reduced in the switch
    }
    for name, seconds in by_hand.items():
        assert found.estimate.part(name).seconds == pytest.approx(seconds), name  # type: ignore[arg-type]
    # Nothing overlaps in the forward of this strategy.
    assert found.estimate.part("total").seconds == pytest.approx(sum(by_hand.values()))
    assert found.estimate.part("serial").seconds == pytest.approx(sum(by_hand.values()))
    compute, sent = found.estimate.part("compute").seconds, found.estimate.part("communication").seconds
    assert (compute, sent) == pytest.approx((sum(by_hand.values()) - by_hand["all_reduce"], by_hand["all_reduce"]))


def test_the_table_leaves_out_what_cannot_run() -> None:
    node = load_node("h100-sxm")
    cases = planned(tp=(4,), phase=("decode",), batch=(2,), strategy=("allreduce", "sequence"))
    found = predict(cases, DatasheetTheory(node=node, link=node.link()), backend="nccl")
    assert [prediction.skip is None for prediction in found] == [True, False]
    table = prediction_table(found)
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    assert set(table["case"]) == {found[0].key}
    assert table["part"].tolist() == "norm qkv core out residual all_reduce compute communication serial total".split()


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(args)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_verb_prints_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--theory", "datasheet", "--tp", "1,8", "--strategy", "allreduce", "--phase", "prefill")
    code, out, err = run(capsys, "predict", *flags)
    assert (code, err) == (0, "")
    assert "h100-sxm over nvlink4 (450 GB/s one way)" in out
    assert "theory: datasheet" in out
    (row,) = [line.split() for line in out.splitlines() if "/tp8/" in line]
    # 40.1 + 86.8 + 40.4 + 69.5 + 60.1 = 297 us; 67.1 MB * 9/8 at 450 GB/s = 168 us
    assert row[1:] == ["297", "us", "168", "us", "465", "us", "-"]
    assert sum("/tp1/" in line for line in out.splitlines()) == 1


def test_the_verb_redoes_the_articles_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "predict", "--theory", "article", "--tp", "8", "--phase", "prefill")
    assert code == 0
    assert "384 FLOP a byte" in out
    assert "859 GB/s" in out
    rows = [line for line in out.splitlines() if " on NVLink  " in line or " on PCIe " in line]
    assert [row.split()[-2:] for row in rows[:4]] == [
        ["2.48", "3.6"],
        ["11.18", "12.9"],
        ["4.97", "6.3"],
        ["2.05", "3.2"],
    ]
    assert "1979 T is the 2:4 sparse peak" in out


def calibration(tmp_path: Path) -> Path:
    low, high = (1.0,) * 3, (1e6,) * 3
    fit = Fit(rows=9, held_out_mape_percent=1.0, held_out_median_percent=1.0, log_error_90=0.1, low=low, high=high)
    gemm = RooflineGemm(startup_s=1e-5, flops_per_s=1e14, bytes_per_s=1e12, sharpness=4.0, fit=fit)
    ring = SizeCurve(
        latency_s=(1e-5, 1e-5),
        seconds_per_byte=(1e-11, 1e-11),
        log_size=(0.0,),
        log_correction=(0.0,),
        fit=replace(fit, low=(1,), high=(1e12,)),
    )
    made = Calibration(
        schema_version=2,
        hardware="NVIDIA H100 SXM5 80GB",
        created="2026-11-22T00:00:00+00:00",
        sources=(),
        gemm={"bf16/nt": gemm},
        attention={},
        elementwise={},
        collectives={"all_reduce/8/bf16": ring},
    )
    path = tmp_path / "c.json"
    path.write_text(to_json(made), encoding="utf-8")
    return path


def test_the_verb_takes_a_calibration_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = tmp_path / "p.csv"
    flags = ("--tp", "8", "--strategy", "allreduce", "--phase", "prefill", "--csv", str(csv))
    code, out, _ = run(capsys, "predict", "--calibration", str(calibration(tmp_path)), *flags)
    assert code == 0
    assert "theory: calibrated" in out
    table = pd.read_csv(csv).set_index("part")
    assert list(table.columns) == [name for name in PREDICTION_COLUMNS if name != "part"]
    assert table.loc["all_reduce", "estimate_s"] == pytest.approx(1e-5 + 4096 * 8192 * 2 * 1e-11)
    assert table.loc["all_reduce", "high_s"] == pytest.approx(table.loc["all_reduce", "estimate_s"] * 1.1051709)
    assert table.loc["qkv", "estimate_s"] == pytest.approx(1e-5 + 85_899_345_920 / 1e14, rel=1e-3)
    # No curve: a kernel's start and the bytes at 87 % of the memory's rate, as expected of any GPU.
    assert table.loc["norm", "estimate_s"] == pytest.approx(2.5e-6 + 2 * 4096 * 8192 * 2 / (0.87 * 3.35e12), rel=1e-3)


def test_of_a_machine_of_no_known_class_nothing_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "configs/hardware/a100-sxm-80gb.toml").read_text(encoding="utf-8")
    for old, new in (('architecture = "ampere"\n', ""), ("a100-sxm-80gb", "mine"), ("NVIDIA A100 SXM4 80GB", "mine")):
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "predict", "--hardware", str(path), "--theory", "calibrated", "--tp", "1")
    assert (code, err.startswith("error: --theory calibrated: needs measurements; give their --calibration")) == (
        2,
        True,
    )
    code, out, _ = run(capsys, "predict", "--hardware", str(path), "--tp", "1", "--phase", "prefill")
    assert (code, "theory: datasheet" in out) == (0, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--model", "llama2-70"), "--model llama2-70: unknown; did you mean llama2-70b?"),
        (("--hardware", "h100"), "--hardware h100: unknown; did you mean h100-"),
        (("--link", "nvlink9"), "--link nvlink9: h100-sxm has none of that name; choose from nvlink4, pcie5"),
        (("--theory", "guess"), "--theory guess: unknown; Choose from article, datasheet, calibrated"),
        (("--calibration", "absent.json"), "--calibration absent.json: no such file"),
        (("--tp", "3"), "--tp 3: num_heads 64 is not divisible by tp 3 (llama2-70b, columns); use 1, 2, 4, 8, 16"),
        (("--tp", "two"), "--tp two: not a positive whole number"),
        (("--seq", "0"), "--seq 0: not a positive whole number"),
        (("--phase", "decoding"), "--phase decoding: unknown"),
        (("--strategy", "rows"), "--strategy rows: unknown"),
        (("--dtype", "int8"), "--dtype int8: unknown"),
        (("--csv", "/dev/null/x.csv"), "--csv /dev/null/x.csv: cannot be written"),
        (("--degree", "8"), "--degree: no such flag"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    code, _, err = run(capsys, "predict", *args)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert (code, out.startswith("usage: python -m analysis {")) == (2, True)
    assert run(capsys, "--help")[0] == 0
    code, _, err = run(capsys, "predic")
    assert (code, err.startswith("error: verb predic: unknown; did you mean predict?")) == (2, True)
