"""The output of `python -m analysis split`: tables and a sentence each, or all of it as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isinf, isnan
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.split.efficiency import Ranged
from analysis.split.rows import as_json, percent, sentence, skipped
from analysis.split.scaling import OK, Curve, Degree, Question
from tp.cost.known import KnownCalibration
from tp.cost.theory import Theory
from tp.hardware import Link, Node
from tp.units import format_rate, format_seconds

LEGEND: Final = """\
compute, communication: shares of the time, each as if alone; hidden: the share of communication beside compute
busbw: bytes that a ring sends over its time, as NCCL counts; what an efficiency needs of it is to be held against the
busbw expected, not against a line rate; no link: compute alone already falls short of it
at worst: by the low end of the efficiency's interval"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is split over, and what prices it."""

    node: Node
    link: Link
    network: Link | None
    theory: Theory
    known: KnownCalibration | None

    @property
    def is_gpu(self) -> bool:
        return self.node.device.kind == "gpu"

    @property
    def calibration(self) -> str | None:
        """What the calibration is called, where it is the theory."""
        return self.known.label if self.known is not None and self.theory.name == "calibrated" else None


def print_tables(console: Console, machine: Machine, questions: Sequence[Question], curves: Sequence[Curve]) -> None:
    """Every curve, then what each comes to."""
    _print_heading(console, machine)
    by_phase = {question.workload.phase: question for question in questions}
    for curve in curves:
        _print_curve(console, curve, by_phase[curve.phase])
    console.print()
    for curve in curves:
        console.print(sentence(curve), markup=False, soft_wrap=True)
    console.print(LEGEND, markup=False)
    if any(degree.extrapolated for curve in curves for degree in curve.degrees):
        console.print("* extrapolated: beyond the sizes or rank counts measured, or expected of GPUs like it")


def _print_heading(console: Console, machine: Machine) -> None:
    origin = "" if machine.calibration is None else f" (calibration {machine.calibration})"
    console.print(f"theory: {machine.theory.name}{origin}", markup=False)
    over = (
        "" if machine.network is None else f", nodes of {machine.node.num_devices} joined by {_link(machine.network)}"
    )
    console.print(f"{machine.node.name} over {_link(machine.link)}{over}", markup=False)
    if machine.node.num_devices == 1 and machine.network is None:
        console.print("1 device a node; --network NAME joins such nodes", markup=False)


def _link(link: Link) -> str:
    rate = link.one_way_bytes_per_s
    return f"{link.name} ({'rate unknown' if rate is None else f'{format_rate(rate)} one way'})"


def _print_curve(console: Console, curve: Curve, question: Question) -> None:
    w = question.workload
    size = f"batch {w.batch}, context {w.context}" if w.phase == "decode" else f"batch {w.batch}, {w.seq} tokens"
    console.print(
        f"\n{curve.strategy}, {curve.phase}: a layer of {question.model.name}, {size}, {w.dtype}", markup=False
    )
    if any(degree.status == OK for degree in curve.degrees):
        console.print(_table(curve))
    for line in skipped(curve):
        console.print(line, markup=False, soft_wrap=True)


def _table(curve: Curve) -> Table:
    table = Table(box=None, pad_edge=False)
    chunked = any(degree.chunks > 1 for degree in curve.degrees)
    headings = ["TP", *(["chunks"] if chunked else []), "time", "90 % interval", "efficiency", "90 % interval"]
    headings += ["compute", "communication", "hidden", "busbw"]
    for heading in (*headings, *(f"busbw for {percent(target)}" for target in curve.targets)):
        table.add_column(heading, justify="right", no_wrap=True)
    for degree in curve.degrees:
        if degree.status == OK:
            table.add_row(*map(escape, _cells(degree, chunked=chunked)))
    return table


def _cells(degree: Degree, *, chunked: bool) -> list[str]:
    mark = "*" if degree.extrapolated else ""
    cells = [str(degree.tp), *([str(degree.chunks)] if chunked else [])]
    cells += [format_seconds(degree.seconds.value) + mark, _interval(degree.seconds, format_seconds)]
    cells += [_percent(degree.efficiency.value), _interval(degree.efficiency, _percent)]
    cells += map(_percent, (degree.compute_share, degree.communication_share, degree.hidden_share))
    return [*cells, _rate(degree.reached_bytes_per_s), *(_rate(need.bytes_per_s) for need in degree.needs)]


def _interval(found: Ranged, write: Callable[[float], str]) -> str:
    return f"{write(found.low)} - {write(found.high)}" if found.has_interval else "-"


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f} %"


def _rate(bytes_per_s: float) -> str:
    if isnan(bytes_per_s):
        return "-"
    return "no link" if isinf(bytes_per_s) else format_rate(bytes_per_s)


def print_json(machine: Machine, questions: Sequence[Question], curves: Sequence[Curve]) -> None:
    """Everything that the tables show, and shares and bytes beside it."""
    w = questions[0].workload
    found = {
        "model": questions[0].model.name,
        "hardware": machine.node.name,
        "devices_per_node": machine.node.num_devices,
        "link": _link_json(machine.link),
        "network": None if machine.network is None else _link_json(machine.network),
        "theory": machine.theory.name,
        "calibration": machine.calibration,
        "batch": w.batch,
        "lengths": {each.workload.phase: each.workload.context for each in questions},
        "dtype": w.dtype,
        "curves": [as_json(curve) for curve in curves],
    }
    print(json.dumps(found, indent=2, allow_nan=False))


def _link_json(link: Link) -> dict[str, Any]:
    return {"name": link.name, "one_way_bytes_per_s": link.one_way_bytes_per_s}
