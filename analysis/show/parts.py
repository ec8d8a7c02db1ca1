"""Measured beside predicted, part by part, as rows of text for people."""

from pathlib import Path
from typing import Final

import pandas as pd

from analysis.frames.rows import gather, rows_of
from analysis.show.cells import interval, seconds, signed
from analysis.show.table import NOTHING, Cells, Display, Group, figure_columns, text_column
from analysis.show.words import (
    EMULATED_NOTE,
    MIN_SAMPLES,
    network_text,
    recompute_text,
    several_machines,
    strategy_text,
    workload_text,
)
from tp.plan.ops import COLLECTIVE_KINDS
from tp.units import format_bytes, format_flops

# Strategies whose collectives run within operators of torch.
_INSIDE: Final = ("async-tp", "dtensor")


def show_parts(parts: pd.DataFrame) -> Display:
    """Measured beside predicted, a group a case; a row without either figure is left out, but for a collective's."""
    known = parts["measured_s"].notna() | parts["estimate_s"].notna()
    shown = parts[known | _without_time(parts)]
    records, machines = shown["record"].nunique() > 1, several_machines(shown)
    groups = []
    for rows in gather(rows_of(shown), lambda row: (row["record"], row["case"])).values():
        first = rows[0]
        detail = [workload_text(first) + recompute_text(first) + network_text(first)]
        detail += [f"{first['hardware']} ({first['backend']})"] if machines else []
        detail += [Path(first["record"]).name] if records else []
        groups.append(
            Group(
                title=f"{first['model']} {first['block']} {first['phase']}, {strategy_text(first)}, TP {first['tp']}",
                detail=", ".join(detail),
                marks=_case_marks(first),
                rows=tuple(_part_cells(row) for row in rows),
            )
        )
    headings = ("measured", "95 % interval", "predicted", "90 % interval", "error", "FLOP", "bytes")
    columns = (text_column("part"), *figure_columns(*headings), text_column("marks"))
    return Display(columns=columns, groups=tuple(groups), notes=_part_notes(shown))


def _without_time(parts: pd.DataFrame) -> pd.Series:
    """Collectives of a sound case that have no time of their own."""
    collective = parts["part"].isin(COLLECTIVE_KINDS) & parts["measured_s"].isna()
    return collective & (parts["status"] == "ok")


def _part_cells(row: Cells) -> tuple[str, ...]:
    return (
        row["part"],
        seconds(row["measured_s"]),
        interval(row["low_s"], row["high_s"]),
        seconds(row["estimate_s"]),
        interval(row["estimate_low_s"], row["estimate_high_s"]),
        signed(row["signed_error"]),
        format_flops(row["flops"]) if row["flops"] else NOTHING,
        format_bytes(row["bytes"]) if row["bytes"] else NOTHING,
        ", ".join(_part_marks(row)),
    )


def _case_marks(row: Cells) -> tuple[str, ...]:
    marks = [] if row["status"] == "ok" else [row["status"]]
    marks += ["emulated"] if row["emulated"] else []
    return (*marks, *([] if row["comparable"] else ["not comparable"]))


def _part_marks(row: Cells) -> list[str]:
    marks = _derived(row) if row["emulated"] and row["part"] in ("serial", "total") and row["samples"] else []
    marks += [f"{row['samples']} samples"] if 0 < row["samples"] < MIN_SAMPLES else []
    marks += ["extrapolated"] if row["extrapolated"] else []
    marks += [f"predicted without {row['unpriced']}"] if row["unpriced"] else []
    return marks


def _derived(row: Cells) -> list[str]:
    """An emulated whole holds of the collectives only those that have a price."""
    missing = [part for part in row["unpriced"].split(", ") if part in COLLECTIVE_KINDS]
    return [f"derived, without {', '.join(missing)}" if missing else "derived"]


def _part_notes(shown: pd.DataFrame) -> tuple[str, ...]:
    if shown.empty:
        return ()
    notes = [
        "Error is predicted / measured - 1: below zero, the part took longer than predicted.",
        "Bytes are moved through memory by compute and sent by collectives, of one rank.",
    ]
    theories = sorted({theory for theory in shown["theory"] if theory})
    if theories:
        notes.append(f"Predicted by: {', '.join(theories)}.")
    if "datasheet" in theories:
        notes.append(
            "The datasheet's times are bounds that nobody beats, no forecast: measure bench/gemm.py and "
            "bench/collectives.py, calibrate, and give the run --calibration."
        )
    if (shown["samples"].between(1, MIN_SAMPLES - 1)).any():
        notes.append(f"Under {MIN_SAMPLES} samples the interval is their extremes, and holds less than 95 %.")
    return (*notes, *_strategy_notes(shown))


def _strategy_notes(shown: pd.DataFrame) -> list[str]:
    """What the strategies that occur make of a collective's time."""
    notes = []
    if (shown["strategy"].isin(_INSIDE) & _without_time(shown)).any():
        notes.append(
            "Under async-tp and dtensor collectives run within operators of torch, together with a product or beside "
            f"it, and have no time of their own ({NOTHING}): it is in the parts around them, so these stand beside "
            "a prediction of less, and in communication, timed alone."
        )
    if (shown["part"] == "send_recv").any():
        notes.append(
            "Under overlap send_recv is the time in which compute starts sends and waits for them, not what they take: "
            "they go on beside the compute. Its prediction is what compute does not hide."
        )
    if shown["emulated"].any():
        notes.append(f"{EMULATED_NOTE} Its collectives send nothing and have no time ({NOTHING}).")
    return notes
