"""Whose fault it is, in one line; and what a rank may fail at without ending the run."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from bench.harness.timing.method import read_delay
from bench.harness.world import faults
from bench.harness.world.faults import Answer, Guard, Interrupted, attempt, is_out_of_memory, is_peer_failure
from bench.harness.world.ranks import LoneRank, Place
from tp.errors import ConfigError, MeasurementError

pytestmark = pytest.mark.unit

PLACES = tuple(Place(node=f"node{rank}", host="h", machine="m", pid=rank) for rank in range(3))
CLOSED = "[/x/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9. This is typically caused by"


def answer(problem: str, *, of_peer: bool, rank: int = 0) -> Answer:
    return Answer(node=PLACES[rank].node, where="case, timing", problem=problem, of_peer=of_peer)


def test_a_rank_that_does_not_answer_is_to_blame() -> None:
    text = faults._message({0: answer("closed", of_peer=True), 2: answer("closed", of_peer=True)}, [1], PLACES)
    assert text == (
        "rank 1 on node1 no longer answers, killed or hanging; the run was at case, timing (rank 0 saw: closed)"
    )


def test_a_rank_that_failed_by_itself_is_to_blame_before_one_that_is_silent() -> None:
    answers = {0: answer("closed", of_peer=True), 2: answer("disk full", of_peer=False, rank=2)}
    assert faults._message(answers, [1], PLACES) == "rank 2 on node2, case, timing: disk full"


def test_a_signal_to_all_is_told_as_such() -> None:
    answers = {0: answer("interrupted by SIGTERM", of_peer=True), 1: answer("interrupted by SIGTERM", of_peer=True)}
    assert faults._message(answers, [], PLACES[:2]) == "rank 0 on node0, case, timing: interrupted by SIGTERM"


@pytest.mark.parametrize(
    ("error", "of_peer", "of_memory"),
    [
        (RuntimeError(CLOSED), True, False),
        (RuntimeError("Timed out waiting 20000ms for send operation to complete"), True, False),
        (dist.DistBackendError("NCCL communicator was aborted"), True, False),
        (dist.DistStoreError("wait timeout"), True, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False, True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), False, True),
        (MemoryError(), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (MeasurementError("a.jsonl: could not be written; timed out"), False, False),
    ],
)
def test_what_an_error_means(error: Exception, of_peer: bool, of_memory: bool) -> None:
    assert (is_peer_failure(error), is_out_of_memory(error)) == (of_peer, of_memory)


class TwoRanks(LoneRank):
    """Rank 0 of two, of which the other reports `theirs`."""

    size = 2

    def __init__(self, theirs: str | None) -> None:
        self.theirs = theirs

    @property
    def places(self) -> tuple[Place, ...]:
        return PLACES[:2]

    def agree(self, problem: str | None) -> list[str | None]:
        return [problem, self.theirs]


def fail(error: Exception) -> Any:
    raise error


def test_what_works_everywhere_gives_its_result() -> None:
    assert attempt(TwoRanks(None), "building", lambda: 7) == 7


def test_a_failure_here_or_there_fails_on_all_alike() -> None:
    here = attempt(TwoRanks(None), "building", lambda: fail(RuntimeError("no kernel. And more")))
    assert here == "rank 0 on node0: RuntimeError while building: no kernel"
    there = attempt(TwoRanks("out of memory while building: 2 GiB"), "building", lambda: 7)
    assert there == "rank 1 on node1: out of memory while building: 2 GiB"


def test_a_peer_s_failure_and_a_mistake_of_ours_are_raised() -> None:
    with pytest.raises(RuntimeError, match="closed by peer"):
        attempt(TwoRanks(None), "building", lambda: fail(RuntimeError(CLOSED)))
    with pytest.raises(AssertionError):
        attempt(TwoRanks(None), "building", lambda: fail(AssertionError("a bug")))


def test_a_rank_whose_problem_nobody_hears_is_to_blame_itself() -> None:
    class Deaf(TwoRanks):
        def agree(self, problem: str | None) -> list[str | None]:
            raise RuntimeError("Timed out waiting 1000ms for recv operation to complete")

    with pytest.raises(MeasurementError, match="out of memory while timing: can't allocate memory"):
        attempt(Deaf(None), "timing", lambda: fail(RuntimeError("can't allocate memory: you tried")))
    with pytest.raises(RuntimeError, match="Timed out"):
        attempt(Deaf(None), "timing", lambda: 7)


def test_a_lone_rank_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults.signal, "signal", lambda *args: None)
    guard = Guard(None, LoneRank(), timeout_s=1, remedy="do this")
    guard.at("block/x", "timing")
    ended = guard.explain(RuntimeError(CLOSED))
    assert "block/x, timing: Connection closed by peer [127.0.0.1]:9; do this" in str(ended)
    assert (ended.speaks, ended.exit_code) == (True, 1)
    assert guard.explain(Interrupted(15)).exit_code == 143


@pytest.mark.parametrize("text", ["1", "1:", ":5", "x:5", "1:-5", "1:nan", "2:5", "-1:5"])
def test_a_delay_without_meaning(text: str) -> None:
    with pytest.raises(ConfigError, match="--plant-delay"):
        read_delay(text, world=2)


def test_a_delay() -> None:
    assert read_delay("1:5", world=2) == (1, 0.005)
    assert read_delay("", world=1) == (None, 0.0)
    with pytest.raises(ConfigError, match="no rank 0 that others wait for"):
        read_delay("0:5", world=1)
