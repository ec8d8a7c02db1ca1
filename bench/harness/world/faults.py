"""What becomes of a run when something goes wrong on any of its ranks: one end for all, and one line that says why.

A rank that fails tells the others through the store that torchrun keeps, which outlives ranks, and looks who else
answers: one that does not was killed or hangs. The lowest rank that answers speaks. Ranks of the same host that do not
answer are killed, since torchrun would give a stopped process half a minute more.
"""

import json
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from bench.harness.world.ranks import LoneRank, Place, Ranks
from tp.errors import MeasurementError, TpbenchError

T = TypeVar("T")

# How long a failing rank waits for the others to say that they fail too.
ANSWER_S: Final = 5.0
# The same when a signal ended it, which the others have got too.
INTERRUPTED_S: Final = 1.0
POLL_S: Final = 0.1
# What gloo and NCCL say when it is the peer that failed.
_PEER_FAILED: Final = re.compile(r"gloo|connection (closed|reset|refused)|timed out|timeout|nccl|broken pipe", re.I)
_SOURCE_PLACE: Final = re.compile(r"^\[(\S+:\d+|enforce fail at [^\]]+)\]( err == 0\.)? ")
_OUT_OF_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|bad_alloc", re.I)


class Interrupted(BaseException):
    """A signal asked the run to end; no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


class RunEnded(MeasurementError):
    """The run cannot go on; `speaks` on the rank that tells the user."""

    def __init__(self, message: str, *, speaks: bool, exit_code: int = 1) -> None:
        super().__init__(message)
        self.speaks, self.exit_code = speaks, exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a failing rank says."""

    node: str
    where: str
    problem: str
    of_peer: bool
    """Whether it only suffers from another rank's failure."""


class Guard:
    """Knows where this rank is, and ends the run for all when it cannot go on."""

    def __init__(self, store: Store | None, ranks: Ranks, *, timeout_s: float, remedy: str) -> None:
        """`remedy` is what the user is told to do."""
        self._store, self._ranks, self._timeout_s, self._remedy = store, ranks, timeout_s, remedy
        self._where = "setting up"
        self._beaten = time.monotonic()
        self._handles = _handles(ranks)

    def at(self, case: str, phase: str) -> None:
        """This rank now does `phase` of `case`."""
        self._where = f"{case}, {phase}"
        self.beat()

    def beat(self) -> None:
        """This rank gets on."""
        self._beaten = time.monotonic()

    def explain(self, error: BaseException) -> RunEnded:
        """Tell the other ranks, hear them, and say in one line why the run ends; kills local ranks that hang."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError):  # from the watching thread, which may not
                signal.signal(number, signal.SIG_IGN)
        mine = Answer(
            node=self._ranks.places[self._ranks.rank].node,
            where=self._where,
            problem=_first_line(error),
            of_peer=isinstance(error, Interrupted) or is_peer_failure(error),
        )
        if isinstance(error, Interrupted):
            # The others may be in a collective, deaf until this rank lets go of it; only a dead one is to blame.
            answers = self._call_roll(mine, INTERRUPTED_S)
            speaks = not any(self._lives(rank) for rank in range(self._ranks.rank))
            silent = [rank for rank in self._handles if rank not in answers and not self._lives(rank)]
        else:
            answers = self._call_roll(mine, ANSWER_S)
            speaks = self._ranks.rank == min(answers)
            silent = [rank for rank in range(self._ranks.size) if rank not in answers] if mine.of_peer else []
            if speaks:
                self._kill(silent)
        code = 128 + error.number if isinstance(error, Interrupted) and not silent else 1
        message = f"{_message(answers, silent, self._ranks.places)}; {self._remedy}"
        return RunEnded(message, speaks=speaks, exit_code=code)

    def watch(self) -> None:
        """End this process when it has not got on for the timeout: NCCL's kernels hang without an exception."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while time.monotonic() - self._beaten < self._timeout_s:
            time.sleep(POLL_S)
        leave(self.explain(TimeoutError(f"timed out: nothing moved for {self._timeout_s:g} s (--timeout)")))

    def _call_roll(self, mine: Answer, patience_s: float) -> dict[int, Answer]:
        answers = {self._ranks.rank: mine}
        if self._store is None:
            return answers
        # The store may be on a host that is cut off: then it says nothing at all, and nobody waits for it.
        asking = threading.Thread(target=self._ask, args=(mine, answers, patience_s), daemon=True)
        asking.start()
        asking.join(patience_s + 2 * POLL_S)
        return dict(answers)

    def _ask(self, mine: Answer, answers: dict[int, Answer], patience_s: float) -> None:
        assert self._store is not None, "only a rank among others asks"
        deadline = time.monotonic() + patience_s
        with suppress(RuntimeError):  # the store is gone too: then nobody else answers
            self._store.set(f"failed/{self._ranks.rank}", json.dumps(_plain(mine)))
            while len(answers) < self._ranks.size and time.monotonic() < deadline:
                for rank in range(self._ranks.size):
                    if rank not in answers and self._store.check([f"failed/{rank}"]):
                        answers[rank] = Answer(**json.loads(self._store.get(f"failed/{rank}")))
                time.sleep(POLL_S)

    def _lives(self, rank: int) -> bool:
        """Whether the process of a rank of this host is there; of another host nobody knows, and it is not said."""
        if rank not in self._handles:
            return False
        poll = select.poll()
        poll.register(self._handles[rank], select.POLLIN)  # readable once the process has ended
        return not poll.poll(0)

    def _kill(self, silent: Sequence[int]) -> None:
        for rank in silent:
            if rank in self._handles:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handles[rank], signal.SIGKILL)


def leave(ended: RunEnded) -> NoReturn:
    """Say why, and end this process without waiting for what hangs."""
    if ended.speaks:
        print(f"error: {ended}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(ended.exit_code)


def is_peer_failure(error: BaseException) -> bool:
    """Whether a collective failed because of another rank."""
    if isinstance(error, TpbenchError) or is_out_of_memory(error):
        return False
    return isinstance(error, dist.DistError | TimeoutError) or bool(
        isinstance(error, RuntimeError) and _PEER_FAILED.search(str(error))
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def attempt(ranks: Ranks, what: str, work: Callable[[], T]) -> T | str:
    """What `work` gives, or, on all ranks alike, why it could not be done on one of them.

    For what may not fit into memory or has no kernel here: the case fails, the run goes on. A failure of a peer is no
    such thing and is raised.
    """
    problem, result = None, None
    try:
        result = work()
    except (RuntimeError, MemoryError, NotImplementedError, TypeError, ValueError, OverflowError) as error:
        if is_peer_failure(error):
            raise
        kind = "out of memory" if is_out_of_memory(error) else type(error).__name__
        problem = f"{kind} while {what}: {_first_line(error)}"
    try:
        problems = ranks.agree(problem)
    except RuntimeError as error:
        # The others wait for this rank somewhere else: it is this one that ends the run.
        if problem is None:
            raise
        raise MeasurementError(problem) from error
    for rank, (found, place) in enumerate(zip(problems, ranks.places, strict=True)):
        if found is not None:
            return f"rank {rank} on {place.node}: {found}"
    assert result is not None, "work gives something"
    return result


@contextmanager
def interruptible() -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM raise Interrupted in the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handles(ranks: Ranks) -> dict[int, int]:
    """Handles on the processes of the other ranks of this host, which stay theirs when a number is used again."""
    if isinstance(ranks, LoneRank) or not hasattr(os, "pidfd_open"):
        return {}
    here = ranks.places[ranks.rank]
    handles = {}
    for rank, place in enumerate(ranks.places):
        if rank != ranks.rank and place.host == here.host:
            with suppress(OSError):  # in a container of its own
                handles[rank] = os.pidfd_open(place.pid)
    return handles


def _message(answers: dict[int, Answer], silent: Sequence[int], places: Sequence[Place]) -> str:
    """Where the fault lies: with who failed by itself, else with who does not answer, else with who says so first."""
    guilty = [rank for rank, answer in sorted(answers.items()) if not answer.of_peer]
    first = guilty[0] if guilty else min(answers)
    answer = answers[first]
    if guilty or not silent:
        return f"rank {first} on {answer.node}, {answer.where}: {answer.problem}"
    lost = " and ".join(f"rank {rank} on {places[rank].node}" for rank in silent)
    here = places[first].host
    cut_off = " or cut off from the network" if any(places[rank].host != here for rank in silent) else ""
    return (
        f"{lost} no longer answers, killed or hanging{cut_off}; the run was at {answer.where} "
        f"(rank {first} saw: {answer.problem})"
    )


def _plain(answer: Answer) -> dict[str, str | bool]:
    return {"node": answer.node, "where": answer.where, "problem": answer.problem, "of_peer": answer.of_peer}


def _first_line(error: BaseException) -> str:
    """The error's first sentence, without the place in gloo's sources."""
    lines = str(error).strip().splitlines()
    return _SOURCE_PLACE.sub("", lines[0]).split(". ")[0][:300] if lines else type(error).__name__
