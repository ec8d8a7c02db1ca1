"""How far to split: balance and needed rates by hand, efficiency and its crossing, the verb, the figure."""

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from math import exp, hypot, inf, isinf, isnan, log, nan, sqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.split.balance import balance_degree
from analysis.split.efficiency import Ranged, crossing, efficiency, reach
from analysis.split.need import Rated, needed_rate
from analysis.split.rows import sentence
from analysis.split.scaling import OK, Curve, Degree, Question, dividing, scale
from analysis.split.survey import joining, survey
from tp import catalogue
from tp.case import STRATEGIES, Case, Phase, Strategy, Workload
from tp.cost.article import article_pairs
from tp.cost.choose import choose_chunks, make_theories
from tp.cost.curves.trust import LAYER_LOG_ERROR_90
from tp.cost.datasheet import DatasheetTheory
from tp.cost.known import known_calibration
from tp.cost.theory import Theory, estimate_plan
from tp.errors import ConfigError
from tp.hardware import Node, load_network, load_node
from tp.model import load_model
from tp.plan.build import build_plan

pytestmark = pytest.mark.unit

LLAMA = load_model("llama2-70b")
WORKLOAD = Workload(phase="prefill", batch=1, seq=4096, context=4096, dtype="bf16")

# By hand, of one token in one layer of Llama-2-70B, bf16:
#   qkv   8192 x (8192 + 2 * 1024)          83.9 M parameters
#   out   8192 x 8192                       67.1 M
#   FFN   3 x 8192 x 28672                 704.6 M
#   sum                                    855.6 M, 2 FLOP each: 1.711 GFLOP
#   sent  two all-reduces of 8192 x 2 bytes, each 2 (n-1)/n of it: 65,536 (n-1)/n bytes
# so 1.711e9 / (n P) = 65,536 (n-1) / (n B), n = 1 + 26,112 B/P.
PARAMETERS = 8192 * (8192 + 2 * 1024) + 8192 * 8192 + 3 * 8192 * 28672
FLOPS_A_BYTE = 2 * PARAMETERS / (2 * 2 * 8192 * 2)


@pytest.mark.parametrize(
    ("flops_per_s", "bytes_per_s", "expected", "places"),
    [
        (312e12, 300e9, 26.1, 1),  # A100 SXM: 1 + 26,112 * 300e9 / 312e12 = 1 + 25.108
        (989.4e12, 450e9, 12.9, 1),  # H100 SXM: 1 + 26,112 * 450e9 / 989.4e12 = 1 + 11.876
        (989.4e12, 200e9, 6.3, 1),  # H800 SXM: 1 + 26,112 * 200e9 / 989.4e12 = 1 + 5.278
        (165.2e12, 32e9, 6.06, 2),  # RTX 4090: 1 + 26,112 * 32e9 / 165.2e12 = 1 + 5.058
        (165.2e12, 31.5e9, 5.98, 2),  # after 128b/130b coding: 1 + 4.979
        (756.5e12, 63e9, 3.2, 1),  # H100 PCIe 5: 1 + 26,112 * 63e9 / 756.5e12 = 1 + 2.175
        (312e12, 200e9, 17.7, 1),  # A800: 1 + 26,112 * 200e9 / 312e12 = 1 + 16.738
        (2250e12, 900e9, 11.4, 1),  # B200: 1 + 26,112 * 900e9 / 2250e12 = 1 + 10.445
        (362.05e12, 31.5e9, 3.3, 1),  # L40S: 1 + 26,112 * 31.5e9 / 362.05e12 = 1 + 2.272
        (148e12, 450e9, 80, 0),  # H20: 1 + 26,112 * 450e9 / 148e12 = 1 + 79.395
    ],
)
def test_the_balance_by_hand(flops_per_s: float, bytes_per_s: float, expected: float, places: int) -> None:
    assert round(PARAMETERS / 1e6, 1) == 855.6
    assert FLOPS_A_BYTE == 26_112
    found = balance_degree(LLAMA, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)
    assert found == pytest.approx(1 + FLOPS_A_BYTE * bytes_per_s / flops_per_s, rel=1e-12)
    assert round(found, places) == expected


def test_what_a_ring_sends_in_two_halves_balances_as_the_whole() -> None:
    rates = {"flops_per_s": 312e12, "bytes_per_s": 300e9}
    found = {name: balance_degree(LLAMA, strategy=name, **rates) for name in STRATEGIES}
    assert {round(n, 9) for name, n in found.items() if name != "columns"} == {round(found["allreduce"], 9)}
    # All-gathers of Z and of the hidden FFN instead of a second turn: 8192 + 8192 + 28672 + 8192 elements a token.
    assert found["columns"] == pytest.approx(1 + 2 * PARAMETERS / (2 * 53_248) * 300e9 / 312e12)
    attention = 8192 * (8192 + 2 * 1024) + 8192 * 8192
    assert balance_degree(LLAMA, block="attention", **rates) == pytest.approx(
        1 + 2 * attention / (2 * 8192 * 2) * 300 / 312e3
    )


@pytest.mark.parametrize("rate", [0.0, -1.0, nan, inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="not a positive rate"):
        balance_degree(LLAMA, flops_per_s=rate, bytes_per_s=1e9)


def test_a_model_that_no_degree_splits_is_refused() -> None:
    odd = replace(LLAMA, num_heads=1, num_kv_heads=1, ffn_width=7)
    with pytest.raises(ConfigError, match="no degree above 1 divides"):
        balance_degree(odd, flops_per_s=1e12, bytes_per_s=1e9)


def number(value: float, width: float = 0.0) -> Ranged:
    return Ranged(value=value, low=value * exp(-width), high=value * exp(width))


def test_only_what_both_times_do_not_share_widens_an_efficiency() -> None:
    # T(8) is 1.25, of which products 1.0 and what is exposed of sending a fifth.
    one, many = number(8.0, 0.3), number(1.25, 0.4)
    found = efficiency(one, many, 8, compute=number(1.0, 0.3), sending=number(0.25, 0.4))
    assert found.value == pytest.approx(0.8)
    width = hypot(0.2 * 0.3, 0.2 * 0.4, sqrt(2) * LAYER_LOG_ERROR_90)
    assert (log(found.high / found.value), log(found.value / found.low)) == pytest.approx((width, width))
    # Slower products than predicted hide a slow link, and raise efficiency.
    compute = Ranged(value=1.0, low=0.99, high=2.0)
    skewed = efficiency(one, many, 8, compute=compute, sending=number(0.25, 0.0))
    assert log(skewed.high / 0.8) == pytest.approx(hypot(0.2 * log(2.0), sqrt(2) * LAYER_LOG_ERROR_90))
    assert log(0.8 / skewed.low) == pytest.approx(hypot(0.2 * log(1 / 0.99), sqrt(2) * LAYER_LOG_ERROR_90))
    # Where nothing is exposed the machine's own errors cancel.
    hidden = efficiency(one, many, 8, compute=number(1.25, 0.4), sending=number(1.0, 2.0))
    assert log(hidden.high / 0.8) == pytest.approx(sqrt(2) * LAYER_LOG_ERROR_90)
    nothing = number(0.0)
    assert not efficiency(number(8.0), number(1.25), 8, compute=number(1.0), sending=nothing).has_interval
    assert efficiency(number(8.0, 0.3), number(8.0, 0.3), 1, compute=number(8.0), sending=nothing) == number(1.0)
    for bad in (nan, 0.0, inf):
        assert isnan(efficiency(number(bad), number(1.0), 2, compute=number(1.0), sending=nothing).value)


def test_a_crossing_is_linear_in_the_logarithm_of_the_degree() -> None:
    # Half of the way from 0.75 to 0.25 between 4 and 16.
    assert crossing(0.5, [1, 4, 16], [1.0, 0.75, 0.25]) == pytest.approx(8.0)
    assert crossing(0.5, [1, 2, 4, 16], [1.0, nan, 0.75, 0.25]) == pytest.approx(8.0)
    assert crossing(0.75, [1, 4, 16], [1.0, 0.75, 0.25]) == pytest.approx(4.0)
    assert isinf(crossing(0.2, [1, 4, 16], [1.0, 0.75, 0.25]))
    assert isnan(crossing(0.5, [1, 2], [nan, nan]))
    # What comes up again counts: it is the last fall that ends the reach.
    assert crossing(0.5, [1, 2, 4, 8], [1.0, 0.4, 0.6, 0.4]) == pytest.approx(4 * sqrt(2))


@given(
    values=st.lists(st.tuples(st.floats(0.01, 1.5), st.floats(0, 1)), min_size=1, max_size=8),
    target=st.floats(0.02, 0.99),
)
def test_the_crossing_lies_between_the_crossings_of_both_ends(values: list[tuple[float, float]], target: float) -> None:
    curve = [(1, number(1.0)), *((2 ** (i + 1), number(*each)) for i, each in enumerate(values))]
    found = reach(target, curve)
    assert found is not None and found.last == curve[-1][0]
    assert found.crossing.low <= found.crossing.value * (1 + 1e-9) <= found.crossing.high * (1 + 1e-6)
    assert found.largest <= found.crossing.value * (1 + 1e-9)
    assert isinf(found.crossing.value) == (found.largest == found.last)


@cache
def theory(hardware: str, name: str = "datasheet") -> Theory:
    node = load_node(hardware)
    known = known_calibration("", node, node.link())
    assert known is not None
    found = make_theories(node=node, link=node.link(), calibration=known.calibration)
    return next(each for each in found if each.name == name)


def question(hardware: str = "a100-sxm-80gb", name: str = "datasheet", **changes: object) -> Question:
    asked = Question(
        model=LLAMA,
        workload=WORKLOAD,
        theory=theory(hardware, name),
        backend="nccl",
        most=8,
        targets=(0.8, 0.5),
        node=load_node(hardware),
        needs=False,
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", ["prefill", "train"])
@pytest.mark.parametrize("name", ["datasheet", "calibrated"])
def test_times_are_those_of_the_estimate(name: str, phase: Phase) -> None:
    asked = question(name=name, workload=replace(WORKLOAD, phase=phase))
    for curve in scale(asked, ("allreduce", "overlap")):
        assert [degree.tp for degree in curve.degrees] == [1, 2, 4, 8]
        for degree in curve.degrees:
            case = Case(block="block", model=LLAMA, strategy=curve.strategy, tp=degree.tp, workload=asked.workload)
            case = replace(case, chunks=choose_chunks(case, [asked.theory], backend="nccl"))
            plan = build_plan(case, backend="nccl")
            total = estimate_plan(plan, asked.theory).part("total")
            assert (degree.chunks, degree.status, degree.sent_bytes) == (case.chunks, OK, plan.sent_bytes)
            assert (degree.seconds.value, degree.seconds.low) == (total.seconds, total.low_s)
            first = curve.degrees[0].seconds.value
            assert degree.efficiency.value == pytest.approx(first / (degree.tp * degree.seconds.value))
            hidden = 0.0 if degree.tp == 1 else degree.communication_share * degree.hidden_share
            if not asked.theory.overheads.contention.compute:
                assert degree.compute_share + degree.communication_share - hidden == pytest.approx(1.0)
            assert degree.tp == 1 or degree.reached_bytes_per_s > 0


CATALOGUE = [name for name in catalogue.names("hardware") if load_node(name).device.dense_peak("bf16") is not None]


@settings(max_examples=25, deadline=None)
@given(
    hardware=st.sampled_from(CATALOGUE),
    model=st.sampled_from(["llama2-70b", "llama2-13b", "gpt3-175b"]),
    seq=st.integers(1, 64).map(lambda blocks: 128 * blocks),
)
def test_a_bound_of_all_reduces_falls_with_the_degree(hardware: str, model: str, seq: int) -> None:
    shape = load_model(model)
    node = load_node(hardware)
    asked = question(
        hardware,
        theory=DatasheetTheory(node=node, link=node.link()),
        model=shape,
        workload=replace(WORKLOAD, seq=seq, context=seq),
        most=min(shape.num_kv_heads, 8),
        node=None,
    )
    (curve,) = scale(asked, ("allreduce",))
    values = [degree.efficiency.value for degree in curve.degrees]
    assert values[0] == 1.0
    assert all(after <= before * (1 + 1e-9) for before, after in zip(values, values[1:], strict=False))


def over(node: Node, bytes_per_s: float) -> DatasheetTheory:
    """The data sheet with another rate of its link, which reduces nothing by itself."""
    link = replace(
        node.link(), bytes_per_s=bytes_per_s, direction="one-way", num_lanes=None, lane_bytes_per_s=None,
        reduces_in_switch=False,
    )  # fmt: skip
    return DatasheetTheory(node=node, link=link)


@settings(max_examples=20, deadline=None)
@given(
    strategy=st.sampled_from(["columns", "allreduce", "sequence", "overlap"]),
    phase=st.sampled_from(["prefill", "train"]),
    tp=st.sampled_from([2, 4, 8]),
    target=st.floats(0.3, 0.95),
)
def test_the_needed_rate_put_back_gives_the_target(strategy: Strategy, phase: Phase, tp: int, target: float) -> None:
    node = load_node("h100-sxm")
    base = over(node, inf)
    case = Case(block="block", model=LLAMA, strategy=strategy, tp=tp, workload=replace(WORKLOAD, phase=phase), chunks=1)
    plan = build_plan(case, backend="nccl")
    undivided = estimate_plan(build_plan(replace(case, tp=1), backend="nccl"), base).part("total").seconds
    assert undivided is not None
    found = needed_rate(Rated(plan=plan, theory=base, undivided_s=undivided), target)
    # A link without end is where only compute is left; no link does better.
    at_best = estimate_plan(plan, base).part("total").seconds
    assert at_best is not None
    if isinf(found.bytes_per_s):
        assert undivided / (tp * at_best) <= target
        return
    total = estimate_plan(plan, over(node, found.bytes_per_s)).part("total").seconds
    assert total is not None
    assert undivided / (tp * total) == pytest.approx(target, rel=1e-6)


def test_the_needed_rate_by_hand() -> None:
    """Without hiding, n T(n) E = T(1): sending may take T(1)/(n E) less the compute."""
    (curve,) = scale(question(needs=True, targets=(0.5,)), ("allreduce",))
    first, degree = curve.degrees[0], curve.degrees[3]
    compute = degree.compute_share * degree.seconds.value
    by_hand = degree.sent_bytes / (first.seconds.value / (8 * 0.5) - compute)
    assert degree.needs[0].bytes_per_s == pytest.approx(by_hand, rel=1e-6)
    assert isnan(first.needs[0].bytes_per_s)


def test_no_link_suffices_where_compute_alone_loses_too_much() -> None:
    decode = replace(WORKLOAD, phase="decode", seq=1)
    (curve,) = scale(question(name="calibrated", workload=decode, needs=True, targets=(0.95,)), ("allreduce",))
    assert isinf(curve.degrees[-1].needs[0].bytes_per_s)


def test_degrees_that_cannot_run_say_why() -> None:
    tight = replace(WORKLOAD, seq=6, context=6)
    (curve,) = scale(question(workload=tight), ("sequence",))
    assert [degree.status == OK for degree in curve.degrees] == [True, True, False, False]
    assert "6 tokens are not divisible by tp 4" in curve.degrees[2].status
    assert curve.reaches[1].last == 2
    node = replace(load_node("h100-sxm"), num_devices=6)
    uneven = question("h100-sxm", node=node, most=16)
    (curve,) = scale(uneven, ("allreduce",))
    assert curve.degrees[-1].tp == 16 and "16 ranks do not fill 3 nodes of 6 evenly" in curve.degrees[-1].status
    assert dividing(load_model("llama2-13b"), "allreduce", 40) == (1, 2, 4, 8)


def test_over_a_border_efficiency_falls_faster() -> None:
    node = load_node("h100-sxm")
    known = known_calibration("", node, node.link())
    assert known is not None
    network = load_network("roce-400")
    best = make_theories(node=node, link=node.link(), calibration=known.calibration, network=network)[-1]
    inside = replace(node, num_devices=64)
    single = make_theories(node=inside, link=node.link(), calibration=known.calibration)[-1]
    (with_border,) = scale(question("h100-sxm", theory=best, most=16, node=node), ("overlap",))
    (without,) = scale(question("h100-sxm", theory=single, most=16, node=None), ("overlap",))
    assert with_border.degrees[-2].efficiency == without.degrees[-2].efficiency
    assert with_border.degrees[-1].efficiency.value < 0.5 * without.degrees[-1].efficiency.value


def made(*points: tuple[int, Ranged], targets: tuple[float, ...] = (0.8, 0.5)) -> Curve:
    degrees = tuple(Degree(tp=tp, seconds=number(1.0), efficiency=each) for tp, each in points)
    return Curve(strategy="sequence", phase="prefill", degrees=degrees, targets=targets)


def test_the_sentence() -> None:
    curve = made(
        (1, number(1.0)), (4, Ranged(value=0.9, low=0.8, high=1.0)), (8, Ranged(value=0.7, low=0.6, high=0.85))
    )
    assert sentence(curve) == (
        "sequence, prefill: 80 % up to TP 4 (falls under at 5.7, 4.0 to beyond 8), 50 % up to TP 8 and beyond"
    )
    sure = made((1, number(1.0)), (4, number(0.75)), (16, number(0.25)))
    assert sentence(sure).endswith("80 % up to TP 1 (falls under at 3.0), 50 % up to TP 4 (falls under at 8.0)")
    wide = made((1, number(1.0)), (4, Ranged(value=0.6, low=0.25, high=1.2)), targets=(0.5,))
    assert sentence(wide) == "sequence, prefill: 50 % up to TP 4 and beyond (at worst 2.5)"
    assert sentence(made((1, number(1.0)))) == "sequence, prefill: no degree above 1 runs here"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(("split", *args))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.csv"
    flags = ("--theory", "datasheet", "--strategy", "allreduce", "--phase", "prefill", "--csv", str(path))
    code, out, err = run(capsys, "--hardware", "a100-sxm-80gb", *flags)
    assert (code, err) == (0, "")
    assert "a100-sxm-80gb over nvlink3 (300 GB/s one way)" in out
    assert "allreduce, prefill: a layer of llama2-70b, batch 1, 4096 tokens, bf16" in out
    rows = [line.split() for line in out.splitlines() if line.lstrip()[:2] in ("1 ", "2 ", "4 ", "8 ")]
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    with path.open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["tp"] for row in table] == ["1", "2", "4", "8"]
    assert float(table[3]["needed_bytes_per_s_80"]) > float(table[3]["needed_bytes_per_s_50"])
    assert (table[0]["needed_bytes_per_s_80"], table[0]["hidden_share"]) == ("", "")


def test_the_verb_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "--phase", "decode", "--strategy", "sequence,allreduce", "--batch", "4")
    found = json.loads(out)
    assert (code, found["hardware"], found["theory"], found["lengths"]) == (
        0,
        "h100-sxm",
        "calibrated",
        {"decode": 4096},
    )
    sequence, allreduce = found["curves"]
    assert [each["status"] == OK for each in sequence["degrees"]] == [True, True, True, False]
    assert sequence["targets"][0]["largest_degree_known"] == 4
    for target in allreduce["targets"]:
        assert target["falls_under"] == (target["degree"] is not None)
    assert all(each["some_link_suffices"] is None for each in allreduce["degrees"][0]["needs"])


def test_a_shipped_calibration_prices_no_other_link(capsys: pytest.CaptureFixture[str]) -> None:
    totals = {}
    for link in ("nvlink4", "pcie5"):
        code, out, _ = run(capsys, "--json", "--link", link, "--strategy", "allreduce", "--phase", "prefill")
        totals[link] = [each["reached_bytes_per_s"] for each in json.loads(out)["curves"][0]["degrees"][1:]]
        assert code == 0
    assert max(totals["pcie5"]) < 63e9 < min(totals["nvlink4"])


def test_one_device_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--hardware", "gh200", "--strategy", "allreduce", "--phase", "prefill")
    code, out, _ = run(capsys, *flags)
    assert (code, "1 device a node; --network NAME joins such nodes" in out) == (0, True)
    assert out.count("no degree above 1 runs here") == 1
    code, out, _ = run(capsys, *flags, "--network", "infiniband-400", "--tp", "2")
    assert (code, "nodes of 1 joined by infiniband-400 (50.0 GB/s one way)" in out) == (0, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--hardware h100", "--hardware h100: unknown; did you mean h100-"),
        ("--link nvlink9", "--link nvlink9: h100-sxm has none of that name"),
        ("--network wlan", "--network wlan: unknown; Choose from"),
        ("--tp 16", "--tp 16: h100-sxm has 8 devices a node; name the --network"),
        ("--tp 4096 --network roce-400", "--tp 4096: more than 1024"),
        ("--tp 1:8", "--tp 1:8: not a positive whole number"),
        ("--efficiency 1", "--efficiency 1: not a share from 0.01 to 1"),
        ("--efficiency nan", "--efficiency nan: not a share"),
        ("--efficiency 0.8,0.80", "--efficiency 0.8,0.80: a share is given twice"),
        ("--context 5", "--context 5: only decode has a context of its own"),
        ("--theory guess", "--theory guess: unknown"),
        ("--calibration absent.json", "--calibration absent.json: no such file"),
        ("--hardware a100-sxm-80gb --dtype fp8 --theory datasheet", "--dtype fp8: nobody states a dense peak of a100"),
        ("--csv /dev/null/x.csv", "--csv /dev/null/x.csv: cannot be written"),
        ("--figure out --tp 4", "--figure: draws all hardware under two theories; leave out --tp"),
        ("--figure out --json", "--figure: draws all hardware and three strategies; leave out --hardware"),
        ("--figure out --phase prefill,train", "--phase prefill,train: a figure shows one phase"),
        ("--figure out --efficiency 0.5,0.6,0.7,0.8", "--efficiency 0.5,0.6,0.7,0.8: a figure has at most 3 panels"),
        ("--degree 8", "--degree: no such flag"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], args: str, message: str) -> None:
    code, _, err = run(capsys, *args.split())
    assert (code, err.count("\n"), err.startswith(f"error: {message}")) == (2, 1, True), err


def test_a_cpu_needs_a_calibration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tp.probe.gpu_names", lambda: ())
    code, _, err = run(capsys, "--hardware", "auto")
    assert (code, err.startswith("error: --hardware auto: nobody states the rate of its link host-memory")) == (2, True)
    code, _, err = run(capsys, "--hardware", "auto", "--network", "roce-400")
    assert (code, err.startswith("error: --network roce-400: only nodes of GPUs")) == (2, True)


def test_links_of_the_figure_join_all_devices() -> None:
    assert [link.name for link in joining(load_node("a100-sxm-80gb"))] == ["nvlink3", "pcie4"]
    assert [link.name for link in joining(load_node("a100-pcie-80gb"))] == ["pcie4"]
    assert [link.name for link in joining(load_node("gh200"))] == ["nvlink4"]
    rows = {(name, link.name) for name in CATALOGUE for link in joining(load_node(name))}
    assert {(pair.hardware, pair.link) for pair in article_pairs()} <= rows


def of_hardware(monkeypatch: pytest.MonkeyPatch, *nodes: str) -> None:
    """A catalogue of these nodes alone."""
    known = catalogue.names
    monkeypatch.setattr("tp.catalogue.names", lambda kind: nodes if kind == "hardware" else known(kind))


def test_a_row_of_the_figure_knows_no_border_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    of_hardware(monkeypatch, "gh200")
    (row,) = survey(load_model("llama2-13b"), WORKLOAD, (0.5,))
    node = replace(load_node("gh200"), num_devices=128)
    known = known_calibration("", node, node.link())
    assert known is not None and row.node.num_devices == 1 and row.printed is None
    best = make_theories(node=node, link=node.link(), calibration=known.calibration)[-1]
    asked = question("gh200", theory=best, model=load_model("llama2-13b"), most=128, targets=(0.5,), node=None)
    (curve,) = scale(asked, ("allreduce",))
    (found,) = [each for each in row.findings if (each.strategy, each.basis) == ("allreduce", "expected")]
    assert found.reaches == curve.reaches


def test_the_figure_and_its_numbers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_hardware(monkeypatch, "h100-sxm", "h100-pcie", "gh200")
    monkeypatch.setattr("analysis.split.survey.MOST", 16)
    code, out, err = run(capsys, "--figure", str(tmp_path / "f"), "--seq", "1024")
    assert (code, err) == (0, "")
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        f"split-degrees.{end}" for end in ("svg", "png", "pdf", "csv")
    }
    svg = (tmp_path / "f" / "split-degrees.svg").read_text(encoding="utf-8")
    words = " ".join(ET.fromstring(svg).itertext())
    for word in ("h100-sxm  nvlink4  450 GB/s", "h100-pcie  pcie5  63.0 GB/s", "efficiency falls under 80 %", "PCIe"):
        assert word in words
    assert "one domain of any size" in out.replace("\n", " ")
    with (tmp_path / "f" / "split-degrees.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    kinds = {(row["hardware"], row["link"], row["kind"]) for row in table}
    assert ("h100-sxm", "nvlink4", "calibrated") in kinds and ("gh200", "nvlink4", "expected") in kinds
    printed = {row["hardware"]: float(row["degree"]) for row in table if row["kind"] == "article"}
    assert printed == {"h100-sxm": 5.5, "h100-pcie": 0.8}
    balance = {(row["hardware"], row["link"]): float(row["degree"]) for row in table if row["kind"] == "balance"}
    assert round(balance["h100-sxm", "nvlink4"], 1) == 12.9
    # 2 links of the H100 SXM, one of the others; 2 theories, 3 strategies, 2 targets.
    assert sum(row["efficiency"] != "" for row in table) == 4 * 2 * 3 * 2
