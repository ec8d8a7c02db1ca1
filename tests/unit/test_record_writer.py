"""Writing record files: whole lines or none, whatever the disk and the signals do, and nothing is overwritten."""

import errno
import os
import re
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.harness.record.files import RecordWriter, finished_cases, read_lines, read_record
from bench.harness.record.records import AnyLine, CaseResult
from bench.harness.record.scan import seal
from tests.unit.record_lines import HEADER, LINES, OP, PLANNED, RESULT, write
from tp.errors import ConfigError, MeasurementError

pytestmark = pytest.mark.unit


def test_a_line_is_on_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "r.jsonl") as writer:
        assert writer.path.exists()
        for count, line in enumerate(LINES, start=1):
            writer.append(line)
            assert len(writer.path.read_text(encoding="utf-8").splitlines()) == count


def test_the_other_ranks_write_nothing(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "folder" / "r.jsonl", active=False) as writer:
        writer.append(HEADER)
    assert not (tmp_path / "folder").exists()


def test_a_run_is_continued_not_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED)
    write(path, HEADER, RESULT)
    assert tuple(read_lines(path)) == (HEADER, PLANNED, HEADER, RESULT)


def tear(path: Path, count: int) -> bytes:
    """Cut `count` bytes off the file; returns what is left of its last line."""
    torn = path.read_bytes()[:-count]
    path.write_bytes(torn)
    return torn[torn.rfind(b"\n") + 1 :]


@pytest.mark.parametrize("count", [1, 2, 100, 400])
def test_a_torn_last_line_is_left_out_and_set_aside(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "r.jsonl", *LINES, RESULT)
    left = tear(path, count)
    assert left
    record = read_record(path)
    assert (record.runs[0].header, *record.runs[0].lines) == LINES
    told = f"{path}: the last line is torn ({len(left)} bytes), an interrupted run left it; "
    assert record.problems == (f"{told}left out",)
    with RecordWriter(path) as writer:
        assert writer.notes == (f"{told}set aside in r.jsonl.torn",)
        writer.append(HEADER)
    assert tuple(read_lines(path)) == (*LINES, HEADER)
    assert (tmp_path / "r.jsonl.torn").read_bytes() == left


def test_what_was_set_aside_before_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    first = tear(path, 10)
    write(path, OP)
    second = tear(path, 20)
    write(path)
    assert (tmp_path / "r.jsonl.torn").read_bytes() == first + b"\n" + second


def test_what_is_set_aside_does_not_count_as_finished(tmp_path: Path) -> None:
    """`--resume` asks first and opens then: a case must not be taken for finished and then be moved out."""
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED, RESULT)
    tear(path, 1)  # all of the line but its end
    finished = finished_cases(path, world=2).keys()
    write(path)
    assert finished == frozenset(line.key for line in read_lines(path) if isinstance(line, CaseResult)) == frozenset()


def test_nothing_is_set_aside_of_a_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    before = path.read_bytes()
    write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "r.jsonl"):
        with pytest.raises(ConfigError) as caught:
            RecordWriter(path)
        assert str(caught.value).startswith(f"--out {path}: cannot be written (")
        assert str(caught.value).endswith("; name another file")
        assert "\n" not in str(caught.value)


Write = Callable[[int, Any], int]


def test_the_system_may_take_a_line_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:7]))
    assert tuple(read_lines(write(tmp_path / "r.jsonl", *LINES))) == LINES


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_line_that_the_disk_does_not_take_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    whole: Write = os.write
    size = len(seal(PLANNED, "00000000", 1))
    full = OSError(errno.ENOSPC, "No space left on device")

    def take_some(file: int, data: bytes) -> int:
        """50 bytes, then none."""
        if len(data) < size:
            raise full
        return whole(file, data[:50])

    def sync(file: int) -> None:
        raise full

    with RecordWriter(tmp_path / "r.jsonl") as writer:
        writer.append(HEADER)
        before = writer.path.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(os, fails, take_some if fails == "write" else sync)
            with pytest.raises(MeasurementError) as caught:
                writer.append(PLANNED)
        assert str(caught.value) == (
            f"{writer.path}: could not be written (No space left on device); free the disk and go on with --resume"
        )
        assert writer.path.read_bytes() == before
        writer.append(PLANNED)
    assert tuple(read_lines(writer.path)) == (HEADER, PLANNED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_line_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole: Write = os.write

    def interrupted(file: int, data: bytes) -> int:
        os.kill(os.getpid(), number)
        return whole(file, data[:50])

    class Ended(BaseException):
        pass

    def end(*_: object) -> None:
        raise Ended

    before = signal.signal(number, end)
    try:
        with RecordWriter(tmp_path / "r.jsonl") as writer:
            with monkeypatch.context() as patched:
                patched.setattr(os, "write", interrupted)
                with pytest.raises(Ended):
                    writer.append(HEADER)
            writer.append(PLANNED)
    finally:
        signal.signal(number, before)
    assert tuple(read_lines(writer.path)) == (HEADER, PLANNED)


@pytest.mark.parametrize(("taken", "left"), [(50, (HEADER, OP)), (None, (HEADER, PLANNED, OP))])
def test_an_exception_amid_a_line_leaves_it_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int | None, left: tuple[AnyLine, ...]
) -> None:
    whole: Write = os.write

    def interrupted(file: int, data: bytes) -> int:
        whole(file, data[:taken])
        raise KeyboardInterrupt

    with RecordWriter(tmp_path / "r.jsonl") as writer:
        writer.append(HEADER)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.append(PLANNED)
        writer.append(OP)
    assert tuple(read_lines(writer.path)) == left


def test_every_run_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(("11111111", "22222222", "33333333"))
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(drawn))
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED, HEADER, RESULT)
    seals = re.findall(r',"run":"(\w+)","n":(\d+),"crc32":"[0-9a-f]{8}"}\n', path.read_text(encoding="utf-8"))
    assert seals == [
        ("22222222", "0"),
        ("22222222", "1"),
        ("33333333", "0"),
        ("33333333", "1"),
    ]
