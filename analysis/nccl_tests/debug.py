"""What NCCL_DEBUG writes: on lines of its own, and on the end of a table's row that is not finished yet.

nccl-tests prints a row in three pieces as it measures; between two of them NCCL may write lines, the first of which
goes on where the piece ended. What is left of the row's pieces, put together, is the row.
"""

import re
from collections.abc import Sequence
from typing import Final

from analysis.nccl_tests.parts import Line

_STAMP: Final = r"(?:\[\d{4}-\d\d-\d\d[^\]]*\] ?)?"
_DEBUG: Final = re.compile(
    rf"(?:\[[^\]\s]+\](?:<std\w+>:)? ?)?{_STAMP}(?P<host>[\w.-]+):\d+:\d+ \[[\w-]+\] (?:\S+:\d+ )?(?:NCCL|RCCL) [A-Z]+ "
)
_VERSION: Final = re.compile(r"(?:NCCL|RCCL) version ?:? ?\d")
_CELL: Final = re.compile(r"(?:N/A|-?\d[\d.]*(?:e[+-]\d+)?)(?=[A-Za-z])")
_RANK_HOST: Final = re.compile(r"#\s*Rank\s+\d+.* on\s+(\S+) device")


def cut_debug(lines: Sequence[Line]) -> list[Line]:
    """The lines with what NCCL wrote taken off the text."""
    hosts = {match.group(1) for line in lines if (match := _RANK_HOST.match(line.text.strip()))}
    hosts |= {match.group("host") for line in lines if (match := _DEBUG.match(line.text.lstrip()))}
    return [_cut(line, frozenset(hosts)) for line in lines]


def _cut(line: Line, hosts: frozenset[str]) -> Line:
    if match := _DEBUG.search(line.text):
        at = match.start() + _glued(match, hosts)
    elif match := _VERSION.search(line.text):
        at = match.start()
    else:
        return line
    return Line(number=line.number, text=line.text[:at], debug=line.text[at:])


def _glued(match: re.Match[str], hosts: frozenset[str]) -> int:
    """How many characters of the match are the cell that the debug line was written behind."""
    name = match.group("host")
    if match.start("host") != match.start() or name in hosts:
        return 0
    known = max((host for host in hosts if name.endswith(host)), key=len, default="")
    if known:
        return len(name) - len(known)
    cell = _CELL.match(name)
    return cell.end() if cell else 0
