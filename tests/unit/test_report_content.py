"""What a report says beside the layers: collectives, products, logs, claims; and how it says it in a terminal."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from analysis.__main__ import main
from analysis.figures.agreement import agreement_chart
from analysis.figures.bandwidth import bandwidth_chart
from analysis.figures.drawing import TOO_MANY, house_style
from analysis.figures.errors import error_chart
from analysis.figures.state import MAX_GROUPS, state_chart
from analysis.frames.collectives import collectives_frame
from analysis.frames.parts import parts_frame
from analysis.frames.products import products_frame
from analysis.frames.scaling import scaling_frame
from analysis.load import Run, State
from analysis.report.content import Content, read_content
from analysis.report.page import MAX_ROWS, split
from analysis.report.terminal import print_report
from analysis.report.write import write_report
from analysis.show.collectives import show_collectives
from analysis.show.table import Column, Display, Group
from bench.harness.machine.reading import Reading
from bench.harness.record.records import AnyLine, CaseResult, Moment
from tests.unit.record_factory import (
    NODE,
    TOY,
    FixedTheory,
    header,
    one_task,
    op_result,
    planned,
    result,
    scaling_run,
    telemetry,
    times,
    write_run,
)

pytestmark = pytest.mark.unit

RECORDS = Path(__file__).parents[1] / "records"
LOG = (
    "hardware,link,nodes,gpus,library,collective,bytes,time_us,in_place,source,count,type,redop,root,placement,wrong\n"
    + "".join(
        f"h100-sxm,nvlink4,1,8,nccl-2.19,all_reduce,{1 << power},{20 + (1 << power) / 2.5e5:.2f},{place == 'in_place'},"
        f"a.log,{1 << (power - 2)},float,sum,-1,{place},0\n"
        for power in range(20, 30)
        for place in ("out_of_place", "in_place")
    )
)


def content_of(folder: Path, *lines: AnyLine, tables: tuple[Path, ...] = ()) -> Content:
    write_run(folder / "r.jsonl", *lines)
    return read_content([folder / "r.jsonl", *tables], mixed=False, tell=lambda problem: None)


def test_bus_bandwidth_is_that_of_nccl_tests_and_its_fit_a_line(tmp_path: Path) -> None:
    """An all-reduce of two ranks sends its size once; two regimes through times of one line are that line."""
    sizes = [1 << power for power in range(10, 22)]
    frame = collectives_frame(
        [write_run(tmp_path / "c.jsonl", header(), *(op_result(size, 1e-4 + size / 1e9) for size in sizes))]
    )
    assert list(frame["size_bytes"]) == sizes
    times = frame["measured_s"].to_numpy()
    assert times == pytest.approx([1e-4 + size / 1e9 for size in sizes], rel=0.02)
    assert frame["busbw_bytes_per_s"].to_numpy() == pytest.approx(np.array(sizes) / times)
    assert frame["algbw_bytes_per_s"].to_numpy() == pytest.approx(np.array(sizes) / times)
    assert frame["fit_busbw_bytes_per_s"].to_numpy() == pytest.approx(np.array(sizes) / times, rel=0.03)
    assert frame["claimed_bytes_per_s"].isna().all()


def test_too_few_sizes_have_no_fit(tmp_path: Path) -> None:
    frame = collectives_frame([write_run(tmp_path / "c.jsonl", header(), op_result(1024, 1e-3), op_result(2048, 1e-3))])
    assert frame["fit_busbw_bytes_per_s"].isna().all()
    assert "busbw of the fit" not in {column.heading for column in show_collectives(frame).columns}


def test_a_record_stands_beside_its_links_claim(tmp_path: Path) -> None:
    """A two-way rate is halved: one rank of a ring sends one way."""
    link = replace(NODE.links[0], bytes_per_s=2e9, direction="two-way")
    run = write_run(tmp_path / "c.jsonl", header(hardware=replace(NODE, links=(link,))), op_result(10**6, 2e-3))
    (row,) = collectives_frame([run]).to_dict("records")
    assert row["claimed_bytes_per_s"] == 1e9
    assert row["busbw_over_claimed_ratio"] == pytest.approx(0.5, rel=0.02)


def test_logs_stand_in_a_report_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    assert main(["report", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "no case of a block, but 20 ops timed alone" in told
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "all_reduce, 8 ranks over nccl, float, in place" in text and "h100-sxm (logs)" in text
    # 537 MB in 2167 us; times 2 x 7/8; of NVLink 4's 450 GB/s one way.
    assert "433 GB/s" in text and "96.3 %" in text and "the link&#39;s claim" in text
    assert "may pass the claim" in text  # a switch that adds up
    assert (tmp_path / "out" / "figures" / "busbw-against-size.pdf").exists()


def test_logs_stand_beside_records(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    content = content_of(tmp_path, header(), op_result(1024, 1e-3), tables=(tmp_path / "log.csv",))
    frame = content.frames["collectives"]
    assert set(frame["backend"]) == {"gloo", "nccl"} and len(frame) == 21
    with house_style():
        chart = bandwidth_chart(frame)
    assert (
        chart is not None and "over 8 ranks" in chart.alternative and "% of the 450 GB/s claimed" in chart.alternative
    )


def test_what_tests_before_2022_print_as_error_is_no_wrong_result(tmp_path: Path) -> None:
    """Nor does an empty field make a count of zero a fraction; RCCL keeps its name."""
    rows = LOG.replace("nccl-2.19", "RCCL 2.21").splitlines()
    for place, error in ((1, "4e-07"), (2, "0e+00"), (3, ""), (4, "3")):
        rows[place] = rows[place].rpartition(",")[0] + f",{error}"
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    content = content_of(tmp_path, header(), tables=(tmp_path / "log.csv",))
    frame = content.frames["collectives"]
    assert sorted(frame["wrong"]) == sorted(["", "3", *["0"] * 18]) and set(frame["backend"]) == {"rccl"}
    assert "Of 20 collectives 1 gave wrong results; such a run's times are worth nothing." in content.caveats


def test_the_best_of_a_log_is_one_whose_result_was_right(tmp_path: Path) -> None:
    rows = LOG.splitlines()
    (tmp_path / "log.csv").write_text("\n".join([*rows[:-1], rows[-1].rpartition(",")[0] + ",9"]) + "\n")
    content = content_of(tmp_path, header(), tables=(tmp_path / "log.csv",))
    sound = content.frames["collectives"].query("wrong == '0'")["busbw_bytes_per_s"].max()
    assert f"{sound / 1e9:.0f} GB/s" in terminal(content, width=140, tty=False)


def test_between_nodes_no_link_within_one_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace(",1,8,", ",2,16,"))
    frame = content_of(tmp_path, header(), tables=(tmp_path / "log.csv",)).frames["collectives"]
    assert frame["claimed_bytes_per_s"].isna().all() and set(frame["nodes"]) == {2}


def test_element_types_have_curves_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG + LOG.partition("\n")[2].replace(",float,", ",half,"))
    shown = show_collectives(content_of(tmp_path, header(), tables=(tmp_path / "log.csv",)).frames["collectives"])
    assert len(shown.groups) == 4 and {len(group.rows) for group in shown.groups} == {10}


def test_a_time_that_is_not_comparable_is_no_base(tmp_path: Path) -> None:
    slow, fast = planned(tp=1), planned(tp=2)
    runs = [
        write_run(tmp_path / "a.jsonl", header(oversubscribed="x"), slow, result(slow, total_s=30e-3)),
        write_run(tmp_path / "b.jsonl", header(), fast, result(fast, total_s=10e-3)),
    ]
    rows = scaling_frame(parts_frame(runs)).to_dict("records")
    assert {row["tp"]: math.isnan(row["measured_speedup_over_tp1"]) for row in rows} == {1: False, 2: True}


def test_more_exposed_than_sent_hides_nothing(tmp_path: Path) -> None:
    plan = planned(tp=2)
    end = sending(result(plan, total_s=9e-3, compute_s=3e-3), 2e-3)
    (row,) = scaling_frame(parts_frame([write_run(tmp_path / "r.jsonl", header(), plan, end)])).to_dict("records")
    assert row["measured_exposed_s"] == pytest.approx(6e-3, rel=0.01) and row["measured_hidden_s"] == 0


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    write_run(tmp_path / "c.jsonl", header(), op_result(1024, 1e-3))
    for name in ("r", "c"):
        write_report([tmp_path / f"{name}.jsonl"], tmp_path / "out", mixed=False)
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {"busbw-against-size"}


def test_a_reader_who_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    command = f"{sys.executable} -m analysis report {tmp_path}/r.jsonl --json --out {tmp_path}/out; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | true"], capture_output=True, text=True, cwd=RECORDS.parents[1], check=False
    )
    assert done.stderr.split() == ["141"]


def test_wrong_results_of_a_log_are_marked(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace("in_place,0\n", "in_place,7\n", 1))
    content = content_of(tmp_path, header(), tables=(tmp_path / "log.csv",))
    shown = show_collectives(content.frames["collectives"])
    marks = [row[-1] for group in shown.groups for row in group.rows]
    assert shown.columns[-1].heading == "marks" and marks.count("7 wrong") == 1


def test_other_tables_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("hardware,dtype,m,n,k,time_us\nh100,bf16,1,2,3,4\n")
    assert main(["report", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]) == 2
    reason = "is no table of collectives, the only ones that a report shows; give record files"
    assert capsys.readouterr().err == f"error: {tmp_path / 't.csv'}: {reason}\n"


def test_the_roof_is_the_lesser_of_peak_and_memory(tmp_path: Path) -> None:
    """The toy core has 100 GFLOP/s and 10 GB/s: under 10 FLOP a byte memory is its roof."""
    plan = planned(FixedTheory(), tp=2)
    run = write_run(tmp_path / "r.jsonl", header(), plan, result(plan))
    frame = products_frame([run], parts_frame([run]))
    assert set(frame["part"]) == {"qkv", "out"} and set(frame["measured_in"]) == {"layer"}
    for row in frame.to_dict("records"):
        assert row["flops_per_byte"] == pytest.approx(row["flops"] / row["bytes"])
        assert row["roof_flops_per_s"] == pytest.approx(min(1e11, 1e10 * row["flops_per_byte"]))
        assert row["rate_over_roof_ratio"] == pytest.approx(row["flops"] / row["measured_s"] / row["roof_flops_per_s"])


def test_a_gpus_products_stay_under_their_roof() -> None:
    """The sweep of an H100: what is held in its caches moves less than planned, and may pass a memory-bound roof."""
    content = read_content([RECORDS / "h100-gemm.jsonl"], mixed=False, tell=lambda problem: None)
    frame = content.frames["products"]
    bound = frame["roof_flops_per_s"] == frame["peak_flops_per_s"]
    assert len(frame) > 70 and frame.loc[bound, "rate_over_roof_ratio"].max() < 0.9
    assert content.frames["parts"].empty, "the layer of launches is no case of a report"
    assert {ruling.verdict for ruling in content.rulings if ruling.origin == "planted"} == {"refuted"}


def sending(end: CaseResult, seconds: float) -> CaseResult:
    """The result with communication alone of so many seconds."""
    others = tuple(each for each in end.samples if each.task != "communication")
    return replace(end, samples=(*others, one_task("communication", times(seconds))))


def test_exposed_and_hidden_make_up_communication(tmp_path: Path) -> None:
    """Compute 3, total 4, communication 2: 1 is exposed and 1 hidden; a total under compute exposes nothing."""
    plans = [planned(FixedTheory(), tp=2), planned(FixedTheory(), tp=4)]
    ends = [
        sending(result(plans[0], total_s=4e-3, compute_s=3e-3), 2e-3),
        sending(result(plans[1], total_s=2e-3, compute_s=3e-3), 2e-3),
    ]
    rows = scaling_frame(parts_frame([write_run(tmp_path / "r.jsonl", header(), *plans, *ends)])).to_dict("records")
    assert [row["measured_exposed_s"] for row in rows] == pytest.approx([1e-3, 0.0], abs=2e-5)
    assert [row["measured_hidden_s"] for row in rows] == pytest.approx([1e-3, 2e-3], abs=2e-5)


def terminal(content: Content, *, width: int, tty: bool) -> str:
    target = StringIO()
    print_report(
        Console(file=target, width=width, force_terminal=tty, color_system=None, legacy_windows=False), content
    )
    return target.getvalue()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = tmp_path_factory.mktemp("content")
    scaling_run(folder / "r.jsonl", {1: 8e-3, 2: 5e-3, 4: 4e-3}, model=replace(TOY, name="[red]x[/red]"))
    return read_content([folder / "r.jsonl"], mixed=False, tell=lambda problem: None)


def test_a_wide_terminal_gets_a_table_and_others_lines(content: Content) -> None:
    wide = terminal(content, width=140, tty=True)
    assert "strategy" in wide and "efficiency" in wide and "TP pays up to 4 ranks" in wide
    for plain in (terminal(content, width=140, tty=False), terminal(content, width=50, tty=True)):
        assert "efficiency " not in plain.replace("efficiency)", "")
        assert "allreduce TP 4: 4.00 ms, predicted" in " ".join(plain.split())
    assert all(len(line) <= 50 for line in terminal(content, width=50, tty=True).splitlines())
    for text in (wide, terminal(content, width=140, tty=False)):
        assert "\x1b" not in text and "[red]x[/red]" in text


def test_machines_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    assert main(["report", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"].startswith("TP 2 pays") and told["page"] == str(tmp_path / "out" / "report.html")
    assert [(case["tp"], round(case["measured_total_s"], 4)) for case in told["cases"]] == [(1, 8e-3), (2, 5e-3)]
    assert {row["part"] for row in told["errors"]} >= {"qkv", "total"}


@pytest.mark.parametrize("rows", [MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_no_row_of_a_long_table_is_lost(rows: int) -> None:
    """A group that lies across the end of what is shown goes on in the rest."""
    cells = tuple((f"row {number}", "</script><b>") for number in range(rows))
    groups = (Group(title="first", rows=cells[:150]), Group(title="second", detail="d", marks=("m",), rows=cells[150:]))
    page = split(Display(columns=(Column(heading="a"), Column(heading="b")), groups=groups))
    shown = [row for group in page.groups for row in group.rows]
    rest = json.loads(page.rest) if page.rest else []
    assert [*shown, *(tuple(row) for *_, many in rest for row in many)] == list(cells)
    assert page.num_rows == rows and "</" not in page.rest
    assert [title for title, *_ in rest] == (["second"] if rows > MAX_ROWS else [])


def test_points_that_are_too_many_are_counted(tmp_path: Path) -> None:
    """Every part is in a hexagon, and every error in a quantile; neither figure grows with the cases."""
    plans = [planned(FixedTheory(), tp=2, seq=8 * (i + 1)) for i in range(TOO_MANY // 6)]
    run = write_run(
        tmp_path / "m.jsonl", header(), *plans, *(result(p, total_s=(i + 1) * 1e-4) for i, p in enumerate(plans))
    )
    parts = parts_frame([run])
    with house_style():
        agreement, errors = agreement_chart(parts), error_chart(parts)
    assert agreement is not None and errors is not None
    known = parts["signed_error"].notna() & (parts["part"] != "serial")
    assert known.sum() > TOO_MANY
    (hexagons,) = agreement.figure.axes[0].collections
    assert sum(hexagons.get_array()) == known.sum()
    assert sum(len(each.get_offsets()) for each in errors.figure.axes[0].collections) < 100


def test_a_long_run_is_drawn_as_its_extremes(tmp_path: Path) -> None:
    """One reading far out in one of many groups is still seen."""
    plan = planned(FixedTheory(), tp=2)
    run = write_run(tmp_path / "r.jsonl", header(), plan, telemetry(plan), result(plan))
    state = run.states[0]

    def group(number: int) -> State:
        values = [3000.0 + number % 7, 800.0 if number == 1234 else 3000.0]
        ranks = [tuple(Reading(values={"cpu_frequency_mhz": value}, unread={}) for _ in range(2)) for value in values]
        moments = tuple(Moment(rounds=n, since_s=0.1 * n, ranks=each) for n, each in enumerate(ranks))
        return replace(state, telemetry=replace(state.telemetry, moments=moments))

    long: Run = replace(run, states=tuple(group(number) for number in range(2000)))
    assert len(long.states) > MAX_GROUPS
    chart = state_chart([long])
    assert chart is not None
    lines = chart.figure.axes[0].get_lines()
    assert len(lines) == 2 and min(min(line.get_ydata()) for line in lines) == 800.0  # type: ignore[type-var]
    assert all(len(line.get_xdata()) <= 900 for line in lines)  # type: ignore[arg-type]
    assert math.isclose(max(max(line.get_xdata()) for line in lines), 0.1 * 2000, rel_tol=0.01)  # type: ignore[type-var]
