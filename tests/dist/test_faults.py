"""Runs that meet a fault: they end for all ranks, say which rank and where, and lose nothing that was measured."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.load import load_run
from bench.harness.record.records import CaseResult, End
from tests.conftest import ROOT

# Mostly waiting, and nothing in it is timed: others may share the cores.
pytestmark = [pytest.mark.dist, pytest.mark.solo]

# Long enough for a signal to fall into a case; the fault ends it.
SECONDS = "60"
# A pass of the second takes so long that its samples are not soon known well enough.
LENGTHS = "32,3072"


class Running:
    """A run of two ranks that is still going on."""

    def __init__(self, out: Path, *flags: str) -> None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        flags = (*flags, "--tp", "2", "--phase", "prefill", "--out", str(out))
        self.out = out
        self.process = subprocess.Popen(
            [*launcher, "bench/attention.py", *flags],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, word: str, count: int) -> None:
        """Until the record holds so many lines of a kind."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.out.exists() and self.out.read_text().count(f'"line":"{word}"') >= count:
                return
            time.sleep(0.1)
        raise AssertionError(f"{count} x {word} never came: {self.process.communicate()[0]}")

    def rank(self, number: int) -> int:
        """The process of a rank."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                environ = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            mine = str(self.out).encode() in words and b"bench/attention.py" in words
            if mine and f"RANK={number}".encode() in environ:
                return int(folder.name)
        raise AssertionError(f"rank {number} is not there")

    def end(self, within_s: float) -> str:
        """What it printed, once it ended by itself."""
        text, _ = self.process.communicate(timeout=within_s)
        return text


def kept(out: Path) -> list[CaseResult]:
    return [case.result for case in load_run(out).cases]


def measured_once(tiny, torchrun, out: Path) -> None:
    """Resuming finishes the run and measures nothing again."""
    before = out.read_text()
    flags = ("--model", str(tiny), "--seq", LENGTHS, "--tp", "2", "--phase", "prefill", "--seconds", "0.1")
    done = torchrun(2, "bench/attention.py", *flags, "--strategy", "allreduce", "--resume", "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert out.read_text().startswith(before)
    run = load_run(out)
    assert run.unfinished == ()
    added = [line for line in out.read_text()[len(before) :].splitlines() if '"line":"case"' in line]
    assert len(added) == len(run.cases) - before.count('"line":"case"')


@pytest.fixture
def start(tiny, tmp_path):
    """A run, of a given timeout, whose first case is done and whose second is being timed."""

    def started(timeout: str) -> Running:
        flags = ("--model", str(tiny), "--strategy", "allreduce", "--timeout", timeout)
        running = Running(tmp_path / "faulty.jsonl", *flags, "--seq", LENGTHS, "--seconds", SECONDS)
        running.wait_for("case", 1)
        time.sleep(2)
        return running

    return started


def test_a_killed_rank_ends_the_run_and_is_named(start, tiny, torchrun):
    running = start("60")
    os.kill(running.rank(1), signal.SIGKILL)
    text = running.end(20)
    assert running.process.returncode != 0
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    for word in ("rank 1 on", "no longer answers", "attention/tiny", "/s3072/", "timing", "--resume"):
        assert word in line
    assert ["/s32/" in case.key for case in kept(running.out)] == [True]
    assert load_run(running.out).ends[-1].status == "failed"
    measured_once(tiny, torchrun, running.out)


def test_the_leading_rank_killed_is_named_by_another(start):
    running = start("60")
    os.kill(running.rank(0), signal.SIGKILL)
    text = running.end(20)
    assert running.process.returncode != 0
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "rank 0 on" in line
    assert "(rank 1 saw" in line
    assert len(kept(running.out)) == 1
    # Nobody was left to write how it ended, which is said when it is read.
    assert any("no end" in problem for problem in load_run(running.out).problems)


def test_a_stopped_rank_ends_the_run_within_the_timeout(start):
    running = start("5")
    stopped = running.rank(1)
    os.kill(stopped, signal.SIGSTOP)
    text = running.end(30)
    assert running.process.returncode != 0
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    for word in ("rank 1 on", "no longer answers", "attention/tiny", "/s3072/", "timing", "5000ms"):
        assert word in line
    assert not Path(f"/proc/{stopped}").exists()
    assert len(kept(running.out)) == 1


def test_a_signal_closes_the_record(start):
    running = start("60")
    running.process.send_signal(signal.SIGTERM)
    text = running.end(40)
    assert running.process.returncode != 0
    assert "interrupted by SIG" in text
    end = load_run(running.out).ends[-1]
    assert isinstance(end, End)
    assert end.status == "interrupted"
    assert running.out.read_text().endswith("\n")
    assert len(kept(running.out)) == 1


def test_what_does_not_fit_fails_and_the_run_goes_on(tiny, torchrun, tmp_path):
    out = tmp_path / "large.jsonl"
    flags = ("--model", str(tiny), "--seq", "32", "--phase", "prefill", "--strategy", "allreduce", "--tp", "2")
    batches = ("--batch", "4000000000000,200000000,1")
    done = torchrun(2, "bench/attention.py", *flags, *batches, "--seconds", "0.1", "--out", str(out))
    assert done.returncode == 1
    by_batch = {case.planned.case.workload.batch: case.result for case in load_run(out).cases}
    assert by_batch[1].status == "ok"
    assert by_batch[200000000].status == by_batch[4000000000000].status == "failed"
    assert "rank 0 on" in by_batch[200000000].reason
    assert "out of memory while making weights" in by_batch[200000000].reason
    assert "(2 failed)" in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed", 1)[0]
