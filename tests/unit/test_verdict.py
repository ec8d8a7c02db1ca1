"""The verdict: what was measured in one sentence, which way it points, and what limits it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frames.parts import parts_frame
from analysis.frames.scaling import scaling_frame
from analysis.report.verdict import Verdict, judge
from bench.harness.record.records import CaseResult, Planned
from tests.unit.record_factory import SPREAD, FixedTheory, header, planned, result, scaling_run, write_run
from tp.case import Strategy

pytestmark = pytest.mark.unit


def verdict_of(path: Path, totals_s: dict[int, float]) -> Verdict:
    frame = scaling_frame(parts_frame([scaling_run(path, totals_s)]))
    return judge(frame, num_cases=len(totals_s), num_ops=0)


@pytest.mark.parametrize(
    ("totals", "answer"),
    [
        ({1: 8e-3, 2: 5e-3}, "TP 2 pays for toy attention prefill, batch 1, seq 16, fp32: allreduce takes 5.00 ms"),
        ({1: 5e-3, 2: 8e-3}, "TP 2 is slower for toy attention prefill"),
        ({1: 5e-3, 2: 5e-3}, "TP 2 makes no measurable difference for toy attention prefill"),
        ({1: 8e-3, 2: 5e-3, 4: 9e-3}, "TP pays up to 2 ranks for toy attention prefill"),
        ({1: 8e-3, 2: 5e-3, 4: 9e-3}, "; TP 4 is slower, 9.00 ms with allreduce."),
        ({1: 8e-3, 2: 5e-3, 4: 5e-3}, "; TP 4 is not measurably faster, 5.00 ms with allreduce."),
        ({1: 8e-3, 2: 5e-3, 4: 3e-3}, "TP pays up to 4 ranks, the largest degree measured, for toy"),
        ({1: 8e-3, 2: 9e-3, 4: 5e-3}, "TP pays up to 4 ranks, the largest degree measured, for toy"),
        ({1: 5e-3, 2: 6e-3, 4: 9e-3}, "TP 4 is slower for toy attention prefill"),
        ({1: 8e-3}, "no larger degree was measured beside TP 1"),
        ({2: 8e-3}, "no TP 1 was measured beside TP 2"),
    ],
)
def test_the_verdict_says_what_was_measured(tmp_path: Path, totals: dict[int, float], answer: str) -> None:
    assert answer in verdict_of(tmp_path / "v.jsonl", totals).headline


def test_the_verdict_tells_speed_and_efficiency(tmp_path: Path) -> None:
    headline = verdict_of(tmp_path / "v.jsonl", {1: 8e-3, 4: 4e-3}).headline
    assert "takes 4.00 ms a pass against 8.00 ms at TP 1 (2.00 x the speed, 50.0 % efficiency)" in headline
    # Compute takes 3 ms of the 4 and would take 2 ms if it divided; both losses are 1 ms.
    assert "1.00 ms beyond" in headline


@pytest.mark.parametrize(
    ("compute_s", "limit"),
    [
        (2.1e-3, "communication and waiting limit it, 1.90 ms"),
        (3.9e-3, "compute that does not divide evenly limits it, 1.90 ms"),
    ],
)
def test_the_verdict_names_the_greater_loss(tmp_path: Path, compute_s: float, limit: str) -> None:
    plans = [planned(tp=1), planned(tp=4)]
    results = [result(plans[0], total_s=8e-3), result(plans[1], total_s=4e-3, compute_s=compute_s)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "l.jsonl", header(), *plans, *results)]))
    assert limit in judge(frame, num_cases=2, num_ops=0).headline


def test_the_verdict_takes_the_fastest_strategy(tmp_path: Path) -> None:
    totals: dict[Strategy, tuple[float, float]] = {"allreduce": (8e-3, 6e-3), "sequence": (8e-3, 5e-3)}
    lines: list[Planned | CaseResult] = []
    for strategy, by_degree in totals.items():
        for tp, total_s in zip((1, 2), by_degree, strict=True):
            plan = planned(strategy=strategy, tp=tp)
            lines += [plan, result(plan, total_s=total_s)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "b.jsonl", header(), *lines)]))
    headline = judge(frame, num_cases=4, num_ops=0).headline
    assert "sequence, the fastest of 2 strategies, takes 5.00 ms a pass" in headline


def test_several_workloads_are_summed_up_in_one_sentence(tmp_path: Path) -> None:
    lines: list[Planned | CaseResult] = []
    for seq, totals in ((8, (8e-3, 5e-3)), (16, (8e-3, 16e-3))):
        for tp, total_s in zip((1, 2), totals, strict=True):
            plan = planned(tp=tp, seq=seq)
            lines += [plan, result(plan, total_s=total_s)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "w.jsonl", header(), *lines)]))
    verdict = judge(frame, num_cases=4, num_ops=0)
    assert verdict.headline.startswith("At TP 2 splitting pays in 1 and is slower in 1 of 2 workloads: ")
    assert "at 0.500 to 1.60 x the speed of TP 1" in verdict.headline
    assert len(verdict.details) == 2


def headline_of(path: Path, totals: dict[tuple[Strategy, int], float]) -> str:
    plans = {key: planned(strategy=key[0], tp=key[1]) for key in totals}
    results = [result(plans[key], total_s=total_s) for key, total_s in totals.items()]
    frame = scaling_frame(parts_frame([write_run(path, header(), *plans.values(), *results)]))
    return judge(frame, num_cases=len(totals), num_ops=0).headline


def test_what_splitting_must_beat_is_the_fastest_without(tmp_path: Path) -> None:
    """At TP 1 all strategies compute the same, so that the slower of two is no base of a gain."""
    slower = headline_of(tmp_path / "s.jsonl", {("allreduce", 1): 10e-3, ("sequence", 1): 8e-3, ("allreduce", 2): 9e-3})
    assert slower.startswith("TP 2 is slower") and "against 8.00 ms at TP 1" in slower
    faster = headline_of(tmp_path / "f.jsonl", {("allreduce", 1): 10e-3, ("sequence", 1): 14e-3, ("sequence", 2): 8e-3})
    assert "8.00 ms a pass against 10.00 ms at TP 1 (1.25 x the speed" in faster


def test_a_degree_in_between_that_does_not_pay_is_told(tmp_path: Path) -> None:
    headline = verdict_of(tmp_path / "v.jsonl", {1: 10e-3, 2: 14e-3, 4: 5e-3}).headline
    assert headline.startswith("TP pays up to 4 ranks") and "in between it does not, TP 2 takes 14.0 ms" in headline


def test_medians_alone_make_no_larger_degree_pay(tmp_path: Path) -> None:
    """Half a percent faster lies within the intervals."""
    headline = verdict_of(tmp_path / "v.jsonl", {1: 10e-3, 2: 6e-3, 4: 5.97e-3}).headline
    assert headline.startswith("TP pays up to 2 ranks") and "TP 4 is not measurably faster, 5.97 ms" in headline


SECONDS = st.floats(min_value=1e-5, max_value=1.0)


@settings(max_examples=25, deadline=None)
@given(at_one=SECONDS, at_two=SECONDS)
def test_faster_and_slower_need_intervals_that_are_apart(
    tmp_path_factory: pytest.TempPathFactory, at_one: float, at_two: float
) -> None:
    headline = verdict_of(tmp_path_factory.mktemp("v") / "v.jsonl", {1: at_one, 2: at_two}).headline
    if at_two < at_one * (1 - 2.5 * SPREAD):
        assert headline.startswith("TP 2 pays")
    elif at_two > at_one * (1 + 2.5 * SPREAD):
        assert headline.startswith("TP 2 is slower")
    elif abs(at_two / at_one - 1) < SPREAD:
        assert headline.startswith("TP 2 makes no measurable difference")
    assert "\n" not in headline and headline.endswith(".")


def test_comparable_times_count_before_others(tmp_path: Path) -> None:
    fair, unfair = planned(tp=1), planned(tp=2)
    fast = planned(tp=4)
    runs = [
        write_run(tmp_path / "a.jsonl", header(), fair, fast, result(fair, total_s=8e-3), result(fast, total_s=6e-3)),
        write_run(tmp_path / "b.jsonl", header(oversubscribed="x"), unfair, result(unfair, total_s=1e-3)),
    ]
    headline = judge(scaling_frame(parts_frame(runs)), num_cases=3, num_ops=0).headline
    assert headline.startswith("TP 4 pays") and "TP 2" not in headline


def strategies_at_two(at_two: dict[Strategy, float], *, seq: int = 16) -> list[Planned | CaseResult]:
    lines: list[Planned | CaseResult] = []
    for strategy, total_s in at_two.items():
        for tp, seconds in ((1, 8e-3), (2, total_s)):
            plan = planned(strategy=strategy, tp=tp, seq=seq)
            lines += [plan, result(plan, total_s=seconds)]
    return lines


# Each interval reaches SPREAD to both sides of its median.
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (4e-3 * (1 + 3 * SPREAD), "allreduce, the fastest of 3 strategies, takes 4.00 ms a pass"),
        (
            4e-3 * (1 + SPREAD),
            "the fastest of 3 strategies is allreduce or columns, which the measurement cannot tell apart; allreduce "
            "takes 4.00 ms a pass",
        ),
    ],
)
def test_no_strategy_is_called_the_fastest_within_the_interval_of_another(
    tmp_path: Path, columns: float, words: str
) -> None:
    lines = strategies_at_two({"columns": columns, "allreduce": 4e-3, "sequence": 7e-3})
    frame = scaling_frame(parts_frame([write_run(tmp_path / "t.jsonl", header(), *lines)]))
    assert words in judge(frame, num_cases=6, num_ops=0).headline


def test_the_sum_counts_where_the_fastest_cannot_be_told(tmp_path: Path) -> None:
    lines = [
        *strategies_at_two({"columns": 4e-3, "allreduce": 4e-3}, seq=8),
        *strategies_at_two({"columns": 7e-3, "allreduce": 4e-3}),
    ]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "t.jsonl", header(), *lines)]))
    headline = judge(frame, num_cases=8, num_ops=0).headline
    assert "(allreduce in 1, in 1 the measurement cannot tell several apart)" in headline


def test_without_a_comparison_the_shortest_pass_may_be_that_of_several(tmp_path: Path) -> None:
    plans = [planned(strategy=strategy) for strategy in ("allreduce", "columns", "sequence")]
    results = [result(plan, total_s=s) for plan, s in zip(plans, (4e-3, 4.01e-3, 7e-3), strict=True)]
    frame = scaling_frame(parts_frame([write_run(tmp_path / "o.jsonl", header(), *plans, *results)]))
    headline = judge(frame, num_cases=3, num_ops=0).headline
    assert headline.endswith("under allreduce or columns, which the measurement cannot tell apart.")


def test_emulated_times_are_no_verdict(tmp_path: Path) -> None:
    plans = [planned(FixedTheory(), tp=tp, emulated=True) for tp in (1, 4)]
    results = [result(plan, total_s=total_s) for plan, total_s in zip(plans, (8e-3, 1e-3), strict=True)]
    alone = write_run(tmp_path / "e.jsonl", header(), *plans, *results)
    headline = judge(scaling_frame(parts_frame([alone])), num_cases=2, num_ops=0).headline
    assert headline.startswith("Whether TP pays was not measured: all 2 cases with a time are emulated")
    for oversubscribed in (None, "8 ranks share 4 cores"):
        measured = [planned(tp=1), planned(tp=2)]
        ends = [result(plan, total_s=total_s) for plan, total_s in zip(measured, (8e-3, 5e-3), strict=True)]
        run = write_run(tmp_path / "m.jsonl", header(oversubscribed=oversubscribed), *measured, *ends)
        headline = judge(scaling_frame(parts_frame([alone, run])), num_cases=4, num_ops=0).headline
        assert headline.startswith("TP 2 pays") and "TP 4" not in headline
