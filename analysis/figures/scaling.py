"""The figure of time against tensor-parallel degree, measured beside predicted."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from analysis.figures.drawing import BLUE, INK, ORANGE, SKY, Chart, label
from analysis.frames.parts import SCENARIO
from analysis.show.cells import seconds
from analysis.show.words import scenario_text, several_machines
from tp.units import format_seconds

# Rows of the scaling figure; its table has the rest.
MAX_SCENARIOS: Final = 6
_HIDDEN: Final[dict[str, Any]] = {
    "facecolor": "none",
    "edgecolor": SKY,
    "linewidth": 0.8,
    "hatch": "....",
    "linestyle": ":",
}
# The line of a total, and of one that leaves out parts which the theory does not price.
_WHOLE: Final[dict[str, Any]] = {"color": INK, "linewidth": 1.6, "solid_capstyle": "butt"}
_PARTIAL: Final[dict[str, Any]] = {"color": INK, "linewidth": 1.6, "linestyle": (0, (2, 1))}


def scaling_chart(scaling: pd.DataFrame) -> Chart | None:
    """Time against TP degree, a row of panels a scenario and a column a strategy, measured beside predicted."""
    if scaling.empty:
        return None
    machines = several_machines(scaling)
    scenarios = [frame for _, frame in scaling.groupby([*SCENARIO, "series"], sort=False)]
    shown = scenarios[:MAX_SCENARIOS]
    strategies = list(dict.fromkeys(row for frame in shown for row in frame["strategy"]))
    # Six strategies beside each other are still as large as a page shows them.
    width, height = 1.6 + (2.3 if len(strategies) < 4 else 1.8) * len(strategies), 0.9 + 2.2 * len(shown)
    figure = Figure(figsize=(max(width, 5.6), height), layout="constrained")
    rows = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for subfigure, frame in zip(rows, shown, strict=True):
        subfigure.suptitle(
            label(scenario_text(frame.iloc[0].to_dict(), hardware=machines)), fontsize=9, fontweight="bold"
        )
        panels = subfigure.subplots(1, len(strategies), sharey=True, squeeze=False)[0]
        for axes, strategy in zip(panels, strategies, strict=True):
            _draw_scaling(axes, frame[frame["strategy"] == strategy], degrees=sorted(set(frame["tp"])))
            axes.set_title(strategy)
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    figure.legend(handles=_scaling_keys(scaling), loc="outside lower center", ncols=3 if width > 7 else 2)
    left_out = f" The other {len(scenarios) - len(shown)} stand in the table." if len(scenarios) > len(shown) else ""
    return Chart(
        name="time-against-tp",
        title="Where the time goes against TP degree, measured beside predicted",
        alternative=_scaling_words(scenarios) + left_out,
        figure=figure,
    )


def _draw_scaling(axes: Axes, rows: pd.DataFrame, *, degrees: Sequence[int]) -> None:
    """Two bars a degree: compute, exposed communication up to the total, above it what is hidden.

    Placements and numbers of chunks stand beside each other. The line of a total is dashed where it leaves out parts.
    """
    places = _places(rows, degrees)
    axes.set_xticks(range(len(places)), [_place_text(*place) for place in places])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.grid(True, axis="y")
    axes.tick_params(axis="x", length=0)
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontstyle="italic")
    for row in rows.to_dict("records"):
        place = places.index((row["tp"], row["group_nodes"], row["chunks"]))
        _draw_bar(axes, row, kind="measured", place=place - 0.2)
        _draw_bar(axes, row, kind="estimate", place=place + 0.2)


def _places(rows: pd.DataFrame, degrees: Sequence[int]) -> list[tuple[int, int, int]]:
    """Degree, nodes and chunks of every pair of bars, a degree that was not measured included."""
    found = set(zip(rows["tp"], rows["group_nodes"], rows["chunks"], strict=True))
    return sorted(found | {(tp, 1, 1) for tp in set(degrees) - set(rows["tp"])})


def _place_text(tp: int, nodes: int, chunks: int) -> str:
    lines = [f"TP {tp}"] + [f"{nodes} nodes"] * (nodes > 1) + [f"{chunks} chunks"] * (chunks > 1)
    return "\n".join(lines)


def _draw_bar(axes: Axes, row: Mapping[Any, Any], *, kind: str, place: float) -> None:
    bottom = 0.0
    for whole, style in _stack(row, kind):
        value = row[f"{kind}_{whole}_s"]
        if value > 0:
            axes.bar(place, value, width=0.36, bottom=bottom, **style)
            bottom += value
    total, low, high = (row[f"{kind}_total_{end}"] for end in ("s", "low_s", "high_s"))
    if total > 0:
        line = _PARTIAL if kind == "estimate" and row["unpriced"] else _WHOLE
        axes.plot([place - 0.18, place + 0.18], [total, total], **line)
        if low < high:
            axes.plot([place, place], [low, high], color=INK, linewidth=0.9)


def _stack(row: Mapping[Any, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """What is stacked up to the total, and what is hidden on top; of a theory that prices no total what it does."""
    if isnan(row[f"{kind}_exposed_s"]) or (kind == "estimate" and row["unpriced"]):
        return [("compute", _fill(kind, BLUE)), ("communication", _fill(kind, ORANGE))]
    return [("compute", _fill(kind, BLUE)), ("exposed", _fill(kind, ORANGE)), ("hidden", _HIDDEN)]


def _fill(kind: str, colour: str) -> dict[str, Any]:
    if kind == "measured":
        return {"facecolor": colour, "edgecolor": colour, "linewidth": 0.8}
    return {"facecolor": "none", "edgecolor": colour, "linewidth": 0.8, "hatch": "////"}


def _scaling_keys(scaling: pd.DataFrame) -> list[Any]:
    """The legend: what occurs in the figure, and no more."""
    keys: list[Any] = []
    for kind, word in (("measured", "measured"), ("estimate", "predicted")):
        for whole, colour, what in (("compute", BLUE, "compute"), ("exposed", ORANGE, "communication, exposed")):
            if scaling[f"{kind}_{whole}_s"].gt(0).any():
                keys.append(Patch(label=f"{what}, {word}", **_fill(kind, colour)))
    if scaling[["measured_hidden_s", "estimate_hidden_s"]].gt(0).any(axis=None):
        keys.append(Patch(label="communication, hidden", **_HIDDEN))
    keys.append(Line2D([], [], label="total, with its interval", **_WHOLE))
    if scaling["unpriced"].ne("").any():
        keys.append(Line2D([], [], label="total, some parts not predicted", **_PARTIAL))
    return keys


def _scaling_words(scenarios: Sequence[pd.DataFrame]) -> str:
    """The kind of figure, and of the first scenarios their fastest totals at both ends."""
    words = [
        "Time of one pass against TP degree, measured beside predicted: compute alone, exposed communication (total "
        "less compute) up to the total, and above it the communication that compute hides."
    ]
    for frame in scenarios[:3]:
        fastest: dict[Any, float] = frame.groupby("tp")["measured_total_s"].min().to_dict()
        first, last = min(fastest), max(fastest)
        text = f"{label(scenario_text(frame.iloc[0].to_dict()))}: {seconds(fastest[first])} at TP {first}"
        words.append(text + (f", {seconds(fastest[last])} at TP {last}." if last != first else "."))
    return " ".join(words)
