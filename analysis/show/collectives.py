"""Collectives timed alone, as rows of text for people: a curve over sizes a group."""

from typing import Final

import pandas as pd

from analysis.frames.collectives import CURVE
from analysis.frames.rows import gather, number, rows_of
from analysis.show.cells import interval, percent, seconds, signed
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from analysis.show.words import curve_text
from tp.units import format_bytes, format_rate


def show_collectives(frame: pd.DataFrame) -> Display:
    """Sizes of a curve next to each other; columns without any entry are left out."""
    rows = rows_of(frame)
    cells = cells_in_use(_CELLS, rows)
    several = frame["record"].nunique() > 1
    groups = [
        Group(
            title=f"{curve[0]['collective']}, {curve_text(curve[0], several=several)}",
            detail=str(curve[0]["hardware"]),
            rows=tuple(tuple(cell.read(row) for cell in cells) for row in curve),
        )
        for curve in gather(rows, lambda row: tuple(row[name] for name in CURVE)).values()
    ]
    return Display(columns=tuple(cell.column for cell in cells), groups=tuple(groups), notes=_notes(frame))


def _rate(name: str) -> Cell:
    heading = {"algbw": "algbw", "busbw": "busbw", "fit_busbw": "busbw of the fit"}[name]
    return Cell(heading=heading, read=lambda row: _rate_text(row[f"{name}_bytes_per_s"]), may_go=name == "fit_busbw")


def _rate_text(value: object) -> str:
    known = number(value)
    return NOTHING if known is None else format_rate(known)


def _marks(row: Cells) -> str:
    marks = [] if row["comparable"] else ["not comparable"]
    marks += [f"{row['wrong']} wrong"] if row["wrong"] not in ("", "0") else []
    return ", ".join(marks)


_CELLS: Final = (
    Cell(heading="size", read=lambda row: format_bytes(row["size_bytes"])),
    Cell(heading="time", read=lambda row: seconds(row["measured_s"])),
    Cell(heading="95 % interval", read=lambda row: interval(row["low_s"], row["high_s"]), may_go=True),
    _rate("algbw"),
    _rate("busbw"),
    _rate("fit_busbw"),
    Cell(heading="of the link's claim", read=lambda row: percent(row["busbw_over_claimed_ratio"]), may_go=True),
    Cell(heading="predicted", read=lambda row: seconds(row["estimate_s"]), may_go=True),
    Cell(heading="error", read=lambda row: signed(row["signed_error"]), may_go=True),
    Cell(heading="marks", read=_marks, figures=False, may_go=True),
)


def _notes(frame: pd.DataFrame) -> tuple[str, ...]:
    if frame.empty:
        return ()
    notes = [
        "Sizes, algbw and busbw as nccl-tests counts them; times by the slowest rank. The fit has two regimes, each a "
        "start-up and a rate.",
    ]
    if frame["placement"].ne("").any():
        notes.append("Rows of logs are as printed there: one mean of many passes, without an interval.")
    if frame["claimed_bytes_per_s"].notna().any():
        notes.append("The claim is the data sheet's line rate of the link within a node, one way.")
    if frame["reduces_in_switch"].any():
        notes.append("Where a switch adds up, an all-reduce sends less than busbw counts, and may pass the claim.")
    return tuple(notes)
