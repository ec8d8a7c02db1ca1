"""Skew apart from transfer, contention, the spread over ranks and the traffic, on times whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from bench.harness.record.arrivals import arrivals, of_pass, within_pass
from bench.harness.record.interference import contention, over_ranks, sent_over_planned
from bench.harness.record.names import CONTENDED_COMMUNICATION, CONTENDED_COMPUTE, DELAYED
from bench.harness.record.records import HostTraffic, PartTimes, Samples, Times, Traffic
from bench.harness.run.remarks import remarks
from tests.unit.record_factory import planned, result
from tp.plan.ops import Collective

pytestmark = pytest.mark.unit


def samples(task: str, times_s: Times, **changes: object) -> Samples:
    made = Samples(task=task, warmup_s=(), times_s=times_s, parts=(), stopped_by="rounds")
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_late_rank_makes_skew_and_no_transfer() -> None:
    # Rank 1 comes 5 late; the early rank's own duration holds its wait.
    found = arrivals("x", np.array([[0.0, 5.0]] * 6), np.array([[6.0, 1.0]] * 6), groups=1)
    assert (found.skew.median_s, found.transfer.median_s) == (5.0, 1.0)
    assert (found.last_rank, found.last_share) == (1, 1.0)


def test_transfer_ends_with_the_last_rank() -> None:
    found = arrivals("x", np.array([[0.0, 2.0]]), np.array([[9.0, 1.0]]), groups=1)
    assert (found.skew.median_s, found.transfer.median_s) == (2.0, 7.0)


def test_groups_do_not_wait_for_each_other() -> None:
    # Two groups of two; the second begins 100 later, which is no skew of either.
    starts = np.array([[0.0, 1.0, 100.0, 103.0]] * 4)
    found = arrivals("x", starts, np.full((4, 4), 10.0), groups=2)
    assert found.skew.median_s == 3.0
    assert found.last_rank == 3


def test_the_rank_that_is_last_most_often_is_named() -> None:
    starts = np.array([[0.0, 1.0, 0.5]] * 3 + [[2.0, 0.0, 0.5]])
    found = arrivals("x", starts, np.ones((4, 3)), groups=1)
    assert (found.last_rank, found.last_share) == (1, 0.75)


def test_records_without_starts_and_ranks_alone_say_nothing() -> None:
    assert of_pass(samples("communication", ((1.0, 1.0),)), groups=1) is None
    alone = samples("communication", ((1.0, 1.0),), starts_s=((0.0, 0.3),))
    assert of_pass(alone, groups=2) is None
    assert of_pass(alone, groups=1) is not None


def test_collectives_within_a_pass() -> None:
    part = PartTimes(part="all_reduce", direction="forward", call=1, times_s=((4.0, 1.0),), arrivals_s=((2.0, 5.0),))
    compute = PartTimes(part="qkv", direction="forward", times_s=((1.0, 1.0),))
    timed = samples("parts", ((9.0, 9.0),), parts=(compute, part))
    (found,) = within_pass(timed, planned().ops, groups=1)
    assert (found.name, found.skew.median_s, found.transfer.median_s) == ("all_reduce forward 2", 3.0, 1.0)


def test_a_collective_that_is_posted_and_waited_for_later_is_no_arrival() -> None:
    plan = planned(phase="train")
    posted = [op for op in plan.ops if isinstance(op, Collective) and op.overlaps]
    assert {op.direction for op in posted} == {"backward"}
    parts = tuple(
        PartTimes(part="all_reduce", direction=direction, times_s=((4.0, 1.0),), arrivals_s=((2.0, 5.0),))
        for direction in ("forward", "backward")
    )
    found = list(within_pass(samples("parts", ((9.0, 9.0),), parts=parts), plan.ops, groups=1))
    assert [each.name for each in found] == ["all_reduce forward 1"]


@pytest.mark.parametrize(
    ("full_s", "percent"),
    [(14.0, 0.0), (12.0, 50.0), (10.0, 100.0), (9.0, 100.0), (20.0, 0.0)],  # never under 0 or over 100
)
def test_contention_and_overlap(full_s: float, percent: float) -> None:
    times = {
        "compute": 10.0,
        "communication": 4.0,
        "full": full_s,
        CONTENDED_COMPUTE: 12.0,
        CONTENDED_COMMUNICATION: 6.0,
    }
    made = tuple(samples(task, ((seconds / 2, seconds),) * 8) for task, seconds in times.items())
    found = contention(replace(result(planned()), samples=made))
    assert found is not None
    assert found.compute_slowdown == pytest.approx(1.2)
    assert found.communication_slowdown == pytest.approx(1.5)
    assert found.overlap_percent == pytest.approx(percent)
    assert found.exposed_s == pytest.approx(full_s - 10.0)
    assert contention(replace(result(planned()), samples=made[:-1])) is None


def test_the_spread_over_ranks() -> None:
    found = over_ranks(samples("full", ((1.0, 3.0), (2.0, 2.5), (5.0, 1.0))))
    assert (found.slowest.median_s, found.fastest.median_s, found.spread_s) == (3.0, 1.0, 2.0)


def traffic(*sent: dict[str, int], planned_bytes: int = 100, passes: int = 4) -> Traffic:
    hosts = tuple(HostTraffic(host="h", num_ranks=2, sent_bytes=each, unread={"x": "not there"}) for each in sent)
    return Traffic(passes=passes, planned_bytes=planned_bytes, hosts=hosts)


def test_traffic_over_the_plan() -> None:
    assert sent_over_planned(traffic({"lo": 400, "eth0": 400})) == 1.0
    assert sent_over_planned(traffic({"lo": 800}, {"lo": 2400})) == 2.0
    assert sent_over_planned(traffic({})) is None
    assert sent_over_planned(traffic({"lo": 400}, planned_bytes=0)) is None


def test_what_is_not_read_is_told_with_its_reason() -> None:
    told = remarks(planned(), replace(result(planned()), traffic=traffic({})), late_rank=None)
    (line,) = [line for line in told if "wire" in line]
    assert "no counter moved" in line
    assert "x: not there" in line


@pytest.mark.parametrize(("late", "named"), [(1, True), (0, False)])
def test_a_control_that_failed_is_told(late: int, named: bool) -> None:
    sent = {
        "communication": ((0.0, 0.1), (5.0, 5.0)),
        f"{DELAYED}communication": ((0.0, 5.0), (10.0, 5.0)),
    }
    made = tuple(samples(task, (times,) * 8, starts_s=(starts,) * 8) for task, (starts, times) in sent.items())
    told = remarks(planned(tp=4), replace(result(planned(tp=4)), samples=made), late_rank=late)
    (line,) = [line for line in told if "late on purpose" in line]
    assert line.startswith(f"communication, rank {late} late on purpose")
    assert ("yet rank 1 was last" not in line) == named
    assert "skew 100 ms becomes 5.00 s" in line
