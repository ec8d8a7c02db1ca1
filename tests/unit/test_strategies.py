"""Strategies side by side: ratios and standings follow from the medians and intervals of the record."""

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frames.parts import parts_frame
from analysis.frames.scaling import scaling_frame
from analysis.frames.strategies import STRATEGY_COLUMNS, strategies_frame
from analysis.load import Run
from analysis.show.memory import show_memory
from analysis.show.strategies import show_strategies
from analysis.show.table import NOTHING, Display
from bench.harness.record.records import CaseResult, Planned, Sent
from bench.harness.record.stats import summarise
from tests.unit.record_factory import FixedTheory, compute_only, header, observation, planned, result, write_run
from tp.case import Strategy

pytestmark = pytest.mark.unit

ORDER: tuple[Strategy, ...] = ("columns", "allreduce", "sequence")


def frame_of_runs(*runs: Run) -> pd.DataFrame:
    parts = parts_frame(runs)
    return strategies_frame(runs, parts, scaling_frame(parts))


def run_of(path: Path, totals_s: dict[Strategy, float], *, oversubscribed: str | None = None, **case: Any) -> Run:
    plans = [planned(FixedTheory(), strategy=strategy, **case) for strategy in totals_s]
    ends = [result(plan, total_s=total_s) for plan, total_s in zip(plans, totals_s.values(), strict=True)]
    return write_run(path, header(oversubscribed=oversubscribed), *plans, *ends)


def cells(shown: Display, *, table: int = 0) -> list[dict[str, str]]:
    headings = [column.heading for column in shown.columns]
    return [dict(zip(headings, row, strict=True)) for row in shown.groups[table].rows]


def median_of(end: CaseResult, task: str) -> float:
    times = next(sample.times_s for sample in end.samples if sample.task == task)
    return float(np.median(np.array(times).max(axis=1)))


def test_a_row_a_strategy_with_the_figures_of_the_record(tmp_path: Path) -> None:
    plans = [planned(phase="train", strategy=strategy) for strategy in ORDER]
    ends = [
        result(plan, total_s=total_s, observed=observation(plan))
        for plan, total_s in zip(plans, (6e-3, 4e-3, 5e-3), strict=True)
    ]
    frame = frame_of_runs(write_run(tmp_path / "r.jsonl", header(), *plans, *ends))
    assert tuple(frame.columns) == STRATEGY_COLUMNS
    assert list(frame["strategy"]) == list(ORDER)
    for row, end in zip(frame.to_dict("records"), ends, strict=True):
        assert row["total_s"] == pytest.approx(median_of(end, "full"))
        assert row["compute_s"] == pytest.approx(median_of(end, "compute"))
        assert row["communication_s"] == pytest.approx(median_of(end, "communication"))
        assert row["total_over_shortest"] == pytest.approx(median_of(end, "full") / median_of(ends[1], "full"))
    assert list(frame["standing"]) == ["slower", "fastest", "slower"]
    rows = cells(show_strategies(frame))
    assert [row["of the shortest"] for row in rows] == ["1.50 x", "1.00 x", "1.25 x"]
    assert rows[1]["total"] == "4.00 ms" and rows[1]["collectives"] == "2 all_reduce"
    # Forward and backward an all-reduce of 16 tokens x 64 in fp32, of which a ring of 2 sends all.
    assert rows[1]["sent a rank (planned)"] == "8.19 kB"
    held = cells(show_memory(frame))
    assert all(row["weights"].endswith(", as predicted") for row in held)
    assert all(row["saved"].endswith(", as predicted") for row in held)


@settings(max_examples=25, deadline=None)
@given(totals=st.lists(st.floats(min_value=1.0, max_value=1.08), min_size=3, max_size=3))
def test_the_fastest_lies_apart_from_all_others(tmp_path_factory: pytest.TempPathFactory, totals: list[float]) -> None:
    run = run_of(tmp_path_factory.mktemp("s") / "s.jsonl", dict(zip(ORDER, totals, strict=True)))
    full = [next(each for each in case.result.samples if each.task == "full") for case in run.cases]
    ends = [summarise(np.array(each.times_s).max(axis=1).tolist()) for each in full]
    best = min(ends, key=lambda end: end.median_s)
    near = [end is best or end.low_s <= best.high_s for end in ends]
    expected = [("may be fastest" if sum(near) > 1 else "fastest") if each else "slower" for each in near]
    assert list(frame_of_runs(run)["standing"]) == expected


def test_workloads_and_degrees_have_tables_of_their_own(tmp_path: Path) -> None:
    lines: list[Planned | CaseResult] = []
    for tp in (1, 2):
        for strategy in ORDER[:2]:
            for recompute in ("none", "selective", "full"):
                plan = planned(phase="train", strategy=strategy, tp=tp, recompute=recompute)
                lines += [plan, result(plan)]
    lines += [other := planned(seq=8), result(other)]
    shown = show_strategies(frame_of_runs(write_run(tmp_path / "t.jsonl", header(), *lines)))
    assert [group.title for group in shown.groups] == [
        "toy attention train, batch 1, seq 16, fp32, TP 1",
        "toy attention train, batch 1, seq 16, fp32, TP 2",
        "toy attention prefill, batch 1, seq 8, fp32, TP 2",
    ]
    assert [row["strategy"] for row in cells(shown, table=1)] == [
        "columns",
        "columns, selective recompute",
        "columns, full recompute",
        "allreduce",
        "allreduce, selective recompute",
        "allreduce, full recompute",
    ]


def test_one_strategy_alone_has_no_standing(tmp_path: Path) -> None:
    frame = frame_of_runs(run_of(tmp_path / "1.jsonl", {"allreduce": 1e-3}))
    assert list(frame["standing"]) == [""]
    assert cells(show_strategies(frame))[0]["standing"] == NOTHING


@pytest.mark.parametrize(("serial_s", "words"), [(6e-3, "+2.00 ms"), (3e-3, "-1.00 ms"), (4.02e-3, "(may be none)")])
def test_overlap_gained_is_serial_less_total(tmp_path: Path, serial_s: float, words: str) -> None:
    plans = [planned(strategy="overlap", chunks=2), planned(strategy="allreduce")]
    ends = [result(plan, total_s=4e-3, serial_s=serial_s) for plan in plans]
    frame = frame_of_runs(write_run(tmp_path / "g.jsonl", header(), *plans, *ends))
    assert frame["overlap_gained_s"].iloc[0] == pytest.approx(serial_s - 4e-3)
    # What cannot overlap gains nothing by it: its serial pass is the same pass again.
    assert isnan(frame["overlap_gained_s"].iloc[1])
    rows = cells(show_strategies(frame))
    assert rows[0]["strategy"] == "overlap in 2 chunks"
    assert rows[0]["overlap gained (derived)"].endswith(words)
    assert rows[1]["overlap gained (derived)"] == NOTHING


def test_times_that_are_not_comparable_take_no_place(tmp_path: Path) -> None:
    fair = run_of(tmp_path / "a.jsonl", {"columns": 8e-3, "allreduce": 6e-3})
    unfair = run_of(tmp_path / "b.jsonl", {"sequence": 1e-3}, oversubscribed="8 ranks share 4 cores")
    frame = frame_of_runs(fair, unfair).set_index("strategy")
    assert frame["standing"].to_dict() == {"columns": "slower", "allreduce": "fastest", "sequence": ""}
    assert isnan(frame.loc["sequence", "total_over_shortest"])
    assert frame.loc["columns", "total_over_shortest"] == pytest.approx(8 / 6)
    # Where there are no others, they stand among themselves.
    alone = run_of(tmp_path / "c.jsonl", {"columns": 8e-3, "sequence": 1e-3}, oversubscribed="8 ranks share 4 cores")
    assert list(frame_of_runs(alone)["standing"]) == ["slower", "fastest"]


def test_emulated_totals_have_a_ratio_and_no_standing(tmp_path: Path) -> None:
    emulated = run_of(tmp_path / "e.jsonl", {"columns": 8e-3, "allreduce": 4e-3}, emulated=True)
    measured = run_of(tmp_path / "m.jsonl", {"sequence": 1e-3})
    frame = frame_of_runs(emulated, measured)
    assert list(frame["standing"]) == ["", "", ""] and frame["overlap_gained_s"].isna().all()
    # Compute is three quarters, and the estimate adds 1 ms a collective, of which columns has two.
    assert frame["total_s"].tolist() == pytest.approx([6e-3 + 2e-3, 3e-3 + 1e-3, 1e-3])
    assert frame["total_over_shortest"].tolist() == pytest.approx([2.0, 1.0, 1.0])
    shown = show_strategies(frame)
    assert [group.marks for group in shown.groups] == [("emulated",), ()]
    assert cells(shown)[0]["collectives"] == "2 all_gather (planned)"


def test_an_emulated_total_without_its_collectives_is_held_against_nothing(tmp_path: Path) -> None:
    theory = FixedTheory(name="datasheet", speaks_of=compute_only)
    plans = [planned(theory, strategy=strategy, emulated=True) for strategy in ORDER[:2]]
    frame = frame_of_runs(write_run(tmp_path / "u.jsonl", header(), *plans, *map(result, plans)))
    assert frame["total_over_shortest"].isna().all()
    assert [row["marks"] for row in cells(show_strategies(frame))] == [
        "total without all_gather",
        "total without all_reduce",
    ]


def test_what_was_sent_otherwise_than_planned_is_marked(tmp_path: Path) -> None:
    plan = planned()
    seen = observation(plan, sent=(Sent(kind="all_gather", count=2, size_bytes=8192),))
    shown = show_strategies(frame_of_runs(write_run(tmp_path / "w.jsonl", header(), plan, result(plan, observed=seen))))
    row = cells(shown)[0]
    assert (row["collectives"], row["marks"]) == ("2 all_gather", "planned 1 all_reduce")


def test_columns_without_an_entry_are_left_out(tmp_path: Path) -> None:
    plan = planned()
    frame = frame_of_runs(write_run(tmp_path / "p.jsonl", header(), plan, result(plan)))
    shown = show_strategies(frame)
    headings = {column.heading for column in shown.columns}
    assert not {"attention kernel", "marks"} & headings
    held = {column.heading for column in show_memory(frame).columns}
    assert {"weights", "peak"} <= held and not {"gradients", "saved", "KV cache"} & held


def test_no_case_gives_no_table(tmp_path: Path) -> None:
    frame = frame_of_runs(write_run(tmp_path / "0.jsonl", header()))
    assert tuple(frame.columns) == STRATEGY_COLUMNS
    assert show_strategies(frame).groups == () and show_strategies(frame).notes == ()
