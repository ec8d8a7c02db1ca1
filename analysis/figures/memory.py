"""The figure of what a rank holds: bytes by kind, observed beside predicted, a bar a strategy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, Chart, label
from analysis.figures.strategies import draw_bars, draw_line, largest_degrees
from analysis.show.cells import size
from analysis.show.words import table_text, variant_text
from tp.units import format_bytes

# By kind its colour and hatch; the workspace, which only a prediction knows, is an outline.
MEMORY_STYLES: Final[dict[str, tuple[str, str]]] = {
    "weights": (BLUE, ""),
    "gradients": (GREEN, "////"),
    "saved": (ORANGE, "...."),
    "kv_cache": (PINK, "xxxx"),
    "workspace": ("none", ""),
}
_KIND_WORDS: Final = {"saved": "saved activations", "kv_cache": "KV cache", "workspace": "workspace, predicted"}

Cells = Mapping[Any, Any]


def memory_chart(strategies: pd.DataFrame) -> Chart | None:
    """A panel for each workload and degree: bytes by kind as observed, else as predicted; None where neither is."""
    columns = [name for name in strategies.columns if name.endswith(("_predicted_bytes", "_observed_bytes"))]
    if strategies.empty or not strategies[columns].notna().any(axis=None):
        return None
    tables = largest_degrees(strategies)
    figure, drawn = draw_bars(tables, _draw_memory, format_bytes)
    figure.legend(handles=_keys(drawn), loc="outside lower center", ncols=3)
    return Chart(
        name="memory-by-kind",
        title="Memory of a rank by kind",
        alternative=_words(tables.shown) + tables.left_out,
        figure=figure,
    )


def _draw_memory(axes: Axes, place: int, row: Cells) -> set[str]:
    """By kind as observed, else as predicted; a line where the prediction of the same ends, a diamond at the peak."""
    left, predicted, drawn = 0.0, 0.0, set[str]()
    for kind in MEMORY_STYLES:
        value, expected = _held(row, kind)
        if kind == "workspace" and predicted > 0:
            draw_line(axes, place, predicted)
            drawn.add("predicted")
        predicted += expected
        if value > 0:
            axes.barh(place, value, height=0.62, left=left, **_fill(kind))
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


def _fill(kind: str) -> dict[str, Any]:
    if kind == "workspace":
        return {"facecolor": "none", "edgecolor": INK, "linestyle": ":", "linewidth": 0.8}
    colour, hatch = MEMORY_STYLES[kind]
    return {"facecolor": colour, "edgecolor": PAPER, "hatch": hatch, "linewidth": 0}


def _keys(drawn: set[str]) -> list[Any]:
    """The legend: what occurs in the figure, and no more."""
    keys: list[Any] = [
        Patch(label=_KIND_WORDS.get(kind, kind), **_fill(kind)) for kind in MEMORY_STYLES if kind in drawn
    ]
    if "predicted" in drawn:
        keys.append(Line2D([], [], label="as predicted, without workspace", color=INK, linewidth=1.6))
    if "peak" in drawn:
        keys.append(Line2D([], [], label="peak, measured", color=INK, marker="D", markersize=4, linestyle="none"))
    return keys


def _words(tables: Sequence[Sequence[Cells]]) -> str:
    """The kind of figure, and of the first tables of more than one rank what each strategy holds."""
    words = ["What a rank holds, a bar for each strategy, stacked by kind as observed, else as predicted."]
    split = [table for table in tables if table[0]["tp"] > 1] or list(tables)
    for table in split[:3]:
        told = [f"{variant_text(row)} {size(_sum(row))}" for row in table if _sum(row)]
        if told:
            words.append(f"{label(table_text(table[0], hardware=False))}: {'; '.join(told)}.")
    return " ".join(words)


def _sum(row: Cells) -> float:
    return sum(_held(row, kind)[0] for kind in MEMORY_STYLES if kind != "workspace")
