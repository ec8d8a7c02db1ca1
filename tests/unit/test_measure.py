"""Timing by a clock that only tasks move: the order of phases, when sampling stops, and that ranks agree."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, cycle, repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.harness.machine.reading import Facts, Reading
from bench.harness.record.records import Samples
from bench.harness.timing import measure as module
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.recorder import Recorder
from bench.harness.timing.task import Instruments, Task
from bench.harness.world.faults import Guard
from bench.harness.world.ranks import LoneRank, Place, Ranks
from tp.layers.wire import Timeline

pytestmark = pytest.mark.unit


class FakeClock:
    """Time passes only where a task says so; every call is logged."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    kind = "fake"
    flush_bytes = 0
    soak_s = 0.0

    def brace(self, lead_s: float) -> None:
        self.log.append("brace")

    def delay(self, seconds: float) -> None:
        self.log.append("delay")
        self.now += seconds

    def host_seconds(self, mark: float, tie: None) -> float:
        return mark

    def mark(self) -> float:
        self.log.append("mark")
        return self.now

    def settle(self) -> None:
        self.log.append("settle")

    def passed(self, mark: float) -> bool:
        return False

    def seconds(self, start: float, end: float) -> float:
        return end - start


class Alone(LoneRank):
    """One rank whose barriers are logged with its clock's calls."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def barrier(self) -> None:
        self.clock.log.append("barrier")


class Unread:
    """A machine that says nothing of itself, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def facts(self) -> Facts:
        return Facts(values={}, unread={})

    def read(self) -> Reading:
        self.asked += 1
        return Reading(values={}, unread={})


def instruments(clock: FakeClock, ranks: Ranks) -> Instruments:
    return Instruments(clock=clock, ranks=ranks, probe=Unread(), guard=Guard(None, ranks, timeout_s=1.0, remedy=""))


class ThreadRanks:
    """A rank of a world of threads."""

    def __init__(self, rank: int, size: int, meet: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.size = rank, size
        self.places = tuple(Place(node="here", host="here", machine="m", pid=0) for _ in range(size))
        self._meet, self._board = meet, board

    def barrier(self) -> None:
        self._meet.wait()

    def gather_objects(self, value: Any) -> list[Any]:
        self._board[self.rank] = value
        self._meet.wait()
        everyone = list(self._board)
        self._meet.wait()
        return everyone

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(self.gather_objects(values))

    def decide(self, choice: int) -> int:
        decided: int = self.gather_objects(choice)[0]
        return decided

    def agree(self, problem: str | None) -> list[str | None]:
        return self.gather_objects(problem)

    def ask_time(self, peer: int) -> tuple[float, float, float] | None:
        raise AssertionError("all ranks share a host")


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[int, FakeClock]:
    """The budget in seconds runs by the fake clock of the thread that asks."""
    mine: dict[int, FakeClock] = {}

    def now() -> float:
        return mine[threading.get_ident()].now

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now, perf_counter=now))
    return mine


def task(name: str, clock: FakeClock, durations_s: Iterable[float]) -> Task:
    """A task that takes so long each time."""
    durations = iter(durations_s)

    def run(timeline: Timeline) -> None:
        clock.log.append(name)
        clock.now += next(durations)

    return Task(name=name, run=run, reset=lambda: clock.log.append(f"reset {name}"))


def run(
    clocks: dict[int, FakeClock], durations_s: dict[str, Iterable[float]], policy: Policy
) -> tuple[dict[str, Samples], FakeClock]:
    clock = clocks[threading.get_ident()] = FakeClock()
    tasks = [task(name, clock, durations) for name, durations in durations_s.items()]
    return measure(tasks, instruments=instruments(clock, Alone(clock)), policy=policy).samples, clock


def noise(low: float = 1.0, high: float = 2.0) -> Iterator[float]:
    return cycle((low, high))


ENDLESS = Policy(max_seconds=1e9)


def test_the_order_of_phases(clocks: dict[int, FakeClock]) -> None:
    _, clock = run(clocks, {"a": repeat(1.0), "b": repeat(2.0)}, ENDLESS)
    once = ["reset {}", "barrier", "brace", "mark", "{}", "mark"]  # nothing but the pass between the marks
    log = [word for word in clock.log if word != "settle"]
    passes = [log[i : i + len(once)] for i in range(0, len(log), len(once))]
    names = [each[4] for each in passes]
    assert passes == [[phase.format(name) for phase in once] for name in names]


def test_every_round_has_every_task_once_in_an_order_of_its_own(clocks: dict[int, FakeClock]) -> None:
    _, clock = run(clocks, {name: noise() for name in "abcd"}, Policy(max_rounds=60, max_seconds=1e9))
    order = "".join(word for word in clock.log if word in tuple("abcd"))
    rounds = [order[i : i + 4] for i in range(0, len(order), 4)]
    assert all(sorted(each) == list("abcd") for each in rounds)
    # Every task follows every other and comes first now and then.
    assert {each[0] for each in rounds} == set("abcd")
    assert {each[i : i + 2] for each in rounds for i in range(3)} == {a + b for a in "abcd" for b in "abcd" if a != b}


def test_a_pass_that_the_device_overtakes_is_counted(clocks: dict[int, FakeClock]) -> None:
    class Overtaken(FakeClock):
        def passed(self, mark: float) -> bool:
            return True

    clock = clocks[threading.get_ident()] = Overtaken()
    tasks = [task("a", clock, repeat(1.0))]
    found = measure(tasks, instruments=instruments(clock, Alone(clock)), policy=ENDLESS).samples
    assert found["a"].host_bound == len(found["a"].times_s) == 8
    steady, _ = run(clocks, {"a": repeat(1.0)}, ENDLESS)
    assert steady["a"].host_bound == 0


@pytest.mark.parametrize(
    ("durations", "rounds"),
    [
        (repeat(1.0), 2),
        (chain((9.0, 1.0), repeat(1.0)), 3),
        (chain((9.0, 1.2, 1.1), repeat(1.0)), 3),  # 1.1 / 1.2 is within 10 %
        (chain((9.0, 1.2, 1.0, 1.0), repeat(1.0)), 4),
        (noise(), 6),
    ],
)
def test_warm_up_lasts_until_two_rounds_agree(
    clocks: dict[int, FakeClock], durations: Iterable[float], rounds: int
) -> None:
    found, _ = run(clocks, {"a": durations}, ENDLESS)
    assert len(found["a"].warmup_s) == rounds


def test_warm_up_is_kept_apart_from_the_samples(clocks: dict[int, FakeClock]) -> None:
    found, _ = run(
        clocks, {"a": chain((9.0, 5.0, 5.0), repeat(5.0, 4), repeat(7.0, 4))}, Policy(max_rounds=8, max_seconds=1e9)
    )
    assert found["a"].warmup_s == ((9.0,), (5.0,), (5.0,))
    assert found["a"].times_s == ((5.0,),) * 4 + ((7.0,),) * 4


def test_one_unstable_task_warms_up_all(clocks: dict[int, FakeClock]) -> None:
    found, _ = run(clocks, {"a": repeat(1.0), "b": chain((9.0, 5.0), repeat(2.0))}, ENDLESS)
    assert len(found["a"].warmup_s) == len(found["b"].warmup_s) == 4


def test_warm_up_ends_with_a_third_of_the_budget_but_never_before_two_rounds(clocks: dict[int, FakeClock]) -> None:
    found, _ = run(clocks, {"a": noise(10.0, 20.0)}, Policy(max_seconds=90.0))
    assert len(found["a"].warmup_s) == 2  # 10 + 20 = 30
    found, _ = run(clocks, {"a": noise(100.0, 200.0)}, Policy(max_seconds=90.0))
    assert len(found["a"].warmup_s) == 2


@pytest.mark.parametrize(
    ("durations", "policy", "samples", "stopped_by"),
    [
        (repeat(1.0), ENDLESS, 8, "target"),
        (repeat(1.0), Policy(min_rounds=20, max_seconds=1e9), 20, "target"),
        (noise(1.0, 1.019), ENDLESS, 8, "target"),  # half of 0.019 over 1.0095 is under 1 %
        (noise(1.0, 1.021), Policy(max_rounds=40, max_seconds=1e9), 40, "rounds"),
        (noise(1.0, 1.019), Policy(target_half_width=0.009, max_rounds=12, max_seconds=1e9), 12, "rounds"),
        (noise(), Policy(max_seconds=28.0), 16, "seconds"),  # 9 s of warm-up, then 6 s a block: 27 s is not enough
    ],
)
def test_when_sampling_stops(
    clocks: dict[int, FakeClock], durations: Iterable[float], policy: Policy, samples: int, stopped_by: str
) -> None:
    found, _ = run(clocks, {"a": durations}, policy)
    assert (len(found["a"].times_s), found["a"].stopped_by) == (samples, stopped_by)


def test_all_tasks_go_on_until_the_last_is_known(clocks: dict[int, FakeClock]) -> None:
    """So that drift falls on all alike; each says for itself whether it got to its target."""
    policy = Policy(max_rounds=20, max_seconds=1e9)
    found, _ = run(clocks, {"a": repeat(1.0), "b": noise()}, policy)
    assert (len(found["a"].times_s), found["a"].stopped_by) == (20, "target")
    assert (len(found["b"].times_s), found["b"].stopped_by) == (20, "rounds")


def test_parts_sum_to_the_whole(clocks: dict[int, FakeClock]) -> None:
    clock = clocks[threading.get_ident()] = FakeClock()

    def run_parts(timeline: Timeline) -> None:
        clock.now += 0.5  # before any part is entered it is the norm's
        timeline.enter("qkv", "forward")
        clock.now += 2.0
        timeline.enter("all_gather", "forward")
        clock.now += 4.0
        timeline.enter("qkv", "forward")  # again: adds to the first
        clock.now += 1.0
        timeline.enter("all_gather", "forward")  # again, but a call of its own
        clock.now += 3.0
        timeline.enter("qkv", "backward")
        clock.now += 8.0

    tasks = [
        Task(name="parts", run=run_parts, reset=lambda: None, marks_parts=True),
        Task(name="full", run=run_parts, reset=lambda: None),
    ]
    found = measure(tasks, instruments=instruments(clock, Alone(clock)), policy=ENDLESS).samples
    parts = {(part.part, part.direction, part.call): part.times_s for part in found["parts"].parts}
    assert {label: set(times) for label, times in parts.items()} == {
        ("norm", "forward", 0): {(0.5,)},
        ("qkv", "forward", 0): {(3.0,)},
        ("all_gather", "forward", 0): {(4.0,)},
        ("all_gather", "forward", 1): {(3.0,)},
        ("qkv", "backward", 0): {(8.0,)},
    }
    assert found["full"].parts == ()
    for label, times in parts.items():
        assert len(times) == len(found["parts"].times_s), label
    sums = np.sum([np.array(times) for times in parts.values()], axis=0)
    assert np.array(found["parts"].times_s) == pytest.approx(sums)


def test_an_unwatched_pass_is_marked_at_its_ends_only() -> None:
    clock = FakeClock()
    recorder = Recorder(clock, watching=False)
    recorder.start(None, 0.0)
    recorder.enter("qkv", "forward")
    clock.now += 1.0
    recorder.stop()
    assert clock.log == ["mark", "mark"]
    assert (recorder.lap().total_s, recorder.lap().parts_s) == (1.0, {})


def on_ranks(
    clocks: dict[int, FakeClock], by_rank: list[dict[str, Callable[[], Iterable[float]]]], policy: Policy
) -> list[dict[str, Samples]]:
    """What every rank of a world of threads gets, each with durations of its own."""
    size = len(by_rank)
    meet, board = threading.Barrier(size, timeout=20), [None] * size

    def work(rank: int) -> dict[str, Samples]:
        clock = clocks[threading.get_ident()] = FakeClock()
        ranks: Ranks = ThreadRanks(rank, size, meet, board)
        tasks = [task(name, clock, durations()) for name, durations in by_rank[rank].items()]
        try:
            return measure(tasks, instruments=instruments(clock, ranks), policy=policy).samples
        except BaseException:
            meet.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, range(size)))


def test_a_steady_rank_does_not_stop_a_noisy_one(clocks: dict[int, FakeClock]) -> None:
    policy = Policy(max_rounds=12, max_seconds=1e9)
    steady, noisy = {"a": lambda: repeat(1.0)}, {"a": lambda: noise(2.0, 4.0)}
    for by_rank in ([steady, noisy], [noisy, steady]):
        found = on_ranks(clocks, by_rank, policy)  # type: ignore[arg-type]
        assert (len(found[0]["a"].times_s), found[0]["a"].stopped_by) == (12, "rounds")
    # A noisy rank that is never the slowest does not keep the others: the maximum is what is steady.
    hidden = on_ranks(clocks, [{"a": lambda: repeat(9.0)}, {"a": lambda: noise(2.0, 4.0)}], policy)
    assert (len(hidden[0]["a"].times_s), hidden[0]["a"].stopped_by) == (8, "target")


def test_every_rank_gets_the_same_samples_and_decisions(clocks: dict[int, FakeClock]) -> None:
    """Rank 1's clock has passed the budget long before rank 0's: rank 0's verdict holds, or they would part."""
    fast = {"a": lambda: repeat(1.0), "b": lambda: noise(1.0, 2.0)}
    slow = {"a": lambda: repeat(50.0), "b": lambda: noise(100.0, 200.0)}
    for by_rank, stopped_by in (([fast, slow], "rounds"), ([slow, fast], "seconds")):
        found = on_ranks(clocks, by_rank, Policy(max_rounds=16, max_seconds=1000.0))  # type: ignore[arg-type]
        assert found[0] == found[1]
        assert found[0]["b"].stopped_by == stopped_by
    by_rank_0, by_rank_1 = zip(*found[0]["a"].times_s, strict=True)
    assert set(by_rank_0) == {50.0}
    assert set(by_rank_1) == {1.0}


def test_a_late_rank_is_seen_in_the_starts_and_in_nobody_s_own_time(clocks: dict[int, FakeClock]) -> None:
    def work(clock: FakeClock, ranks: Ranks, delay_s: float) -> Samples:
        tasks = [replace(task("a", clock, repeat(1.0)), delay_s=delay_s)]
        return measure(tasks, instruments=instruments(clock, ranks), policy=Policy(max_rounds=8)).samples["a"]

    meet, board = threading.Barrier(2, timeout=20), [None] * 2

    def on_rank(rank: int) -> Samples:
        clock = clocks[threading.get_ident()] = FakeClock()
        clock.now = 0.0

        class Together(ThreadRanks):
            """Ranks whose clocks agree at every barrier."""

            def barrier(self) -> None:
                clock.now = max(self.gather_objects(clock.now))

        return work(clock, Together(rank, 2, meet, board), (0.0, 5.0)[rank])

    with ThreadPoolExecutor(2) as pool:
        found, _ = pool.map(on_rank, range(2))
    assert set(found.starts_s) == {(0.0, 5.0)}
    assert set(found.times_s) == {(1.0, 1.0)}


def test_the_state_is_read_once_a_block_and_after_the_pass(clocks: dict[int, FakeClock]) -> None:
    clock = clocks[threading.get_ident()] = FakeClock()
    probe = Unread()
    having = replace(instruments(clock, Alone(clock)), probe=probe)
    tasks = [task(name, clock, noise()) for name in "ab"]
    found = measure(tasks, instruments=having, policy=Policy(max_rounds=12, max_seconds=1e9))
    assert [moment.rounds for moment in found.moments] == [0, 4, 8, 12]
    assert probe.asked == len(found.samples["a"].warmup_s) + 3


def test_a_task_that_does_not_decide_does_not_prolong(clocks: dict[int, FakeClock]) -> None:
    clock = clocks[threading.get_ident()] = FakeClock()
    tasks = [task("a", clock, repeat(1.0)), replace(task("b", clock, noise()), decides=False)]
    having = instruments(clock, Alone(clock))
    found = measure(tasks, instruments=having, policy=Policy(max_rounds=40, max_seconds=1e9)).samples
    assert len(found["a"].times_s) == len(found["b"].times_s) == 8


def test_a_pass_that_outlasts_its_company_is_counted(clocks: dict[int, FakeClock]) -> None:
    class Brief:
        def begin(self) -> None:
            pass

        def finish(self) -> bool:
            return False

    clock = clocks[threading.get_ident()] = FakeClock()
    tasks = [replace(task("a", clock, repeat(1.0)), beside=Brief())]
    found = measure(tasks, instruments=instruments(clock, Alone(clock)), policy=ENDLESS).samples["a"]
    assert found.uncovered == len(found.times_s)
