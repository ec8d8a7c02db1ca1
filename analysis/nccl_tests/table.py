"""The rows of one table: pieces put together, cells told apart by the columns that the header names."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.nccl_tests.parts import PLACEMENTS, Fault, Line, Placement, Row

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)\*?")
_TIMES: Final = ("time", "cputime")
_LEADING: Final = ("size", "count", "type")
_MEASURED: Final = ("algbw", "busbw")
_WRONG: Final = ("#wrong", "error")
# What nccl-tests prints where it measures one placement alone.
_BLANK: Final = " " * 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the header of a table names, in order."""

    place: str
    leading: tuple[str, ...]
    halves: tuple[tuple[str, ...], ...]
    """The columns of each placement."""
    trailing: int
    """Words behind them: a date and a time of day are two."""
    end: int
    """Where the last label ends."""

    @property
    def words(self) -> int:
        return len(self.leading) + sum(map(len, self.halves)) + self.trailing


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A row's pieces as the one line that they were printed as."""

    number: int
    """Of the line that it begins on."""
    text: str
    last: int
    """The line that it ends on."""

    @property
    def fixed(self) -> bool:
        """Whether columns have a width, which is gone where a web page or an editor took the spaces."""
        return "  " in self.text.strip()

    @property
    def end(self) -> int:
        return len(self.text.rstrip())


def read_columns(line: Line) -> Columns | Fault:
    """The columns that the line names; a fault where it cannot be a whole header."""
    place = f"line {line.number}"
    labels = line.text.strip().removeprefix("#").split()
    starts = [i for i, label in enumerate(labels) if label in _TIMES]
    stamps = labels[-1:] == ["timestamp"]
    ends = [*starts[1:], len(labels) - stamps]
    halves = tuple(tuple(labels[a:b]) for a, b in zip(starts, ends, strict=False))
    leading = tuple(labels[: starts[0]]) if starts else ()
    if leading[:3] != _LEADING or any(not set(_MEASURED) < set(half) or half[-1] in _MEASURED for half in halves):
        return Fault(place=place, text="the header of the table is cut short; mend it")
    if len(halves) > 2 or len({half[1:] for half in halves}) > 1 or len(set(halves[0])) < len(halves[0]):
        return Fault(place=place, text="the header has other columns out of place than in place; mend it")
    if "cputime" in labels:
        text = "the times are those of the CPU that calls (cputime), not of the collective; run the tests without -C 1"
        return Fault(place=place, text=text)
    return Columns(place=place, leading=leading, halves=halves, trailing=2 * stamps, end=len(line.text.rstrip()))


def read_rows(body: Sequence[Line], columns: Columns, *, ended: bool, cut: int) -> tuple[list[Row], list[Fault]]:
    """The rows below a header, and what looks like one and cannot be read.

    `ended` says that the table's last lines are there, `cut` is the last line of a file that lacks its line feed.
    """
    joined, faults = _join(body, columns)
    end = _common_end(joined, columns)
    rows = list[Row]()
    # All rows with one placement are a table of one placement; one such among others has lost the other.
    short = len(columns.leading) + len(columns.halves[0])
    lone = ended and len(joined) > 1 and all(len(line.text.split()) == short for line in joined)
    for line in joined:
        # Without widths nothing tells that digits are lost, but for the end of a file that was cut.
        least = end if line.fixed else line.end + (line.last == cut)
        made = _rows(line, columns, end=least, lone=lone)
        if isinstance(made, Fault):
            faults.append(made)
        else:
            rows += made
    return rows, sorted(faults, key=lambda fault: int(fault.place.split()[-1]))


def looks_like_row(text: str) -> bool:
    """Whether a line begins as a row does."""
    words = text.split()
    return len(words) > 5 and _begins_row(words)


def _join(body: Sequence[Line], columns: Columns) -> tuple[list[Joined], list[Fault]]:
    """The rows, their pieces put together, and lines of numbers that belong to none."""
    made, faults = list[Joined](), list[Fault]()
    open_row: Joined | None = None
    for line in body:
        text, words = line.text.rstrip(), line.text.split()
        begins = _begins_row(words)
        if not words or words[0].startswith("#") or not (begins or _mostly_numbers(words)):
            continue
        if begins:
            made += [open_row] if open_row is not None else []
            open_row = Joined(number=line.number, text=text, last=line.number)
        elif open_row is not None and all(map(_is_cell, words)):
            open_row = Joined(number=open_row.number, text=open_row.text + text, last=line.number)
        else:
            faults.append(Fault(place=f"line {line.number}", text=_garbage(words)))
            continue
        if not _goes_on(line, open_row, columns):
            made.append(open_row)
            open_row = None
    return made + ([open_row] if open_row is not None else []), faults


def _goes_on(line: Line, row: Joined, columns: Columns) -> bool:
    """Whether more pieces of the row may follow: NCCL wrote behind this one, or whole pieces are missing."""
    missing = columns.words - len(row.text.split())
    return missing > 0 and (bool(line.debug) or missing in _pieces(columns))


def _pieces(columns: Columns) -> tuple[int, ...]:
    """Words that are missing where the last piece, or the last two, are not there yet."""
    last = len(columns.halves[-1]) + columns.trailing
    return (last, last + len(columns.halves[0])) if len(columns.halves) == 2 else (last,)


def _begins_row(words: Sequence[str]) -> bool:
    """Size, count and type."""
    return len(words) > 2 and words[0].isdigit() and words[1].isdigit() and words[2][0].isalpha()


def _mostly_numbers(words: Sequence[str]) -> bool:
    """What is left of a row, as no line of a launcher is."""
    numbers = sum(map(_is_cell, words))
    return 2 * numbers >= len(words)


def _is_cell(word: str) -> bool:
    return word == "N/A" or _NUMBER.fullmatch(word) is not None


def _garbage(words: Sequence[str]) -> str:
    bad = next((word for word in words if not _is_cell(word)), None)
    what = "numbers that belong to no row" if bad is None else f"{bad!r} stands where a row has a number"
    return f"{what}: the row is torn; mend it, or leave it out with --skip-broken"


def _torn(row: Joined, columns: Columns) -> Fault:
    found = len(row.text.split())
    text = f"the row is torn: {found} of its {columns.words} columns; mend it, or leave it out with --skip-broken"
    return Fault(place=f"line {row.number}", text=text)


def _common_end(joined: Sequence[Joined], columns: Columns) -> int:
    """Where rows end that are printed in columns of fixed width; a row that ends before has lost digits."""
    ends = Counter(line.end for line in joined if line.fixed)
    if sum(ends.values()) < 2:
        return columns.end
    most = max(ends.values())
    return min(columns.end, max(end for end, times in ends.items() if times == most))


def _rows(line: Joined, columns: Columns, *, end: int, lone: bool) -> list[Row] | Fault:
    words, place = line.text.split(), f"line {line.number}"
    halves: tuple[Placement, ...] = PLACEMENTS[: len(columns.halves)]
    short = len(columns.leading) + len(columns.halves[0])
    if len(words) == short and len(halves) == 2:
        # In place alone, a gap stands for the other; out of place alone, nothing follows.
        gap = _BLANK in line.text.strip()
        if not (gap or lone):
            return _torn(line, columns)
        halves = ("in_place",) if gap else ("out_of_place",)
    elif len(words) != columns.words:
        return _torn(line, columns)
    if line.end < end and not lone:
        return Fault(place=place, text="the row ends before its last column: digits are lost; mend it or --skip-broken")
    lead = dict(zip(columns.leading, words, strict=False))
    bad = _bad_word(lead, words[len(columns.leading) : len(words) - columns.trailing])
    if bad is not None:
        return Fault(place=place, text=_garbage([bad]))
    return list(_placements(lead, words[len(columns.leading) :], halves, columns, place))


def _bad_word(lead: dict[str, str], cells: Sequence[str]) -> str | None:
    for name, word in lead.items():
        whole = re.fullmatch(r"-?\d+", word) is not None
        if whole == (name in ("type", "redop")) and name in ("size", "count", "root", "type", "redop"):
            return word
    return next((word for word in cells if not _is_cell(word)), None)


def _placements(
    lead: dict[str, str], cells: Sequence[str], halves: Sequence[Placement], columns: Columns, place: str
) -> Iterator[Row]:
    width = len(columns.halves[0])
    for number, placement in enumerate(halves):
        cell = dict(zip(("time", *columns.halves[0][1:]), cells[number * width :], strict=False))
        if cell["time"] == "N/A":
            continue  # this placement was not measured
        wrong = next((cell[name] for name in _WRONG if name in cell), "N/A").rstrip("*")
        yield Row(
            place=place,
            size=int(lead["size"]),
            count=int(lead["count"]),
            type=lead["type"],
            redop=lead.get("redop", ""),
            root=lead.get("root", ""),
            placement=placement,
            time=cell["time"],
            algbw=cell["algbw"],
            busbw=cell["busbw"],
            wrong="" if wrong == "N/A" else wrong,
        )
