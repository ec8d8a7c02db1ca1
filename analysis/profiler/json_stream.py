"""A trace's JSON, read event by event: a file of gigabytes never stands in memory as a whole, and what is broken in it
is told with its place.

Both forms of the Trace Event Format are read: an object with `traceEvents`, and a bare array of events.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from tp.errors import ConfigError

PIECE: Final = 1 << 20
# A value that is cut by the end of a piece fails where the piece ends, or has an open string.
NEAR_END: Final = 16
GZIP_MAGIC: Final = b"\x1f\x8b"
BLANK: Final = " \t\r\n"

_DECODER: Final = json.JSONDecoder()


def stream_trace(path: Path, take: Callable[[Any], None]) -> dict[str, Any]:
    """Hand every event of the trace to `take`, in the file's order; everything beside the events is returned.

    ConfigError for what cannot be read, is cut short or is no trace, with its place.
    """
    with _opened(path) as file:
        reader = _Reader(file, path)
        first = reader.peek()
        if not first:
            raise ConfigError(f"{path}: is empty; the profiler did not write it to its end, trace again")
        if first == "[":
            _events(reader, take)
            beside: dict[str, Any] = {}
        elif first == "{":
            beside = _object(reader, take, path)
        else:
            reader.fail(f"begins with {first!r}; give what torch.profiler's export_chrome_trace wrote")
        if reader.peek():
            reader.fail("more text after its end; give a single trace")
    return beside


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
        # Kernels' names are symbols; one that is not UTF-8 is no reason to lose the rest.
        opened = gzip.open if zipped else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path}: cannot be unpacked ({error}); copy or write it again") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); name a trace file") from error


def _object(reader: "_Reader", take: Callable[[Any], None], path: Path) -> dict[str, Any]:
    beside: dict[str, Any] = {}
    has_events = False
    reader.expect("{")
    while reader.peek() != "}":
        name = reader.value()
        reader.expect(":")
        if name == "traceEvents" and reader.peek() == "[":
            _events(reader, take)
            has_events = True
        else:
            beside[str(name)] = reader.value()
        if reader.peek() != "}":
            reader.expect(",")
    reader.expect("}")
    if not has_events:
        raise ConfigError(f"{path}: has no traceEvents; give what torch.profiler's export_chrome_trace wrote")
    return beside


def _events(reader: "_Reader", take: Callable[[Any], None]) -> None:
    reader.expect("[")
    while reader.peek() != "]":
        take(reader.value())
        if reader.peek() != "]":
            reader.expect(",")
    reader.expect("]")


class _Reader:
    """A window over the text, moved on as values are taken from its front."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._letters_before, self._lines_before = 0, 0

    def peek(self) -> str:
        """The next letter that is not blank; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, letter: str) -> None:
        """Pass over `letter`; ConfigError for another one."""
        found = self.peek()
        if found != letter:
            self.fail(f"{found!r} where {letter!r} belongs; trace again" if found else None)
        self._at += 1

    def value(self) -> Any:
        """The next value."""
        if not self.peek():
            self.fail(None)
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - NEAR_END
                if is_cut and self._more():
                    continue
                at_end = is_cut and not self._text[error.pos :].strip()
                self.fail(None if at_end or error.msg.startswith("Unterminated") else error.msg, error.pos)
            except ValueError as error:
                # A number of thousands of digits, which Python does not convert.
                self.fail(f"{error}; repair that place or trace again")
            except RecursionError:
                self.fail("values nested too deep; give what torch.profiler's export_chrome_trace wrote")
            # A number that ends where the piece does may go on in the next.
            if end < len(self._text) or not self._more():
                self._at = end
                return found

    def fail(self, problem: str | None, place: int | None = None) -> NoReturn:
        """ConfigError with the place; of None that the text ends too early."""
        place = len(self._text) if problem is None else self._at if place is None else place
        line = self._lines_before + self._text.count("\n", 0, place) + 1
        where = f"line {line}, character {self._letters_before + place + 1} of the file"
        if problem is None:
            raise ConfigError(f"{self._path}: ends too early, at {where}; it was not written to its end, trace again")
        remedy = "" if ";" in problem else "; repair that place or trace again"
        raise ConfigError(f"{self._path}: is broken at {where}: {problem}{remedy}")

    def _more(self) -> bool:
        """Whether there was more; pieces double while one value fills them, so that it is not parsed too often."""
        piece = self._file.read(max(PIECE, len(self._text) - self._at))
        if not piece:
            return False
        self._lines_before += self._text.count("\n", 0, self._at)
        self._letters_before += self._at
        self._text, self._at = self._text[self._at :] + piece, 0
        return True
