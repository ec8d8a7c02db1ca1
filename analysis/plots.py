"""The figures of a report: what was measured against what was predicted, drawn from the frames of tables.py."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from analysis.display import scenario_text, seconds, several_machines, signed
from analysis.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, house_style, label
from analysis.stacks import strategies_chart
from analysis.tables import SCENARIO
from tp.units import format_seconds

# By part its marker and colour; the serial pass is left out: where nothing overlaps it is the total again.
PART_STYLES: Final[dict[str, tuple[str, str]]] = {
    "norm": ("v", SKY),
    "qkv": ("o", BLUE),
    "core": ("s", RED),
    "out": ("^", GREEN),
    "up": ("D", PINK),
    "activation": ("<", ORANGE),
    "down": (">", BLUE),
    "residual": ("P", SKY),
    "all_gather": ("X", ORANGE),
    "reduce_scatter": ("d", GREEN),
    "all_reduce": ("p", PINK),
    "send_recv": ("h", RED),
    "compute": ("+", INK),
    "communication": ("x", INK),
    "total": ("*", INK),
}
STRATEGY_STYLES: Final = (("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", RED), ("v", PINK), ("P", SKY))
# Rows of the scaling figure; its table has the rest.
MAX_SCENARIOS: Final = 10
# Errors beyond this are drawn on an axis that is logarithmic outside of -100 % to 100 %.
WIDE_ERROR: Final = 4.0
# The line of a total, and of one that leaves out parts which the theory does not price.
_WHOLE: Final[dict[str, Any]] = {"color": INK, "linewidth": 1.6, "solid_capstyle": "butt"}
_PARTIAL: Final[dict[str, Any]] = {"color": INK, "linewidth": 1.6, "linestyle": (0, (2, 1))}
# From so many points on they are drawn small.
MANY: Final = 200
# Nearer to the identity than this is called close.
CLOSE: Final = 0.1


def charts(parts: pd.DataFrame, scaling: pd.DataFrame, strategies: pd.DataFrame) -> list[Chart]:
    """Every figure that the frames have something for."""
    with house_style():
        drawn = (
            agreement_chart(parts),
            scaling_chart(scaling),
            strategies_chart(parts, strategies),
            error_chart(parts),
        )
        return [chart for chart in drawn if chart is not None]


def agreement_chart(parts: pd.DataFrame) -> Chart | None:
    """Measured against predicted by part, on logarithmic axes, with the predictions' 90 % intervals."""
    known = parts[parts["signed_error"].notna() & parts["part"].isin(PART_STYLES)]
    if known.empty:
        return None
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    _draw_identity(axes, known)
    size = 36 if len(known) < MANY else 16
    for part, (marker, colour) in PART_STYLES.items():
        rows = known[known["part"] == part]
        if not rows.empty:
            _draw_agreement(axes, rows, part=part, marker=marker, colour=colour, size=size)
    axes.set_xlabel("measured")
    axes.set_ylabel("predicted")
    figure.legend(loc="outside right upper", handletextpad=0.3, markerscale=(36 / size) ** 0.5)
    return Chart(
        name="measured-against-predicted",
        title="Measured against predicted, by part",
        alternative=_agreement_words(known),
        figure=figure,
    )


def _draw_identity(axes: Axes, known: pd.DataFrame) -> None:
    """Both axes over the same range, with the line on which predictions are right and one on which they are half."""
    values = known[["measured_s", "estimate_s", "estimate_low_s", "estimate_high_s"]].to_numpy().ravel()
    values = values[values > 0]
    low, high = values.min() / 1.5, values.max() * 1.5
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.grid(True)
    axes.plot([low, high], [low, high], color=INK, linewidth=1, label="predicted = measured")
    axes.plot([low, high], [low / 2, high / 2], color=INK, linewidth=0.8, linestyle=":", label="half or twice")
    axes.plot([low, high], [low * 2, high * 2], color=INK, linewidth=0.8, linestyle=":")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
        axis.set_minor_formatter(NullFormatter())


def _draw_agreement(axes: Axes, rows: pd.DataFrame, *, part: str, marker: str, colour: str, size: float) -> None:
    line = marker in "+x"
    wide = rows[rows["estimate_low_s"] < rows["estimate_high_s"]]
    if not wide.empty:
        ends = [wide["estimate_s"] - wide["estimate_low_s"], wide["estimate_high_s"] - wide["estimate_s"]]
        axes.errorbar(wide["measured_s"], wide["estimate_s"], np.clip(ends, 0, None), fmt="none", ecolor=colour, lw=0.8)
    axes.scatter(
        rows["measured_s"],
        rows["estimate_s"],
        s=size * 2 if marker == "*" else size,
        marker=marker,
        color=colour,
        edgecolor=None if line else PAPER,
        linewidth=1.2 if line else 0.5,
        label=part,
        zorder=3,
    )


def _agreement_words(known: pd.DataFrame) -> str:
    errors = known["signed_error"]
    close = (errors.abs() <= CLOSE).sum()
    worst = known.iloc[int(errors.abs().to_numpy().argmax())]
    return (
        f"Predicted over measured seconds of {len(known)} parts and wholes of {_num_cases(known)} cases, on "
        f"logarithmic axes with the line where both agree. {close} lie within {100 * CLOSE:.0f} % of it; the median "
        f"error is {signed(errors.median())}, the largest {signed(worst['signed_error'])} ({worst['part']}, "
        f"{worst['strategy']}, TP {worst['tp']})."
    )


def _num_cases(rows: pd.DataFrame) -> int:
    return len(rows[["record", "case"]].drop_duplicates())


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
    figure.legend(handles=_scaling_keys(scaling), loc="outside lower center", ncols=3)
    left_out = f" The other {len(scenarios) - len(shown)} stand in the table." if len(scenarios) > len(shown) else ""
    return Chart(
        name="time-against-tp",
        title="Time against TP degree, measured beside predicted",
        alternative=_scaling_words(scenarios) + left_out,
        figure=figure,
    )


def _draw_scaling(axes: Axes, rows: pd.DataFrame, *, degrees: Sequence[int]) -> None:
    """Two bars a degree, compute below communication, each with its total; dashed where that leaves out parts.

    Numbers of chunks stand beside each other.
    """
    places = _places(rows, degrees)
    axes.set_xticks(range(len(places)), [_place_text(tp, chunks) for tp, chunks in places])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.grid(True, axis="y")
    axes.tick_params(axis="x", length=0)
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontstyle="italic")
    for row in rows.to_dict("records"):
        place = places.index((row["tp"], row["chunks"]))
        _draw_bar(axes, row, kind="measured", place=place - 0.2)
        _draw_bar(axes, row, kind="estimate", place=place + 0.2)


def _places(rows: pd.DataFrame, degrees: Sequence[int]) -> list[tuple[int, int]]:
    """Degree and chunks of every pair of bars, a degree that was not measured included."""
    chunks = {tp: sorted(set(rows.loc[rows["tp"] == tp, "chunks"])) or [1] for tp in degrees}
    return [(tp, count) for tp in degrees for count in chunks[tp]]


def _place_text(tp: int, chunks: int) -> str:
    return f"TP {tp}" if chunks == 1 else f"TP {tp}\n{chunks} chunks"


def _draw_bar(axes: Axes, row: Mapping[Any, Any], *, kind: str, place: float) -> None:
    bottom = 0.0
    for whole, colour in (("compute", BLUE), ("communication", ORANGE)):
        value = row[f"{kind}_{whole}_s"]
        if value > 0:
            axes.bar(place, value, width=0.36, bottom=bottom, **_fill(kind, colour))
            bottom += value
    total, low, high = (row[f"{kind}_total_{end}"] for end in ("s", "low_s", "high_s"))
    if total > 0:
        line = _PARTIAL if kind == "estimate" and row["unpriced"] else _WHOLE
        axes.plot([place - 0.18, place + 0.18], [total, total], **line)
        if low < high:
            axes.plot([place, place], [low, high], color=INK, linewidth=0.9)


def _fill(kind: str, colour: str) -> dict[str, Any]:
    if kind == "measured":
        return {"facecolor": colour, "edgecolor": colour, "linewidth": 0.8}
    return {"facecolor": "none", "edgecolor": colour, "linewidth": 0.8, "hatch": "////"}


def _scaling_keys(scaling: pd.DataFrame) -> list[Any]:
    """The legend: what occurs in the figure, and no more."""
    keys: list[Any] = []
    for kind, word in (("measured", "measured"), ("estimate", "predicted")):
        for whole, colour in (("compute", BLUE), ("communication", ORANGE)):
            if scaling[f"{kind}_{whole}_s"].gt(0).any():
                keys.append(Patch(label=f"{whole}, {word}", **_fill(kind, colour)))
    keys.append(Line2D([], [], label="total, with its interval", **_WHOLE))
    if scaling["unpriced"].ne("").any():
        keys.append(Line2D([], [], label="total, some parts not predicted", **_PARTIAL))
    return keys


def _scaling_words(scenarios: Sequence[pd.DataFrame]) -> str:
    """The kind of figure, and of the first scenarios their fastest totals at both ends."""
    words = ["Time of one pass against TP degree: compute, communication and total, measured beside predicted."]
    for frame in scenarios[:3]:
        fastest: dict[Any, float] = frame.groupby("tp")["measured_total_s"].min().to_dict()
        first, last = min(fastest), max(fastest)
        text = f"{label(scenario_text(frame.iloc[0].to_dict()))}: {seconds(fastest[first])} at TP {first}"
        words.append(text + (f", {seconds(fastest[last])} at TP {last}." if last != first else "."))
    return " ".join(words)


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


def _scale_errors(axes: Axes, errors: pd.Series) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    if errors.max() > WIDE_ERROR:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _error_words(known: pd.DataFrame) -> str:
    medians: dict[Any, float] = known.groupby("part")["signed_error"].median().to_dict()
    low, high = min(medians, key=lambda part: medians[part]), max(medians, key=lambda part: medians[part])
    words = (
        f"Signed error of the prediction by part, over {_num_cases(known)} cases, below zero where a part took longer."
    )
    if low == high:
        return f"{words} The median for {low} is {signed(medians[low])}."
    return f"{words} Medians run from {signed(medians[low])} ({low}) to {signed(medians[high])} ({high})."
