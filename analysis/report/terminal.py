"""The report for a terminal: the verdict, what to mind, a line a case; and the same as JSON for machines."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.frames.collectives import right_ones
from analysis.frames.rates import panel
from analysis.frames.rows import gather, rows_of
from analysis.frames.scaling import scenario
from analysis.report.content import Content
from analysis.show.cells import percent, seconds, signed, times
from analysis.show.claims import verdict_counts
from analysis.show.rates import panel_text, pays_text
from analysis.show.words import scenario_text, several_machines, strategy_text
from tp.units import format_rate, printable

# Cases that a terminal shows; the page has them all.
MAX_CASES: Final = 40
MAX_CAVEATS: Final = 8
# Columns of a terminal under which a table would lose some of its own.
TABLE_WIDTH: Final = 100
HEADINGS: Final = ("strategy", "TP", "total", "predicted", "error", "speed-up", "efficiency", "exposed", "marks")

Cells = Mapping[Any, Any]


def print_report(console: Console, content: Content) -> None:
    """Verdict, caveats and cases; in narrow terminals and pipes lines of plain text instead of a table."""
    _print(console, content.verdict.headline, style="bold")
    for detail in content.verdict.details[:MAX_CAVEATS]:
        _print(console, f"- {detail}")
    for caveat in content.caveats[:MAX_CAVEATS]:
        _print(console, f"mind: {caveat}", style="yellow")
    if len(content.caveats) > MAX_CAVEATS:
        _print(console, f"mind: {len(content.caveats) - MAX_CAVEATS} more, on the page", style="yellow")
    scaling = content.frames["scaling"]
    groups = gather(scaling.head(MAX_CASES).to_dict("records"), scenario).values()
    for rows in groups:
        _print(console, "")
        _print(console, scenario_text(rows[0], hardware=several_machines(scaling)))
        if console.is_terminal and console.width >= TABLE_WIDTH:
            console.print(_table(rows))
        else:
            for row in rows:
                _print(console, f"  {_line(row)}")
    if len(scaling) > MAX_CASES:
        _print(console, f"and {len(scaling) - MAX_CASES} cases more, in scaling.csv")
    for sentence in _besides(content):
        _print(console, sentence)


def _print(console: Console, text: str, *, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=not console.is_terminal)


def _table(rows: list[dict[Any, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if 0 < place < len(HEADINGS) - 1 else "left")
    for row in rows:
        table.add_row(*(Text(printable(word)) for word in _words(row)))
    return table


def _words(row: Cells) -> tuple[str, ...]:
    return (
        strategy_text(row),
        str(row["tp"]),
        seconds(row["measured_total_s"]),
        seconds(row["estimate_total_s"]),
        signed(_error(row)),
        times(row["measured_speedup_over_tp1"]),
        percent(row["measured_efficiency"]),
        seconds(row["measured_exposed_s"]),
        ", ".join(_marks(row)),
    )


def _line(row: Cells) -> str:
    strategy, tp, total, predicted, error, speedup, _, exposed, marks = _words(row)
    noted = f"; {marks}" if marks else ""
    return f"{strategy} TP {tp}: {total}, predicted {predicted} ({error}), {speedup} TP 1, exposed {exposed}{noted}"


def _error(row: Cells) -> float | None:
    """Predicted / measured - 1; none for an emulated total, which holds the prediction."""
    known = not row["emulated"] and not pd.isna(row["estimate_total_s"])
    return row["estimate_total_s"] / row["measured_total_s"] - 1 if known else None


def _marks(row: Cells) -> Iterator[str]:
    if row["emulated"]:
        yield "emulated"
    elif not row["comparable"]:
        yield "not comparable"
    if row["theory"] not in ("", "calibrated"):
        yield f"predicted by {row['theory']}"
    if row["unpriced"]:
        yield f"predicted without {row['unpriced']}"


def _besides(content: Content) -> Iterator[str]:
    """A sentence each on what has no line of its own."""
    yield from _crossings(content.frames["crossings"])
    unmeasured = content.frames["unmeasured"]
    if len(unmeasured):
        counts = unmeasured["status"].value_counts()
        yield f"without a speed: {', '.join(f'{count} {status}' for status, count in counts.items())}"
    collectives = right_ones(content.frames["collectives"])
    if len(collectives):
        best = collectives.iloc[int(collectives["busbw_bytes_per_s"].to_numpy().argmax())]
        yield (
            f"{len(collectives)} collectives alone; the best bus bandwidth is "
            f"{format_rate(best['busbw_bytes_per_s'])}, {best['collective']} over {best['ranks']} ranks"
        )
    claimed = [ruling for ruling in content.rulings if ruling.origin != "planted"]
    if claimed:
        yield f"of what is claimed, by measurement: {verdict_counts(claimed)}"


def _crossings(crossings: pd.DataFrame) -> Iterator[str]:
    """A line a curve: over what link it pays; of which workload and degree, where there are several."""
    rows = rows_of(crossings)
    several, machines = len({panel(row) for row in rows}) > 1, several_machines(crossings)
    for row in rows[:MAX_CAVEATS]:
        what = f" ({panel_text(row, hardware=machines)})" if several else ""
        yield f"over what link it pays{what}: {row['strategy']} {pays_text(row)}"
    if len(rows) > MAX_CAVEATS:
        yield f"and over what link {len(rows) - MAX_CAVEATS} others pay, in crossings.csv"


def as_json(content: Content, *, page: str) -> dict[str, Any]:
    """Verdict, caveats, and the tables of scaling, crossings, errors, collectives and claims, units in the names."""
    return {
        "verdict": content.verdict.headline,
        "details": list(content.verdict.details),
        "caveats": list(content.caveats),
        "page": page,
        "cases": _rows(content.frames["scaling"]),
        "crossings": _rows(content.frames["crossings"]),
        "errors": _rows(content.frames["errors"]),
        "collectives": _rows(content.frames["collectives"]),
        "unmeasured": _rows(content.frames["unmeasured"]),
        "claims": [
            {"name": each.claim.name, "origin": each.origin, "verdict": each.verdict, "reason": each.reason}
            for each in content.rulings
        ],
    }


def _rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """What is not known is null."""
    rows: list[dict[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows
