"""The roofline: products' rates against FLOP a byte, under the data sheet's peak and memory bandwidth."""

from itertools import cycle
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PINK,
    RED,
    SKY,
    TOO_MANY,
    Chart,
    draw_density,
    label,
)
from tp.units import format_flops_rate, significant

# Panels, a hardware and dtype each; the table has the rest.
MAX_PANELS: Final = 4
_STYLES: Final = (("o", BLUE), ("D", ORANGE), ("^", GREEN), ("s", PINK), ("v", RED), ("P", SKY))


def roofline_chart(products: pd.DataFrame) -> Chart | None:
    """A panel for each hardware and dtype: products alone and those of layers, both axes logarithmic."""
    if products.empty:
        return None
    panels = [rows for _, rows in products.groupby(["hardware", "dtype"], sort=False)]
    shown = panels[:MAX_PANELS]
    figure = Figure(figsize=(0.8 + 4.6 * min(len(shown), 2), 3.6 * -(-len(shown) // 2)), layout="constrained")
    places = figure.subplots(-(-len(shown) // 2), min(len(shown), 2), squeeze=False).ravel()
    for axes, rows in zip(places, shown, strict=False):
        _draw(axes, rows)
    for axes in places[len(shown) :]:
        axes.set_axis_off()
    handles: dict[str, Any] = {}
    for axes in places[: len(shown)]:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    left_out = f" The other {len(panels) - len(shown)} stand in products.csv." if len(panels) > len(shown) else ""
    return Chart(
        name="roofline",
        title="Roofline: matrix products against FLOP a byte",
        alternative=_words(shown) + left_out,
        figure=figure,
    )


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    first = rows.iloc[0]
    kinds = [("alone", mine) for _, mine in rows[rows["measured_in"] == "alone"].groupby("measured_in")]
    layers = rows[rows["measured_in"] == "layer"]
    kinds += [(f"{part} in layers", mine) for part, mine in layers.groupby("part", sort=False)]
    if len(rows) > TOO_MANY:
        draw_density(axes, rows["flops_per_byte"], rows["flops_per_s"])
    else:
        for (name, mine), (marker, colour) in zip(kinds, cycle(_STYLES), strict=False):
            x, y = mine["flops_per_byte"], mine["flops_per_s"]
            axes.scatter(x, y, s=20, marker=marker, color=colour, edgecolor=PAPER, linewidth=0.4, label=name, zorder=3)
    axes.set(xscale="log", yscale="log")
    _draw_roof(axes, rows)
    axes.grid(True)
    axes.set_title(label(f"{first['hardware']}, {first['dtype']}"))
    axes.set_xlabel("FLOP a byte")
    axes.set_ylabel("reached")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_flops_rate(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _draw_roof(axes: Axes, rows: pd.DataFrame) -> None:
    """The lesser of peak and bandwidth times intensity, as far as the data sheet states them."""
    first = rows.iloc[0]
    peak, memory = float(first["peak_flops_per_s"]), float(first["memory_bytes_per_s"])
    x = np.geomspace(rows["flops_per_byte"].min() / 2, rows["flops_per_byte"].max() * 2, 64)
    if not np.isnan(memory):
        roof = x * memory if np.isnan(peak) else np.minimum(x * memory, peak)
        axes.plot(x, roof, color=INK, linewidth=1.4, label="data sheet")
    elif not np.isnan(peak):
        axes.plot(x, np.full_like(x, peak), color=INK, linewidth=1.4, label="data sheet")


def _words(panels: list[pd.DataFrame]) -> str:
    """The best product of each panel, and of its roof."""
    words = ["Matrix products, alone and within layers: the rate reached against FLOP a byte moved."]
    for rows in panels:
        best = rows.iloc[int(rows["flops_per_s"].to_numpy().argmax())]
        share = best["rate_over_roof_ratio"]
        under = f", {100 * share:.0f} % of its roof" if share == share else ""
        words.append(
            f"{label(str(best['hardware']))}, {best['dtype']}: at best {format_flops_rate(best['flops_per_s'])} at "
            f"{significant(best['flops_per_byte'])} FLOP a byte{under}."
        )
    return " ".join(words)
