"""python -m analysis claims [--records FILE ...] [--hardware H1,H2 | all] [--claims FILE ...]"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.load import Run, load_run
from analysis.show.claims import claim_cells, verdict_counts
from analysis.trial.degrees import corrected_table
from analysis.trial.rulings import rulings_of
from analysis.trial.verdicts import (
    Ruling,
    control_failures,
    measured_of,
    require_one_machine_a_name,
)
from analysis.verbs.degree_table import print_corrected
from analysis.verbs.output import make_console, note, write_csv
from tp import catalogue
from tp.errors import ConfigError, MeasurementError
from tp.flags import comma_list, parse_flags
from tp.hardware import Node, load_network, load_node
from tp.model import load_model

WIDTH: Final = 190
LEAST_WIDTH: Final = 140
# The model of the article.
MODEL: Final = "llama2-70b"
CSV_COLUMNS: Final = (
    *("origin", "name", "subject", "statement", "printed", "stated", "unit", "relation", "qualifiers", "formula"),
    *("own", "right", "measured", "measured_low", "measured_high", "verdict", "reason", "tolerance", "doubt", "source"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsFlags:
    """Put the article's and the vendors' claims on trial: recomputed, corrected, measured, judged."""

    records: tuple[str, ...] = ()
    """Record files of this project's benches; the claims about their machines are held against them."""
    hardware: str = ""
    """Also the vendors' claims of these names of configs/hardware or TOML files, or all (with the networks')."""
    claims: tuple[str, ...] = ()
    """Also the claims of these TOML files, in the form of configs/claims/article.toml."""
    measured: bool = False
    """Only what was measured."""
    json: bool = False
    """Print everything as JSON instead."""
    csv: str = ""
    """Also write one row a claim to this file."""


def claims(args: Sequence[str]) -> None:
    """Judge every claim and show it.

    MeasurementError when a planted claim was measured and not refuted.
    """
    flags = parse_flags(ClaimsFlags, args, prog="analysis claims", description=ClaimsFlags.__doc__ or "")
    if flags.measured and not flags.records:
        raise ConfigError("--measured: nothing is measured without records; give --records FILE ...")
    runs = [load_run(Path(path)) for path in flags.records]
    require_one_machine_a_name(runs)
    for run in runs:
        for problem in run.problems:
            note(problem)
    rulings = rulings_of(
        runs,
        nodes=_nodes(flags.hardware),
        networks=[load_network(name) for name in catalogue.names("networks")] if flags.hardware == "all" else (),
        files=flags.claims,
    )
    for run in runs:
        if not any(measured_of(ruling.claim, [run]) for ruling in rulings):
            note(f"{run.path}: nothing that it holds is claimed of {run.headers[0].hardware.name}")
    # What is planted is there to be measured.
    rulings = [r for r in rulings if r.is_measured or not (flags.measured or r.origin == "planted")]
    if flags.csv:
        write_csv(map(_row, rulings), Path(flags.csv), flag="--csv", names=CSV_COLUMNS)
    if flags.json:
        json.dump({"claims": [_row(ruling) for ruling in rulings]}, sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        console = make_console(plain_width=WIDTH, least_width=LEAST_WIDTH)
        _show(console, rulings, runs)
        if not flags.measured:
            nodes = [load_node(name) for name in catalogue.names("hardware")]
            print_corrected(console, load_model(MODEL), corrected_table(load_model(MODEL), nodes))
    failures = control_failures(rulings)
    if failures:
        raise MeasurementError(f"{failures[0].claim.name}: is false on purpose and was not refuted; trust no verdict")


def _nodes(hardware: str) -> list[Node]:
    """The machines that are asked for by name."""
    if hardware == "all":
        return [load_node(name) for name in catalogue.names("hardware")]
    return [load_node(name) for name in (comma_list(hardware, str, flag="--hardware") if hardware else ())]


def _show(console: Console, rulings: Sequence[Ruling], runs: Sequence[Run]) -> None:
    for origin in dict.fromkeys(ruling.origin for ruling in rulings):
        mine = [ruling for ruling in rulings if ruling.origin == origin]
        console.print(_table(mine))
        console.print(f"{origin}: {_counts(mine)}\n", markup=False)
    if runs and not any(ruling.origin == "planted" for ruling in rulings):
        console.print("no rate was measured, so no planted claim shows that the trial refutes", markup=False)
    if not rulings:
        console.print("nothing that the records hold is claimed", markup=False)


def _counts(rulings: Sequence[Ruling]) -> str:
    return f"{verdict_counts(rulings)}; {sum(ruling.is_measured for ruling in rulings)} by measurement"


def _table(rulings: Sequence[Ruling]) -> Table:
    origin = rulings[0].origin
    whose = {
        "article": "the article",
        "vendor": "vendors, and what follows of a CPU from its clock and width",
        "user": ", ".join(dict.fromkeys(ruling.source for ruling in rulings)),
        "planted": "nobody, false on purpose",
    }[origin]
    title = f"claims of {whose}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_lines=False, padding=(0, 2, 1, 0))
    table.add_column("claim", min_width=30, ratio=4)
    table.add_column("stated", justify="right", no_wrap=True)
    for heading in ("from its inputs", "from the right ones", "measured"):
        table.add_column(heading, justify="right", min_width=9)
    table.add_column("verdict", min_width=10, max_width=17)
    table.add_column("why", ratio=5)
    for ruling in rulings:
        table.add_row(*(Text(word) for word in claim_cells(ruling)))
    return table


def _row(ruling: Ruling) -> dict[str, Any]:
    claim, found = asdict(ruling.claim), ruling.finding
    own = {name: claim[name] for name in CSV_COLUMNS if name in claim and name != "measured"}
    return own | {
        "origin": ruling.origin,
        "qualifiers": ", ".join(ruling.claim.qualifiers),
        "own": ruling.own,
        "right": ruling.right,
        "measured": None if found is None else found.value,
        "measured_low": None if found is None else found.low,
        "measured_high": None if found is None else found.high,
        "verdict": ruling.verdict,
        "reason": ruling.reason,
        "source": ruling.source,
    }
