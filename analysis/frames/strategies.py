"""Strategies side by side: one row a case that has a speed, held against all others of its workload and degree."""

from collections.abc import Hashable, Mapping, Sequence
from math import isnan
from typing import Any, Final, Literal

import pandas as pd

from analysis.frames.holdings import HOLDING_COLUMNS, SENT_COLUMNS, holding_cells, sent_cells
from analysis.frames.parts import WORKLOAD
from analysis.frames.rows import Row, appearance, frame_of, number, rows_of
from analysis.frames.scaling import workload
from analysis.load import Case, Run
from tp.case import RECOMPUTES
from tp.plan.ops import COLLECTIVE_KINDS, Collective

Standing = Literal["fastest", "may be fastest", "slower", ""]
"""By the intervals of the totals, on the slowest rank and on the fastest: apart from all others, in doubt, or slower.

Empty where nothing is held against it.
"""
STRATEGY_COLUMNS: Final = (
    *WORKLOAD,
    "series",
    "tp",
    "strategy",
    "recompute",
    "chunks",
    "group_nodes",
    "total_s",
    "total_low_s",
    "total_high_s",
    "total_fastest_rank_s",
    "total_fastest_rank_low_s",
    "total_fastest_rank_high_s",
    "samples",
    "total_over_shortest",
    "standing",
    "compute_s",
    "communication_s",
    "serial_s",
    "serial_low_s",
    "serial_high_s",
    "overlap_gained_s",
    *SENT_COLUMNS,
    *HOLDING_COLUMNS,
    "attention_kernel",
    "unpriced",
    "groups",
    "comparable",
    "record",
    "case",
)


def strategies_frame(runs: Sequence[Run], parts: pd.DataFrame, scaling: pd.DataFrame) -> pd.DataFrame:
    """One row a case that has a speed, in `STRATEGY_COLUMNS`; rows of a table next to each other.

    `overlap_gained_s` is serial - total, both medians, hence derived; only of strategies that overlap. An emulated
    total is compute with an estimate added, so it has no standing, and no gain. `unpriced`: the collectives that the
    estimate, and so an emulated total, leaves out.
    """
    cases = {(str(run.path), case.planned.key): case for run in runs for case in run.cases}
    wholes = {
        (row["record"], row["case"], row["part"]): row
        for row in rows_of(parts[parts["part"].isin(("serial", "total"))])
    }
    rows = []
    for row in rows_of(scaling):
        place = (row["record"], row["case"])
        case, serial, total = cases[place], wholes.get((*place, "serial"), {}), wholes[(*place, "total")]
        seen = case.result.observed
        rows.append(
            {name: row[name] for name in STRATEGY_COLUMNS if name in row}
            | _times(row, serial, overlaps=_overlaps(case) and not row["emulated"])
            | sent_cells(case)
            | holding_cells(case)
            | {
                "samples": total["samples"],
                "attention_kernel": None if seen is None else seen.attention_kernel,
                "unpriced": ", ".join(part for part in row["unpriced"].split(", ") if part in COLLECTIVE_KINDS),
            }
        )
    tables = _side_by_side(rows)
    for table in tables:
        _compare(table)
    return frame_of([row for table in tables for row in table], STRATEGY_COLUMNS)


def side_by_side(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What the rows of one table share."""
    return (*workload(row), row["tp"])


def _times(row: Mapping[Hashable, Any], serial: Mapping[Hashable, Any], *, overlaps: bool) -> Row:
    total_s, serial_s = row["measured_total_s"], number(serial.get("measured_s"))
    return {
        "total_s": total_s,
        "total_low_s": row["measured_total_low_s"],
        "total_high_s": row["measured_total_high_s"],
        **{f"total_fastest_rank{end}_s": row[f"measured_total_fastest_rank{end}_s"] for end in ("", "_low", "_high")},
        "compute_s": row["measured_compute_s"],
        "communication_s": row["measured_communication_s"],
        "serial_s": serial_s,
        "serial_low_s": number(serial.get("low_s")),
        "serial_high_s": number(serial.get("high_s")),
        "overlap_gained_s": serial_s - total_s if overlaps and serial_s is not None else None,
    }


def _overlaps(case: Case) -> bool:
    """Whether compute goes on while something is sent; elsewhere the serial pass is the same pass again."""
    return any(isinstance(op, Collective) and op.overlaps for op in case.planned.ops)


def _side_by_side(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows by workload and degree, each in the order strategy, recomputation, nodes, chunks."""
    order = appearance(workload(row) for row in rows)
    strategies = appearance(row["strategy"] for row in rows)
    tables: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        tables.setdefault((order[workload(row)], row["tp"]), []).append(row)
    for table in tables.values():
        table.sort(
            key=lambda row: (
                *(strategies[row["strategy"]], RECOMPUTES.index(row["recompute"])),
                *(row["group_nodes"], row["chunks"]),
            )
        )
    return [tables[place] for place in sorted(tables)]


def _compare(table: Sequence[Row]) -> None:
    """Set the rows' ratio to the least median and their standing; without comparable rows, the others stand alone."""
    comparable = [row for row in table if row["comparable"]] or list(table)
    # An emulated total whose communication has no price is not a total.
    whole = [row for row in comparable if not (row["emulated"] and row["unpriced"])]
    shortest = min(whole, key=lambda row: row["total_s"], default=None)
    for row in table:
        among = shortest is not None and any(row is other for other in whole)
        row["total_over_shortest"] = row["total_s"] / shortest["total_s"] if shortest is not None and among else None
        row["standing"] = _standing(row, whole) if among and not row["emulated"] else ""


def _standing(row: Row, rows: Sequence[Row]) -> Standing:
    if len(rows) == 1:
        return ""
    candidates = contenders(rows, total="total")
    if not any(row is other for other in candidates):
        return "slower"
    return "fastest" if len(candidates) == 1 else "may be fastest"


def contenders(rows: Sequence[Mapping[Any, Any]], *, total: str) -> list[Mapping[Any, Any]]:
    """The row with the least median, then those that are not slower beyond doubt; `total` names the columns.

    Slower is one whose 95 % interval lies above that of the least median, of the slowest rank of each pass and of the
    fastest: where the two disagree, ranks differ among themselves by more than the strategies do.
    """
    ranked = sorted(rows, key=lambda row: float(row[f"{total}_s"]))
    return [row for row in ranked if row is ranked[0] or not _slower(row, ranked[0], total=total)]


def _slower(row: Mapping[Any, Any], best: Mapping[Any, Any], *, total: str) -> bool:
    """By both, or by the slowest rank alone where one of them is emulated and has no fastest."""
    ends = [(row[f"{name}_low_s"], best[f"{name}_high_s"]) for name in (total, f"{total}_fastest_rank")]
    return all(low > high for low, high in ends if not (isnan(low) or isnan(high)))
