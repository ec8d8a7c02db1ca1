"""python -m analysis score INPUT... --calibration FILE [--json]  |  score --published"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.calibrate import require_comparable
from analysis.forecast.published import published_layer, score_published
from analysis.measured.read import read_inputs
from analysis.score import Score
from analysis.score import score as score_inputs
from analysis.verbs.inputs import parse_select
from analysis.verbs.output import Inputs, make_console, note, require
from analysis.verbs.published import print_published
from tp.cost.calibrated import CalibratedTheory
from tp.cost.known import load_calibration, open_calibration, shipped_calibration
from tp.errors import ConfigError
from tp.flags import parse_flags
from tp.hardware import find_node, load_node
from tp.probe import resolve_node
from tp.units import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFlags:
    """How far off a calibration is on rows that it has not seen."""

    inputs: Inputs = ()
    """Record files, of single ops or of layers, and CSV tables."""
    calibration: str = ""
    """File of `python -m analysis calibrate`."""
    hardware: str = ""
    """For ops that the calibration has no curve of: the data sheet to expect something from."""
    select: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Rows of tables to take, such as hardware=L40S; may be repeated."""
    published: Annotated[bool, tyro.conf.arg(help="Score the published Megatron-22B layer instead of files.")] = False
    json: Annotated[bool, tyro.conf.arg(help="Print JSON for other programs.")] = False


def score(args: Sequence[str]) -> None:
    """Price every row and layer part by the calibration, and say how far off it is."""
    flags = parse_flags(ScoreFlags, args, prog="analysis score", description=ScoreFlags.__doc__ or "")
    if flags.published:
        _score_published(flags)
        return
    if not flags.inputs:
        raise ConfigError("analysis score: no file given; name records or tables that were not used in the fit")
    require(flags.calibration, "--calibration", "a file of 'python -m analysis calibrate'")
    calibration = open_calibration(Path(flags.calibration))
    node = resolve_node(flags.hardware) if flags.hardware else find_node(calibration.hardware)
    theory = CalibratedTheory(
        calibration=calibration, device=node.device if node else None, link=node.link() if node else None
    )
    inputs = read_inputs([Path(name) for name in flags.inputs], select=parse_select(flags.select), tell=note)
    require_comparable(inputs.runs)
    for name in sorted({Path(name).name for name in flags.inputs} & set(calibration.sources)):
        note(f"{name}: the calibration was fitted to a file of this name; its errors are not of unseen rows then")
    for other in sorted({h.hardware.device.name for run in inputs.runs for h in run.headers} - {calibration.hardware}):
        note(f"a record is of {other}, the calibration of {calibration.hardware}")
    scores = score_inputs(inputs, theory)
    if flags.json:
        print(json.dumps({"kinds": {kind: asdict(each) for kind, each in scores.items()}}, indent=2))
        return
    console = make_console()
    console.print(printable(f"{flags.calibration}: {calibration.hardware}"), markup=False)
    print_scores(console, scores)


def _score_published(flags: ScoreFlags) -> None:
    """The cells of the published layer, each with its error, under the calibration given or the one that is shipped."""
    if flags.inputs or flags.json:
        raise ConfigError("--published: takes no files and prints a table; leave out what else was asked for")
    layer = published_layer()
    node = load_node(layer.hardware)
    given = load_calibration(Path(flags.calibration), device=node.device.name) if flags.calibration else None
    calibration = given or shipped_calibration(node.device)
    if calibration is None:
        raise ConfigError(f"--published: no calibration of {node.device.name} is shipped; give one with --calibration")
    theory = CalibratedTheory(calibration=calibration, device=node.device, link=node.link())
    print_published(make_console(), layer, score_published(layer, theory), calibration)


def print_scores(console: Console, scores: Mapping[str, Score]) -> None:
    """One line a kind."""
    table = Table(box=None, pad_edge=False)
    headings = ("kind", "rows", "mean error", "median", "95th", "bias", "in 90 % interval", "extrapolated", "no price")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind, each in scores.items():
        table.add_row(
            escape(printable(kind)),
            str(each.rows),
            _percent(each.mape_percent),
            _percent(each.median_percent),
            _percent(each.p95_percent),
            "-" if each.bias_percent is None else f"{each.bias_percent:+.1f} %",
            _percent(each.inside_interval_percent),
            str(each.extrapolated_rows),
            str(each.unpriced_rows),
        )
    console.print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"
