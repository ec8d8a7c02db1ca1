"""The figure of the prediction's error by part."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from analysis.figures.agreement import PART_STYLES, num_cases
from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, label
from analysis.show.cells import signed

STRATEGY_STYLES: Final = (("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", RED), ("v", PINK), ("P", SKY))
# Errors beyond this are drawn on an axis that is logarithmic outside of -100 % to 100 %.
WIDE_ERROR: Final = 4.0
# Errors of a part and a strategy beyond which quantiles are drawn instead of each.
MANY: Final = 40


def error_chart(parts: pd.DataFrame) -> Chart | None:
    """The signed error of every comparable case by part, a panel a phase, a marker a strategy, medians as lines."""
    known = parts[parts["comparable"].astype(bool) & parts["signed_error"].notna() & parts["part"].isin(PART_STYLES)]
    if known.empty:
        return None
    names = [part for part in PART_STYLES if part in set(known["part"])]
    phases = list(dict.fromkeys(known["phase"]))
    styles = dict(zip(dict.fromkeys(known["strategy"]), cycle(STRATEGY_STYLES), strict=False))
    figure = Figure(figsize=(1.8 + 3.0 * len(phases), 1.5 + 0.34 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(phases), sharex=True, sharey=True, squeeze=False)[0]
    for axes, phase in zip(panels, phases, strict=True):
        _draw_errors(axes, known[known["phase"] == phase], names=names, styles=styles)
        axes.set_title(label(phase))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    _scale_errors(panels[0], known["signed_error"])
    figure.supxlabel("predicted / measured - 1", fontsize=9)
    handles, _ = panels[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=INK, linewidth=1.8, label="median"))
    figure.legend(handles=handles, loc="outside right upper", handletextpad=0.3)
    return Chart(
        name="error-by-part",
        title="Error of the prediction, by part",
        alternative=_error_words(known),
        figure=figure,
    )


def _draw_errors(
    axes: Axes, rows: pd.DataFrame, *, names: Sequence[str], styles: Mapping[str, tuple[str, str]]
) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(True, axis="x")
    for lane, (strategy, (marker, colour)) in enumerate(styles.items()):
        mine = rows[rows["strategy"] == strategy]
        offset = 0.5 * ((lane + 0.5) / len(styles) - 0.5)
        if len(mine) > MANY * len(names):
            _draw_quantiles(axes, mine, names=names, offset=offset, style=(marker, colour), strategy=strategy)
            continue
        places = [names.index(part) + offset for part in mine["part"]]
        axes.scatter(
            mine["signed_error"],
            places,
            s=22,
            marker=marker,
            color=colour,
            edgecolor=PAPER,
            linewidth=0.4,
            label=strategy,
        )
    for place, part in enumerate(names):
        errors = rows.loc[rows["part"] == part, "signed_error"]
        if len(errors):
            axes.vlines(errors.median(), place - 0.36, place + 0.36, color=INK, linewidth=1.8)


def _draw_quantiles(
    axes: Axes, rows: pd.DataFrame, *, names: Sequence[str], offset: float, style: tuple[str, str], strategy: str
) -> None:
    """A thin line between which nine in ten errors lie, a thick one for every other, a mark at the median."""
    errors = {part: rows.loc[rows["part"] == part, "signed_error"] for part in names}
    known = {part: values for part, values in errors.items() if len(values)}
    places = [names.index(part) + offset for part in known]
    low, first, middle, third, high = np.array(
        [np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]) for values in known.values()]
    ).T
    marker, colour = style
    axes.hlines(places, low, high, color=colour, linewidth=0.9)
    axes.hlines(places, first, third, color=colour, linewidth=3.0)
    axes.scatter(
        middle, places, s=26, marker=marker, color=colour, edgecolor=INK, linewidth=0.5, label=strategy, zorder=3
    )


def _scale_errors(axes: Axes, errors: pd.Series) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    if errors.max() > WIDE_ERROR:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _error_words(known: pd.DataFrame) -> str:
    medians: dict[Any, float] = known.groupby("part")["signed_error"].median().to_dict()
    low, high = min(medians, key=lambda part: medians[part]), max(medians, key=lambda part: medians[part])
    words = (
        f"Signed error of the prediction by part, over {num_cases(known)} cases, below zero where a part took longer."
    )
    if low == high:
        return f"{words} The median for {low} is {signed(medians[low])}."
    return f"{words} Medians run from {signed(medians[low])} ({low}) to {signed(medians[high])} ({high})."
