"""python -m analysis report RECORDS... --out DIR"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.report.content import read_content
from analysis.report.terminal import as_json, print_report
from analysis.report.write import write_content
from analysis.verbs.output import Inputs, make_console, note, require
from tp.errors import ConfigError
from tp.flags import parse_flags
from tp.units import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFlags:
    """The verdict, tables, plots and one self-contained HTML page from record files."""

    records: Inputs = ()
    """Record files of bench/, and CSV tables of collectives (see `import nccl-tests`)."""
    out: str = ""
    """Folder to write."""
    mixed: Annotated[bool, tyro.conf.arg(help="Put runs together although their metadata differ.")] = False
    json: Annotated[bool, tyro.conf.arg(help="Print verdict and tables as JSON instead.")] = False


def report(args: Sequence[str]) -> None:
    """Write the report and print its verdict."""
    flags = parse_flags(ReportFlags, args, prog="analysis report", description=ReportFlags.__doc__ or "")
    if not flags.records:
        raise ConfigError("analysis report: no record file given; name those of bench/")
    require(flags.out, "--out", "the folder to write")
    content = read_content([Path(name) for name in flags.records], mixed=flags.mixed, tell=note)
    page = write_content(content, Path(flags.out))
    if flags.json:
        json.dump(as_json(content, page=str(page)), sys.stdout, indent=2, allow_nan=False)
        print()
        return
    console = make_console()
    print_report(console, content)
    console.print(printable(f"report: {page}"), markup=False, soft_wrap=True)
