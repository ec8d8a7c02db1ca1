"""Error by part, checks and what was not measured, as rows of text for people."""

import pandas as pd

from analysis.frames.rows import rows_of
from analysis.show.cells import percent, scientific, signed
from analysis.show.table import NOTHING, Display, Group, figure_columns, text_column


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
        for row in rows_of(errors)
    )
    columns = (
        text_column("part"),
        *figure_columns("cases", "median error", "median |error|", "mean |error|", "inside 90 %", "extrapolated"),
    )
    cases = "1 case is" if left_out == 1 else f"{left_out} cases are"
    notes = (f"{cases} left out, as the times are not comparable.",) if left_out else ()
    return Display(columns=columns, groups=(Group(rows=rows),) if rows else (), notes=notes)


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
        for row in rows_of(checks)
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
    rows = tuple((row["case"], row["status"], row["reason"]) for row in rows_of(unmeasured))
    columns = (text_column("case"), text_column("status"), text_column("reason"))
    return Display(columns=columns, groups=(Group(rows=rows),) if rows else ())
