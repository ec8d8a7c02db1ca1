"""python -m analysis calibrate INPUT... --hardware H --out FILE"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import expm1
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from analysis.calibrate import fit_inputs, require_comparable, write_calibration
from analysis.measured.read import Inputs as Read
from analysis.measured.read import read_inputs
from analysis.measured.tables import read_citations
from analysis.verbs.inputs import parse_select
from analysis.verbs.output import Inputs, make_console, note, require
from tp.case import PHASES
from tp.cost.calibrated import Calibration
from tp.cost.curves.attention import AttentionCurve
from tp.cost.curves.gemm import GemmCurve
from tp.cost.curves.size import SizeCurve
from tp.errors import ConfigError
from tp.flags import parse_flags
from tp.hardware import Device
from tp.probe import resolve_node
from tp.units import format_seconds, format_signed_percent, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateFlags:
    """Fit a machine's curves to records of bench/gemm.py and bench/collectives.py, or to published tables."""

    inputs: Inputs = ()
    """Record files, and CSV tables of products, attention cores, collectives or layer parts."""
    hardware: str = ""
    """What was measured, a name of configs/hardware or a TOML file (default: what the records say)."""
    select: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Rows of tables to take, such as hardware=L40S; may be repeated."""
    compact: Annotated[bool, tyro.conf.arg(help="Keep curves alone, nothing that is interpolated between rows.")] = (
        False
    )
    shared_cores: Annotated[bool, tyro.conf.arg(help="Take records whose ranks shared cores, for runs alike.")] = False
    citations: str = ""
    """CSV table of source and citation, to put beside what the rows name as their source."""
    out: str = ""
    """Calibration file to write."""


def calibrate(args: Sequence[str]) -> None:
    """Fit the curves, write them, and show how far off each is on rows it has not seen."""
    flags = parse_flags(CalibrateFlags, args, prog="analysis calibrate", description=CalibrateFlags.__doc__ or "")
    if not flags.inputs:
        raise ConfigError("analysis calibrate: no file given; name records of bench/gemm.py, collectives.py, or tables")
    require(flags.out, "--out", "the file to write")
    if Path(flags.out).resolve() in {Path(name).resolve() for name in flags.inputs}:
        raise ConfigError(f"--out {flags.out}: is one of the files to read; name another file")
    inputs = read_inputs([Path(name) for name in flags.inputs], select=parse_select(flags.select), tell=note)
    if not flags.shared_cores:
        require_comparable(inputs.runs)
    calibration = fit_inputs(
        inputs,
        _device(flags.hardware, inputs),
        sources=[Path(name).name for name in flags.inputs],
        citations=read_citations(Path(flags.citations)) if flags.citations else None,
        compact=flags.compact,
        tell=note,
    )
    write_calibration(calibration, Path(flags.out))
    console = make_console()
    console.print(_fits(calibration))
    for line in _overheads(calibration):
        console.print(line, markup=False)
    console.print(printable(f"calibration: {flags.out}"), markup=False)


def _device(name: str, inputs: Read) -> Device:
    """The device by its flag, or by the records."""
    devices = {header.hardware.device.name: header.hardware.device for run in inputs.runs for header in run.headers}
    if name and len(devices) < 2:
        device = resolve_node(name).device
        if any(other != device.name for other in devices):
            note(f"the records are of {', '.join(devices)}; --hardware {name} calls them {device.name}")
        return device
    if not devices:
        raise ConfigError("--hardware: is missing; tables do not hold a data sheet, name one of configs/hardware")
    if len(devices) > 1:
        raise ConfigError(f"records of different hardware ({', '.join(sorted(devices))}); calibrate one at a time")
    return next(iter(devices.values()))


def _fits(calibration: Calibration) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("curve", "form", "rows", "held-out error", "median", "90 % within"):
        table.add_column(heading, justify="left" if heading in ("curve", "form") else "right")
    kinds: dict[str, Mapping[str, GemmCurve | AttentionCurve | SizeCurve]] = {
        "gemm": calibration.gemm,
        "attention": calibration.attention,
        "elementwise": calibration.elementwise,
        "collective": calibration.collectives,
    }
    for kind, curves in kinds.items():
        for key, curve in curves.items():
            fit = curve.fit
            table.add_row(
                escape(printable(f"{kind} {key}")),
                _form(curve),
                str(fit.rows),
                f"{fit.held_out_mape_percent:.1f} %" if fit.held_out_mape_percent else "-",
                f"{fit.held_out_median_percent:.1f} %" if fit.held_out_mape_percent else "-",
                f"{100 * expm1(fit.log_error_90):.0f} %",
            )
    return table


def _overheads(calibration: Calibration) -> Iterator[str]:
    """Launch terms by phase, and contention."""
    terms = calibration.overheads.launch_s
    by_phase = {phase: sum(s for key, s in terms.items() if key.split("/")[0] == phase) for phase in PHASES}
    if terms:
        yield "host time beside the ops: " + ", ".join(f"{p} {format_seconds(s)}" for p, s in by_phase.items())
    contention = calibration.overheads.contention
    if contention.rows:
        yield (
            f"beside each other compute takes {format_signed_percent(contention.compute)} and communication "
            f"{format_signed_percent(contention.communication)} (median of {contention.rows} layers)"
        )


def _form(curve: GemmCurve | AttentionCurve | SizeCurve) -> str:
    if isinstance(curve, SizeCurve):
        return "two regimes" + (" + residual" if len(curve.log_size) > 1 else "")
    return curve.form + (" + residual" if curve.residual is not None else "")
