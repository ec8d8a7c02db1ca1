"""A log as the lines of each process: prefixes of mpirun, srun, kubectl and others name the process and come off."""

import re
from collections.abc import Iterator
from typing import Final

from analysis.nccl_tests.parts import Line

_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_CLOCK: Final = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"
# Say when a line came, and which of the two outputs it is; nothing of the process.
_DATES: Final = re.compile(
    rf" ?(?:\[?\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?\]?"
    rf"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z][a-z] +\d+ {_CLOCK} \d{{4}}"
    r"|std(?:out|err) [FP](?= ))"
)
_LABELS: Final = (
    re.compile(r" ?\[[^\]\s]+\]<std\w+>:"),  # mpirun --tag-output: [1,0]<stdout>:
    re.compile(r" ?<std\w+>:"),  # mpirun --timestamp-output
    re.compile(r" ?\[[\w./:-]+\](?= |$)"),  # [0], [worker-0], [pod/name/container]
    re.compile(r" *\d+:(?= |$)"),  # srun --label
    re.compile(r" ?\([\w.-]+(?:, ?\w+=[\w.:-]+)+\)(?= |$)"),  # (head, rank=0, pid=3808)
    re.compile(r" ?[\w.-]+ *\|(?= |$)"),  # docker compose
)
_HOST: Final = re.compile(r" ?[A-Za-z][\w.-]*:(?= )")  # pdsh
_COLUMNS: Final = re.compile(r"#?\s*size\s+count\s+type\s")


def read_streams(text: str) -> dict[str, list[Line]]:
    """The lines by the label of their process, which is empty for lines without one."""
    plain = [_COLOUR.sub("", line.split("\r")[-1] if line.count("\r") else line) for line in _lines(text)]
    peeled = [_peel(line) for line in plain]
    # Any word with a colon may be a host; it is one where a table's header has it.
    hosts = {host for _, rest in peeled if (host := _host(rest)) and _COLUMNS.match(rest[len(host) :].strip())}
    streams: dict[str, list[Line]] = {}
    for number, (label, rest) in enumerate(peeled, 1):
        host = _host(rest)
        if host in hosts:
            label, rest = label + host.strip(), rest[len(host) :]
        streams.setdefault(label, []).append(Line(number=number, text=rest))
    return {label: _without_gap(lines) if label else lines for label, lines in streams.items()}


def is_columns(text: str) -> bool:
    """Whether the line names the columns of a table, be it cut short."""
    return _COLUMNS.match(text.strip() + " ") is not None


def _lines(text: str) -> Iterator[str]:
    return (line.rstrip("\r").replace("\t", " ") for line in text.removeprefix("\ufeff").split("\n"))


def _peel(line: str) -> tuple[str, str]:
    """The labels in front of a line, and the rest of it."""
    found, rest = list[str](), line
    while True:
        if date := _DATES.match(rest):
            rest = rest[date.end() :]
            continue
        label = next((match for each in _LABELS if (match := each.match(rest))), None)
        if label is None:
            return "".join(found), rest
        found.append(label.group().strip())
        rest = rest[label.end() :]


def _host(rest: str) -> str:
    match = _HOST.match(rest)
    return match.group() if match else ""


def _without_gap(lines: list[Line]) -> list[Line]:
    """Without the space that some launchers put behind the label, so that columns stand where they were printed."""
    if not all(line.text.startswith(" ") for line in lines if line.text):
        return lines
    return [Line(number=line.number, text=line.text[1:]) for line in lines]
