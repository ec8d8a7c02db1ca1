"""The figure of strategies side by side: a pass stacked by part, a bar a strategy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, label
from analysis.frames.rows import gather, rows_of
from analysis.frames.strategies import side_by_side
from analysis.show.cells import seconds
from analysis.show.words import several_machines, table_text, variant_text
from tp.plan.ops import COLLECTIVE_KINDS
from tp.units import format_seconds

# By segment its colour and hatch, in the order in which they are stacked, and the parts that it holds.
TIME_STYLES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "qkv": (BLUE, "", ("qkv",)),
    "core": (RED, "\\\\\\\\", ("core",)),
    "out": (GREEN, "", ("out",)),
    "up": (PINK, "////", ("up",)),
    "down": (SKY, "xxxx", ("down",)),
    "norm, activation, residual": ("#b8bec6", "", ("norm", "activation", "residual")),
    "collectives": (ORANGE, "....", COLLECTIVE_KINDS),
}
# An emulated pass: what the estimate adds to compute.
_ESTIMATED: Final[dict[str, Any]] = {"facecolor": "none", "edgecolor": ORANGE, "hatch": "....", "linestyle": "--"}
# Tables that are drawn; the table of the page has the rest.
MAX_TABLES: Final = 8

Cells = Mapping[Any, Any]
Draw = Callable[[Axes, int, Cells], set[str]]


def strategies_chart(parts: pd.DataFrame, strategies: pd.DataFrame) -> Chart | None:
    """A panel for each workload and degree: the time of a pass by part, a bar a strategy."""
    if strategies.empty:
        return None
    tables = largest_degrees(strategies)
    shown = {(row["record"], row["case"]) for table in tables.shown for row in table}
    places = zip(parts["record"], parts["case"], strict=True)
    drawn_parts = parts[[place in shown for place in places]]
    timed = {place: rows for place, rows in drawn_parts.groupby(["record", "case"], sort=False)}
    figure, drawn = draw_bars(
        tables, lambda axes, place, row: _draw_time(axes, place, row, timed[row["record"], row["case"]]), format_seconds
    )
    figure.legend(handles=_keys(drawn), loc="outside lower center", ncols=3)
    return Chart(
        name="strategies-side-by-side",
        title="Strategies side by side: the time of a pass by part",
        alternative=_words(tables.shown) + tables.left_out,
        figure=figure,
    )


class Tables:
    """The tables that are drawn, and a sentence on the others."""

    def __init__(self, shown: Sequence[Sequence[Cells]], *, left_out: int, several_machines: bool) -> None:
        self.shown = shown
        self.left_out = f" The other {left_out} stand in the table." if left_out else ""
        self.several_machines = several_machines


def largest_degrees(strategies: pd.DataFrame) -> Tables:
    """As many as are drawn: where they are too many those of TP 1 go first, whose strategies are all alike."""
    tables = list(gather(rows_of(strategies), side_by_side).values())
    shown = tables
    if len(tables) > MAX_TABLES:
        shown = ([table for table in tables if table[0]["tp"] > 1] or tables)[:MAX_TABLES]
    return Tables(shown, left_out=len(tables) - len(shown), several_machines=several_machines(strategies))


def draw_bars(tables: Tables, draw: Draw, words: Callable[[float], str]) -> tuple[Figure, set[str]]:
    """A panel a table, a bar a strategy; the figure, and what was drawn in it."""
    heights = [0.75 + 0.27 * len(table) for table in tables.shown]
    figure = Figure(figsize=(7.6, 0.9 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables.shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    drawn: set[str] = set()
    for axes, table in zip(panels, tables.shown, strict=True):
        axes.set_title(label(table_text(table[0], hardware=tables.several_machines)), fontweight="bold", loc="left")
        for place, row in enumerate(table):
            drawn |= draw(axes, place, row)
        axes.set_yticks(range(len(table)), [label(variant_text(row)) for row in table])
        axes.set_ylim(len(table) - 0.4, -0.6)
        _finish(axes, words)
    return figure, drawn


def draw_line(axes: Axes, place: int, value: float) -> None:
    """Where a bar ends, or should."""
    axes.plot([value, value], [place - 0.42, place + 0.42], color=INK, linewidth=1.6, solid_capstyle="butt")


def _draw_time(axes: Axes, place: int, row: Cells, parts: pd.DataFrame) -> set[str]:
    """The parts as they were timed and the total with its interval; what was drawn, for the legend."""
    measured: dict[Any, float] = parts.set_index("part")["measured_s"].fillna(0).to_dict()
    left, drawn = 0.0, {"total"}
    for name, (colour, hatch, held) in TIME_STYLES.items():
        value = sum(measured.get(part, 0.0) for part in held)
        if value > 0:
            axes.barh(place, value, height=0.62, left=left, facecolor=colour, edgecolor=PAPER, hatch=hatch, linewidth=0)
            left, drawn = left + value, drawn | {name}
    added = row["total_s"] - row["compute_s"]
    if row["emulated"] and added > 0:
        axes.barh(place, added, height=0.62, left=left, linewidth=0.8, **_ESTIMATED)
        drawn.add("estimated")
    draw_line(axes, place, row["total_s"])
    if row["total_low_s"] < row["total_high_s"]:
        axes.plot([row["total_low_s"], row["total_high_s"]], [place, place], color=INK, linewidth=0.9)
    return drawn


def _finish(axes: Axes, words: Callable[[float], str]) -> None:
    axes.set_xlim(left=0)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def _keys(drawn: set[str]) -> list[Any]:
    """The legend: what occurs in the figure, and no more."""
    keys: list[Any] = [
        Patch(label=name, facecolor=colour, hatch=hatch, edgecolor=PAPER, linewidth=0)
        for name, (colour, hatch, _) in TIME_STYLES.items()
        if name in drawn
    ]
    if "estimated" in drawn:
        keys.append(Patch(label="communication, estimated", linewidth=0.8, **_ESTIMATED))
    return [*keys, Line2D([], [], label="total, with its interval", color=INK, linewidth=1.6)]


def _words(tables: Sequence[Sequence[Cells]]) -> str:
    """The kind of figure, and of the first tables of more than one rank each strategy's total."""
    words = ["A bar for each strategy: a pass stacked by part, with a line at the total."]
    words.append("Parts were timed in passes of their own and need not add up to the total.")
    split = [table for table in tables if table[0]["tp"] > 1] or list(tables)
    for table in split[:3]:
        told = [f"{variant_text(row)} {seconds(row['total_s'])}" for row in table]
        words.append(f"{label(table_text(table[0], hardware=False))}: {'; '.join(told)}.")
    return " ".join(words)
