"""python -m analysis export nccl-tests RECORD... --out FILE"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.load import load_runs
from analysis.nccl_tests.write import render_run
from analysis.verbs.output import Inputs, note, require, writing
from tp.errors import ConfigError
from tp.flags import choice, parse_flags
from tp.plan.ops import Collective
from tp.units import printable

KINDS: Final = ("nccl-tests",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFlags:
    """Write the sweeps of bench/collectives.py as nccl-tests prints its own."""

    records: Inputs = ()
    """Record files of bench/collectives.py."""
    out: str = ""
    """Text file to write; - is standard output."""


def export(args: Sequence[str]) -> None:
    """Records in the layouts of other programs."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: python -m analysis export {{{','.join(KINDS)}}} RECORD... --out FILE  (each has --help)")
        if args:
            return
        raise ConfigError(f"analysis export: the layout is missing; name one of {', '.join(KINDS)}")
    choice(args[0], KINDS, flag="analysis export")
    description = ExportFlags.__doc__ or ""
    flags = parse_flags(ExportFlags, args[1:], prog="analysis export nccl-tests", description=description)
    if not flags.records:
        raise ConfigError("analysis export nccl-tests: no file given; name records of bench/collectives.py")
    require(flags.out, "--out", "the file to write, or - for standard output")
    if flags.out != "-" and Path(flags.out).resolve() in {Path(name).resolve() for name in flags.records}:
        raise ConfigError(f"--out {flags.out}: is one of the records; name another file")
    _write(_lines(flags.records), flags.out)


def _lines(names: Sequence[str]) -> list[str]:
    """The text of all records; each is a machine of its own."""
    lines = list[str]()
    for run in load_runs([Path(name) for name in names], mixed=True, tell=note):
        made = list(render_run(run))
        if not made:
            raise ConfigError(f"{run.path}: holds no collective timed alone; name a record of bench/collectives.py")
        failed = sum(isinstance(line.op, Collective) for line in run.failed_ops)
        if failed:
            note(f"{run.path}: {failed} collectives could not be timed and are not in the text")
        lines += made
    return lines


def _write(lines: Sequence[str], out: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if out == "-":
        sys.stdout.write(text)
        return
    path = Path(out)
    with writing("--out", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tests = sum(line.startswith("# Collective test starting") for line in lines)
    print(printable(f"text: {out} ({tests} tests)"))
