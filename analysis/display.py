"""Frames as rows of text for people: rounded, with units, marks and notes; the parts and strategies have own files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.tables import SCENARIO, number
from tp.units import format_bytes, format_seconds, format_signed_percent, significant

NOTHING: Final = "-"
# The fewest samples whose extremes enclose the median with 95 % confidence (bench/harness/record/stats.py).
MIN_SAMPLES: Final = 6

EMULATED_NOTE: Final = (
    "Emulated: one rank computed its shard alone; serial and total are derived, its compute as measured and the "
    "communication that the estimate adds."
)

Cells = Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, and whether figures stand below it."""

    heading: str
    figures: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A column, and what stands in it; one that is empty in every row may go."""

    heading: str
    read: Callable[[Cells], str]
    figures: bool = True
    may_go: bool = False

    @property
    def column(self) -> Column:
        return Column(heading=self.heading, figures=self.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows under a title of their own, or under none."""

    title: str = ""
    detail: str = ""
    marks: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """A table as it is shown; without groups there is nothing to show."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


def cells_in_use(cells: Sequence[Cell], rows: Sequence[Cells]) -> list[Cell]:
    """All but those that may go and are empty in every row."""
    return [cell for cell in cells if not cell.may_go or any(cell.read(row) not in (NOTHING, "") for row in rows)]


def scenario_text(row: Cells, *, hardware: bool = False) -> str:
    """What was measured, strategy and degree aside: tinyllama-1.1b attention prefill, batch 1, seq 256, fp32."""
    where = f", {row['hardware']} ({row['backend']})" if hardware else ""
    series = f", {Path(row['series']).name}" if row.get("series") else ""
    how = f"{recompute_text(row)}{', emulated' if row['emulated'] else ''}"
    return f"{row['model']} {row['block']} {row['phase']}, {workload_text(row)}{how}{where}{series}"


def workload_text(row: Cells) -> str:
    """The sizes of a workload: those that its phase leaves open."""
    length = f"context {row['context']}" if row["phase"] == "decode" else f"seq {row['seq']}"
    return f"batch {row['batch']}, {length}, {row['dtype']}"


def strategy_text(row: Cells) -> str:
    """A strategy with what it was tuned to: overlap in 4 chunks."""
    return f"{row['strategy']} in {row['chunks']} chunks" if row["chunks"] > 1 else str(row["strategy"])


def recompute_text(row: Cells) -> str:
    """What training makes again, after a comma; nothing where it keeps all."""
    return "" if row["recompute"] == "none" else f", {row['recompute']} recompute"


def variant_text(row: Cells) -> str:
    """A strategy with its chunks and what it makes again: sequence, full recompute."""
    return strategy_text(row) + recompute_text(row)


def table_text(row: Cells, *, hardware: bool) -> str:
    """What the strategies of a table share; recomputation is told row by row."""
    return f"{scenario_text({**row, 'recompute': 'none'}, hardware=hardware)}, TP {row['tp']}"


def several_machines(frame: pd.DataFrame) -> bool:
    """Whether the rows come from more than one hardware or backend, so that each has to be named."""
    return len(frame[["hardware", "backend"]].drop_duplicates()) > 1


def show_errors(errors: pd.DataFrame, *, left_out: int = 0) -> Display:
    """Error by part; `left_out` cases were not comparable."""
    theories = errors["theory"].nunique() > 1
    rows = tuple(
        (
            f"{row['part']} ({row['theory']})" if theories else row["part"],
            str(row["cases"]),
            signed(row["median_signed_error"]),
            percent(row["median_abs_error"]),
            percent(row["mean_abs_error"]),
            f"{percent(row['inside_interval'])} of {row['with_interval']}" if row["with_interval"] else NOTHING,
            str(row["extrapolated"] or NOTHING),
        )
        for row in errors.to_dict("records")
    )
    columns = (
        text_column("part"),
        *figure_columns("cases", "median error", "median |error|", "mean |error|", "inside 90 %", "extrapolated"),
    )
    cases = "1 case is" if left_out == 1 else f"{left_out} cases are"
    notes = (f"{cases} left out, as the times are not comparable.",) if left_out else ()
    return Display(columns=columns, groups=(Group(rows=rows),) if rows else (), notes=notes)


def show_scaling(scaling: pd.DataFrame) -> Display:
    """Time against TP degree, a group a scenario."""
    machines = several_machines(scaling)
    groups = []
    for _, frame in scaling.groupby([*SCENARIO, "series"], sort=False):
        rows = frame.to_dict("records")
        cells = tuple(_scaling_cells(row) for row in rows)
        groups.append(Group(title=scenario_text(rows[0], hardware=machines), rows=cells))
    columns = (
        text_column("strategy"),
        *figure_columns("TP", "total", "95 % interval", "compute", "communication", "speed-up", "efficiency"),
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
        *(seconds(row[f"measured_{name}_s"]) for name in ("compute", "communication")),
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
        "Compute and communication are run alone; the total is the block as a user runs it.",
        "Speed-up is the total at TP 1 over the total here, efficiency speed-up / TP: below 100 %, as many "
        "independent copies would do more work a second, each at the time of TP 1.",
    ]
    if (scaling["groups"] > 1).any():
        notes.append("Groups side by side share the machine, as they would in production.")
    if scaling["emulated"].any():
        notes.append(EMULATED_NOTE)
    return tuple(notes)


def show_checks(checks: pd.DataFrame) -> Display:
    """The figure of each case that came nearest to its limit, or went furthest over it."""
    rows = tuple(
        (
            row["case"],
            str(row["tensors"]),
            row["worst_tensor"],
            row["figure"],
            scientific(row["value"]),
            scientific(row["limit"]),
            percent(row["value_over_limit"]),
            "passed" if row["passed"] else "failed",
        )
        for row in checks.to_dict("records")
    )
    columns = (
        text_column("case"),
        *figure_columns("tensors"),
        text_column("worst tensor"),
        text_column("figure"),
        *figure_columns("value", "limit", "of limit"),
        text_column("check"),
    )
    note = (
        "Error is |y - ref| / |ref| against the unsharded block in a wider dtype, gain <y, ref> / <ref, ref> - 1; "
        "both the worst of any rank."
    )
    return Display(columns=columns, groups=(Group(rows=rows),) if rows else (), notes=(note,) if rows else ())


def show_unmeasured(unmeasured: pd.DataFrame) -> Display:
    """The cases without a speed, and why."""
    rows = tuple((row["case"], row["status"], row["reason"]) for row in unmeasured.to_dict("records"))
    columns = (text_column("case"), text_column("status"), text_column("reason"))
    return Display(columns=columns, groups=(Group(rows=rows),) if rows else ())


def text_column(heading: str) -> Column:
    """A column of words."""
    return Column(heading=heading, figures=False)


def figure_columns(*headings: str) -> Sequence[Column]:
    """Columns of numbers."""
    return [Column(heading=heading) for heading in headings]


def seconds(value: Any) -> str:
    """A duration that may be missing."""
    known = number(value)
    return NOTHING if known is None else format_seconds(known)


def interval(low: Any, high: Any) -> str:
    """Both ends, the unit written once where they share it; nothing where there is no width."""
    if number(low) is None or number(high) is None or low == high:
        return NOTHING
    (start, unit), (end, end_unit) = (format_seconds(value).split(" ") for value in (low, high))
    return f"{start} – {end} {unit}" if unit == end_unit else f"{start} {unit} – {end} {end_unit}"


def size(value: Any) -> str:
    """Bytes that may be missing."""
    return NOTHING if pd.isna(value) else format_bytes(float(value))


def signed(value: Any) -> str:
    """A signed error that may be missing."""
    known = number(value)
    return NOTHING if known is None else format_signed_percent(known)


def percent(value: Any) -> str:
    """A share that may be missing or beyond all bounds."""
    known = number(value)
    if known is None:
        return NOTHING
    return f"{significant(100 * known)} %" if isfinite(known) else "over"


def times(value: Any) -> str:
    """A speed-up that may be missing: 1.65 x."""
    known = number(value)
    return NOTHING if known is None else f"{significant(known)} x"


def scientific(value: Any) -> str:
    """A figure of a check, far below one."""
    known = number(value)
    return "not a number" if known is None else f"{known:.1e}"
