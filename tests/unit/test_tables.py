"""The frames of a report hold what the records say, and no speed where there is none."""

from dataclasses import replace
from math import inf, isnan
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frames.outcomes import CHECK_COLUMNS, checks_frame, unmeasured_frame
from analysis.frames.parts import ERROR_COLUMNS, EXTRA, error_frame, parts_frame
from analysis.frames.scaling import SCALING_COLUMNS, scaling_frame
from analysis.load import Run
from analysis.show.cells import interval, percent, times
from analysis.show.parts import show_parts
from analysis.show.scaling import show_scaling
from analysis.show.table import NOTHING
from analysis.show.words import scenario_text
from bench.harness.record.parts import COLUMNS
from tests.unit.record_factory import FixedTheory, compute_only, header, planned, result, scaling_run, write_run

pytestmark = pytest.mark.unit


def one_case(path: Path, *, seconds: float = 1e-3, width: float = 0.1, total_s: float = 10e-3) -> Run:
    plan = planned(FixedTheory(seconds=seconds, width=width))
    return write_run(path / "one.jsonl", header(), plan, result(plan, total_s=total_s))


def part(frame: pd.DataFrame, name: str) -> pd.Series:
    rows = frame[frame["part"] == name]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_row_a_part_with_both_figures(tmp_path: Path) -> None:
    frame = parts_frame([one_case(tmp_path)])
    assert tuple(frame.columns) == (*COLUMNS, *EXTRA)
    assert list(frame["part"])[-4:] == ["compute", "communication", "serial", "total"]
    total = part(frame, "total")
    assert total["measured_s"] == pytest.approx(10e-3)
    assert total["low_s"] < total["measured_s"] < total["high_s"]
    assert total["estimate_s"] == pytest.approx(1e-3 * len(planned().ops))
    assert (total["model"], total["backend"], total["groups"], total["unpriced"]) == ("toy", "gloo", 2, "")


@pytest.mark.parametrize(("seconds", "sign"), [(1e-3, -1), (1e-2, 1)])
def test_the_error_is_negative_where_the_prediction_is_too_fast(tmp_path: Path, seconds: float, sign: int) -> None:
    total = part(parts_frame([one_case(tmp_path, seconds=seconds)]), "total")
    assert total["signed_error"] == pytest.approx(total["estimate_s"] / total["measured_s"] - 1)
    assert total["signed_error"] * sign > 0


def test_a_case_that_is_not_ok_has_no_measured_figure(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    # Its samples are there, but they are those of something else than was asked for.
    run = write_run(tmp_path / "f.jsonl", header(), plan, result(plan, status="failed", reason="boom"))
    frame = parts_frame([run])
    assert frame["measured_s"].isna().all() and frame["signed_error"].isna().all()
    assert set(frame["status"]) == {"failed"} and set(frame["samples"]) == {0}
    assert frame["estimate_s"].notna().all()
    assert scaling_frame(frame).empty and error_frame(frame).empty
    assert list(unmeasured_frame([run])["reason"]) == ["boom"]


def test_a_failed_check_takes_the_speed_away_whatever_the_status(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    run = write_run(tmp_path / "w.jsonl", header(), plan, result(plan, error=1e-3))
    assert parts_frame([run])["measured_s"].isna().all()
    assert list(unmeasured_frame([run])["reason"]) == ["wrong against the oracle: output"]


def test_what_a_theory_leaves_out_of_a_whole_is_named(tmp_path: Path) -> None:
    plan = planned(FixedTheory(speaks_of=compute_only))
    frame = parts_frame([write_run(tmp_path / "p.jsonl", header(), plan, result(plan))])
    assert part(frame, "total")["unpriced"] == "all_reduce"
    assert part(frame, "compute")["unpriced"] == ""
    communication = part(frame, "communication")
    assert isnan(communication["estimate_s"]) and isnan(communication["signed_error"])
    assert "all_reduce" not in set(error_frame(frame)["part"])
    shown = show_parts(frame).groups[0].rows
    assert shown[-1][0] == "total" and shown[-1][-1] == "predicted without all_reduce"
    assert next(row for row in shown if row[0] == "communication")[3] == NOTHING


def test_without_any_estimate_nothing_is_predicted(tmp_path: Path) -> None:
    plan = planned()
    frame = parts_frame([write_run(tmp_path / "n.jsonl", header(), plan, result(plan))])
    assert frame["estimate_s"].isna().all() and set(frame["theory"]) == {""}
    assert error_frame(frame).empty
    row = scaling_frame(frame).iloc[0]
    assert isnan(row["estimate_speedup_over_tp1"]) and isnan(row["measured_speedup_over_tp1"])


@pytest.mark.parametrize(("width", "with_interval", "inside"), [(0.0, 0, None), (0.05, 1, 0.0), (0.5, 1, 1.0)])
def test_share_inside_the_interval(tmp_path: Path, width: float, with_interval: int, inside: float | None) -> None:
    num_ops = len(planned().ops)
    frame = parts_frame([one_case(tmp_path, width=width, total_s=num_ops * 1.2e-3)])
    total = error_frame(frame).set_index("part").loc["total"]
    assert total["with_interval"] == with_interval
    assert isnan(total["inside_interval"]) if inside is None else total["inside_interval"] == inside
    assert total["median_signed_error"] == pytest.approx(1 / 1.2 - 1)


def test_error_by_part_over_cases(tmp_path: Path) -> None:
    plans = [planned(FixedTheory(seconds=1.0), seq=seq) for seq in (8, 16, 32)]
    num_ops = len(plans[0].ops)
    totals = [num_ops / quotient for quotient in (0.5, 1.1, 1.3)]
    results = [result(plan, total_s=total_s) for plan, total_s in zip(plans, totals, strict=True)]
    frame = parts_frame([write_run(tmp_path / "e.jsonl", header(), *plans, *results)])
    row = error_frame(frame).set_index("part").loc["total"]
    assert row["cases"] == 3
    assert row["median_signed_error"] == pytest.approx(0.1)
    assert row["median_abs_error"] == pytest.approx(0.3)
    assert row["mean_abs_error"] == pytest.approx((0.5 + 0.1 + 0.3) / 3)


def test_cases_that_are_not_comparable_have_no_error(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    run = write_run(tmp_path / "o.jsonl", header(oversubscribed="8 ranks share 4 cores"), plan, result(plan))
    assert error_frame(parts_frame([run])).empty
    assert show_parts(parts_frame([run])).groups[0].marks == ("not comparable",)


@settings(max_examples=25, deadline=None)
@given(totals=st.lists(st.floats(min_value=1e-6, max_value=10.0), min_size=4, max_size=4))
def test_speedup_and_efficiency_follow_from_the_totals(
    tmp_path_factory: pytest.TempPathFactory, totals: list[float]
) -> None:
    path = tmp_path_factory.mktemp("scaling") / "s.jsonl"
    frame = scaling_frame(parts_frame([scaling_run(path, dict(zip((1, 2, 4, 8), totals, strict=True)))]))
    assert list(frame["tp"]) == [1, 2, 4, 8]
    for row, total_s in zip(frame.to_dict("records"), totals, strict=True):
        assert row["measured_total_s"] == pytest.approx(total_s, rel=1e-6)
        assert row["measured_speedup_over_tp1"] * total_s == pytest.approx(totals[0], rel=1e-6)
        assert row["measured_efficiency"] * row["tp"] == pytest.approx(row["measured_speedup_over_tp1"])
    assert frame["measured_speedup_over_tp1"].iloc[0] == 1.0
    assert isnan(frame["measured_communication_s"].iloc[0])


def test_a_strategy_without_tp1_is_held_against_another(tmp_path: Path) -> None:
    plans = [planned(strategy="allreduce", tp=1), planned(strategy="sequence", tp=2)]
    results = [result(plans[0], total_s=4e-3), result(plans[1], total_s=1e-3)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "b.jsonl", header(), *plans, *results)]))
    assert frame.set_index("strategy").loc["sequence", "measured_speedup_over_tp1"] == pytest.approx(4.0)


def test_workloads_and_machines_are_never_compared(tmp_path: Path) -> None:
    short, long = planned(tp=1, seq=8), planned(tp=2, seq=16)
    frame = scaling_frame(
        parts_frame([write_run(tmp_path / "c.jsonl", header(), short, long, result(short), result(long))])
    )
    assert frame["measured_speedup_over_tp1"].notna().tolist() == [True, False]
    assert len(show_scaling(frame).groups) == 2


def test_the_same_case_in_two_files_stays_two(tmp_path: Path) -> None:
    old = scaling_run(tmp_path / "old.jsonl", {1: 4e-3, 2: 2e-3})
    new = scaling_run(tmp_path / "new.jsonl", {1: 3e-3, 2: 1e-3})
    frame = scaling_frame(parts_frame([old, new]))
    assert frame["measured_speedup_over_tp1"].tolist() == pytest.approx([1.0, 2.0, 1.0, 3.0])
    assert [Path(series).name for series in frame["series"]] == ["old.jsonl"] * 2 + ["new.jsonl"] * 2
    assert scenario_text(frame.iloc[0].to_dict()).endswith("old.jsonl")


def test_recomputation_is_a_scenario_and_chunks_are_not(tmp_path: Path) -> None:
    plans = [
        planned(phase="train", tp=1),
        planned(phase="train", tp=2),
        planned(phase="train", tp=2, recompute="full"),
        planned(phase="train", tp=1, recompute="full"),
        planned(phase="train", strategy="overlap", tp=2, chunks=1),
        planned(phase="train", strategy="overlap", tp=2, chunks=2),
    ]
    results = [result(plan, total_s=total_s) for plan, total_s in zip(plans, (8, 5, 6, 9, 4, 3), strict=True)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "r.jsonl", header(), *plans, *results)]))
    assert set(frame["series"]) == {""}
    speedups = {
        (row["recompute"], row["strategy"], row["chunks"], row["tp"]): row["measured_speedup_over_tp1"]
        for row in frame.to_dict("records")
    }
    # Each against TP 1 of its own recomputation.
    assert speedups["none", "allreduce", 1, 2] == pytest.approx(8 / 5)
    assert speedups["full", "allreduce", 1, 2] == pytest.approx(9 / 6)
    assert speedups["none", "overlap", 2, 2] == pytest.approx(8 / 3)
    shown = show_scaling(frame)
    assert [group.title for group in shown.groups] == [
        "toy attention train, batch 1, seq 16, fp32",
        "toy attention train, batch 1, seq 16, fp32, full recompute",
    ]
    assert [row[0] for row in shown.groups[0].rows] == ["allreduce", "allreduce", "overlap", "overlap in 2 chunks"]


def test_a_collective_within_an_operator_has_no_time_and_it_is_said_why(tmp_path: Path) -> None:
    plan = planned(strategy="dtensor", block="block")
    run = write_run(tmp_path / "d.jsonl", header(), plan, result(plan, collectives_timed=False))
    shown = show_parts(parts_frame([run]))
    rows = {row[0]: row for row in shown.groups[0].rows}
    assert list(rows)[:6] == ["norm", "qkv", "core", "out", "all_reduce", "residual"]
    assert rows["all_reduce"][1] == NOTHING and rows["communication"][1] != NOTHING
    assert any("no time of their own (-)" in note for note in shown.notes)
    ours = planned(block="block")
    theirs = show_parts(parts_frame([write_run(tmp_path / "a.jsonl", header(), ours, result(ours))]))
    assert not any("no time of their own" in note for note in theirs.notes)


def test_an_emulated_whole_is_derived_and_its_collectives_are_not_measured(tmp_path: Path) -> None:
    plan = planned(FixedTheory(seconds=1e-3), emulated=True, block="ffn", tp=4)
    sound = result(plan, total_s=8e-3, compute_s=6e-3)
    frame = parts_frame([write_run(tmp_path / "e.jsonl", header(world=1), plan, replace(sound, groups=1))])
    num_collectives = sum(op.op == "collective" for op in plan.ops)
    assert num_collectives == 1
    assert part(frame, "total")["measured_s"] == pytest.approx(6e-3 + 1e-3 * num_collectives)
    # No error, where the estimate would be held against itself.
    assert isnan(part(frame, "total")["signed_error"]) and not isnan(part(frame, "compute")["signed_error"])
    shown = show_parts(frame)
    assert shown.groups[0].marks == ("emulated", "not comparable")
    rows = {row[0]: row for row in shown.groups[0].rows}
    assert rows["total"][-1] == "derived" and rows["compute"][-1] == ""
    assert rows["all_reduce"][1] == NOTHING
    assert any(note.startswith("Emulated: one rank") for note in shown.notes)
    assert "emulated, not comparable" in show_scaling(scaling_frame(frame)).groups[0].rows[0][-1]


def test_an_emulated_total_says_which_collectives_it_lacks(tmp_path: Path) -> None:
    plan = planned(FixedTheory(name="datasheet", speaks_of=compute_only), emulated=True)
    run = write_run(tmp_path / "e.jsonl", header(world=1), plan, replace(result(plan), groups=1))
    rows = {row[0]: row for row in show_parts(parts_frame([run])).groups[0].rows}
    assert rows["total"][-1] == "derived, without all_reduce, predicted without all_reduce"


def test_emulated_and_measured_times_are_never_one_series(tmp_path: Path) -> None:
    runs = [scaling_run(tmp_path / "m.jsonl", {1: 8e-3, 2: 5e-3})]
    plan = planned(FixedTheory(), tp=4, emulated=True)
    runs.append(write_run(tmp_path / "e.jsonl", header(), plan, result(plan, total_s=1e-3)))
    frame = scaling_frame(parts_frame(runs))
    assert isnan(frame.set_index("tp").loc[4, "measured_speedup_over_tp1"])
    assert [group.title.endswith(", emulated") for group in show_scaling(frame).groups] == [False, True]


def test_the_worst_figure_of_a_check(tmp_path: Path) -> None:
    plans = [planned(tp=1), planned(tp=2), planned(tp=4)]
    run = write_run(
        tmp_path / "k.jsonl",
        header(),
        *plans,
        result(plans[0], error=5e-7),
        result(plans[1], error=3e-6, status="failed", timed=False),
        result(plans[2], error=None, status="failed", timed=False),
    )
    frame = checks_frame([run])
    assert tuple(frame.columns) == CHECK_COLUMNS
    assert frame["value_over_limit"].tolist() == pytest.approx([0.5, 3.0, inf])
    assert frame["passed"].tolist() == [True, False, False]


def test_failed_skipped_and_unfinished_cases_say_why(tmp_path: Path) -> None:
    failed, skipped, unfinished = planned(tp=1), planned(tp=2), planned(tp=4)
    run = write_run(
        tmp_path / "u.jsonl",
        header(),
        failed,
        skipped,
        unfinished,
        result(failed, status="failed", reason="wrong against the oracle: output", error=1.0, timed=False),
        result(skipped, status="skipped", reason="7 tokens do not divide by 2"),
    )
    frame = unmeasured_frame([run])
    assert frame["status"].tolist() == ["failed", "skipped", "unfinished"]
    assert frame["reason"].tolist()[:2] == ["wrong against the oracle: output", "7 tokens do not divide by 2"]
    assert frame["case"].tolist()[2] == unfinished.key


def test_no_case_at_all_gives_empty_frames(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0.jsonl", header())
    parts = parts_frame([run])
    assert tuple(error_frame(parts).columns) == ERROR_COLUMNS
    assert tuple(scaling_frame(parts).columns) == SCALING_COLUMNS
    assert show_parts(parts).groups == show_scaling(scaling_frame(parts)).groups == ()


def test_figures_for_people() -> None:
    assert interval(1.29e-3, 1.46e-3) == "1.29 – 1.46 ms"
    assert interval(0.9e-3, 1.2e-3) == "900 us – 1.20 ms"
    assert interval(1e-3, 1e-3) == interval(float("nan"), 1.0) == NOTHING
    assert (percent(0.823), percent(inf), percent(None), times(1.654)) == ("82.3 %", "over", NOTHING, "1.65 x")
