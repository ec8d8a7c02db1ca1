"""The lines of record files: how one is sealed, and what is intact of a file's content; loads without torch.

A line is its dataclass as a JSON object with three keys more at the end: `run`, drawn once a header; `n`, its place in
that run, 0 for the header; and `crc32` of all bytes before `,"crc32"`. A line belongs to the header of its run wherever
it stands. Lines of schema versions 1 and 2 have none of these and belong to the header above them.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter, ValidationError

from bench.harness.record.records import AnyLine, CaseResult, Header, Line, Planned
from tp.schema import to_json

_LINE: Final[TypeAdapter[AnyLine]] = TypeAdapter(Line)
_SEAL: Final = re.compile(rb',"run":"([0-9a-f]{8})","n":([0-9]{1,9})(,"crc32":"([0-9a-f]{8})"\})\Z')
_SEAL_BYTES: Final = 64
"""No seal is longer, so no more of a line is searched for one."""
# What a damaged line of an old file cannot have been a header by: else nobody knows what the next ones belong to.
_NO_HEADER: Final = (b'{"line":"planned"', b'{"line":"case"', b'{"line":"op"')


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """A header and what was written under it, in the order of writing."""

    header: Header
    lines: tuple[AnyLine, ...]

    def ended(self) -> Iterator[tuple[Planned | None, CaseResult]]:
        """Every case that ended, beside the plan that was written before; None where that is lost."""
        planned: dict[str, Planned] = {}
        for line in self.lines:
            if isinstance(line, Planned):
                planned[line.key] = line
            elif isinstance(line, CaseResult):
                yield planned.get(line.key), line


def seal(line: AnyLine, run: str, place: int) -> bytes:
    """The line as it stands in the file, line feed included."""
    body = f'{to_json(line)[:-1]},"run":"{run}","n":{place}'.encode()
    return body + b',"crc32":"%08x"}\n' % zlib.crc32(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intact:
    """What is intact of a file."""

    runs: tuple[RecordedRun, ...]
    problems: tuple[str, ...]
    """A sentence for everything else: line, what is wrong with it, and what was left out."""
    tail: bytes
    """What follows the last line feed."""


def scan(content: bytes) -> Intact:
    """Read the content of a record file; nothing in it raises."""
    *lines, tail = content.split(b"\n")
    found = _Scan()
    for number, text in enumerate(lines, start=1):
        found.read(number, text)
    runs = found.finish()
    return Intact(runs=tuple(runs), problems=tuple(sentence for _, sentence in sorted(found.problems)), tail=tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """An intact line."""

    number: int
    """In the file, from 1."""
    run: str
    place: int
    line: AnyLine


@dataclass(slots=True)
class _Scan:
    """What the lines read so far came to."""

    runs: dict[str, dict[int, _Placed]] = field(default_factory=dict)
    """By run and place."""
    last_seen: dict[str, int] = field(default_factory=dict)
    """The last line of a run, repetitions included."""
    damaged: list[int] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    """By the line that they are about."""
    unsealed: dict[bytes, int] = field(default_factory=dict)
    """Lines without a seal under the header that counts, and where they stand."""
    unsealed_run: str | None = None
    sealed: bool = False
    """Whether a line with a seal was met: none without follows."""

    def read(self, number: int, text: bytes) -> None:
        """Take up one line of the file, or note why not."""
        try:
            placed = self._parse(number, text)
        except (ValueError, ArithmeticError) as error:  # pydantic's is a ValueError
            self.damaged.append(number)
            self.problems.append((number, f"line {number} is damaged ({_why(error)}); left out"))
            if not text.startswith(_NO_HEADER):
                self.unsealed_run = None
            return
        known = self.runs.setdefault(placed.run, {})
        self.last_seen[placed.run] = number
        first = known.setdefault(placed.place, placed)
        if first is not placed:
            self.problems.append((number, f"line {number} repeats line {first.number}; the repetition is left out"))

    def _parse(self, number: int, text: bytes) -> _Placed:
        seal = _SEAL.search(text, max(0, len(text) - _SEAL_BYTES))
        if seal is None:
            return self._place_unsealed(number, text, _LINE.validate_json(text))
        if zlib.crc32(text[: seal.start(3)]) != int(seal[4], 16):
            raise ValueError("its checksum does not fit")
        self.sealed = True
        line, place = _LINE.validate_json(text[: seal.start()] + b"}"), int(seal[2])
        if isinstance(line, Header) != (place == 0):
            raise ValueError("a header comes first in its run and only there")
        return _Placed(number=number, run=seal[1].decode(), place=place, line=line)

    def _place_unsealed(self, number: int, text: bytes, line: AnyLine) -> _Placed:
        if self.sealed or (isinstance(line, Header) and line.schema_version > 2):
            raise ValueError("it has no checksum")
        if isinstance(line, Header) and text not in self.unsealed:
            self.unsealed_run, self.unsealed = f"line {number}", {}
        if self.unsealed_run is None:
            raise ValueError("no header is above it")
        place = self.unsealed.setdefault(text, len(self.unsealed))
        return _Placed(number=number, run=self.unsealed_run, place=place, line=line)

    def finish(self) -> list[RecordedRun]:
        """The runs that have their header, in the order of writing."""
        found: list[tuple[int, int, RecordedRun]] = []
        for name, by_place in self.runs.items():
            placed = [by_place[place] for place in sorted(by_place)]
            first = min(each.number for each in placed)
            header = placed[0].line
            if isinstance(header, Header):
                self._compare_neighbours(placed)
                run = RecordedRun(header=header, lines=tuple(each.line for each in placed[1:]))
                found.append((first, self.last_seen[name], run))
            else:
                told = f"line {first}: its header is missing or damaged; {len(placed)} lines of its run are left out"
                self.problems.append((first, told))
        found.sort(key=lambda each: each[0])
        # Lines that were moved about no longer say which run came first; the clock does.
        if any(before[1] > after[0] for before, after in pairwise(found)):
            found.sort(key=lambda each: each[2].header.created)
        return [run for _, _, run in found]

    def _compare_neighbours(self, placed: list[_Placed]) -> None:
        for before, after in pairwise(placed):
            low, high = sorted((before.number, after.number))
            lost = after.place - before.place - 1 - sum(low < number < high for number in self.damaged)
            if lost > 0:
                lines = "a line" if lost == 1 else f"{lost} lines"
                told = f"line {after.number}: {lines} of its run before it went missing; left out"
                self.problems.append((after.number, told))
            if before.number > after.number:
                told = f"line {after.number} was written after line {before.number}; read in the order of writing"
                self.problems.append((after.number, told))


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return " ".join((f"{place}: {first['msg']}" if place else first["msg"]).split())
