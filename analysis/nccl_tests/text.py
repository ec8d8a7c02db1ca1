"""The text that the tests print, as tests with their rows."""

from collections.abc import Sequence

from analysis.nccl_tests.debug import cut_debug
from analysis.nccl_tests.heading import END, START, read_heading
from analysis.nccl_tests.parts import Fault, Line, Log, Sweep
from analysis.nccl_tests.streams import is_columns, read_streams
from analysis.nccl_tests.table import looks_like_row, read_columns, read_rows


def read_text(text: str) -> Log:
    """Every test of every process in the text."""
    tests, faults = list[Sweep](), list[Fault]()
    last = len(text.removesuffix("\n").split("\n")) if not text.endswith("\n") else 0
    streams = read_streams(text)
    for label, stream in streams.items():
        # The launcher's own lines, such as its command, have no label.
        commands = streams.get("", []) if label else []
        found = _read_stream(cut_debug(stream), commands, cut_line=last)
        tests += found.sweeps
        faults += found.faults
    return Log(sweeps=tuple(tests), faults=tuple(sorted(faults, key=_line)))


def _line(fault: Fault) -> int:
    return int(fault.place.split()[-1])


def _read_stream(lines: Sequence[Line], commands: Sequence[Line], *, cut_line: int) -> Log:
    """The tests of one process; `cut_line` is the last line of a file that does not end in a line feed."""
    tests, faults, begin = list[Sweep](), list[Fault](), 0
    heads = [i for i, line in enumerate(lines) if is_columns(line.text)]
    for number, head in enumerate(heads):
        stop = heads[number + 1] if number + 1 < len(heads) else len(lines)
        end = next((i for i in range(head + 1, stop) if _ends(lines[i])), stop)
        after = _footer(lines[end:stop])
        faults += _strays(lines[begin:head])
        columns = read_columns(lines[head])
        if isinstance(columns, Fault):
            faults.append(columns)
        else:
            ended = any(END.match(line.text.strip()) for line in after)
            rows, torn = read_rows(lines[head + 1 : end], columns, ended=ended, cut=cut_line)
            above = [line for line in commands if line.number < lines[head].number]
            heading = read_heading([*above, *lines[begin:head]], after)
            faults += torn
            tests.append(Sweep(place=columns.place, heading=heading, rows=tuple(rows), ended=ended))
        begin = end
    faults += _strays(lines[begin:])
    return Log(sweeps=tuple(tests), faults=tuple(faults))


def _ends(line: Line) -> bool:
    return END.match(line.text.strip()) is not None or START.match(line.text.strip()) is not None


def _footer(lines: Sequence[Line]) -> Sequence[Line]:
    """The lines behind a table that are still its own."""
    begun = next((i for i, line in enumerate(lines) if START.match(line.text.strip())), len(lines))
    return lines[:begun]


def _strays(lines: Sequence[Line]) -> list[Fault]:
    """Rows that stand under no header."""
    text = "a row without the header of its columns above it; take the log from the header on"
    return [Fault(place=f"line {line.number}", text=text) for line in lines if looks_like_row(line.text)][:1]
