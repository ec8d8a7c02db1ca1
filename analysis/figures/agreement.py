"""The figure of measured against predicted: every part, on logarithmic axes."""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, TOO_MANY, Chart, draw_density
from analysis.show.cells import signed
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
# From so many points on they are drawn small.
MANY: Final = 200
# Of the time measured, where points are too many.
NUM_BINS: Final = 24
# Nearer to the identity than this is called close.
CLOSE: Final = 0.1


def agreement_chart(parts: pd.DataFrame) -> Chart | None:
    """Measured against predicted by part, on logarithmic axes, with the predictions' 90 % intervals."""
    known = parts[parts["signed_error"].notna() & parts["part"].isin(PART_STYLES)]
    if known.empty:
        return None
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    _draw_identity(axes, known)
    size = 36 if len(known) < MANY else 16
    if len(known) > TOO_MANY:
        draw_density(axes, known["measured_s"], known["estimate_s"])
        _draw_usual_interval(axes, known)
    for part, (marker, colour) in PART_STYLES.items():
        rows = known[known["part"] == part]
        if not rows.empty and len(known) <= TOO_MANY:
            _draw_agreement(axes, rows, part=part, marker=marker, colour=colour, size=size)
    _scale(axes, known)
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
    """The line on which predictions are right, and those on which they are half or twice."""
    low, high = _range(known)
    axes.plot([low, high], [low, high], color=INK, linewidth=1, label="predicted = measured")
    axes.plot([low, high], [low / 2, high / 2], color=INK, linewidth=0.8, linestyle=":", label="half or twice")
    axes.plot([low, high], [low * 2, high * 2], color=INK, linewidth=0.8, linestyle=":")


def _range(known: pd.DataFrame) -> tuple[float, float]:
    values = known[["measured_s", "estimate_s", "estimate_low_s", "estimate_high_s"]].to_numpy().ravel()
    values = values[values > 0]
    return values.min() / 1.5, values.max() * 1.5


def _scale(axes: Axes, known: pd.DataFrame) -> None:
    """Both axes logarithmic over the same range."""
    low, high = _range(known)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.grid(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
        axis.set_minor_formatter(NullFormatter())


def _draw_usual_interval(axes: Axes, known: pd.DataFrame) -> None:
    """Of points that are too many for intervals of their own, the median of both ends by the time measured."""
    wide = known[known["estimate_low_s"] < known["estimate_high_s"]]
    if wide.empty:
        return
    edges = np.geomspace(wide["measured_s"].min(), wide["measured_s"].max() * 1.001, NUM_BINS + 1)
    binned = wide.groupby(np.digitize(wide["measured_s"], edges))[["measured_s", "estimate_low_s", "estimate_high_s"]]
    ends = binned.median()
    for name, words in (("estimate_low_s", "90 % interval (medians)"), ("estimate_high_s", None)):
        axes.plot(ends["measured_s"], ends[name], color=RED, linewidth=1.2, linestyle="--", label=words)


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
        f"Predicted over measured seconds of {len(known)} parts and wholes of {num_cases(known)} cases, on "
        f"logarithmic axes with the line where both agree. {close} lie within {100 * CLOSE:.0f} % of it; the median "
        f"error is {signed(errors.median())}, the largest {signed(worst['signed_error'])} ({worst['part']}, "
        f"{worst['strategy']}, TP {worst['tp']})."
    )


def num_cases(rows: pd.DataFrame) -> int:
    return len(rows[["record", "case"]].drop_duplicates())
