"""The figure of efficiency against the rate of the link between nodes, measured beside predicted."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from math import log
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from analysis.figures.drawing import INK, PAPER, Chart, label
from analysis.figures.errors import STRATEGY_STYLES
from analysis.figures.scaling import MAX_SCENARIOS
from analysis.frames.rates import panel
from analysis.frames.rows import gather, number, rows_of
from analysis.show.cells import link_rate, percent
from analysis.show.rates import panel_text, pays_text
from analysis.show.words import several_machines

# Rates nearer to each other than this share of the axis have one label.
MIN_TICK_GAP: Final = 0.09
_BEYOND: Final = (0, (2, 1))

Cells = Mapping[Any, Any]
Styles = Mapping[str, tuple[str, str]]


def rates_chart(rates: pd.DataFrame, crossings: pd.DataFrame) -> Chart | None:
    """Efficiency against link rate, a panel for each workload and degree, a colour and a marker a strategy."""
    rows = [row for row in rows_of(rates) if number(row["measured_efficiency"]) is not None]
    if not rows:
        return None
    panels = list(gather(rows, panel).values())
    shown = panels[:MAX_SCENARIOS]
    found = gather(rows_of(crossings), panel)
    machines = several_machines(rates)
    styles = dict(zip(dict.fromkeys(row["strategy"] for row in rows), cycle(STRATEGY_STYLES), strict=False))
    figure = Figure(figsize=(7.6, 1.0 + 2.9 * len(shown)), layout="constrained")
    places = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, same in zip(places, shown, strict=True):
        axes.set_title(label(panel_text(same[0], hardware=machines)), fontweight="bold", loc="left")
        _draw_panel(axes, same, found.get(panel(same[0]), []), styles=styles)
    places[-1].set_xlabel("link rate, one way")
    figure.supylabel("TP efficiency", fontsize=9)
    drawn = [row for same in shown for row in same]
    figure.legend(handles=_keys(drawn, crossings, styles), loc="outside lower center", ncols=3)
    left_out = f" The other {len(panels) - len(shown)} stand in the table." if len(panels) > len(shown) else ""
    return Chart(
        name="efficiency-against-rate",
        title="Efficiency against the rate of the link between nodes, measured beside predicted",
        alternative=_words(shown, found) + left_out,
        figure=figure,
    )


def _draw_panel(axes: Axes, rows: Sequence[Cells], crossings: Sequence[Cells], *, styles: Styles) -> None:
    axes.set_xscale("log")
    axes.grid(True)
    even = 1 / rows[0]["tp"]
    axes.axhline(even, color=INK, linewidth=1.2, linestyle="--")
    axes.text(
        0.99,
        even,
        f"TP {rows[0]['tp']} is no faster than TP 1",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="bottom",
        fontsize=8,
    )
    for strategy, same in gather(rows, lambda row: row["strategy"]).items():
        _draw_curve(axes, same, style=styles[str(strategy)])
    for row in crossings:
        _draw_crossing(axes, row, even=even, style=styles[row["strategy"]])
    ends = [row[f"{kind}_efficiency"] for row in rows for kind in ("measured", "measured_high", "estimate")]
    axes.set_ylim(0, 1.06 * max(1.0, *(end for end in ends if number(end) is not None)))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xticks(_ticks(sorted({row["network_bytes_per_s"] for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: link_rate(value)))


def _draw_curve(axes: Axes, rows: Sequence[Cells], *, style: tuple[str, str]) -> None:
    """Marks with their intervals as measured; lines as predicted, dashed where that is beyond the calibration."""
    marker, colour = style
    by_rate = gather((row for row in rows if number(row["estimate_efficiency"]) is not None), _rate)
    for left, right in pairwise([same[0] for same in by_rate.values()]):
        axes.plot(
            [_rate(left), _rate(right)],
            [left["estimate_efficiency"], right["estimate_efficiency"]],
            color=colour,
            linewidth=1.2,
            linestyle=_BEYOND if left["extrapolated"] or right["extrapolated"] else "-",
        )
    for row in rows:
        axes.plot(
            [_rate(row)] * 2,
            [row["measured_low_efficiency"], row["measured_high_efficiency"]],
            color=colour,
            linewidth=0.9,
        )
    axes.scatter(
        [_rate(row) for row in rows],
        [row["measured_efficiency"] for row in rows],
        s=26,
        marker=marker,
        color=colour,
        edgecolor=PAPER,
        linewidth=0.4,
        zorder=3,
    )


def _draw_crossing(axes: Axes, row: Cells, *, even: float, style: tuple[str, str]) -> None:
    """A ring where it pays from, as measured, and a stroke where that was predicted."""
    for kind, mark in (("measured", _RING), ("estimate", _STROKE)):
        rate = number(row[f"{kind}_crossing_bytes_per_s"])
        if rate is not None:
            axes.plot([rate], [even], **(mark | {"color": style[1], "markeredgecolor": style[1]}), zorder=4)


_RING: Final[dict[str, Any]] = {
    "marker": "o",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgewidth": 1.4,
    "linestyle": "none",
}
_STROKE: Final[dict[str, Any]] = {"marker": "|", "markersize": 14, "markeredgewidth": 1.6, "linestyle": "none"}


def _rate(row: Cells) -> float:
    return float(row["network_bytes_per_s"])


def _ticks(rates: Sequence[float]) -> list[float]:
    """The measured rates, but for those whose labels would run into each other."""
    ticks = [rates[0]]
    span = log(rates[-1] / rates[0]) or 1.0
    for rate in rates[1:]:
        if log(rate / ticks[-1]) / span >= MIN_TICK_GAP:
            ticks.append(rate)
    return ticks


def _keys(rows: Sequence[Cells], crossings: pd.DataFrame, styles: Styles) -> list[Any]:
    """The legend: what occurs in the figure, and no more."""
    keys = [
        Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none", label=f"{strategy}, measured")
        for strategy, (marker, colour) in styles.items()
        if any(row["strategy"] == strategy for row in rows)
    ]
    known = [row for row in rows if number(row["estimate_efficiency"]) is not None]
    if known:
        keys.append(Line2D([], [], color=INK, linewidth=1.2, label="line: predicted"))
    if any(row["extrapolated"] for row in known):
        keys.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=_BEYOND, label="predicted, extrapolated"))
    for kind, mark, words in (("measured", _RING, "measured"), ("estimate", _STROKE, "predicted")):
        if crossings[f"{kind}_crossing_bytes_per_s"].notna().any():
            drawn = mark | {"color": INK, "markeredgecolor": INK, "markersize": 7}
            keys.append(Line2D([], [], **drawn, label=f"pays from here on, {words}"))
    return keys


def _words(panels: Sequence[Sequence[Cells]], crossings: Mapping[Any, Sequence[Cells]]) -> str:
    """The kind of figure, and of the first panels each strategy's efficiency at both ends and where it pays."""
    words = [
        "TP efficiency against the rate of the link between nodes: marks as measured, lines as predicted; at 1/n, a "
        "line of its own, TP n is no faster than TP 1."
    ]
    for same in panels[:3]:
        pays = {row["strategy"]: pays_text(row) for row in crossings.get(panel(same[0]), [])}
        told = []
        for strategy, rows in gather(same, lambda row: row["strategy"]).items():
            first, last = rows[0], rows[-1]
            ends = [f"{percent(row['measured_efficiency'])} at {link_rate(_rate(row))}" for row in (first, last)]
            where = f", pays {pays[strategy]}" if strategy in pays else ""
            told.append(f"{strategy} {' and '.join(dict.fromkeys(ends))}{where}")
        words.append(f"{label(panel_text(same[0], hardware=False))}: {'; '.join(told)}.")
    return " ".join(words)
