"""python -m analysis report RECORDS... --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.report.write import write_report
from analysis.verbs.output import Inputs, make_console, note, require
from tp.errors import ConfigError
from tp.flags import parse_flags
from tp.units import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFlags:
    """Tables, plots and one self-contained HTML page from record files."""

    records: Inputs = ()
    """Record files of bench/."""
    out: str = ""
    """Folder to write."""
    mixed: Annotated[bool, tyro.conf.arg(help="Put runs together although their metadata differ.")] = False


def report(args: Sequence[str]) -> None:
    """`python -m analysis report RECORDS... --out DIR`"""
    flags = parse_flags(ReportFlags, args, prog="analysis report", description=ReportFlags.__doc__ or "")
    if not flags.records:
        raise ConfigError("analysis report: no record file given; name those of bench/")
    require(flags.out, "--out", "the folder to write")
    page = write_report([Path(name) for name in flags.records], Path(flags.out), mixed=flags.mixed, tell=note)
    make_console().print(printable(f"report: {page}"), markup=False)
