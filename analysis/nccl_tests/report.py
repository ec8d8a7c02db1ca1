"""The JSON file that newer nccl-tests write with -J: one object with the command, the devices and the results.

A run that was killed leaves it without an end; the results that are whole are read all the same.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from analysis.nccl_tests.heading import version_of
from analysis.nccl_tests.parts import PLACEMENTS, Fault, Heading, Log, Placement, Rank, Row, Sweep
from analysis.nccl_tests.spelling import collectives_in

_RESULTS: Final = re.compile(r'"results"\s*:\s*\[')
_BETWEEN: Final = re.compile(r"[\s,]*")


def is_report(text: str) -> bool:
    """Whether the text is such a file and no printed table."""
    return text.lstrip("\ufeff \t\r\n").startswith("{")


def read_report(text: str) -> Log:
    """The one test of the file."""
    text = text.lstrip("\ufeff")
    match = _RESULTS.search(text)
    if match is None:
        return _broken("holds no results; it is no file of nccl-tests -J, or was cut before the first one")
    try:
        # Numbers stay as they are written: how many digits they have says how they were rounded.
        head = json.loads(text[: match.end()] + "]}", parse_float=str)
    except ValueError as error:
        return _broken(f"cannot be read before its results ({error}); take the whole file")
    results, whole = _results(text, match.end())
    rows, faults = list[Row](), list[Fault]()
    for number, result in enumerate(results, 1):
        place = f"result {number}"
        try:
            rows += _rows(result, place)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            faults.append(Fault(place=place, text=f"cannot be read ({error!r}); mend it or --skip-broken"))
    if not whole:
        text = "the file ends inside it: the run was killed, or the file cut; leave it out with --skip-broken"
        faults.append(Fault(place=f"result {len(results) + 1}", text=text))
    sweep = Sweep(place="result 1", heading=_heading(head), rows=tuple(rows), ended=whole)
    return Log(sweeps=(sweep,), faults=tuple(faults))


def _broken(text: str) -> Log:
    return Log(sweeps=(), faults=(Fault(place="line 1", text=text),))


def _results(text: str, start: int) -> tuple[list[Mapping[str, Any]], bool]:
    """The results, and whether their list has an end."""
    decoder, found = json.JSONDecoder(parse_float=str), list[Mapping[str, Any]]()
    while True:
        gap = _BETWEEN.match(text, start)
        start = gap.end() if gap else start
        if text[start : start + 1] == "]":
            return found, True
        try:
            result, start = decoder.raw_decode(text, start)
        except ValueError:
            return found, False
        found.append(result)


def _heading(head: Mapping[str, Any]) -> Heading:
    config, args = head.get("config", {}), head.get("args", [])
    named = collectives_in(str(args[0])) if args else []
    ranks, per_process = _ranks(config)
    code = head.get("nccl_version")
    library = "RCCL" if any(rank.device.startswith("AMD") for rank in ranks) else "NCCL"
    return Heading(
        collective=named[0] if named else "",
        ranks=ranks,
        per_process=per_process,
        library=library,
        tests=f"{library.lower()}-tests",
        version=version_of(code) if isinstance(code, int) else "",
    )


def _ranks(config: Mapping[str, Any]) -> tuple[tuple[Rank, ...], int | None]:
    """The ranks. The tests write the first one of each process alone, which stands for the process's others."""
    try:
        per_process = int(config["nthreads"]) * int(config["ngpus"])
        listed = [
            Rank(
                place=f"device {number}",
                number=int(device["rank"]),
                group=int(device["group"]),
                pid=int(device["pid"]),
                host=str(device["hostname"]),
                device=str(device["device_info"]).strip(),
            )
            for number, device in enumerate(config.get("devices", []), 1)
        ]
    except (KeyError, TypeError, ValueError):
        return (), None
    if [rank.number for rank in listed] == list(range(len(listed))) and len(listed) > 1:
        return tuple(listed), per_process
    return tuple(_spread(listed, per_process)), per_process


def _spread(first: Sequence[Rank], per_process: int) -> Iterator[Rank]:
    for rank in first:
        for number in range(per_process):
            yield Rank(
                place=rank.place,
                number=rank.number + number,
                group=rank.group,
                pid=rank.pid,
                host=rank.host,
                device=rank.device,
            )


def _rows(result: Mapping[str, Any], place: str) -> Iterator[Row]:
    for placement in PLACEMENTS:
        cell = result.get(placement)
        if cell is not None:
            yield _row(result, cell, placement, place)


def _row(result: Mapping[str, Any], cell: Mapping[str, Any], placement: Placement, place: str) -> Row:
    if "cpu_time" in cell:
        raise ValueError("cpu_time is not the time of the collective; run the tests without -C 1")
    wrong = cell.get("nwrong")
    return Row(
        place=place,
        size=int(result["size"]),
        count=int(result["count"]),
        type=str(result["type"]),
        redop=str(result["redop"]),
        root=str(result["root"]).strip(),
        placement=placement,
        time=str(cell["time"]),
        algbw=str(cell["alg_bw"]),
        busbw=str(cell["bus_bw"]),
        wrong="" if wrong is None else f"{float(wrong):g}",
    )
