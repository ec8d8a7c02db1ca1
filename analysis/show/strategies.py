"""Strategies side by side as rows of text for people: time, what is sent and what is held."""

from typing import Final

import pandas as pd

from analysis.frames.rows import gather, rows_of
from analysis.frames.strategies import side_by_side
from analysis.show.cells import interval, seconds, size, times
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from analysis.show.words import EMULATED_NOTE, MIN_SAMPLES, several_machines, table_text, variant_text


def show_strategies(frame: pd.DataFrame) -> Display:
    """All strategies of a workload and degree, a group each; columns without any entry are left out."""
    every = rows_of(frame)
    cells = cells_in_use(_CELLS, every)
    machines = several_machines(frame)
    groups = []
    for rows in gather(every, side_by_side).values():
        groups.append(
            Group(
                title=table_text(rows[0], hardware=machines),
                marks=("emulated",) if rows[0]["emulated"] else (),
                rows=tuple(tuple(cell.read(row) for cell in cells) for row in rows),
            )
        )
    return Display(columns=tuple(cell.column for cell in cells), groups=tuple(groups), notes=_notes(frame))


def _gained(row: Cells) -> str:
    """The sign is written, as overlap may cost; where the intervals of serial and total overlap, it may be nothing."""
    if pd.isna(row["overlap_gained_s"]):
        return NOTHING
    apart = row["total_high_s"] < row["serial_low_s"] or row["serial_high_s"] < row["total_low_s"]
    sign = "+" if row["overlap_gained_s"] > 0 else ""
    return f"{sign}{seconds(row['overlap_gained_s'])}{'' if apart else ' (may be none)'}"


def _collectives(row: Cells) -> str:
    """As dispatched; where the plan has others, those too."""
    if row["collectives_observed"] is None:
        return f"{row['collectives_planned']} (planned)" if row["collectives_planned"] else NOTHING
    return row["collectives_observed"] or NOTHING


def _marks(row: Cells) -> str:
    marks = [f"{row['samples']} samples"] if 0 < row["samples"] < MIN_SAMPLES else []
    marks += ["not comparable"] if not row["comparable"] and not row["emulated"] else []
    marks += [f"total without {row['unpriced']}"] if row["emulated"] and row["unpriced"] else []
    marks += [f"planned {row['collectives_planned'] or 'nothing'}"] if _otherwise(row) else []
    return ", ".join(marks)


def _otherwise(row: Cells) -> bool:
    """Whether something else was sent than planned; not where nothing was observed."""
    return not pd.isna(row["sent_as_planned"]) and not row["sent_as_planned"]


_CELLS: Final = (
    Cell(heading="strategy", read=variant_text, figures=False),
    Cell(heading="total", read=lambda row: seconds(row["total_s"])),
    Cell(heading="95 % interval", read=lambda row: interval(row["total_low_s"], row["total_high_s"])),
    Cell(heading="of the shortest", read=lambda row: times(row["total_over_shortest"])),
    Cell(heading="standing", read=lambda row: row["standing"] or NOTHING, figures=False),
    Cell(heading="compute", read=lambda row: seconds(row["compute_s"])),
    Cell(heading="communication", read=lambda row: seconds(row["communication_s"])),
    Cell(heading="overlap gained (derived)", read=_gained),
    Cell(heading="sent a rank (planned)", read=lambda row: size(row["sent_bytes"]) if row["sent_bytes"] else NOTHING),
    Cell(heading="collectives", read=_collectives, figures=False),
    Cell(heading="attention kernel", read=lambda row: row["attention_kernel"] or NOTHING, figures=False, may_go=True),
    Cell(heading="marks", read=_marks, figures=False, may_go=True),
)


def _notes(frame: pd.DataFrame) -> tuple[str, ...]:
    if frame.empty:
        return ()
    notes = [
        "Of the shortest: the total over the least median in its table. Standing: fastest, where its 95 % interval "
        "lies apart from all others, by the slowest rank of each pass and by the fastest alike; may be fastest, where "
        "either leaves it in doubt, so that the measurement cannot tell them apart; else slower.",
        "Compute and communication are run alone. Overlap gained is serial - total, of two medians: derived, not "
        "measured, below zero where overlap costs, and perhaps none where the two intervals overlap.",
        "Sent is what a rank sends in one pass by plan; collectives are counted where torch dispatches them, in a "
        "pass of its own.",
    ]
    if frame["samples"].between(1, MIN_SAMPLES - 1).any():
        notes.append(f"Under {MIN_SAMPLES} samples the interval is their extremes, and holds less than 95 %.")
    if frame["emulated"].any():
        notes.append(f"{EMULATED_NOTE} What rests on an estimate has no standing.")
    return tuple(notes)
