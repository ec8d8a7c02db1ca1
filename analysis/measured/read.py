"""What calibrate and score are given: record files and CSV tables, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.load import Run, load_runs
from analysis.measured.op import Measured, of_run
from analysis.measured.tables import Select, read_table
from tp.errors import ConfigError
from tp.plan.ops import is_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Every op timed alone in the files, and the runs among them, whose cases are whole layers."""

    rows: tuple[Measured, ...]
    runs: tuple[Run, ...]


def read_inputs(paths: Sequence[Path], *, select: Select, tell: Callable[[str], None]) -> Inputs:
    """Read them all; what is wrong with a record and could be left out is told, a table must make sense throughout."""
    doubles = {path for path in paths if [each.resolve() for each in paths].count(path.resolve()) > 1}
    if doubles:
        raise ConfigError(f"{min(doubles)}: is given twice; its rows would count twice")
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    records = [path for path in paths if path not in tables]
    if records and select:
        raise ConfigError(f"--select {next(iter(select))}=...: {records[0]} is a record file; only tables have columns")
    # One rank may have measured the products and two the collectives; the machine must be the same.
    runs = load_runs(records, mixed=True, tell=tell) if records else []
    rows = [row for run in runs for row in of_run(run) if not is_stream(row.op)]
    for run in runs:
        moved = sum(is_stream(result.op) for result in run.ops)
        if moved:
            tell(f"{run.path}: {moved} ops of bench/memory.py, which are part of no layer; left out")
    for path in tables:
        rows += read_table(path, select=select, tell=tell)
    return Inputs(rows=tuple(rows), runs=tuple(runs))
