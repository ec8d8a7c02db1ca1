"""Record files on disk: a writer that leaves whole lines only, and a reader that tells what is not as it was written.

Loads without torch.
"""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.harness.record.records import PLACED_SINCE, AnyLine, AnyOp, Header, OpResult
from bench.harness.record.scan import Intact, RecordedRun, scan, seal
from tp.case import Case
from tp.errors import ConfigError, MeasurementError
from tp.hardware import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """What is intact of a record file."""

    runs: tuple[RecordedRun, ...]
    """More than one where it was resumed."""
    problems: tuple[str, ...]
    """One sentence for everything that is not as it was written: file, line, what was left out."""


class RecordWriter:
    """Appends lines to a record file, each on disk before the next thing is measured; silent where not `active`."""

    def __init__(self, path: Path, *, active: bool = True) -> None:
        """Open `path` for appending at once, so that a bad one fails before anything runs."""
        self.path = path
        self.notes: tuple[str, ...] = ()
        """What is wrong with the file that is continued, a sentence each."""
        self._run, self._next = secrets.token_hex(4), 1
        self._file: int | None = None
        if not active:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.notes = (*_set_torn_tail_aside(path), *_problems(path, scan(path.read_bytes())))
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            _sync_folder(path.parent)
        except OSError as error:
            raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def append(self, line: AnyLine) -> None:
        """Write one line whole or not at all; MeasurementError when the disk does not take it."""
        if self._file is None:
            return
        if isinstance(line, Header):
            self._run, self._next = secrets.token_hex(4), 0
        try:
            self._write(self._file, seal(line, self._run, self._next))
        except OSError as error:
            raise MeasurementError(
                f"{self.path}: could not be written ({error.strerror}); free the disk and go on with --resume"
            ) from error

    def _write(self, file: int, data: bytes) -> None:
        end = os.fstat(file).st_size
        try:
            with _signals_wait():
                _write_all(file, data)
                os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise
        finally:
            # Whatever else interrupted it: a whole line counts, another is none.
            if os.fstat(file).st_size >= end + len(data):
                self._next += 1
            else:
                os.ftruncate(file, end)


def _write_all(file: int, data: bytes) -> None:
    """The system may take less than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold back what would end the run until the line is whole.

    A signal mask would not do: whatever thread takes the signal, Python's handler runs in the main one.
    """
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What did not come from Python cannot be put back, and other threads run no handlers.
    mine = threading.current_thread() is threading.main_thread()
    held = {number: handler for number, handler in before.items() if mine and handler not in (None, signal.SIG_IGN)}
    came: list[int] = []
    try:
        for number in held:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _set_torn_tail_aside(path: Path) -> tuple[str, ...]:
    """Move what an interrupted run left of its last line to a file beside, so that lines stay lines; says so."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    tail = content[whole:]
    if not tail:
        return ()
    aside = path.with_name(f"{path.name}.torn")
    with aside.open("ab") as file:
        file.write(b"\n" + tail if file.tell() else tail)
        file.flush()
        os.fsync(file.fileno())
    os.truncate(path, whole)
    return (_torn(path, tail, f"set aside in {aside.name}"),)


def _sync_folder(folder: Path) -> None:
    """Have the file's name on disk too; some network file systems cannot, and need not."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def finished_cases(path: Path, *, world: int, network: Link | None = None) -> dict[str, Case]:
    """The cases of a record file that need not be measured again, by key: ok or skipped, and their plan is not lost.

    ConfigError for a file that holds no record, or one of another number of ranks.
    """
    return {
        result.key: planned.case
        for run in _resumable(path, world, network)
        for planned, result in run.ended()
        if planned is not None and result.status != "failed"
    }


def finished_ops(path: Path, *, world: int, network: Link | None = None) -> frozenset[AnyOp]:
    """The single ops of a record file that need not be measured again; the errors are those of `finished_cases`."""
    return frozenset(
        line.op for run in _resumable(path, world, network) for line in run.lines if isinstance(line, OpResult)
    )


def _resumable(path: Path, world: int, network: Link | None) -> tuple[RecordedRun, ...]:
    # An empty file is what a disk that was full from the start leaves.
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return ()
    runs = scan(_content(path)).runs
    if any(run.header.schema_version < PLACED_SINCE and run.header.num_nodes > 1 for run in runs):
        raise ConfigError(
            f"--out {path}: is an older record of several nodes, which did not say where; name another file"
        )
    worlds = {run.header.world for run in runs}
    if not worlds:
        raise ConfigError(f"--out {path}: holds no record to resume; name another file, or remove it")
    if worlds != {world}:
        other = min(worlds - {world})
        raise ConfigError(f"--out {path}: is a run of {other} ranks, not of {world}; resume with as many ranks")
    for run in runs:
        if run.header.network != network:
            before = "none" if run.header.network is None else run.header.network.name
            raise ConfigError(f"--out {path}: was measured over another network ({before}); name another file")
    return runs


def read_record(path: Path) -> RecordFile:
    """Everything intact of a record file, and sentences on the rest; ConfigError when it holds no intact header."""
    intact = scan(_content(path))
    if not intact.runs:
        detail = f" ({intact.problems[0]})" if intact.problems else ""
        raise ConfigError(f"{path}: holds no record{detail}; is this a record file of bench/?")
    torn = (_torn(path, intact.tail, "left out"),) if intact.tail else ()
    return RecordFile(runs=intact.runs, problems=(*_problems(path, intact), *torn))


def read_lines(path: Path) -> Iterator[AnyLine]:
    """The lines of a record file that is as it was written, in order; ConfigError says what is wrong with another."""
    record = read_record(path)
    if record.problems:
        raise ConfigError(record.problems[0])
    for run in record.runs:
        yield run.header
        yield from run.lines


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a record file of bench/") from error


def _problems(path: Path, intact: Intact) -> tuple[str, ...]:
    return tuple(f"{path}: {sentence}" for sentence in intact.problems)


def _torn(path: Path, tail: bytes, fate: str) -> str:
    return f"{path}: the last line is torn ({len(tail)} bytes), an interrupted run left it; {fate}"
