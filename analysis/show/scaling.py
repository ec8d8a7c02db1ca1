"""Time against tensor-parallel degree, as rows of text for people."""

import pandas as pd

from analysis.frames.rows import gather, rows_of
from analysis.frames.scaling import scenario
from analysis.show.cells import interval, percent, seconds, times
from analysis.show.table import Cells, Display, Group, figure_columns, text_column
from analysis.show.words import EMULATED_NOTE, scenario_text, several_machines, strategy_text


def show_scaling(scaling: pd.DataFrame) -> Display:
    """Time against TP degree, a group a scenario."""
    machines = several_machines(scaling)
    groups = []
    for rows in gather(rows_of(scaling), scenario).values():
        cells = tuple(_scaling_cells(row) for row in rows)
        groups.append(Group(title=scenario_text(rows[0], hardware=machines), rows=cells))
    columns = (
        text_column("strategy"),
        *figure_columns("TP", "total", "95 % interval", "compute", "communication"),
        *figure_columns("exposed", "hidden", "speed-up", "efficiency"),
        *figure_columns(
            *(f"predicted {name}" for name in ("total", "compute", "communication", "speed-up", "efficiency"))
        ),
        text_column("marks"),
    )
    return Display(columns=columns, groups=tuple(groups), notes=_scaling_notes(scaling))


def _scaling_cells(row: Cells) -> tuple[str, ...]:
    return (
        strategy_text(row),
        str(row["tp"]),
        seconds(row["measured_total_s"]),
        interval(row["measured_total_low_s"], row["measured_total_high_s"]),
        *(seconds(row[f"measured_{name}_s"]) for name in ("compute", "communication", "exposed", "hidden")),
        times(row["measured_speedup_over_tp1"]),
        percent(row["measured_efficiency"]),
        *(seconds(row[f"estimate_{name}_s"]) for name in ("total", "compute", "communication")),
        times(row["estimate_speedup_over_tp1"]),
        percent(row["estimate_efficiency"]),
        ", ".join(_scaling_marks(row)),
    )


def _scaling_marks(row: Cells) -> list[str]:
    marks = ["emulated"] if row["emulated"] else []
    marks += [] if row["comparable"] else ["not comparable"]
    marks += [f"{row['groups']} groups side by side"] if row["groups"] > 1 else []
    marks += ["extrapolated"] if row["extrapolated"] else []
    marks += [f"predicted without {row['unpriced']}"] if row["unpriced"] else []
    return marks


def _scaling_notes(scaling: pd.DataFrame) -> tuple[str, ...]:
    if scaling.empty:
        return ()
    notes = [
        "Compute and communication are run alone; the total is the block as a user runs it. Exposed is total - "
        "compute, hidden what is left of communication: both derived, not measured.",
        "Speed-up is the total at TP 1 over the total here, efficiency speed-up / TP: below 100 %, as many "
        "independent copies would do more work a second, each at the time of TP 1.",
    ]
    if (scaling["groups"] > 1).any():
        notes.append("Groups side by side share the machine, as they would in production.")
    if scaling["emulated"].any():
        notes.append(EMULATED_NOTE)
    return tuple(notes)
