"""Efficiency against the rate of the link between nodes, and the rate from which splitting over them pays."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import exp, log
from statistics import fmean
from typing import Any, Final, Literal

import pandas as pd

from analysis.frames.parts import SCENARIO
from analysis.frames.rows import Row, appearance, frame_of, gather, number, rows_of
from analysis.frames.scaling import base_of, scenario

Answer = Literal["crosses", "pays at every rate", "pays at none", "pays at some", ""]
"""Whether TP n becomes as fast as TP 1 within the measured rates, and is faster at each beyond; empty if unknown.

"pays at some": not at the fastest, but at a slower one.
"""
# What is the same but for the network.
SETTING: Final = tuple(name for name in SCENARIO if name != "network")
# What the points of a curve share; chunks may be tuned to each rate.
CURVE: Final = (*SETTING, "tp", "group_nodes", "strategy")
RATE_COLUMNS: Final = (
    *CURVE,
    "network",
    "network_bytes_per_s",
    "chunks",
    "measured_total_s",
    "measured_total_low_s",
    "measured_total_high_s",
    "measured_tp1_total_s",
    "measured_efficiency",
    "measured_low_efficiency",
    "measured_high_efficiency",
    "measured_compute_s",
    "measured_communication_s",
    "samples",
    "theory",
    "estimate_total_s",
    "estimate_total_low_s",
    "estimate_total_high_s",
    "estimate_tp1_total_s",
    "estimate_efficiency",
    "estimate_low_efficiency",
    "estimate_high_efficiency",
    "signed_error",
    "extrapolated",
    "unpriced",
    "comparable",
    "record",
    "case",
)
CROSSING_COLUMNS: Final = (
    *CURVE,
    "rates",
    "slowest_bytes_per_s",
    "fastest_bytes_per_s",
    "measured_answer",
    "measured_crossing_bytes_per_s",
    "measured_crossing_low_bytes_per_s",
    "measured_crossing_high_bytes_per_s",
    "estimate_answer",
    "estimate_crossing_bytes_per_s",
    "estimate_crossing_low_bytes_per_s",
    "estimate_crossing_high_bytes_per_s",
    "signed_error",
    "balanced_bytes_per_s",
    "comparable",
)

Cells = Mapping[Any, Any]
Points = Sequence[tuple[float, float]]


def rates_frame(scaling: pd.DataFrame) -> pd.DataFrame:
    """Groups that lie over several nodes, in `RATE_COLUMNS`: a row a curve and record, curves ascending in rate.

    Only of what was measured over links of at least two rates. Efficiency is T(1) / (n T(n)) of one record, T(1) as
    the scaling frame chooses it. Its low end is T(1) low / (n T(n) high) and its high end the reverse, as if both
    totals erred apart: wider than either interval's share. `signed_error` is that of the total, `samples` the fewer of
    both totals. Of several numbers of chunks in a record the fastest stands for all. What is emulated is not measured.
    """
    every = rows_of(scaling)
    bases = gather((row for row in every if row["tp"] == 1), scenario)
    across = [row for row in every if _crosses_a_link(row)]
    strategies, order = appearance(row["strategy"] for row in across), appearance(map(_setting, across))
    rows = []
    for same in gather(across, _setting).values():
        if len({row["network_bytes_per_s"] for row in same}) > 1:
            # Of a series of their own are the rows of each of several records of one link.
            places = gather(same, lambda row: (curve(row), scenario(row)))
            rows += [_rate_row(_fastest(each), bases.get(scenario(each[0]), [])) for each in places.values()]
    rows.sort(
        key=lambda row: (
            *(order[_setting(row)], row["tp"], row["group_nodes"], strategies[row["strategy"]]),
            row["network_bytes_per_s"],
        )
    )
    return frame_of(rows, RATE_COLUMNS)


def curve(row: Cells) -> tuple[Any, ...]:
    """What the points of a curve share."""
    return tuple(row[name] for name in CURVE)


def panel(row: Cells) -> tuple[Any, ...]:
    """What curves share that are shown together: all but the strategy."""
    return tuple(row[name] for name in CURVE if name != "strategy")


def _setting(row: Cells) -> tuple[Any, ...]:
    return tuple(row[name] for name in SETTING)


def _crosses_a_link(row: Cells) -> bool:
    known = (number(row["network_bytes_per_s"]) or 0) > 0
    return known and row["tp"] > 1 and row["group_nodes"] > 1 and not row["emulated"]


def _fastest(rows: Sequence[Cells]) -> Cells:
    return min(rows, key=lambda row: (not row["comparable"], row["measured_total_s"]))


def _rate_row(row: Cells, bases: Sequence[Cells]) -> Row:
    found = {name: row[name] for name in RATE_COLUMNS if name in row}
    for kind in ("measured", "estimate"):
        base = base_of(row, bases, kind=kind)
        found |= _efficiency(row, base, kind)
        if kind == "measured" and base is not None:
            found["samples"] = min(row["samples"], base["samples"])
            found["comparable"] = bool(row["comparable"] and base["comparable"])
    expected = number(row["estimate_total_s"])
    return found | {"signed_error": None if expected is None else expected / row["measured_total_s"] - 1}


def _efficiency(row: Cells, base: Cells | None, kind: str) -> Row:
    """Efficiency and its ends by `kind`; None where a total is missing or nothing."""
    found: Row = {f"{kind}_tp1_total_s": None if base is None else base[f"{kind}_total_s"]}
    ends = {"": ("", ""), "_low": ("_low", "_high"), "_high": ("_high", "_low")}
    for end, (one_end, many_end) in ends.items():
        one = None if base is None else number(base[f"{kind}_total{one_end}_s"])
        many = number(row[f"{kind}_total{many_end}_s"])
        found[f"{kind}{end}_efficiency"] = one / (row["tp"] * many) if one is not None and many else None
    return found


def crossings_frame(rates: pd.DataFrame) -> pd.DataFrame:
    """One row a curve of at least two rates, in `CROSSING_COLUMNS`: from which rate on TP n is faster than TP 1.

    There T(n) = T(1); log(T(n)/T(1)) is taken as linear in the logarithm of the rate between two neighbouring ones, and
    at each the mean over its records. T(1), which sends nothing, is the mean in logarithms over all links: what wanders
    from one to the next is the machine. Low and high are where the ends of the efficiencies' intervals cross,
    NaN beyond the measured rates. `signed_error` is predicted / measured - 1 of the crossing; at `balanced_bytes_per_s`
    compute alone takes as long as communication alone, as measured.
    """
    known = [row for row in rows_of(rates) if number(row["measured_efficiency"]) is not None]
    rows = [_crossing_row(same) for same in gather(known, curve).values()]
    return frame_of([row for row in rows if row["rates"] > 1], CROSSING_COLUMNS)


def _crossing_row(rows: Sequence[Cells]) -> Row:
    # Times that are not comparable are taken where there are no others.
    comparable = [row for row in rows if row["comparable"]]
    rows = comparable or rows
    links = sorted(row["network_bytes_per_s"] for row in rows)
    found = {name: rows[0][name] for name in CURVE} | {
        "rates": len(set(links)),
        "slowest_bytes_per_s": links[0],
        "fastest_bytes_per_s": links[-1],
        "balanced_bytes_per_s": _cross(_points(rows, _communication_over_compute))[1],
        "comparable": bool(comparable),
    }
    for kind in ("measured", "estimate"):
        over_tp1 = partial(_time_over_tp1, kind, _mean_tp1(rows, kind))
        answer, crossing = _cross(_points(rows, over_tp1("")))
        found |= {f"{kind}_answer": answer, f"{kind}_crossing_bytes_per_s": crossing}
        # The better the efficiency, the slower the link that is enough.
        for end, optimist in (("low", "high"), ("high", "low")):
            _, beside = _cross(_points(rows, over_tp1(f"_{optimist}")))
            found[f"{kind}_crossing_{end}_bytes_per_s"] = None if crossing is None else beside
    measured, expected = (found[f"{kind}_crossing_bytes_per_s"] for kind in ("measured", "estimate"))
    return found | {"signed_error": expected / measured - 1 if measured and expected else None}


def _mean_tp1(rows: Sequence[Cells], kind: str) -> float | None:
    """T(1) over all links, seconds."""
    known = [log(one) for row in rows if (one := number(row[f"{kind}_tp1_total_s"]))]
    return exp(fmean(known)) if known else None


def _time_over_tp1(kind: str, tp1_s: float | None, end: str) -> Callable[[Cells], float | None]:
    """T(n) over T(1) = `tp1_s`, or that of an end of the efficiency's interval."""

    def ratio(row: Cells) -> float | None:
        known, own_s = number(row[f"{kind}{end}_efficiency"]), number(row[f"{kind}_tp1_total_s"])
        return own_s / (row["tp"] * known) / tp1_s if known and own_s and tp1_s else None

    return ratio


def _communication_over_compute(row: Cells) -> float | None:
    compute, sending = (number(row[f"measured_{name}_s"]) for name in ("compute", "communication"))
    return sending / compute if compute and sending else None


def _points(rows: Sequence[Cells], ratio: Callable[[Cells], float | None]) -> Points:
    """By rate, ascending: its logarithm, and the mean logarithm of the ratio over the rows that have one."""
    known = [(row["network_bytes_per_s"], value) for row in rows if (value := ratio(row)) is not None]
    by_rate = gather(({"rate": rate, "value": value} for rate, value in known), lambda each: each["rate"])
    points = ((same[0]["rate"], fmean(log(each["value"]) for each in same)) for same in by_rate.values())
    return sorted((log(rate), value) for rate, value in points)


def _cross(points: Points) -> tuple[Answer, float | None]:
    """Where the ratio last falls through one with growing rate, and stays under it; bytes/s."""
    faster = [value < 0 for _, value in points]
    if len(points) < 2:
        return "", None
    if all(faster):
        return "pays at every rate", None
    if not faster[-1]:
        return ("pays at some" if any(faster) else "pays at none"), None
    (start, above), (end, below) = next(
        pair for pair in reversed(list(pairwise(points))) if not pair[0][1] < 0 and pair[1][1] < 0
    )
    return "crosses", exp(start + (end - start) * above / (above - below))
