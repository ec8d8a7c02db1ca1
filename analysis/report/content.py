"""What a report says, before it is written anywhere: frames, rulings, the verdict, and what to mind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.frames.collectives import LogTable, collectives_frame
from analysis.frames.holdings import memory_frame
from analysis.frames.outcomes import checks_frame, unmeasured_frame
from analysis.frames.parts import error_frame, parts_frame
from analysis.frames.products import products_frame
from analysis.frames.rates import crossings_frame, rates_frame
from analysis.frames.scaling import scaling_frame
from analysis.frames.state import state_frame
from analysis.frames.strategies import strategies_frame
from analysis.frames.trust import arrivals_frame, contention_frame, ranks_frame, traffic_frame
from analysis.load import Run, load_runs
from analysis.measured.tables import COLLECTIVE_COLUMNS, read_table
from analysis.report.provenance import caveats, too_good, wrong_results
from analysis.report.verdict import Verdict, judge
from analysis.trial.rulings import rulings_of
from analysis.trial.verdicts import Ruling
from tp.errors import ConfigError

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything that records and logs say."""

    paths: tuple[Path, ...]
    runs: tuple[Run, ...]
    mixed: bool
    subject: str
    verdict: Verdict
    caveats: tuple[str, ...]
    frames: Mapping[str, pd.DataFrame]
    """By the name of their CSV file."""
    rulings: tuple[Ruling, ...]
    """On claims that the records measure."""


def read_content(paths: Sequence[Path], *, mixed: bool, tell: Tell) -> Content:
    """Read record files, and CSV tables of collectives, and say what they mean.

    What is wrong with a file and could be left out is told. Raises ConfigError for a file that cannot be read, and for
    runs that differ unless `mixed`.
    """
    # A file that is named twice is one run.
    files = list({path.resolve(): path for path in paths}.values())
    records = [path for path in files if path.suffix.lower() != ".csv"]
    runs = [_without_probes(run) for run in load_runs(records, mixed=mixed, tell=tell)] if records else []
    tables = [_log_table(path, tell) for path in files if path not in records]
    frames = frames_of(runs, tables)
    num_cases = sum(len(run.cases) + len(run.unfinished) for run in runs)
    num_ops = sum(len(run.ops) for run in runs) + sum(len(table.rows) for table in tables)
    return Content(
        paths=tuple(files),
        runs=tuple(runs),
        mixed=mixed,
        subject=_subject(runs, tables, num_cases=num_cases, num_ops=num_ops),
        verdict=judge(frames["scaling"], num_cases=num_cases, num_ops=num_ops),
        caveats=(*caveats(runs, mixed=mixed), *too_good(frames["scaling"]), *wrong_results(frames["collectives"])),
        frames=frames,
        rulings=tuple(ruling for ruling in rulings_of(runs) if ruling.is_measured) if runs else (),
    )


def _without_probes(run: Run) -> Run:
    """The layers of nothing but launches are there for calibrations."""
    return replace(run, cases=tuple(case for case in run.cases if not case.is_probe))


def frames_of(runs: Sequence[Run], tables: Sequence[LogTable] = ()) -> dict[str, pd.DataFrame]:
    """Every frame of a report, by the name of its CSV file."""
    parts = parts_frame(runs)
    scaling = scaling_frame(parts)
    rates = rates_frame(scaling)
    return {
        "parts": parts,
        "errors": error_frame(parts),
        "scaling": scaling,
        "rates": rates,
        "crossings": crossings_frame(rates),
        "strategies": strategies_frame(runs, parts, scaling),
        "collectives": collectives_frame(runs, tables),
        "products": products_frame(runs, parts),
        "memory": memory_frame(runs),
        "checks": checks_frame(runs),
        "unmeasured": unmeasured_frame(runs),
        "ranks": ranks_frame(runs),
        "arrivals": arrivals_frame(runs),
        "contention": contention_frame(runs),
        "traffic": traffic_frame(runs),
        "state": state_frame(runs),
    }


def _log_table(path: Path, tell: Tell) -> LogTable:
    """A table as `import nccl-tests` writes it, once every row of it makes sense."""
    read_table(path, select={}, tell=tell)
    rows = pd.read_csv(path, index_col=False).dropna(how="all")
    if not set(COLLECTIVE_COLUMNS) <= set(rows.columns):
        raise ConfigError(f"{path}: is no table of collectives, the only ones that a report shows; give record files")
    return LogTable(path=path, rows=rows)


def _subject(runs: Sequence[Run], tables: Sequence[LogTable], *, num_cases: int, num_ops: int) -> str:
    """What the page is about, in a line: 12 cases of tinyllama-1.1b on cpu-local, 2 ranks over gloo."""
    headers = [header for run in runs for header in run.headers]
    models = dict.fromkeys(case.planned.case.model.name for run in runs for case in run.cases)
    machines = dict.fromkeys(
        f"{h.hardware.name}, {h.world} rank{'s' * (h.world > 1)} over {h.backend}" for h in headers
    ) | dict.fromkeys(f"{name} (logs)" for table in tables for name in table.rows["hardware"].astype(str).unique())
    counted = f"{num_cases} case{'s' * (num_cases != 1)}" if num_cases or not num_ops else f"{num_ops} ops"
    of = f" of {', '.join(models)}" if models else ""
    return f"{counted}{of} on {'; '.join(machines)}"
