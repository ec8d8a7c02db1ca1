"""How far the numbers can be trusted: figures by hand become the tables, and what was not read is never zero."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

from analysis.figures.state import MAX_RUNS, state_chart
from analysis.frames.parts import parts_frame
from analysis.frames.scaling import scaling_frame
from analysis.frames.state import STATE_COLUMNS, rises, state_frame
from analysis.frames.strategies import strategies_frame
from analysis.frames.trust import arrivals_frame, contention_frame, ranks_frame, traffic_frame
from analysis.load import Run
from analysis.report.verdict import judge
from analysis.report.write import write_report
from analysis.show.trust import MAX_ROWS, show_trust
from bench.harness.machine.reading import Reading
from bench.harness.record.records import (
    AnyLine,
    BlockMark,
    CaseResult,
    FailedOp,
    HostTraffic,
    Moment,
    PartTimes,
    Planned,
    Samples,
    Telemetry,
    Traffic,
)
from tests.unit.record_factory import (
    LATER,
    TOY,
    FixedTheory,
    header,
    one_task,
    op_result,
    planned,
    result,
    telemetry,
    write_run,
)
from tp.case import Strategy

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert('x')</script>&\""
METHOD = {"clock": "host", "flush_bytes": 0, "graph": False, "delayed_rank": 1, "delay_s": 5e-3, "timeout_s": 120.0}


def frames_of(*runs: Run) -> dict[str, object]:
    return {
        "ranks": ranks_frame(runs),
        "arrivals": arrivals_frame(runs),
        "contention": contention_frame(runs),
        "traffic": traffic_frame(runs),
        "state": state_frame(runs),
    }


def case_of(*samples: Samples, plan: Planned | None = None, **changes: object) -> tuple[Planned, CaseResult]:
    plan = plan or planned(FixedTheory())
    return plan, replace(result(plan), groups=1, samples=samples, **changes)


def collective(*begun: tuple[float, float], took: tuple[float, float], task: str = "communication") -> Samples:
    """Passes whose ranks begin as given and take as long as given."""
    return one_task(task, (took,) * len(begun), starts_s=begun)


def report_text(folder: Path, *lines: AnyLine) -> str:
    write_run(folder / "r.jsonl", *lines)
    return write_report([folder / "r.jsonl"], folder / "out", mixed=False).read_text(encoding="utf-8")


def test_ranks_are_the_maximum_and_the_minimum_of_each_pass(tmp_path: Path) -> None:
    passes = ((1.0, 3.0), (4.0, 2.0), (2.0, 6.0))
    full = one_task("full", passes, stopped_by="target", host_bound=2)
    run = write_run(tmp_path / "r.jsonl", header(), *case_of(full, one_task("parts", passes)))
    (row,) = ranks_frame([run]).to_dict("records")
    assert (row["whole"], row["ranks"], row["samples"], row["stopped_by"]) == ("full", 2, 3, "target")
    assert (row["slowest_s"], row["fastest_s"], row["spread_s"]) == (4.0, 2.0, 2.0)
    assert (row["spread_share"], row["host_bound"], row["warmup_rounds"]) == (0.5, 2, 1)


def test_arrivals_tell_waiting_from_transfer_and_hold_the_control_beside(tmp_path: Path) -> None:
    # Rank 1 comes 1 ms late and both end at 4 ms; late on purpose it comes at 6 ms and both end at 10 ms.
    alone = collective((0.0, 1e-3), (0.0, 1e-3), (2e-3, 0.0), took=(4e-3, 3e-3))
    late = collective((0.0, 6e-3), (0.0, 6e-3), (0.0, 6e-3), took=(10e-3, 4e-3), task="delayed communication")
    run = write_run(tmp_path / "r.jsonl", header(method=METHOD), *case_of(alone, late))
    (row,) = arrivals_frame([run]).to_dict("records")
    assert row["skew_s"] == pytest.approx(1e-3) and row["transfer_s"] == pytest.approx(3e-3)
    assert (row["last_rank"], row["last_share"], row["samples"]) == (1, pytest.approx(2 / 3), 3)
    assert (row["planted_s"], row["delayed_rank"]) == (5e-3, 1)
    assert row["delayed_skew_s"] == pytest.approx(6e-3) and row["delayed_transfer_s"] == pytest.approx(4e-3)
    assert row["transfer_change"] == pytest.approx(1 / 3)


def test_the_collectives_within_a_pass_have_rows_of_their_own(tmp_path: Path) -> None:
    parts = tuple(
        PartTimes(
            part="all_reduce",
            direction="forward",
            call=call,
            times_s=((2e-3, 1e-3),) * 2,
            arrivals_s=((0.0, skew_s),) * 2,
        )
        for call, skew_s in ((0, 1e-3), (1, 3e-3))
    )
    run = write_run(tmp_path / "r.jsonl", header(), *case_of(one_task("parts", ((9e-3, 9e-3),) * 2, parts=parts)))
    frame = arrivals_frame([run])
    assert list(frame["collective"]) == ["all_reduce forward 1", "all_reduce forward 2"]
    assert frame["skew_s"].tolist() == pytest.approx([1e-3, 3e-3])
    assert frame["delayed_skew_s"].isna().all()
    # Of the second, rank 0 is done at 2 ms, and rank 1 comes at 3 ms.
    assert frame["early_share"].tolist() == [0.0, 1.0]
    tables = {each.title: each for each in show_trust(frames_of(run))}
    (group,) = tables["Arrivals at collectives"].shown.groups
    assert [row[1] for row in group.rows] == ["all_reduce forward 2"]
    assert tables["Control: one rank late on purpose"].shown.groups == ()


def test_single_ops_have_arrivals_too(tmp_path: Path) -> None:
    line = op_result(4096, 1e-3)
    timed = replace(line.samples, starts_s=((0.0, 2e-4),) * len(line.samples.times_s))
    run = write_run(tmp_path / "r.jsonl", header(world=2, method=METHOD), replace(line, samples=timed, delayed=timed))
    (row,) = arrivals_frame([run]).to_dict("records")
    assert (row["collective"], row["measured_in"]) == ("all_reduce of 4.10 kB, 2 ranks, fp32", "alone")
    assert row["skew_s"] == pytest.approx(2e-4) and row["transfer_change"] == 0.0


def test_contention_is_told_with_the_formula_of_its_overlap(tmp_path: Path) -> None:
    seconds = {
        "compute": 10e-3,
        "contended compute": 12e-3,
        "communication": 4e-3,
        "contended communication": 6e-3,
        "full": 11e-3,
    }
    samples = [one_task(task, ((time_s, time_s / 2),) * 3, uncovered=1) for task, time_s in seconds.items()]
    run = write_run(tmp_path / "r.jsonl", header(), *case_of(*samples))
    (row,) = contention_frame([run]).to_dict("records")
    assert row["compute_slowdown"] == pytest.approx(1.2) and row["communication_slowdown"] == pytest.approx(1.5)
    assert row["overlap_percent"] == pytest.approx(75.0) and row["exposed_s"] == pytest.approx(1e-3)
    assert (row["uncovered"], row["samples"]) == (2, 3)
    shown = next(each.shown for each in show_trust(frames_of(run)) if each.title == "Contention")
    assert {"+20.0 %", "+50.0 %", "75 %", "2"} <= set(shown.groups[0].rows[0])
    assert "IMB-NBC" in shown.notes[0] and "derived" in shown.notes[0]


def test_traffic_stands_beside_the_plan_and_what_was_unread_has_its_reason(tmp_path: Path) -> None:
    seen = HostTraffic(host="a", num_ranks=2, sent_bytes={"lo": 4400}, unread={"nvlink": "Not Supported"})
    traffic = Traffic(passes=2, planned_bytes=1000, hosts=(seen,))
    run = write_run(tmp_path / "r.jsonl", header(), *case_of(one_task("full", ((1.0, 1.0),)), traffic=traffic))
    known, unread = traffic_frame([run]).to_dict("records")
    assert (known["device"], known["seen_per_rank_and_pass_bytes"], known["unread"]) == ("lo", 1100.0, "")
    assert known["seen_over_planned_ratio"] == pytest.approx(1.1)
    assert (unread["device"], unread["unread"]) == ("nvlink", "Not Supported")
    assert isnan(unread["seen_bytes"]) and isnan(unread["seen_per_rank_and_pass_bytes"])


def reading(power_w: float, held_ns: int, **values: float) -> Reading:
    return Reading(
        values={"power_w": power_w, "violation_power_ns": held_ns, "steal_s": 1.0, **values},
        unread={"temperature_c": "Not Supported"},
    )


def state_of(*moments: tuple[float, Reading], marks: tuple[BlockMark, ...] = ()) -> list[AnyLine]:
    plan, end = case_of(one_task("full", ((1.0,),) * 8), marks=marks)
    told = Telemetry(
        written=LATER,
        keys=(plan.key,),
        moments=tuple(Moment(rounds=4 * n, since_s=at_s, ranks=(each,)) for n, (at_s, each) in enumerate(moments)),
        clock_offsets_s=(0.0,),
        clock_uncertainty_s=(0.0,),
    )
    return [plan, told, end]


def test_the_state_has_levels_rises_and_marks(tmp_path: Path) -> None:
    marks = (
        BlockMark(first_round=0, num_rounds=8, rank=0, kind="power", text="at 700 W"),
        BlockMark(first_round=4, num_rounds=99, rank=0, kind="steal", text="12 % of the time"),
    )
    lines = state_of(
        (0.0, reading(300.0, 10**9, energy_j=100.0)),
        (1.0, reading(700.0, 2 * 10**9, energy_j=600.0)),
        (2.0, reading(650.0, 3 * 10**9, energy_j=1300.0)),
        marks=marks,
    )
    run = write_run(tmp_path / "r.jsonl", header(), *lines)
    (row,) = state_frame([run]).to_dict("records")
    assert [row[f"power_{which}_w"] for which in ("first", "last", "min", "max")] == [300.0, 650.0, 300.0, 700.0]
    assert (row["power_limit_rise_s"], row["steal_rise_s"], row["mean_power_w"]) == (pytest.approx(2.0), 0.0, 600.0)
    assert (row["marked_rounds"], row["rounds"], row["marks"]) == (8, 8, "power 8, steal 4")
    # What is met least often is news.
    assert row["mark_example"] == "12 % of the time"


def test_what_was_not_read_is_never_zero(tmp_path: Path) -> None:
    gone = Reading(values={}, unread={"power_w": "GPU is lost"})
    run = write_run(tmp_path / "r.jsonl", header(), *state_of((0.0, reading(300.0, 5)), (1.0, gone)))
    (row,) = state_frame([run]).to_dict("records")
    assert row["unread"] == "temperature_c: Not Supported; power_w: GPU is lost"
    for name in ("temperature_min_c", "sm_clock_max_mhz", "power_limit_rise_s", "steal_rise_s", "mean_power_w"):
        assert isnan(row[name])
    shown = next(each.shown for each in show_trust(frames_of(run)) if each.title == "The machine's state")
    headings = [column.heading for column in shown.columns]
    assert "temperature" not in headings and "steal for" not in headings and "unread" in headings


def test_a_counter_that_was_set_back_has_no_rise(tmp_path: Path) -> None:
    lines = state_of((0.0, reading(1.0, 7)), (1.0, reading(1.0, 9)), (2.0, reading(1.0, 3)))
    run = write_run(tmp_path / "r.jsonl", header(), *lines)
    assert isnan(state_frame([run])["power_limit_rise_s"].iloc[0])
    assert [rise for _, _, rise in rises(run.states[0], 0, "violation_power_ns")] == [2.0]


def test_the_worst_come_first_and_the_rest_is_in_the_file(tmp_path: Path) -> None:
    lines: list[AnyLine] = []
    for seq in range(2, 2 * MAX_ROWS + 8, 2):
        lines += case_of(one_task("full", ((1.0, 1.0 + seq / 1000),) * 3), plan=planned(FixedTheory(), seq=seq))
    run = write_run(tmp_path / "r.jsonl", header(), *lines)
    shown = show_trust(frames_of(run))[0].shown
    assert len(shown.groups[0].rows) == MAX_ROWS and len(ranks_frame([run])) == MAX_ROWS + 3
    assert f"Shown are the {MAX_ROWS} worst of {MAX_ROWS + 3}; all" in shown.notes[-1]
    assert "/s30/" in shown.groups[0].rows[0][0] and "/s28/" in shown.groups[0].rows[1][0]


def test_wrong_cases_are_in_no_table(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    run = write_run(tmp_path / "r.jsonl", header(), plan, result(plan, error=1.0))
    assert all(len(frame) == 0 for name, frame in frames_of(run).items() if name != "state")  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [1, 2])
def test_old_records_are_reported_and_say_what_they_lack(tmp_path: Path, version: int) -> None:
    plan = planned(FixedTheory())
    run = write_run(tmp_path / "r.jsonl", header(schema_version=version), plan, result(plan))
    assert run.states == () and state_chart([run]) is None
    text = report_text(tmp_path, header(schema_version=version), plan, result(plan))
    assert text.count("Not recorded: ") == 5 and "machine-state" not in text
    (header_only,) = (tmp_path / "out" / "state.csv").read_text(encoding="utf-8").splitlines()
    assert header_only.split(",") == list(STATE_COLUMNS)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    plan = planned(FixedTheory(), model=replace(TOY, name=HOSTILE))
    marks = (BlockMark(first_round=0, num_rounds=8, rank=0, kind="steal", text=HOSTILE),)
    seen = HostTraffic(host=HOSTILE, num_ranks=1, sent_bytes={HOSTILE: 1}, unread={HOSTILE: HOSTILE})
    traffic = Traffic(passes=0, planned_bytes=0, hosts=(seen,))
    told = telemetry(plan)
    odd = Reading(values={"power_w": 1.0}, unread={HOSTILE: HOSTILE})
    told = replace(told, moments=tuple(replace(moment, ranks=(odd, odd)) for moment in told.moments))
    end = replace(result(plan), marks=marks, traffic=traffic)
    method = {"clock": HOSTILE, "flush_bytes": HOSTILE, "delayed_rank": HOSTILE, "delay_s": HOSTILE, "graph": None}
    text = report_text(tmp_path, header(method=method), plan, told, end)
    assert text.count("<script") == 1 and "&lt;script&gt;" in text


def test_a_state_with_other_ranks_at_every_moment_is_left_out(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    told = telemetry(plan)
    odd = replace(told, moments=(told.moments[0], replace(told.moments[1], ranks=())))
    run = write_run(tmp_path / "r.jsonl", header(), plan, odd, replace(told, moments=()), result(plan))
    assert state_frame([run]).empty and state_chart([run]) is None
    assert any("does not have the same ranks at every moment" in problem for problem in run.problems)


def test_starts_that_are_no_table_leave_the_case_out(tmp_path: Path) -> None:
    bad = collective((0.0, 1.0), took=(2.0, 1.0))
    run = write_run(tmp_path / "r.jsonl", header(), *case_of(replace(bad, starts_s=((0.0,),))))
    assert run.cases == () and any("not one for every iteration and rank" in problem for problem in run.problems)


def test_an_op_that_could_not_run_has_its_reason(tmp_path: Path) -> None:
    text = report_text(tmp_path, header(), FailedOp(written=LATER, op=op_result(8, 1.0).op, reason="no such kernel"))
    assert "no such kernel" in text


def test_the_chart_of_the_state_shows_gpus_and_else_cpus(tmp_path: Path) -> None:
    gpu = write_run(tmp_path / "g.jsonl", header(), *state_of((0.0, reading(300.0, 1)), (1.0, reading(700.0, 2))))
    drawn = state_chart([gpu] * (MAX_RUNS + 1))
    assert drawn is not None and "power, W from 300 to 700" in drawn.alternative
    assert "CPUs stolen" not in drawn.alternative and "Of 4 record files the first 3" in drawn.alternative
    cpu = Reading(values={"cpu_frequency_mhz": 2300.0, "load_1min": 1.5, "steal_s": 2.0}, unread={})
    more = Reading(values=cpu.values | {"steal_s": 3.0}, unread={})
    drawn = state_chart([write_run(tmp_path / "c.jsonl", header(), *state_of((0.0, cpu), (2.0, more)))])
    assert drawn is not None and "CPUs stolen from 0.5 to 0.5" in drawn.alternative


def test_the_method_of_a_run_is_among_its_facts(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    told = telemetry(plan)
    method = METHOD | {"flush_bytes": 10**8}
    text = report_text(tmp_path, header(method=method), plan, told, result(plan))
    assert "timed by host, caches flushed with 100 MB before each pass, no CUDA graphs" in text
    assert "once more with rank 1 late by 5.00 ms, given up after 120 s" in text
    assert "up to 1.00 us off that of rank 0, which is taken off; known to 2.00 us" in text
    assert "5 variants of a case (compute alone; communication alone; serial; full; full with its parts marked)" in text


def ranks_disagree(path: Path, *, count: int, fastest_s: float) -> Run:
    """Columns beats allreduce by the slowest rank, 4 ms to 6 ms; the fastest takes `fastest_s` and 3 ms."""
    lines: list[AnyLine] = []
    shapes: dict[Strategy, tuple[float, float]] = {"columns": (fastest_s, 4e-3), "allreduce": (3e-3, 6e-3)}
    for tp in (1, 2):
        for strategy, (low_s, high_s) in shapes.items():
            passes = ((low_s, high_s),) * count if tp == 2 else ((9e-3, 9e-3),) * count
            tasks = [one_task(task, passes) for task in ("compute", "communication", "serial", "full", "parts")]
            lines += case_of(*tasks, plan=planned(FixedTheory(), strategy=strategy, tp=tp))
    return write_run(path, header(), *lines)


@pytest.mark.parametrize(("fastest_s", "clear"), [(2e-3, True), (3.5e-3, False)])
def test_a_winner_needs_the_slowest_and_the_fastest_rank(tmp_path: Path, fastest_s: float, clear: bool) -> None:
    parts = parts_frame([run := ranks_disagree(tmp_path / "r.jsonl", count=8, fastest_s=fastest_s)])
    scaling = scaling_frame(parts)
    headline = judge(scaling, num_cases=4, num_ops=0).headline
    assert ("columns or allreduce, which the measurement cannot tell apart" in headline) is not clear
    standings = strategies_frame([run], parts, scaling)["standing"].tolist()[2:]
    assert standings == (["fastest", "slower"] if clear else ["may be fastest", "may be fastest"])


@pytest.mark.parametrize(("count", "told"), [(5, True), (6, False)])
def test_under_six_samples_the_verdict_says_that_its_interval_is_the_range(
    tmp_path: Path, count: int, told: bool
) -> None:
    run = ranks_disagree(tmp_path / "r.jsonl", count=count, fastest_s=2e-3)
    headline = judge(scaling_frame(parts_frame([run])), num_cases=4, num_ops=0).headline
    assert headline.endswith("; with 5 samples an interval is their range, not 95 %.") is told
