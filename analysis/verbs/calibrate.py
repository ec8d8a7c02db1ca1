"""python -m analysis calibrate INPUT... --out FILE"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import expm1
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from analysis.calibrate import fit_runs, write_calibration
from analysis.verbs.output import Inputs, make_console, note, require
from tp.cost.calibrated import Calibration
from tp.cost.curves import AttentionCurve, GemmCurve, SizeCurve
from tp.errors import ConfigError
from tp.flags import parse_flags
from tp.probe import resolve_node
from tp.units import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateFlags:
    """Fit a machine's curves to records of bench/gemm.py and bench/collectives.py."""

    inputs: Inputs = ()
    """Record files."""
    hardware: str = ""
    """What was measured, a name of configs/hardware or a TOML file (default: what the records say)."""
    out: str = ""
    """Calibration file to write."""


def calibrate(args: Sequence[str]) -> None:
    """Fit the curves, write them, and show how far off each is on rows it has not seen."""
    flags = parse_flags(CalibrateFlags, args, prog="analysis calibrate", description=CalibrateFlags.__doc__ or "")
    if not flags.inputs:
        raise ConfigError("analysis calibrate: no record file given; name those of bench/gemm.py and collectives.py")
    require(flags.out, "--out", "the file to write")
    if Path(flags.out).resolve() in {Path(name).resolve() for name in flags.inputs}:
        raise ConfigError(f"--out {flags.out}: is one of the record files to read; name another file")
    calibration = fit_runs(
        [Path(name) for name in flags.inputs],
        hardware=resolve_node(flags.hardware).device.name if flags.hardware else None,
        tell=note,
    )
    write_calibration(calibration, Path(flags.out))
    console = make_console()
    console.print(_fits(calibration))
    console.print(printable(f"calibration: {flags.out}"), markup=False)


def _fits(calibration: Calibration) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("curve", "rows", "held-out error", "90 % within"):
        table.add_column(heading, justify="left" if heading == "curve" else "right")
    kinds: dict[str, Mapping[str, GemmCurve | AttentionCurve | SizeCurve]] = {
        "gemm": calibration.gemm,
        "attention": calibration.attention,
        "elementwise": calibration.elementwise,
        "collective": calibration.collectives,
    }
    for kind, curves in kinds.items():
        for key, curve in curves.items():
            within = f"{100 * expm1(curve.fit.log_error_90):.0f} %"
            error = f"{curve.fit.held_out_mape_percent:.1f} %"
            table.add_row(escape(printable(f"{kind} {key}")), str(curve.fit.rows), error, within)
    return table
