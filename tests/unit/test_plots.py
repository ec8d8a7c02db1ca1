"""Figures are drawn from whatever the frames hold, parse as XML, and never interpret a name."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.figures.agreement import PART_STYLES
from analysis.figures.charts import charts
from analysis.figures.drawing import MAX_LABEL, PAGE_COLOURS, Chart, inline_svg, label, save, svg
from analysis.figures.errors import STRATEGY_STYLES, error_chart
from analysis.figures.memory import MEMORY_STYLES
from analysis.figures.scaling import MAX_SCENARIOS, scaling_chart
from analysis.figures.strategies import MAX_TABLES, TIME_STYLES
from analysis.frames.parts import parts_frame
from analysis.frames.scaling import scaling_frame
from analysis.load import Run
from analysis.report.content import frames_of
from bench.harness.record.parts import WHOLES
from tests.unit.record_factory import (
    TOY,
    FixedTheory,
    compute_only,
    header,
    observation,
    planned,
    result,
    scaling_run,
    write_run,
)
from tp.case import STRATEGIES
from tp.plan.memory import HOLDING_KINDS, held_bytes
from tp.plan.ops import PARTS
from tp.units import format_bytes

pytestmark = pytest.mark.unit

NAMES = [
    "measured-against-predicted",
    "error-by-part",
    "time-against-tp",
    "strategies-side-by-side",
    "roofline",
    "memory-by-kind",
]
TEXT = "{http://www.w3.org/2000/svg}text"
HOSTILE = r"</text><script>alert(1)</script> $\frac{$ & 'x' "


def draw(*runs: Run) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts(runs, frames_of(runs))}


def scaling(run: Run) -> pd.DataFrame:
    return scaling_frame(parts_frame([run]))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chart]:
    return draw(scaling_run(tmp_path_factory.mktemp("run") / "r.jsonl", {1: 8e-3, 2: 5e-3, 4: 4e-3}))


def words(chart: Chart) -> str:
    return " ".join("".join(text.itertext()) for text in ET.fromstring(svg(chart)).iter(TEXT))


def test_every_figure_is_drawn_and_says_what_it_shows(drawn: dict[str, Chart]) -> None:
    assert list(drawn) == NAMES
    for chart in drawn.values():
        root = ET.fromstring(svg(chart))
        assert root.get("role") == "img" and root.get("aria-label") == chart.alternative
        assert len(chart.alternative.split()) > 10


def test_the_text_tells_the_figures_own_numbers(drawn: dict[str, Chart]) -> None:
    assert "8.00 ms at TP 1, 4.00 ms at TP 4." in drawn["time-against-tp"].alternative
    assert "of 3 cases" in drawn["measured-against-predicted"].alternative
    assert "over 3 cases" in drawn["error-by-part"].alternative


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    run = scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    first, second = ({name: svg(chart) for name, chart in draw(run).items()} for _ in range(2))
    assert first == second


def test_figures_are_saved_as_svg_png_and_pdf(drawn: dict[str, Chart], tmp_path: Path) -> None:
    assert save(drawn["error-by-part"], tmp_path) == (tmp_path / "error-by-part.svg").read_text(encoding="utf-8")
    assert (tmp_path / "error-by-part.pdf").read_bytes().startswith(b"%PDF")
    assert ET.parse(tmp_path / "error-by-part.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "error-by-part.png").read_bytes().startswith(b"\x89PNG")


def test_figures_on_one_page_share_no_id_and_take_its_colours(drawn: dict[str, Chart]) -> None:
    seen: set[str] = set()
    for chart in drawn.values():
        text = inline_svg(svg(chart), chart.name)
        ids = {node.get("id") for node in ET.fromstring(text).iter()} - {None}
        assert ids and not ids & seen
        seen |= {str(name) for name in ids}
        assert "currentColor" in text and not any(stand_in in text for stand_in in PAGE_COLOURS)
        assert "<style" not in text
        references = {part.split(")")[0] for part in text.split("url(#")[1:]}
        references |= {part.split('"')[0] for part in text.split('href="#')[1:]}
        assert references <= ids


def test_a_name_is_drawn_as_it_is(tmp_path: Path) -> None:
    run = scaling_run(tmp_path / "h.jsonl", {1: 8e-3, 2: 5e-3}, model=replace(TOY, name=HOSTILE))
    chart = draw(run)["time-against-tp"]
    assert label(HOSTILE) in words(chart)
    for text in (svg(chart), inline_svg(svg(chart), chart.name)):
        assert "<script" not in text
        ET.fromstring(text)
    save(chart, tmp_path)


@given(st.text())
def test_a_label_is_a_short_line_that_xml_can_hold(name: str) -> None:
    drawn_name = label(name)
    assert len(drawn_name) <= MAX_LABEL and "\n" not in drawn_name
    assert ET.fromstring(f"<t>{escape(drawn_name)}</t>").text == (drawn_name or None)


def test_missing_estimates_leave_only_what_was_measured(tmp_path: Path) -> None:
    plans = [planned(tp=1), planned(tp=2)]
    run = write_run(tmp_path / "n.jsonl", header(), *plans, *map(result, plans))
    charts_of = draw(run)
    assert list(charts_of) == ["time-against-tp", "strategies-side-by-side", "roofline", "memory-by-kind"]
    text = words(charts_of["time-against-tp"])
    assert "compute, measured" in text and "predicted" not in text


def test_a_total_that_leaves_out_parts_is_marked(tmp_path: Path) -> None:
    plans = [planned(FixedTheory(speaks_of=compute_only), tp=tp) for tp in (1, 2)]
    run = write_run(tmp_path / "p.jsonl", header(), *plans, *map(result, plans))
    text = words(draw(run)["time-against-tp"])
    assert "some parts not predicted" in text and "exposed, predicted" not in text


@pytest.mark.parametrize("totals", [{1: 8e-3}, {4: 8e-3}])
def test_one_degree_is_enough(tmp_path: Path, totals: dict[int, float]) -> None:
    assert list(draw(scaling_run(tmp_path / "1.jsonl", totals))) == NAMES


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    assert draw(write_run(tmp_path / "0.jsonl", header())) == {}
    assert draw(write_run(tmp_path / "f.jsonl", header(), plan, result(plan, status="failed", timed=False))) == {}


def test_times_that_are_not_comparable_have_no_error_drawn(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    run = write_run(tmp_path / "o.jsonl", header(oversubscribed="8 ranks share 4 cores"), plan, result(plan))
    assert error_chart(parts_frame([run])) is None


def test_many_workloads_are_cut_short_and_it_is_said(tmp_path: Path) -> None:
    plans = [planned(tp=tp, seq=8 * (i + 1)) for i in range(MAX_SCENARIOS + 2) for tp in (1, 2)]
    run = write_run(tmp_path / "m.jsonl", header(), *plans, *map(result, plans))
    chart = scaling_chart(scaling(run))
    assert chart is not None and chart.alternative.endswith("The other 2 stand in the table.")
    assert len(chart.figure.subfigs) == MAX_SCENARIOS


def test_wide_errors_are_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    for seconds, scale in ((1e-3, "linear"), (1.0, "symlog")):
        plan = planned(FixedTheory(seconds=seconds))
        chart = error_chart(parts_frame([write_run(tmp_path / f"{scale}.jsonl", header(), plan, result(plan))]))
        assert chart is not None and chart.figure.axes[0].get_xscale() == scale


def test_no_two_parts_and_no_two_strategies_look_alike() -> None:
    assert set(PART_STYLES) == {*PARTS, *WHOLES} - {"serial"}
    for styles in (list(PART_STYLES.values()), list(STRATEGY_STYLES)):
        markers = [marker for marker, _ in styles]
        assert len(set(markers)) == len(markers)
    assert len(STRATEGY_STYLES) >= len(STRATEGIES)


def test_strategies_side_by_side_tell_time_and_memory_of_each(tmp_path: Path) -> None:
    plans = [planned(phase="train", block="block", strategy=name, tp=2) for name in ("allreduce", "sequence")]
    plans.append(planned(phase="train", block="block", tp=2, recompute="full"))
    results = [
        result(plan, total_s=total_s, observed=observation(plan))
        for plan, total_s in zip(plans, (5e-3, 4e-3, 6e-3), strict=True)
    ]
    drawn_of = draw(write_run(tmp_path / "s.jsonl", header(), *plans, *results))
    chart, memory = drawn_of["strategies-side-by-side"], drawn_of["memory-by-kind"]
    told = [
        (f"{name} {total}", f"{name} {format_bytes(held_bytes(plan.memory) - held_bytes(plan.memory, 'workspace'))}")
        for plan, name, total in zip(
            plans,
            ("allreduce", "sequence", "allreduce, full recompute"),
            ("5.00 ms", "4.00 ms", "6.00 ms"),
            strict=True,
        )
    ]
    # Rows of a strategy stand next to each other.
    for each, (first, second, third) in zip((chart, memory), zip(*told, strict=True), strict=True):
        assert f"toy block train, batch 1, seq 16, fp32, TP 2: {first}; {third}; {second}." in each.alternative
    text = f"{words(chart)} {words(memory)}"
    for word in ("collectives", "saved activations", "gradients", "workspace, predicted", "full recompute"):
        assert word in text
    assert "KV cache" not in text and "peak, measured" not in text and "estimated" not in text


def test_the_bars_are_as_long_as_the_record_says(tmp_path: Path) -> None:
    plan = planned(phase="train", tp=2)
    observed = observation(plan, saved_bytes=12345, peak_bytes=10**6)
    run = write_run(tmp_path / "b.jsonl", header(), plan, result(plan, total_s=len(plan.ops) * 1e-3, observed=observed))
    drawn_of = draw(run)
    times, memory = (drawn_of[name].figure.axes[0] for name in ("strategies-side-by-side", "memory-by-kind"))
    widths = [bar.get_width() for bar in times.patches]
    by_part = {name: sum(op.part in held for op in plan.ops) for name, (_, _, held) in TIME_STYLES.items()}
    assert widths == pytest.approx([count * 1e-3 for count in by_part.values() if count])
    held = [bar.get_width() for bar in memory.patches]
    assert held == [observed.weight_bytes, observed.gradient_bytes, 12345, held_bytes(plan.memory, "workspace")]
    assert "peak, measured" in words(drawn_of["memory-by-kind"])


def test_an_emulated_bar_ends_in_what_the_estimate_adds(tmp_path: Path) -> None:
    plan = planned(FixedTheory(seconds=1e-3), emulated=True)
    chart = draw(write_run(tmp_path / "e.jsonl", header(), plan, result(plan)))["strategies-side-by-side"]
    added = chart.figure.axes[0].patches[-1].get_width()
    assert added == pytest.approx(1e-3 * sum(op.op == "collective" for op in plan.ops))
    assert "communication, estimated" in words(chart) and ", emulated" in words(chart)


def test_records_without_memory_say_so(tmp_path: Path) -> None:
    plan = replace(planned(), memory=())
    assert "memory-by-kind" not in draw(write_run(tmp_path / "1.jsonl", header(), plan, result(plan)))
    known = planned(strategy="sequence")
    run = write_run(tmp_path / "2.jsonl", header(), plan, known, result(plan), result(known))
    assert "not recorded" in words(draw(run)["memory-by-kind"])


def test_too_many_tables_leave_those_of_one_rank_out_first(tmp_path: Path) -> None:
    plans = [planned(tp=tp, seq=8 * (i + 1)) for i in range(MAX_TABLES - 2) for tp in (1, 2)]
    run = write_run(tmp_path / "m.jsonl", header(), *plans, *map(result, plans))
    chart = draw(run)["strategies-side-by-side"]
    assert len(chart.figure.axes) == MAX_TABLES - 2 and ", TP 1" not in words(chart)
    assert chart.alternative.endswith(f"The other {MAX_TABLES - 2} stand in the table.")


def test_numbers_of_chunks_have_bars_of_their_own(tmp_path: Path) -> None:
    plans = [planned(tp=1, strategy="overlap"), *(planned(tp=2, strategy="overlap", chunks=count) for count in (1, 2))]
    run = write_run(tmp_path / "c.jsonl", header(), *plans, *map(result, plans))
    chart = scaling_chart(scaling(run))
    assert chart is not None
    ticks = [tick.get_text() for tick in chart.figure.subfigs[0].axes[0].get_xticklabels()]
    assert ticks == ["TP 1", "TP 2", "TP 2\n2 chunks"]


def test_no_two_segments_look_alike() -> None:
    assert set(MEMORY_STYLES) == set(HOLDING_KINDS)
    assert {part for _, _, held in TIME_STYLES.values() for part in held} == set(PARTS)
    fills = [(colour, hatch) for colour, hatch, _ in TIME_STYLES.values()]
    assert len(set(fills)) == len(fills) and len(set(MEMORY_STYLES.values())) == len(MEMORY_STYLES)
