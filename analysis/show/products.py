"""Matrix products under their roof, as rows of text for people."""

from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.frames.rows import number, rows_of
from analysis.show.cells import percent, seconds
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from tp.units import format_flops_rate, significant


def show_products(products: pd.DataFrame) -> Display:
    """Products alone and those of layers, a group each, as they were recorded."""
    rows = rows_of(products)
    several = products["record"].nunique() > 1
    cells = cells_in_use((*_CELLS, *([_RECORD] if several else [])), rows)
    groups = []
    for where, title in (("alone", "Timed alone"), ("layer", "Parts of layers")):
        mine: list[dict[Any, Any]] = [row for row in rows if row["measured_in"] == where]
        if mine:
            groups.append(Group(title=title, rows=tuple(tuple(cell.read(row) for cell in cells) for row in mine)))
    notes = (
        "Of its roof: the rate over the lesser of the data sheet's dense peak and its memory bandwidth times FLOP a "
        "byte (Williams et al. 2009); bytes are those of the operands and the result, each moved once.",
    )
    return Display(columns=tuple(cell.column for cell in cells), groups=tuple(groups), notes=notes if rows else ())


def _shape(row: Cells) -> str:
    if number(row["m"]) is None:
        return str(row["case"])
    return f"{row['m']:.0f} x {row['n']:.0f} x {row['k']:.0f}"


def _rate(value: object) -> str:
    known = number(value)
    return NOTHING if known is None else format_flops_rate(known)


_RECORD: Final = Cell(heading="record", read=lambda row: Path(row["record"]).name, figures=False)
_CELLS: Final = (
    Cell(heading="m x n x k, or case", read=_shape, figures=False),
    Cell(heading="part", read=lambda row: str(row["part"]), figures=False),
    Cell(heading="dtype", read=lambda row: str(row["dtype"]), figures=False),
    Cell(heading="time", read=lambda row: seconds(row["measured_s"])),
    Cell(heading="FLOP a byte", read=lambda row: significant(row["flops_per_byte"])),
    Cell(heading="reached", read=lambda row: _rate(row["flops_per_s"])),
    Cell(heading="roof", read=lambda row: _rate(row["roof_flops_per_s"]), may_go=True),
    Cell(heading="of its roof", read=lambda row: percent(row["rate_over_roof_ratio"]), may_go=True),
)
