"""Time against tensor-parallel degree: one row a case that has a speed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from analysis.frames.parts import SCENARIO, WORKLOAD
from analysis.frames.rows import Row, appearance, frame_of, gather, number, rows_of

# `series` is the record file where several hold the same case, and empty otherwise.
SCALING_COLUMNS: Final = (
    *SCENARIO,
    "series",
    "strategy",
    "chunks",
    "tp",
    "group_nodes",
    "network_bytes_per_s",
    "measured_total_s",
    "measured_total_low_s",
    "measured_total_high_s",
    "measured_total_fastest_rank_s",
    "measured_total_fastest_rank_low_s",
    "measured_total_fastest_rank_high_s",
    "samples",
    "measured_compute_s",
    "measured_communication_s",
    "measured_exposed_s",
    "measured_hidden_s",
    "measured_speedup_over_tp1",
    "measured_efficiency",
    "theory",
    "estimate_total_s",
    "estimate_total_low_s",
    "estimate_total_high_s",
    "estimate_compute_s",
    "estimate_communication_s",
    "estimate_exposed_s",
    "estimate_hidden_s",
    "estimate_speedup_over_tp1",
    "estimate_efficiency",
    "extrapolated",
    "unpriced",
    "groups",
    "comparable",
    "record",
    "case",
)


def scaling_frame(parts: pd.DataFrame) -> pd.DataFrame:
    """Time against TP degree, one row a case that has a speed, in `SCALING_COLUMNS`.

    Speed-up is the total at TP 1 over the total here, of the same strategy where it was measured at TP 1 and else of
    the fastest one there, since at TP 1 all compute the same; efficiency is speed-up / TP.
    """
    ok = rows_of(parts[parts["status"] == "ok"])
    rows = [_scaling_row(case) for case in gather(ok, lambda row: (row["record"], row["case"])).values()]
    rows = [row for row in rows if row["measured_total_s"] is not None]
    _name_series(rows)
    bases = gather((row for row in rows if row["tp"] == 1), scenario)
    for row in rows:
        _compare_with_tp1(row, bases.get(scenario(row), []))
    order = appearance(scenario(row) for row in rows)
    strategies = appearance(row["strategy"] for row in rows)
    rows.sort(key=lambda row: (order[scenario(row)], strategies[row["strategy"]], *_place(row)))
    return frame_of(rows, SCALING_COLUMNS)


def _place(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What tells the cases of a scenario and a strategy apart."""
    return (row["tp"], row["group_nodes"], row["chunks"])


def scenario(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What a scaling row shares with those it is compared with: all but strategy, chunks, degree and placement."""
    return (*(row[name] for name in SCENARIO), row["series"])


def workload(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What the rows of all strategies share: a scenario but for recomputation."""
    return (*(row[name] for name in WORKLOAD), row["series"])


def _scaling_row(rows: Sequence[Mapping[Any, Any]]) -> Row:
    by_part = {row["part"]: row for row in rows}
    total = by_part["total"]
    row = {name: total[name] for name in SCALING_COLUMNS if name in total}
    for name in ("total", "compute", "communication"):
        for kind in ("measured", "estimate"):
            row[f"{kind}_{name}_s"] = number(by_part.get(name, {}).get(f"{kind}_s"))
    for kind in ("measured", "estimate"):
        row |= _exposed_and_hidden(row, kind)
    for side in ("low", "high"):
        row[f"measured_total_{side}_s"] = number(total[f"{side}_s"])
        row[f"estimate_total_{side}_s"] = number(total[f"estimate_{side}_s"])
    for end in ("", "_low", "_high"):
        row[f"measured_total_fastest_rank{end}_s"] = number(total[f"fastest_rank{end}_s"])
    return row | {"series": ""}


def _exposed_and_hidden(row: Row, kind: str) -> Row:
    """Exposed is total - compute, hidden what is left of communication run alone; neither is below zero.

    Both are derived, from times that were taken alone.
    """
    total, compute, sending = (row[f"{kind}_{name}_s"] for name in ("total", "compute", "communication"))
    if total is None or compute is None or (row["tp"] == 1 and not sending):
        return {f"{kind}_exposed_s": None, f"{kind}_hidden_s": None}
    exposed = max(total - compute, 0.0)
    hidden = None if sending is None else max(sending - exposed, 0.0)
    return {f"{kind}_exposed_s": exposed, f"{kind}_hidden_s": hidden}


def _name_series(rows: Sequence[Row]) -> None:
    """Tell apart by their record file the rows of a workload of which two files hold the same case."""
    doubled = set()
    seen = set()
    for row in rows:
        case = (scenario(row), row["strategy"], _place(row))
        if case in seen:
            doubled.add(workload(row))
        seen.add(case)
    for row in rows:
        if workload(row) in doubled:
            row["series"] = row["record"]


def base_of(row: Mapping[Any, Any], bases: Sequence[Mapping[Any, Any]], *, kind: str) -> Mapping[Any, Any] | None:
    """The row at TP 1 that a row is held against: the fastest by `kind` of its scenario, own strategy first."""
    # A time that is not comparable makes no ratio comparable.
    bases = [base for base in bases if base["comparable"] or not row["comparable"]]
    own = [base for base in bases if base["strategy"] == row["strategy"]]
    known = [base for base in own or bases if (number(base[f"{kind}_total_s"]) or 0) > 0]
    return min(known, key=lambda base: float(base[f"{kind}_total_s"]), default=None)


def _compare_with_tp1(row: Row, bases: Sequence[Row]) -> None:
    for kind in ("measured", "estimate"):
        base, here = base_of(row, bases, kind=kind), row[f"{kind}_total_s"]
        speedup = base[f"{kind}_total_s"] / here if base is not None and here else None
        row[f"{kind}_speedup_over_tp1"] = speedup
        row[f"{kind}_efficiency"] = None if speedup is None else speedup / row["tp"]
