"""What runs beside a timed pass on a CPU: it runs, it ends, and it is known whether it ended too early."""

import threading
import time

import pytest
import torch

from bench.harness.timing.contention import beside, repetitions

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")


@pytest.mark.parametrize(("timed_s", "beside_s", "times"), [(1.0, 1.0, 4), (10.0, 1.0, 31), (1.0, 100.0, 2)])
def test_repetitions_outlast_what_is_timed(timed_s: float, beside_s: float, times: int) -> None:
    assert repetitions(timed_s, beside_s) == times
    assert times * beside_s > timed_s


def test_it_runs_meanwhile_and_is_waited_for() -> None:
    calls: list[int] = []
    go_on = threading.Event()

    def run() -> None:
        go_on.wait(10)
        calls.append(threading.get_ident())

    running = beside(run, lambda: None, times=3, fresh_every=1, device=CPU)
    running.begin()
    assert calls == []
    threading.Timer(0.1, go_on.set).start()
    assert running.finish()
    assert len(calls) == 3
    assert threading.get_ident() not in calls


def test_it_is_noticed_when_it_ended_before() -> None:
    running = beside(lambda: None, lambda: None, times=1, fresh_every=1, device=CPU)
    running.begin()
    time.sleep(0.2)
    assert not running.finish()


def test_buffers_are_restored_before_they_overflow() -> None:
    done: list[str] = []
    running = beside(lambda: done.append("run"), lambda: done.append("reset"), times=8, fresh_every=4, device=CPU)
    running.begin()
    running.finish()
    assert done == ["reset", *["run"] * 4] * 2


def test_its_failure_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise RuntimeError("Connection closed by peer")

    running = beside(fail, lambda: None, times=1, fresh_every=1, device=CPU)
    running.begin()
    with pytest.raises(RuntimeError, match="closed by peer"):
        running.finish()
    # And it can be begun again.
    running.begin()
    with pytest.raises(RuntimeError, match="closed by peer"):
        running.finish()


def test_it_computes_with_one_thread() -> None:
    seen: list[int] = []
    running = beside(lambda: seen.append(torch.get_num_threads()), lambda: None, times=1, fresh_every=1, device=CPU)
    running.begin()
    running.finish()
    assert seen == [1]
