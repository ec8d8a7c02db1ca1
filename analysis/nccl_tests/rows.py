"""What a log's rows mean: of which collective, over how many GPUs of what machine; contradictions are errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from analysis.nccl_tests.check import contradiction, gpus_that_agree, span_of
from analysis.nccl_tests.parts import Fault, Heading, Log, Rank, Row, Sweep
from analysis.nccl_tests.report import is_report, read_report
from analysis.nccl_tests.spelling import COLLECTIVES, DTYPES
from analysis.nccl_tests.text import read_text
from tp import catalogue
from tp.errors import ConfigError
from tp.hardware import load_node

COLUMNS: Final = (
    *("hardware", "link", "nodes", "gpus", "library", "collective", "bytes", "time_us", "in_place", "source"),
    *("count", "type", "redop", "root", "placement", "wrong", "algbw_gbytes_per_s", "busbw_gbytes_per_s"),
)


UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What flags say where a log does not."""

    hardware: str = ""
    link: str = ""
    nodes: int | None = None
    gpus: int | None = None
    collective: str = ""
    skip_broken: bool = False


def read_log(path: Path, told: Told, *, tell: Callable[[str], None]) -> list[dict[str, str | int]]:
    """The rows of a log in the columns of published tables; ConfigError with file, line and remedy."""
    log = _parse(path)
    faults = [*(fault for sweep in log.sweeps for fault in _heading_faults(sweep.heading, told)), *log.faults]
    _refuse(path, faults, told, tell)
    if not any(sweep.rows for sweep in log.sweeps):
        where = f", {log.sweeps[0].place}: the table has no rows" if log.sweeps else ": holds no table of nccl-tests"
        raise ConfigError(f"{path}{where}; take the log from its header to its last line")
    rows = [row for sweep in log.sweeps if sweep.rows for row in _meant(path, sweep, told, tell)]
    for sweep in log.sweeps:
        if not sweep.rows:
            tell(f"{path}, {sweep.place}: the table has no rows; left out")
        elif not sweep.ended:
            why = "the table has no end, the run was killed or goes on; its whole rows are taken"
            tell(f"{path}, {sweep.place}: {why}")
    return rows


def _parse(path: Path) -> Log:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); name a log of nccl-tests") from error
    # PowerShell writes what it redirects as UTF-16.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = data.decode(encoding, errors="replace")
    return read_report(text) if is_report(text) else read_text(text)


def _heading_faults(heading: Heading, told: Told) -> Sequence[Fault]:
    """Faults of a heading that no flag makes good."""
    mended = told.gpus and (told.collective or heading.collective)
    return () if mended else heading.faults


def _refuse(path: Path, faults: Sequence[Fault], told: Told, tell: Callable[[str], None]) -> None:
    for fault in faults:
        if not told.skip_broken:
            more = f" ({len(faults)} such)" if len(faults) > 1 else ""
            raise ConfigError(f"{path}, {fault.place}: {fault.text}{more}")
        tell(f"{path}, {fault.place}: {fault.text.split(';')[0]}; left out")


def _meant(path: Path, sweep: Sweep, told: Told, tell: Callable[[str], None]) -> list[dict[str, str | int]]:
    where = f"{path}, {sweep.place}"
    collective = _collective(sweep, told, where)
    gpus, nodes = _size(sweep, collective, told, where, tell)
    hardware = _hardware(sweep.heading.ranks, told, where, tell)
    wrong = [
        Fault(place=row.place, text=why)
        for row in sweep.rows
        if (why := contradiction(row, collective, gpus)) is not None
    ]
    _refuse(path, wrong, told, tell)
    broken = {fault.place for fault in wrong}
    return [
        {
            "hardware": hardware,
            "link": told.link,
            "nodes": nodes,
            "gpus": gpus,
            "library": _library(sweep.heading, row.type),
            "collective": collective,
            "source": path.name,
            **_measured(row),
        }
        for row in sweep.rows
        if row.place not in broken
    ]


def _measured(row: Row) -> dict[str, str | int]:
    return {
        "bytes": row.size,
        "time_us": row.time,
        "in_place": "yes" if row.placement == "in_place" else "no",
        "count": row.count,
        "type": row.type,
        "redop": row.redop,
        "root": row.root,
        "placement": row.placement,
        "wrong": row.wrong,
        "algbw_gbytes_per_s": row.algbw,
        "busbw_gbytes_per_s": row.busbw,
    }


def _collective(sweep: Sweep, told: Told, where: str) -> str:
    said = sweep.heading.collective
    if said and told.collective and said != told.collective:
        raise ConfigError(f"--collective {told.collective}: {where} is a table of {said}; leave the flag out")
    if not said and not told.collective:
        raise ConfigError(
            f"{where}: nothing above the table says which collective it is; give --collective, one of "
            f"{', '.join(COLLECTIVES.values())}"
        )
    return said or told.collective


def _size(sweep: Sweep, collective: str, told: Told, where: str, tell: Callable[[str], None]) -> tuple[int, int]:
    """GPUs of one collective, and the nodes that they are on."""
    ranks = sweep.heading.ranks
    if ranks and not sweep.heading.faults:
        first = [rank for rank in ranks if rank.group == ranks[0].group]
        gpus, nodes = len(first), len({rank.host for rank in first})
        _agree("--gpus", told.gpus, gpus, where)
        _agree("--nodes", told.nodes, nodes, where)
        return gpus, nodes
    fitting = gpus_that_agree(sweep.rows, collective)
    if told.gpus is None and not ranks and fitting == (sweep.heading.per_process,):
        return fitting[0], told.nodes or 1  # one process with all of them, as its bandwidths say too
    if told.gpus is None:
        hint = f" (busbw over algbw fits {span_of(fitting)} GPUs)" if fitting else ""
        raise ConfigError(
            f"{where}: no line above the table lists the ranks{hint}; give --gpus, of several --nodes too"
        )
    nodes = told.nodes or len({rank.host for rank in ranks}) or 1
    if told.nodes is None:
        tell(f"{where}: the log does not say on how many nodes; taken as {nodes}, --nodes says otherwise")
    if told.gpus % nodes:
        raise ConfigError(f"--gpus {told.gpus} on --nodes {nodes}: not as many on each node; mend one of them")
    return told.gpus, nodes


def _agree(flag: str, told: int | None, found: int, where: str) -> None:
    if told is not None and told != found:
        raise ConfigError(f"{flag} {told}: the ranks above {where} make {found}; leave the flag out")


def _hardware(ranks: Sequence[Rank], told: Told, where: str, tell: Callable[[str], None]) -> str:
    names = list(dict.fromkeys(rank.device for rank in ranks if rank.device))
    known = [_known_devices().get(_plain(name), "") for name in names]
    if told.hardware:
        if known and known != [told.hardware]:
            tell(f"{where}: is of {', '.join(names)}; --hardware calls it {told.hardware}")
        return told.hardware
    if len(names) > 1:
        raise ConfigError(f"{where}: ranks of several devices ({', '.join(names)}); say with --hardware what they are")
    if not names:
        tell(f"{where}: no line above the table names the device; {UNKNOWN} in the table, --hardware says otherwise")
        return UNKNOWN
    return known[0] or names[0]


@cache
def _known_devices() -> Mapping[str, str]:
    """Names of configs/hardware by what a driver or a data sheet calls the device."""
    known: dict[str, str] = {}
    for name in catalogue.names("hardware"):
        node = load_node(name)
        known |= {_plain(device): name for device in (*node.device.nvml_names, node.device.name)}
    return known


def _plain(device: str) -> str:
    """Older drivers leave the vendor out."""
    return device.removeprefix("NVIDIA ").strip()


def _library(heading: Heading, dtype: str) -> str:
    """As published tables write it: NCCL 2.27.3 (nccl-tests, fp16, 1 process)."""
    kind = DTYPES.get(dtype, dtype)
    if not heading.version:
        return f"{heading.library} (version not stated), {kind}, {heading.tests}"
    processes = len({(rank.host, rank.pid) for rank in heading.ranks})
    count = f", {processes} process{'es' if processes > 1 else ''}" if processes else ""
    return f"{heading.library} {heading.version} ({heading.tests}, {kind}{count})"
