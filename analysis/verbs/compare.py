"""python -m analysis compare OLD NEW [--margin 3] [--all] [--json] [--csv FILE] [--mixed]"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import tyro

from analysis.comparison.compare import compare as compare_runs
from analysis.comparison.fields import ROW_COLUMNS, comparison_fields, row_fields
from analysis.comparison.matching import require_repeats
from analysis.comparison.metadata import require_comparable
from analysis.comparison.rows import Comparison
from analysis.comparison.show import print_comparison, sentence
from analysis.load import Run, load_run
from analysis.verbs.output import Inputs, make_console, note, write_csv
from tp.errors import ConfigError, MeasurementError
from tp.flags import parse_flags, positive_float

# Wide enough in a pipe for a row beside why it cannot be compared.
WIDTH: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareFlags:
    """What got slower or faster between two versions; exit code 1 when anything did get slower or newly fails."""

    versions: Inputs = ()
    """OLD and NEW: each a record file, or better a folder of records of several runs of the same cases."""
    margin: str = "3"
    """Percent: changes under it are called the same, however sure."""
    all: bool = False
    """Show every row, not only those that changed or cannot be compared, and the totals."""
    strict: bool = False
    """Fail too where a case could not be compared, so that noise or a missing case does not pass for the same."""
    json: bool = False
    """Print everything as JSON instead."""
    csv: str = ""
    """Also write one row a part to this file."""
    mixed: Annotated[bool, tyro.conf.arg(help="Compare although hardware, world or method differ.")] = False


def compare(args: Sequence[str]) -> None:
    """Compare two versions and show it; MeasurementError when anything got slower or newly fails."""
    flags = parse_flags(CompareFlags, args, prog="analysis compare", description=CompareFlags.__doc__ or "")
    if len(flags.versions) != 2:
        raise ConfigError(f"analysis compare: {len(flags.versions)} given; give two, OLD and NEW")
    margin = positive_float(flags.margin, flag="--margin") / 100
    found = _compared(flags, margin)
    for left_out in found.left_out:
        note(left_out)
    if flags.csv:
        write_csv(map(row_fields, found.rows), Path(flags.csv), flag="--csv", names=ROW_COLUMNS)
    if flags.json:
        json.dump(comparison_fields(found), sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        print_comparison(make_console(plain_width=WIDTH), found, everything=flags.all)
    unsure = [case for case in found.cases if case.verdict == "not comparable"]
    if found.regressed:
        raise MeasurementError(sentence(found))
    if flags.strict and unsure:
        raise MeasurementError(f"--strict: {unsure[0].case} could not be compared, {unsure[0].reason}")


def _compared(flags: CompareFlags, margin: float) -> Comparison:
    """The comparison; ConfigError where there is nothing to compare."""
    old, new = (_load(Path(name)) for name in flags.versions)
    require_comparable(old, new, mixed=flags.mixed)
    for runs in (old, new):
        require_repeats(runs)
    if {run.path.resolve() for run in old} & {run.path.resolve() for run in new}:
        note("OLD and NEW have a file in common, which is compared with itself")
    found = compare_runs(old, new, margin=margin)
    if not found.cases:
        raise ConfigError(
            f"{flags.versions[0]}: neither it nor {flags.versions[1]} holds a case or an op; measure some"
        )
    if not found.shares_any:
        raise ConfigError(f"{flags.versions[0]}: has no case or op of {flags.versions[1]}; measure the same in both")
    return found


def _load(path: Path) -> list[Run]:
    """The run of a file, or all of a folder's; ConfigError where there is none."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: a folder without record files (*.jsonl); name one that has some, or a file")
    runs = [load_run(file) for file in files]
    for problem in dict.fromkeys(problem for run in runs for problem in run.problems):
        note(problem)
    return runs
