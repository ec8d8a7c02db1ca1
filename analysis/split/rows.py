"""Curves as rows for files and as a sentence for people."""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite, isinf, isnan
from typing import Any

from analysis.split.efficiency import Ranged, Reach, degree_text
from analysis.split.need import Need
from analysis.split.scaling import OK, Curve, Degree


def percent(share: float) -> str:
    """A target as a flag or a heading has it: 80 %."""
    return f"{100 * share:g} %"


def sentence(curve: Curve) -> str:
    """What a curve comes to: allreduce, prefill: 80 % up to TP 4 (falls under at 5.3, 4.1 to 6.9), 50 % up to ...."""
    name = f"{curve.strategy}, {curve.phase}"
    runnable = [each for each in curve.degrees if each.status == OK]
    if not runnable:
        why = curve.degrees[0].status if curve.degrees else "no degree divides the layer"
        return f"{name}: nothing to tell, {why}"
    if runnable[-1].tp == 1:
        return f"{name}: no degree above 1 runs here"
    return f"{name}: {', '.join(map(_reach_text, curve.reaches))}"


def _reach_text(reach: Reach) -> str:
    at = reach.crossing
    if isinf(at.value):
        # The interval ends where nothing was looked at, so only its low end says something.
        worst = f" (at worst {degree_text(at.low, reach.last)})" if at.has_interval else ""
        return f"{percent(reach.target)} up to TP {reach.last} and beyond{worst}"
    spread = f", {degree_text(at.low, reach.last)} to {degree_text(at.high, reach.last)}" if at.has_interval else ""
    return f"{percent(reach.target)} up to TP {reach.largest} (falls under at {at.value:.1f}{spread})"


def skipped(curve: Curve) -> list[str]:
    """Why degrees have no time, a line for neighbours of one kind."""
    lines = []
    missing = [each for each in curve.degrees if each.status != OK]
    for _, alike in groupby(missing, key=lambda each: "".join(filter(str.isalpha, each.status))):
        group = list(alike)
        degrees = ", ".join(str(each.tp) for each in group)
        lines.append(f"{curve.strategy}, {curve.phase}, TP {degrees}: left out, {group[0].status}")
    return lines


def as_json(curve: Curve) -> dict[str, Any]:
    """Everything of a curve in plain values; what is unknown or infinite is null, beside what it means."""
    return {
        "strategy": curve.strategy,
        "phase": curve.phase,
        "degrees": [_degree_json(each) for each in curve.degrees],
        "targets": [
            {
                "efficiency": reach.target,
                "largest_degree": reach.largest,
                "largest_degree_known": reach.last,
                "falls_under": not isinf(reach.crossing.value),
                "degree": _number(reach.crossing.value),
                "degree_low": _number(reach.crossing.low),
                "degree_high": _number(reach.crossing.high),
            }
            for reach in curve.reaches
        ],
    }


def _degree_json(degree: Degree) -> dict[str, Any]:
    return {
        "tp": degree.tp,
        "chunks": degree.chunks,
        "status": degree.status,
        **_ends("seconds", degree.seconds),
        **_ends("efficiency", degree.efficiency),
        "compute_share": _number(degree.compute_share),
        "communication_share": _number(degree.communication_share),
        "hidden_share": _number(degree.hidden_share),
        "sent_bytes": degree.sent_bytes,
        "reached_bytes_per_s": _number(degree.reached_bytes_per_s),
        "extrapolated": degree.extrapolated,
        "needs": [_need_json(need) for need in degree.needs],
    }


def _need_json(need: Need) -> dict[str, Any]:
    known = not isnan(need.bytes_per_s)
    return {
        "efficiency": need.target,
        "bytes_per_s": _number(need.bytes_per_s),
        "some_link_suffices": isfinite(need.bytes_per_s) if known else None,
    }


def _ends(name: str, found: Ranged) -> dict[str, float | None]:
    return {name: _number(found.value), f"{name}_low": _number(found.low), f"{name}_high": _number(found.high)}


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def csv_rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row a strategy, phase and degree; a column of the needed rate for each target, `inf` where no link does."""
    rows = []
    for curve in curves:
        for degree in curve.degrees:
            row = {"strategy": curve.strategy, "phase": curve.phase, **_degree_json(degree)}
            del row["needs"]
            for need in degree.needs:
                known = not isnan(need.bytes_per_s)
                row[f"needed_bytes_per_s_{100 * need.target:g}"] = need.bytes_per_s if known else None
            rows.append(row)
    return rows
