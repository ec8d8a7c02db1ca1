"""Efficiency against link rate: crossings are where known times put them, and no two networks are one."""

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from analysis.figures.drawing import house_style, svg
from analysis.figures.rates import rates_chart
from analysis.figures.scaling import MAX_SCENARIOS, scaling_chart
from analysis.frames.parts import parts_frame
from analysis.frames.rates import CROSSING_COLUMNS, RATE_COLUMNS, crossings_frame, rates_frame
from analysis.frames.scaling import scaling_frame
from analysis.frames.strategies import strategies_frame
from analysis.load import Run
from analysis.report.content import frames_of, read_content
from analysis.report.sections import sections
from analysis.report.terminal import print_report
from analysis.report.write import write_report
from analysis.show.cells import link_rate
from analysis.show.parts import show_parts
from analysis.show.rates import show_crossings, show_rates
from analysis.show.scaling import show_scaling
from analysis.show.table import NOTHING, Display
from analysis.show.words import scenario_text
from bench.harness.record.records import AnyLine, Planned
from tests.unit.record_factory import SPREAD, FixedTheory, header, planned, result, write_run
from tp.case import Strategy
from tp.hardware import Link

pytestmark = pytest.mark.unit

# Bytes/s of links of 100, 200, 400, 800 and 1600 Mbit/s.
RATES = (12.5e6, 25e6, 50e6, 100e6, 200e6)
ONE_S = 20e-3


def network(rate: float, name: str = "") -> Link:
    return Link(name=name or f"lab-{rate:g}", kind="ethernet", bytes_per_s=rate, direction="one-way", source="made up")


def across(plan: Planned, nodes: int = 2) -> Planned:
    """The case with its group over nodes."""
    case = replace(plan.case, nodes=nodes)
    return replace(plan, case=case, key=case.key)


def estimated(total_s: float, **case: Any) -> Planned:
    """A case whose estimated total is given."""
    return planned(FixedTheory(seconds=total_s / len(planned(**case).ops)), **case)


def lab_run(
    path: Path,
    rate: float,
    totals_s: Mapping[Strategy, float],
    *,
    expected_s: Mapping[Strategy, float] | None = None,
    compute_s: float | None = None,
    link: Link | None = None,
    oversubscribed: str | None = None,
    one_s: float | None = ONE_S,
    **case: Any,
) -> Run:
    """A run of two nodes over one link: TP 1, and TP 2 over both nodes of each strategy."""
    lines: list[AnyLine] = [header(num_nodes=2, network=link or network(rate), oversubscribed=oversubscribed)]
    for strategy, total_s in totals_s.items():
        expected = (expected_s or totals_s)[strategy]
        cases = [(across(estimated(expected, strategy=strategy, tp=2, **case)), total_s)]
        if one_s is not None:
            cases.append((estimated(one_s, strategy=strategy, tp=1, **(case | {"chunks": 1})), one_s))
        for plan, seconds in cases:
            lines += [plan, result(plan, total_s=seconds, compute_s=compute_s if plan.case.tp > 1 else None)]
    return write_run(path, *lines)


def sweep(
    folder: Path, *, a: float = 10e-3, b: float = 5e5, predicted_b: float | None = None, **more: Any
) -> list[Run]:
    """Runs over all rates r with T(2) = a + b / r, b bytes, and T(1) = ONE_S; predicted with another b."""
    return [
        lab_run(
            folder / f"{rate:g}.jsonl",
            rate,
            {"allreduce": a + b / rate},
            expected_s={"allreduce": a + (predicted_b or b) / rate},
            **more,
        )
        for rate in RATES
    ]


def frames(*runs: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    rates = rates_frame(scaling_frame(parts_frame(runs)))
    return rates, crossings_frame(rates)


def cells(shown: Display, *, group: int = 0) -> list[dict[str, str]]:
    headings = [column.heading for column in shown.columns]
    return [dict(zip(headings, row, strict=True)) for row in shown.groups[group].rows]


def test_a_row_a_rate_with_the_efficiency_of_its_own_record(tmp_path: Path) -> None:
    rates, _ = frames(*reversed(sweep(tmp_path, predicted_b=1e6)))
    assert tuple(rates.columns) == RATE_COLUMNS
    assert rates["network_bytes_per_s"].tolist() == list(RATES)
    for row, rate in zip(rates.to_dict("records"), RATES, strict=True):
        total_s, expected_s = 10e-3 + 5e5 / rate, 10e-3 + 1e6 / rate
        assert row["measured_total_s"] == pytest.approx(total_s)
        assert (row["measured_tp1_total_s"], row["estimate_tp1_total_s"]) == pytest.approx((ONE_S, ONE_S))
        assert row["measured_efficiency"] == pytest.approx(ONE_S / (2 * total_s))
        assert row["estimate_efficiency"] == pytest.approx(ONE_S / (2 * expected_s))
        assert row["signed_error"] == pytest.approx(expected_s / total_s - 1)
        # A FixedTheory's ends are 10 % off; TP 1 at its low end against TP 2 at its high one.
        assert row["estimate_low_efficiency"] == pytest.approx(row["estimate_efficiency"] * 0.9 / 1.1)
        assert row["estimate_high_efficiency"] == pytest.approx(row["estimate_efficiency"] * 1.1 / 0.9)
        assert row["measured_low_efficiency"] < row["measured_efficiency"] < row["measured_high_efficiency"]
        widest = (1 + SPREAD) / (1 - SPREAD)
        assert row["measured_high_efficiency"] / row["measured_efficiency"] <= widest * (1 + 1e-9)
        assert (row["samples"], row["comparable"], row["network"]) == (8, True, f"lab-{rate:g}")


def test_the_crossings_are_where_the_times_are_equal(tmp_path: Path) -> None:
    """10 ms + 0.5 MB / r = 20 ms at 50 MB/s, one of the measured rates; predicted at twice of it, another one."""
    _, crossings = frames(*sweep(tmp_path, predicted_b=1e6))
    assert tuple(crossings.columns) == CROSSING_COLUMNS
    (row,) = crossings.to_dict("records")
    assert row["measured_answer"] == row["estimate_answer"] == "crosses"
    assert row["measured_crossing_bytes_per_s"] == pytest.approx(50e6)
    assert row["estimate_crossing_bytes_per_s"] == pytest.approx(100e6)
    assert row["signed_error"] == pytest.approx(1.0)
    low, high = row["measured_crossing_low_bytes_per_s"], row["measured_crossing_high_bytes_per_s"]
    assert 40e6 < low < 50e6 < high < 60e6
    assert (row["rates"], row["slowest_bytes_per_s"], row["fastest_bytes_per_s"]) == (5, RATES[0], RATES[-1])


def test_balanced_is_where_compute_takes_as_long_as_communication(tmp_path: Path) -> None:
    """Communication alone is what the factory leaves of the total: 0.5 MB / r, 10 ms at 50 MB/s."""
    _, crossings = frames(*sweep(tmp_path, compute_s=10e-3))
    assert crossings["balanced_bytes_per_s"].tolist() == pytest.approx([50e6])
    _, crossings = frames(*sweep(tmp_path, compute_s=9.99e-3, a=10e-3, b=1e3))
    assert crossings["balanced_bytes_per_s"].isna().all()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    rates, _ = frames(*sweep(tmp_path_factory.mktemp("template")))
    return rates.iloc[0].to_dict()


def made_up(
    template: dict[Any, Any], totals_s: Mapping[float, float], expected_s: Mapping[float, float]
) -> pd.DataFrame:
    """A frame of rates whose TP 2 takes what is given, as measured and as predicted; TP 1 takes ONE_S."""
    return pd.DataFrame(
        [
            template
            | {"network_bytes_per_s": rate}
            | {
                f"{kind}{end}_efficiency": ONE_S / (2 * seconds)
                for kind, seconds in (("measured", totals_s[rate]), ("estimate", expected_s[rate]))
                for end in ("", "_low", "_high")
            }
            for rate in totals_s
        ]
    )


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(min_value=1e6, max_value=1e10), min_size=3, max_size=9, unique=True),
    where=st.floats(min_value=0.01, max_value=0.99),
    share=st.floats(min_value=0.0, max_value=0.95),
    power=st.floats(min_value=0.1, max_value=2.0),
)
def test_a_crossing_lies_between_its_neighbours(
    template: dict[Any, Any], rates: list[float], where: float, share: float, power: float
) -> None:
    """Of a power law it is exact; of a + b/r, convex in logarithms, it is at most one neighbour too fast."""
    rates = sorted(rates)
    true = rates[0] ** (1 - where) * rates[-1] ** where
    # Both take ONE_S at the true crossing.
    law = {rate: ONE_S * (true / rate) ** power for rate in rates}
    line = {rate: ONE_S * (share + (1 - share) * true / rate) for rate in rates}
    (row,) = crossings_frame(made_up(template, law, line)).to_dict("records")
    assert row["measured_answer"] == row["estimate_answer"] == "crosses"
    assert row["measured_crossing_bytes_per_s"] == pytest.approx(true, rel=1e-6)
    beyond = next(rate for rate in rates if rate >= true * (1 - 1e-12))
    assert true * (1 - 1e-6) <= row["estimate_crossing_bytes_per_s"] <= beyond * (1 + 1e-6)
    assert row["signed_error"] == pytest.approx(
        row["estimate_crossing_bytes_per_s"] / row["measured_crossing_bytes_per_s"] - 1
    )


@pytest.mark.parametrize(
    ("ratios", "answer", "cell", "words"),
    [
        ((0.9, 0.8, 0.7), "pays at every rate", "every rate", "at every rate"),
        ((3.0, 2.0, 1.0), "pays at none", "none", "at none"),
        ((1.2, 0.9, 1.1), "pays at some", "some rates", "at some rates, not at the fastest"),
        ((0.9, 1.2, 0.8), "crosses", "546 Mbit/s", "from 546 Mbit/s on"),
        # It paid before, but not at every rate from there on.
        ((1.2, 0.8, 1.2, 0.8), "crosses", "1.09 Gbit/s", "from 1.09 Gbit/s on"),
    ],
)
def test_what_does_not_cross_is_told_in_words(
    template: dict[Any, Any], ratios: tuple[float, ...], answer: str, cell: str, words: str
) -> None:
    totals_s = {rate: ONE_S * ratio for rate, ratio in zip(RATES[1:], ratios, strict=False)}
    rates = made_up(template, totals_s, totals_s)
    crossings = crossings_frame(rates)
    assert crossings["measured_answer"].tolist() == crossings["estimate_answer"].tolist() == [answer]
    assert crossings["measured_crossing_bytes_per_s"].isna().tolist() == [answer != "crosses"]
    (row,) = cells(show_crossings(crossings))
    assert (row["pays from"], row["predicted"]) == (cell, cell)
    with house_style():
        chart = rates_chart(rates, crossings)
    assert chart is not None and f"pays {words} (predicted" in chart.alternative


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    rates, crossings = frames(*sweep(tmp_path, predicted_b=1e6))
    shown = show_rates(rates)
    assert [group.title for group in shown.groups] == [
        "toy attention prefill, batch 1, seq 16, fp32, TP 2 over 2 nodes"
    ]
    rows = cells(shown)
    assert [row["rate"] for row in rows] == ["100 Mbit/s", "200 Mbit/s", "400 Mbit/s", "800 Mbit/s", "1.60 Gbit/s"]
    third = rows[2]
    assert (third["strategy"], third["link"], third["total"], third["at TP 1"]) == (
        *("allreduce", "lab-5e+07"),
        *("20.0 ms", "20.0 ms"),
    )
    assert (third["efficiency"], third["predicted efficiency"], third["error of total"]) == (
        *("50.0 %", "33.3 %"),
        "+50.0 %",
    )
    assert third["predicted interval"] == "27.3 – 40.7 %"
    (row,) = cells(show_crossings(crossings))
    assert (row["pays from"], row["predicted"], row["error"]) == ("400 Mbit/s", "800 Mbit/s", "+100.0 %")
    assert row["predicted interval"] == "568 Mbit/s – 1.30 Gbit/s" and row["rates"] == "5"
    assert row["its interval"] == "387 – 420 Mbit/s" and "marks" not in row
    assert link_rate(312.5e6) == "2.50 Gbit/s" and link_rate(float("nan")) == NOTHING


def test_an_end_beyond_the_measured_rates_is_said_to_be(tmp_path: Path) -> None:
    runs = [run for run, rate in zip(sweep(tmp_path), RATES, strict=True) if rate in (50e6, 200e6)]
    _, crossings = frames(*runs)
    (row,) = cells(show_crossings(crossings))
    assert row["predicted interval"] == "under 400 – 723 Mbit/s"


def test_the_chart_draws_marks_lines_and_crossings(tmp_path: Path) -> None:
    rates, crossings = frames(*sweep(tmp_path, predicted_b=1e6))
    with house_style():
        chart = rates_chart(rates, crossings)
    assert chart is not None and chart.name == "efficiency-against-rate"
    (axes,) = chart.figure.axes
    marks = axes.collections[0].get_offsets()
    assert [(x, y) for x, y in marks.tolist()] == [  # type: ignore[union-attr]
        pytest.approx((rate, ONE_S / (2 * (10e-3 + 5e5 / rate)))) for rate in RATES
    ]
    lines = [tuple(map(tuple, line.get_xydata())) for line in axes.get_lines()]  # type: ignore[arg-type]
    predicted = [(rate, ONE_S / (2 * (10e-3 + 1e6 / rate))) for rate in RATES]
    drawn = [line for line in lines if len(line) == 2 and line[0][0] != line[1][0] and line[0][0] > 1]
    assert [pytest.approx(point) for line in drawn for point in line] == [
        p for pair in pairwise(predicted) for p in pair
    ]
    assert lines[-2:] == [(pytest.approx((50e6, 0.5)),), (pytest.approx((100e6, 0.5)),)]
    assert axes.get_xscale() == "log" and [text.get_text() for text in axes.texts] == ["TP 2 is no faster than TP 1"]
    text = svg(chart)
    for word in ("allreduce, measured", "line: predicted", "pays from here on, measured", "1.60 Gbit/s", "100%"):
        assert f">{word}</text>" in text
    assert "extrapolated" not in text
    assert chart.alternative.endswith(
        "toy attention prefill, batch 1, seq 16, fp32, TP 2 over 2 nodes: allreduce 20.0 % at 100 Mbit/s and 80.0 % at "
        "1.60 Gbit/s, pays from 400 Mbit/s on (predicted 800 Mbit/s)."
    )


def test_a_prediction_beyond_its_calibration_is_dashed(tmp_path: Path) -> None:
    rates, crossings = frames(*sweep(tmp_path))
    rates.loc[rates["network_bytes_per_s"] == RATES[-1], "extrapolated"] = True
    with house_style():
        chart = rates_chart(rates, crossings)
    assert chart is not None and "predicted, extrapolated" in svg(chart)
    styles = [line.get_linestyle() for line in chart.figure.axes[0].get_lines()]
    # The line at 1/n, and the last stretch of the prediction.
    assert styles.count("--") == 2


def test_many_workloads_are_cut_short_and_it_is_said(tmp_path: Path) -> None:
    runs = [
        lab_run(tmp_path / f"{seq}-{rate}.jsonl", rate, {"allreduce": 1e6 / rate}, seq=seq)
        for seq in range(8, 8 * (MAX_SCENARIOS + 2), 8)
        for rate in RATES[:2]
    ]
    with house_style():
        chart = rates_chart(*frames(*runs))
    assert chart is not None and len(chart.figure.axes) == MAX_SCENARIOS
    assert chart.alternative.endswith("The other 1 stand in the table.")


def test_tp1_over_another_network_is_never_a_base(tmp_path: Path) -> None:
    own = lab_run(tmp_path / "a.jsonl", RATES[0], {"allreduce": 8e-3})
    lent = lab_run(tmp_path / "b.jsonl", RATES[1], {"allreduce": 4e-3}, one_s=None)
    scaling = scaling_frame(parts_frame([own, lent]))
    over = scaling.set_index(["network_bytes_per_s", "tp"])["measured_efficiency"]
    assert over[RATES[0], 2] == pytest.approx(ONE_S / 16e-3) and isnan(over[RATES[1], 2])
    rates, crossings = frames(own, lent)
    assert (
        rates["measured_efficiency"].isna().tolist() == rates["measured_tp1_total_s"].isna().tolist() == [False, True]
    )
    # One rate with an efficiency is no curve.
    assert crossings.empty
    # The same two records over one link: there TP 1 of the first counts for both.
    same = lab_run(tmp_path / "c.jsonl", RATES[0], {"sequence": 4e-3}, one_s=None)
    efficiency = scaling_frame(parts_frame([own, same])).set_index(["strategy", "tp"])["measured_efficiency"]
    assert efficiency["sequence", 2] == pytest.approx(ONE_S / 8e-3)


def test_links_are_scenarios_and_named_in_words(tmp_path: Path) -> None:
    runs = [lab_run(tmp_path / f"{rate}.jsonl", rate, {"allreduce": 8e-3}) for rate in RATES[:2]]
    parts = parts_frame(runs)
    scaling = scaling_frame(parts)
    # Two files with the same cases over two links are no series of one case.
    assert set(scaling["series"]) == {""}
    assert [group.title for group in show_scaling(scaling).groups] == [
        f"toy attention prefill, batch 1, seq 16, fp32, over lab-{rate:g}" for rate in RATES[:2]
    ]
    shown = show_parts(parts)
    assert shown.groups[0].title == "toy attention prefill, allreduce over 2 nodes, TP 2"
    assert shown.groups[0].detail == f"batch 1, seq 16, fp32, over lab-{RATES[0]:g}, {RATES[0]}.jsonl"
    # Nothing is the fastest of two links.
    assert set(strategies_frame(runs, parts, scaling)["standing"]) == {""}


def test_within_one_node_a_network_that_was_named_is_none(tmp_path: Path) -> None:
    plan = planned(tp=2)
    run = write_run(tmp_path / "1.jsonl", header(num_nodes=1, network=network(RATES[0])), plan, result(plan))
    parts = parts_frame([run])
    assert set(parts["network"]) == {""} and parts["network_bytes_per_s"].isna().all()
    assert scenario_text(scaling_frame(parts).iloc[0].to_dict()) == "toy attention prefill, batch 1, seq 16, fp32"


def test_groups_within_a_node_and_across_are_told_apart(tmp_path: Path) -> None:
    runs = []
    for rate in RATES[:2]:
        one, inside, apart = planned(tp=1), planned(tp=2), across(planned(tp=2))
        ends = [result(plan, total_s=total_s) for plan, total_s in ((one, 8e-3), (inside, 5e-3), (apart, 6e-3))]
        link = header(num_nodes=2, network=network(rate))
        runs.append(write_run(tmp_path / f"{rate}.jsonl", link, one, inside, apart, *ends))
    parts = parts_frame(runs)
    scaling = scaling_frame(parts)
    assert set(scaling["series"]) == {""} and len(scaling) == 6
    speedups = scaling.set_index(["network_bytes_per_s", "tp", "group_nodes"])["measured_speedup_over_tp1"]
    assert speedups[RATES[0], 2, 1] == pytest.approx(8 / 5) and speedups[RATES[0], 2, 2] == pytest.approx(8 / 6)
    rows = cells(show_scaling(scaling))
    assert [row["strategy"] for row in rows] == ["allreduce", "allreduce", "allreduce over 2 nodes"]
    strategies = strategies_frame(runs, parts, scaling)
    at_two = strategies[strategies["tp"] == 2]
    assert list(zip(at_two["group_nodes"], at_two["standing"], strict=True)) == [(1, "fastest"), (2, "slower")] * 2
    chart = scaling_chart(scaling)
    assert chart is not None
    ticks = [tick.get_text() for tick in chart.figure.subfigs[0].axes[0].get_xticklabels()]
    assert ticks == ["TP 1", "TP 2", "TP 2\n2 nodes"]
    # Of these only what lies across sends over the link.
    assert rates_frame(scaling)["group_nodes"].tolist() == [2, 2]


def test_one_rate_gives_nothing(tmp_path: Path) -> None:
    one = lab_run(tmp_path / "1.jsonl", RATES[0], {"allreduce": 8e-3})
    other = lab_run(tmp_path / "2.jsonl", RATES[0], {"allreduce": 9e-3}, link=network(RATES[0], "another"))
    nowhere = write_run(tmp_path / "0.jsonl", header())
    for runs in ([one], [one, other], [nowhere]):
        rates, crossings = frames(*runs)
        assert rates.empty and crossings.empty
        assert (tuple(rates.columns), tuple(crossings.columns)) == (RATE_COLUMNS, CROSSING_COLUMNS)
        assert show_rates(rates).groups == show_crossings(crossings).groups == ()
        assert rates_chart(rates, crossings) is None


def test_chunks_are_tuned_to_the_rate_and_one_curve(tmp_path: Path) -> None:
    runs = [
        lab_run(tmp_path / f"{rate}.jsonl", rate, {"overlap": seconds}, chunks=chunks)
        for rate, seconds, chunks in ((RATES[0], 30e-3, 1), (RATES[1], 25e-3, 2), (RATES[2], 12e-3, 4))
    ]
    # The slower of two numbers of chunks of one link stands for nothing.
    runs.append(lab_run(tmp_path / "more.jsonl", RATES[2], {"overlap": 15e-3}, chunks=2, one_s=None))
    rates, crossings = frames(*runs)
    assert rates["chunks"].tolist() == [1, 2, 4] and len(crossings) == 1
    assert [row["strategy"] for row in cells(show_rates(rates))] == [
        "overlap",
        *(f"overlap in {n} chunks" for n in (2, 4)),
    ]
    assert RATES[1] < crossings["measured_crossing_bytes_per_s"].iloc[0] < RATES[2]


def test_records_of_one_link_count_alike(tmp_path: Path) -> None:
    """Twice as long and half as long as TP 1 make one that is equal to it."""
    runs = [
        lab_run(tmp_path / f"{number}.jsonl", rate, {"allreduce": seconds})
        for number, (rate, seconds) in enumerate(((25e6, 60e-3), (50e6, 40e-3), (50e6, 10e-3), (100e6, 5e-3)))
    ]
    rates, crossings = frames(*runs)
    assert rates["network_bytes_per_s"].tolist() == [25e6, 50e6, 50e6, 100e6]
    assert crossings["rates"].tolist() == [3]
    assert crossings["measured_crossing_bytes_per_s"].tolist() == pytest.approx([50e6])


def test_times_that_are_not_comparable_count_where_there_are_no_others(tmp_path: Path) -> None:
    fair = [lab_run(tmp_path / f"{rate}.jsonl", rate, {"allreduce": 1e6 / rate}) for rate in RATES]
    unfair = lab_run(tmp_path / "u.jsonl", 400e6, {"allreduce": 90e-3}, oversubscribed="4 ranks share 2 cores")
    rates, crossings = frames(*fair, unfair)
    assert rates["comparable"].tolist() == [True] * 5 + [False]
    assert crossings["fastest_bytes_per_s"].tolist() == [RATES[-1]] and crossings["comparable"].all()
    alone = [
        lab_run(tmp_path / f"u{rate}.jsonl", rate, {"allreduce": 1e6 / rate}, oversubscribed="4 ranks share 2 cores")
        for rate in RATES
    ]
    rates, crossings = frames(*alone)
    assert not crossings["comparable"].any()
    assert {row["marks"] for row in (*cells(show_rates(rates)), *cells(show_crossings(crossings)))} == {
        "not comparable"
    }


def test_what_is_emulated_is_no_measurement(tmp_path: Path) -> None:
    rates, _ = frames(*sweep(tmp_path, emulated=True))
    assert rates.empty


def test_without_estimates_the_measured_alone_is_told(tmp_path: Path) -> None:
    runs = []
    for rate in RATES:
        one, two = planned(tp=1), across(planned(tp=2))
        ends = [result(one, total_s=ONE_S), result(two, total_s=10e-3 + 5e5 / rate)]
        runs.append(write_run(tmp_path / f"{rate}.jsonl", header(num_nodes=2, network=network(rate)), one, two, *ends))
    rates, crossings = frames(*runs)
    (row,) = cells(show_crossings(crossings))
    assert (row["pays from"], row["predicted"], row["error"]) == ("400 Mbit/s", NOTHING, NOTHING)
    with house_style():
        chart = rates_chart(rates, crossings)
    assert chart is not None and chart.alternative.endswith("pays from 400 Mbit/s on.")
    assert "predicted" not in svg(chart).split(">", 1)[1]


def test_page_tables_and_terminal_have_it(tmp_path: Path) -> None:
    paths = [run.path for run in sweep(tmp_path, predicted_b=1e6)]
    content = read_content(paths, mixed=False, tell=lambda problem: None)
    target = StringIO()
    print_report(Console(file=target, width=200, color_system=None), content)
    assert "over what link it pays: allreduce from 400 Mbit/s on (predicted 800 Mbit/s)\n" in target.getvalue()
    write_report(paths, tmp_path / "out", mixed=False)
    assert (tmp_path / "out" / "figures" / "efficiency-against-rate.svg").exists()
    assert len(pd.read_csv(tmp_path / "out" / "rates.csv")) == 5
    assert len(pd.read_csv(tmp_path / "out" / "crossings.csv")) == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="efficiency-against-rate-caption"' in page and "<h3>Where splitting stops paying</h3>" in page
    assert "network lab-5e+07" in page


def test_where_there_is_one_link_the_page_says_so(tmp_path: Path) -> None:
    run = lab_run(tmp_path / "1.jsonl", RATES[0], {"allreduce": 8e-3})
    content = read_content([run.path], mixed=False, tell=lambda problem: None)
    time = next(section for section in sections(content) if section.slug == "time")
    _, rates, crossings = time.tables
    assert rates.shown.groups == crossings.shown.groups == ()
    assert rates.empty == crossings.empty == "Measured over one link only; scripts/netsweep measures several."
    assert {"rates", "crossings"} <= set(frames_of([run]))
    target = StringIO()
    print_report(Console(file=target, width=200, color_system=None), content)
    assert "over what link" not in target.getvalue()
