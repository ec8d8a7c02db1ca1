"""The lines before a table: which test it is, on which devices, with which library."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from analysis.nccl_tests.parts import Fault, Heading, Line, Rank
from analysis.nccl_tests.spelling import COLLECTIVES, collectives_in

START: Final = re.compile(r"#?\s*(?:Collective test starting|nThread \d|(?:nccl|rccl)-tests version|Using devices)")
END: Final = re.compile(r"#?\s*(?:Errors with asterisks|Out of bounds|Avg bus bandwidth|Collective test concluded)")
_RANK: Final = re.compile(
    r"#?\s*Rank\s+(\d+)\s+(?:Group\s+(\d+)\s+)?Pid\s+(\d+) on\s+(\S+) device\s+(\d+)\s+\[([0-9a-fA-FxX:.]+)\](.*)"
)
_RANK_BEGUN: Final = re.compile(r"#\s*(?:R|Ra|Ran|Rank.*|\.\.\.)$|Rank\s+\d+\s+(?:Group|Pid)\s.*")
_NAMED: Final = re.compile(r"#?\s*Collective test (?:starting|concluded)\s*:\s*(.*)")
_PER_PROCESS: Final = re.compile(r"#?\s*nThread (\d+) nGpus (\d+)(?= )")
_LIBRARY_CODE: Final = re.compile(r"(nccl|rccl)-library=(\d+)")
_LIBRARY_VERSION: Final = re.compile(r"(NCCL|RCCL) version ?:? ?(\d+\.\d+(?:\.\d+)?)(\S*)")
_BACKEND: Final = re.compile(r"#\s*tpbench: backend (\w+)(?: (\d[\d.]*))?,")
_RCCL: Final = re.compile(r"rccl-tests|\+hip|\] ?(?:AMD|Radeon)")
# What builds the tests names all of them.
_BUILD: Final = re.compile(r"^\s*(?:Compiling|Linking|make|g\+\+|nvcc|hipcc)\b|\s->?\s")


def read_heading(before: Sequence[Line], after: Sequence[Line]) -> Heading:
    """What the lines before the table say, and the program that those after it name again."""
    begin = max((i for i, line in enumerate(before) if _PER_PROCESS.match(line.text.strip())), default=0)
    ranks, faults = _ranks(before[begin:])
    collective, fault = _collective(before, after)
    library, version, tests = _library([*before, *after])
    per_process = _PER_PROCESS.match(before[begin].text.strip()) if before else None
    return Heading(
        collective=collective,
        ranks=ranks,
        per_process=int(per_process[1]) * int(per_process[2]) if per_process else None,
        library=library,
        version=version,
        tests=tests,
        faults=(*faults, *fault),
    )


def _ranks(lines: Iterable[Line]) -> tuple[tuple[Rank, ...], list[Fault]]:
    ranks, faults = list[Rank](), list[Fault]()
    for line in lines:
        place = f"line {line.number}"
        if match := _RANK.match(line.text.strip()):
            number, group, pid, host, _, _, device = match.groups()
            if int(number) != len(ranks):
                faults.append(Fault(place=place, text=_disorder(int(number), len(ranks))))
            ranks.append(
                Rank(
                    place=place,
                    number=int(number),
                    group=int(group or 0),
                    pid=int(pid),
                    host=host,
                    device=device.strip(),
                )
            )
        elif _RANK_BEGUN.match(line.text.strip()):
            faults.append(
                Fault(
                    place=place,
                    text="the line of a rank is cut short; mend it, or give --gpus (and --collective, --nodes)",
                )
            )
    return tuple(ranks), faults


def _disorder(number: int, expected: int) -> str:
    if number < expected:
        return (
            f"rank {number} is listed again: the output of several processes is mixed, or each ran a test of its own; "
            "build the tests with MPI=1, or label the lines (mpirun --tag-output, srun --label)"
        )
    return f"rank {number} comes where rank {expected} should; lines are missing, take the whole log"


def _collective(before: Sequence[Line], after: Sequence[Line]) -> tuple[str, list[Fault]]:
    """What the test says that it is, else what the command before it runs; empty when nothing tells."""
    said = [(line, match[1]) for line in (*before, *after) if (match := _NAMED.match(line.text.strip()))]
    # Before the table stands its own start behind the end of the test before it.
    starts = [each for each in said if "starting" in each[0].text][-1:]
    ends = [each for each in said if "concluded" in each[0].text and each[0] in after][:1]
    for line, words in starts or ends:
        found = collectives_in(words.strip())
        if found:
            return found[0], []
        known = ", ".join(sorted(COLLECTIVES))
        return "", [Fault(place=f"line {line.number}", text=f"names no known test; it may be _perf of {known}")]
    commands = [
        found
        for line in before
        if not _BUILD.search(line.text) and not END.match(line.text.strip())
        for found in collectives_in(line.text)
    ]
    return (commands[-1] if commands else ""), []


def _library(lines: Iterable[Line]) -> tuple[str, str, str]:
    """NCCL or RCCL, its version where it is stated, and which tests called it."""
    name, version = "NCCL", ""
    for line in lines:
        text = line.text + line.debug
        if match := _BACKEND.match(text):
            return match[1].upper() if match[1] == "nccl" else match[1], match[2] or "", "tpbench"
        if _RCCL.search(text):
            name = "RCCL"
        if match := _LIBRARY_VERSION.search(text):
            name = "RCCL" if match[1] == "RCCL" or "hip" in match[3] else name
            version = version or match[2]
        if match := _LIBRARY_CODE.search(text):
            name, version = match[1].upper(), version_of(int(match[2]))
    return name, version, f"{name.lower()}-tests"


def version_of(code: int) -> str:
    """22703 is 2.27.3; until 2.8 the minor version had one digit less: 2804 is 2.8.4."""
    major, rest = divmod(code, 10_000 if code >= 10_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"
