"""The figure of bus bandwidth against size: what collectives reached, its fit, and what the link is said to carry."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, label
from analysis.frames.collectives import CURVE, right_ones
from analysis.show.words import curve_text
from tp.units import format_bytes, format_rate

# Panels, and curves in one of them; the table has the rest.
MAX_PANELS: Final = 6
MAX_CURVES: Final = 8
_STYLES: Final = (("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", RED), ("v", PINK), ("P", SKY))


def bandwidth_chart(collectives: pd.DataFrame) -> Chart | None:
    """A panel a collective, a curve for each rank count and source, bandwidth from zero on, sizes logarithmic."""
    if collectives.empty:
        return None
    kinds = list(dict.fromkeys(collectives["collective"]))[:MAX_PANELS]
    columns = min(len(kinds), 2)
    figure = Figure(figsize=(4.6 * columns + 0.4, 3.2 * -(-len(kinds) // columns) + 0.8), layout="constrained")
    panels = figure.subplots(-(-len(kinds) // columns), columns, squeeze=False, sharex=True).ravel()
    curves = list(dict.fromkeys(_name(row, collectives) for row in _firsts(collectives)))
    styles = dict(zip(curves, cycle(_STYLES), strict=False))
    for axes, kind in zip(panels, kinds, strict=False):
        _draw(axes, collectives[collectives["collective"] == kind], styles=styles, every=collectives)
        axes.set_title(kind)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    figure.supylabel("bus bandwidth", fontsize=9)
    figure.legend(handles=_keys(collectives, styles), loc="outside lower center", ncols=2)
    return Chart(
        name="busbw-against-size",
        title="Bus bandwidth of collectives against size, with its fit",
        alternative=_words(collectives),
        figure=figure,
    )


def _firsts(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = frame.drop_duplicates(list(CURVE)).to_dict("records")
    return rows


def _name(row: dict[Any, Any], every: pd.DataFrame) -> str:
    return label(curve_text(row, several=every["record"].nunique() > 1))


def _draw(axes: Axes, rows: pd.DataFrame, *, styles: dict[str, tuple[str, str]], every: pd.DataFrame) -> None:
    axes.set_xscale("log", base=2)
    axes.grid(True)
    for _, curve in list(rows.groupby(list(CURVE), sort=False))[:MAX_CURVES]:
        marker, colour = styles[_name(curve.iloc[0].to_dict(), every)]
        sizes, known = curve["size_bytes"], curve["fit_busbw_bytes_per_s"].notna()
        axes.plot(sizes[known], curve["fit_busbw_bytes_per_s"][known], color=colour, linewidth=1.1)
        axes.scatter(
            sizes,
            curve["busbw_bytes_per_s"],
            s=20,
            marker=marker,
            color=colour,
            edgecolor=PAPER,
            linewidth=0.4,
            zorder=3,
        )
    for claimed in rows["claimed_bytes_per_s"].dropna().unique():
        axes.axhline(claimed, color=INK, linewidth=1.2, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    axes.tick_params(axis="x", labelrotation=30)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_rate(value) if value else "0"))


def _keys(frame: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> list[Any]:
    keys: list[Any] = [
        Line2D([], [], color=colour, marker=marker, linewidth=1.1, markersize=4, label=name)
        for name, (marker, colour) in list(styles.items())[:MAX_CURVES]
    ]
    keys.append(Line2D([], [], color=INK, linewidth=1.1, label="line: two regimes fitted to the points"))
    if frame["claimed_bytes_per_s"].notna().any():
        keys.append(Line2D([], [], color=INK, linewidth=1.2, linestyle="--", label="the link's claim, one way"))
    return keys


def _words(frame: pd.DataFrame) -> str:
    """The best of each collective, and what share of the claim that is."""
    words = ["Bus bandwidth as nccl-tests counts it against size, a mark a measurement, a line its fit of two regimes."]
    frame = right_ones(frame)
    best: Sequence[dict[Any, Any]] = frame.loc[frame.groupby("collective")["busbw_bytes_per_s"].idxmax()].to_dict(
        "records"
    )
    for row in best:
        share = row["busbw_over_claimed_ratio"]
        of = f", {100 * share:.0f} % of the {format_rate(row['claimed_bytes_per_s'])} claimed" if share == share else ""
        words.append(
            f"{row['collective']} reaches {format_rate(row['busbw_bytes_per_s'])} at {format_bytes(row['size_bytes'])} "
            f"over {row['ranks']} ranks{of}."
        )
    if frame["reduces_in_switch"].any():
        words.append(
            "A switch that adds up sends less than all-reduce's bus bandwidth counts, which may pass the claim."
        )
    return " ".join(words)
