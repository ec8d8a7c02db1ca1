"""python -m analysis import {nccl-tests,torch-profiler} FILE... --out TABLE.csv"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.nccl_tests.rows import COLUMNS, Told, read_log
from analysis.nccl_tests.spelling import COLLECTIVES
from analysis.verbs.output import Inputs, make_console, note, require, write_csv
from tp import catalogue
from tp.errors import ConfigError
from tp.flags import choice, parse_flags, positive_int
from tp.plan.ops import COLLECTIVE_KINDS
from tp.units import printable

KINDS: Final = ("nccl-tests", "torch-profiler")

Row = dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclTestsFlags:
    """Turn logs of nccl-tests and rccl-tests, text or JSON, into a table that calibrate and score read."""

    logs: Inputs = ()
    """Logs, as the tests or their launcher wrote them."""
    hardware: str = ""
    """What was measured, for the table's first column (default: the device that the log names)."""
    link: str = ""
    """What joins the GPUs; no log says it."""
    nodes: str = ""
    """How many nodes, where the log lists no ranks."""
    gpus: str = ""
    """How many GPUs one collective goes over, where the log lists no ranks."""
    collective: str = ""
    """Which collective, where the log does not name its program."""
    skip_broken: Annotated[bool, tyro.conf.arg(help="Leave out what cannot be read, and tell each.")] = False
    out: str = ""
    """CSV file to write."""


def import_(args: Sequence[str]) -> None:
    """Measurements of other programs as tables."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: python -m analysis import {{{','.join(KINDS)}}} FILE... --out TABLE.csv  (each has --help)")
        if args:
            return
        raise ConfigError(f"analysis import: what to read is missing; name one of {', '.join(KINDS)}")
    if choice(args[0], KINDS, flag="analysis import") == "torch-profiler":
        import_module("analysis.verbs.import_profiler").import_profiler(args[1:])
        return
    _import_nccl_tests(args[1:])


def _import_nccl_tests(args: Sequence[str]) -> None:
    description = NcclTestsFlags.__doc__ or ""
    flags = parse_flags(NcclTestsFlags, args, prog="analysis import nccl-tests", description=description)
    if not flags.logs:
        raise ConfigError("analysis import nccl-tests: no file given; name logs of nccl-tests or rccl-tests")
    require(flags.out, "--out", "the table to write, such as collectives.csv")
    if Path(flags.out).resolve() in {Path(name).resolve() for name in flags.logs}:
        raise ConfigError(f"--out {flags.out}: is one of the files to read; name another file")
    if Path(flags.out).suffix.lower() != ".csv":
        raise ConfigError(f"--out {flags.out}: is no .csv file, which is how tables are known; name one")
    twice = [name for name, times in Counter(flags.logs).items() if times > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: is given twice; its rows would count twice")
    told = _told(flags)
    rows = [row for name in flags.logs for row in read_log(Path(name), told, tell=note)]
    write_csv(rows, Path(flags.out), flag="--out", names=COLUMNS)
    _show(rows, flags.out, make_console())


def _told(flags: NcclTestsFlags) -> Told:
    return Told(
        hardware=flags.hardware,
        link=flags.link,
        nodes=positive_int(flags.nodes, flag="--nodes") if flags.nodes else None,
        gpus=positive_int(flags.gpus, flag="--gpus") if flags.gpus else None,
        collective=choice(flags.collective, tuple(COLLECTIVES.values()), flag="--collective")
        if flags.collective
        else "",
        skip_broken=flags.skip_broken,
    )


def _show(rows: Sequence[Row], out: str, console: Console) -> None:
    """What the table holds, and what to do with it."""
    table = Table(box=None, pad_edge=False)
    for heading in ("collective", "hardware", "gpus", "nodes", "rows", "placements", "wrong", "best busbw"):
        table.add_column(heading, justify="left" if heading in ("collective", "hardware", "placements") else "right")
    for key in dict.fromkeys(map(_key, rows)):
        table.add_row(*(escape(printable(word)) for word in _summary([row for row in rows if _key(row) == key])))
    console.print(table)
    console.print(printable(f"table: {out}"), markup=False)
    for line in _next(rows, out):
        console.print(printable(line), markup=False, soft_wrap=True)


def _key(row: Row) -> tuple[str | int, ...]:
    return (row["collective"], row["hardware"], row["gpus"], row["nodes"])


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    yield from map(str, _key(rows[0]))
    yield str(len(rows))
    placements = Counter(str(row["placement"]) for row in rows)
    yield ", ".join(f"{times} {name.replace('_', ' ')}" for name, times in placements.items())
    # Below 1 it is the largest error of a sum, as tests of before 2022 print it, and no count.
    checked = [float(row["wrong"]) for row in rows if row["wrong"] != ""]
    yield f"{sum(each for each in checked if each >= 1):g}" if checked else "unchecked"
    yield f"{max(float(row['busbw_gbytes_per_s']) for row in rows):g} GB/s"


def _next(rows: Sequence[Row], out: str) -> Iterator[str]:
    if any(float(row["wrong"]) >= 1 for row in rows if row["wrong"] != ""):
        yield "some results were wrong: what such a run measured is not worth a calibration"
    if not any(row["collective"] in COLLECTIVE_KINDS and int(row["gpus"]) > 1 and int(row["bytes"]) for row in rows):
        yield "nothing in it is a collective that a plan has, over 2 GPUs or more; there is nothing to calibrate"
        return
    hardware = str(rows[0]["hardware"])
    known = hardware in catalogue.names("hardware") or hardware.endswith(".toml")
    name = shlex.quote(hardware) if known else "NAME_OR_FILE.toml"
    several = len({row["hardware"] for row in rows}) > 1
    select = f" --select {shlex.quote(f'hardware={hardware}')}" if several else ""
    yield f"calibrate: python -m analysis calibrate {shlex.quote(out)}{select} --hardware {name} --out calibration.json"
    if len({row["placement"] for row in rows}) > 1:
        yield "  with --select placement=in_place or out_of_place it takes one of the placements, else both"
