"""The figure of strategies side by side: a pass stacked by part beside a rank's memory stacked by kind."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, label
from analysis.frames.strategies import SIDE_BY_SIDE
from analysis.show.cells import seconds, size
from analysis.show.words import several_machines, table_text, variant_text
from tp.plan.ops import COLLECTIVE_KINDS
from tp.units import format_bytes, format_seconds

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
# By kind its colour and hatch; the workspace, which only a prediction knows, is an outline.
MEMORY_STYLES: Final[dict[str, tuple[str, str]]] = {
    "weights": (BLUE, ""),
    "gradients": (GREEN, "////"),
    "saved": (ORANGE, "...."),
    "kv_cache": (PINK, "xxxx"),
    "workspace": ("none", ""),
}
_KIND_WORDS: Final = {"saved": "saved activations", "kv_cache": "KV cache", "workspace": "workspace, predicted"}
# An emulated pass: what the estimate adds to compute.
_ESTIMATED: Final[dict[str, Any]] = {"facecolor": "none", "edgecolor": ORANGE, "hatch": "....", "linestyle": "--"}
# Tables that are drawn; the table of the page has the rest.
MAX_TABLES: Final = 12

Cells = Mapping[Any, Any]


def strategies_chart(parts: pd.DataFrame, strategies: pd.DataFrame) -> Chart | None:
    """A row of two panels for each workload and degree: time by part, memory by kind, a bar a strategy."""
    if strategies.empty:
        return None
    timed = {place: rows for place, rows in parts.groupby(["record", "case"], sort=False)}
    tables = [table.to_dict("records") for _, table in strategies.groupby(list(SIDE_BY_SIDE), sort=False)]
    shown, machines = _largest_degrees(tables), several_machines(strategies)
    heights = [0.75 + 0.27 * len(table) for table in shown]
    figure = Figure(figsize=(9.6, 0.9 + sum(heights)), layout="constrained")
    subfigures = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    drawn: set[str] = set()
    for subfigure, table in zip(subfigures, shown, strict=True):
        subfigure.suptitle(label(table_text(table[0], hardware=machines)), fontsize=9, fontweight="bold")
        left, right = subfigure.subplots(1, 2, sharey=True)
        for place, row in enumerate(table):
            drawn |= _draw_time(left, place, row, timed[row["record"], row["case"]])
            drawn |= _draw_memory(right, place, row)
        left.set_yticks(range(len(table)), [label(variant_text(row)) for row in table])
        left.set_ylim(len(table) - 0.4, -0.6)
        _finish(left, format_seconds)
        _finish(right, format_bytes)
    times, memory = _keys(drawn)
    figure.legend(handles=times, loc="outside lower left", ncols=2, title="time of a pass", alignment="left")
    if memory:
        figure.legend(handles=memory, loc="outside lower right", ncols=2, title="memory of a rank", alignment="left")
    left_out = len(tables) - len(shown)
    return Chart(
        name="strategies-side-by-side",
        title="Strategies side by side: time of a pass by part, memory of a rank by kind",
        alternative=_words(shown) + (f" The other {left_out} stand in the table." if left_out else ""),
        figure=figure,
    )


def _largest_degrees(tables: Sequence[Sequence[Cells]]) -> list[Sequence[Cells]]:
    """As many as are drawn: where they are too many those of TP 1 go first, whose strategies are all alike."""
    if len(tables) <= MAX_TABLES:
        return list(tables)
    return ([table for table in tables if table[0]["tp"] > 1] or list(tables))[:MAX_TABLES]


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
    _line(axes, place, row["total_s"])
    if row["total_low_s"] < row["total_high_s"]:
        axes.plot([row["total_low_s"], row["total_high_s"]], [place, place], color=INK, linewidth=0.9)
    return drawn


def _draw_memory(axes: Axes, place: int, row: Cells) -> set[str]:
    """By kind as observed, else as predicted; a line where the prediction of the same ends, a diamond at the peak."""
    left, predicted, drawn = 0.0, 0.0, set[str]()
    for kind in MEMORY_STYLES:
        value, expected = _held(row, kind)
        if kind == "workspace" and predicted > 0:
            _line(axes, place, predicted)
            drawn.add("predicted")
        predicted += expected
        if value > 0:
            axes.barh(place, value, height=0.62, left=left, **_memory_fill(kind))
            left, drawn = left + value, drawn | {kind}
    if pd.notna(row["peak_observed_bytes"]):
        axes.plot([float(row["peak_observed_bytes"])], [place], color=INK, marker="D", markersize=4, linestyle="none")
        drawn.add("peak")
    if not drawn:
        axes.text(0.02, place, "not recorded", transform=axes.get_yaxis_transform(), va="center", fontstyle="italic")
    return drawn


def _held(row: Cells, kind: str) -> tuple[float, float]:
    """Bytes as observed or else as predicted, and as predicted."""
    predicted, observed = row.get(f"{kind}_predicted_bytes"), row.get(f"{kind}_observed_bytes")
    expected = 0.0 if pd.isna(predicted) else float(predicted)
    return expected if pd.isna(observed) else float(observed), expected


def _memory_fill(kind: str) -> dict[str, Any]:
    if kind == "workspace":
        return {"facecolor": "none", "edgecolor": INK, "linestyle": ":", "linewidth": 0.8}
    colour, hatch = MEMORY_STYLES[kind]
    return {"facecolor": colour, "edgecolor": PAPER, "hatch": hatch, "linewidth": 0}


def _line(axes: Axes, place: int, value: float) -> None:
    axes.plot([value, value], [place - 0.42, place + 0.42], color=INK, linewidth=1.6, solid_capstyle="butt")


def _finish(axes: Axes, words: Any) -> None:
    axes.set_xlim(left=0)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def _keys(drawn: set[str]) -> tuple[list[Any], list[Any]]:
    """The legends of both sides: what occurs in the figure, and no more."""
    times: list[Any] = [
        Patch(label=name, facecolor=colour, hatch=hatch, edgecolor=PAPER, linewidth=0)
        for name, (colour, hatch, _) in TIME_STYLES.items()
        if name in drawn
    ]
    if "estimated" in drawn:
        times.append(Patch(label="communication, estimated", linewidth=0.8, **_ESTIMATED))
    times.append(Line2D([], [], label="total, with its interval", color=INK, linewidth=1.6))
    memory: list[Any] = [
        Patch(label=_KIND_WORDS.get(kind, kind), **_memory_fill(kind)) for kind in MEMORY_STYLES if kind in drawn
    ]
    if "predicted" in drawn:
        memory.append(Line2D([], [], label="as predicted, without workspace", color=INK, linewidth=1.6))
    if "peak" in drawn:
        memory.append(Line2D([], [], label="peak, measured", color=INK, marker="D", markersize=4, linestyle="none"))
    return times, memory


def _words(tables: Sequence[Sequence[Cells]]) -> str:
    """The kind of figure, and of the first tables of more than one rank each strategy's total and memory."""
    words = ["A bar for each strategy: on the left a pass stacked by part, on the right a rank's memory by kind."]
    words.append("Parts were timed in passes of their own and need not add up to the total.")
    split = [table for table in tables if table[0]["tp"] > 1] or list(tables)
    for table in split[:3]:
        told = [f"{variant_text(row)} {seconds(row['total_s'])}{_memory_words(row)}" for row in table]
        words.append(f"{label(table_text(table[0], hardware=False))}: {'; '.join(told)}.")
    return " ".join(words)


def _memory_words(row: Cells) -> str:
    held = sum(_held(row, kind)[0] for kind in MEMORY_STYLES if kind != "workspace")
    return f" and {size(held)}" if held else ""
