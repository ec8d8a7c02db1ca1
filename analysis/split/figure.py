"""The article's figure redrawn: the largest useful degree by hardware and link, a panel for each efficiency."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isinf
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, RED, Chart, house_style, label
from analysis.split.efficiency import Reach, degree_text
from analysis.split.rows import percent
from analysis.split.survey import STRATEGIES, Finding, Row
from tp.case import Strategy, Workload
from tp.model import ModelShape
from tp.units import format_rate

# Marker, colour and lane, in shares of a row above its middle.
STYLES: Final[dict[Strategy, tuple[str, str, float]]] = {
    "allreduce": ("o", BLUE, -0.25),
    "sequence": ("s", ORANGE, 0.0),
    "overlap": ("^", GREEN, 0.25),
}
ROW_INCHES: Final = 0.37
GROUP_GAP: Final = 0.9
LEAST: Final = 0.6
# The column of degrees beyond the largest one that divides starts at this multiple of it.
BEYOND: Final = 1.25
BALANCE_EFFICIENCY: Final = 0.5
# Right of a panel, in shares of its width: the number of each strategy.
NUMBER_PLACES: Final = (1.06, 1.145, 1.23)


def split_chart(rows: Sequence[Row], *, model: ModelShape, workload: Workload, targets: Sequence[float]) -> Chart:
    """A row a hardware and link, three lanes for the strategies."""
    places = dict(zip(range(len(rows)), _places(rows), strict=True))
    last = max((reach.last for row in rows for finding in row.findings for reach in finding.reaches), default=1)
    height = 1.9 + ROW_INCHES * (max(places.values(), default=0.0) + 1)
    with house_style():
        figure = Figure(figsize=(2.6 + 4.6 * len(targets), height), layout="constrained")
        panels = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
        for axes, target in zip(panels, targets, strict=True):
            _prepare(axes, rows, places, last)
            axes.set_title(_heading(target), loc="left", fontweight="bold", pad=8)
            axes.set_xlabel("tensor-parallel degree n")
            for number, row in enumerate(rows):
                _draw_row(axes, row, places[number], target, last)
        _name_rows(panels[0], rows, places)
        _name_groups(panels[0], rows, places)
        figure.suptitle(label(_title(model, workload)), fontsize=11, fontweight="bold", ha="left", x=0.01)
        marked = BALANCE_EFFICIENCY in targets and any(row.balance is not None for row in rows)
        figure.legend(handles=list(_keys(marked)), loc="outside lower center", ncols=4, columnspacing=1.6)
    return Chart(name="split-degrees", title=_title(model, workload), alternative=_words(rows, targets), figure=figure)


def _title(model: ModelShape, workload: Workload) -> str:
    size = f"batch {workload.batch}, " + (
        f"context {workload.context}" if workload.phase == "decode" else f"{workload.seq} tokens"
    )
    return f"How far to split a layer of {model.name}: {workload.phase}, {size}, {workload.dtype}"


def _heading(target: float) -> str:
    return f"efficiency falls under {percent(target)} at n ="


def group(row: Row) -> str:
    """Links of GPUs first, those of hosts after them."""
    return "PCIe" if row.link.kind in ("pcie", "host-memory") else "links between GPUs"


def in_groups(rows: Sequence[Row]) -> list[Row]:
    """Rows of one group next to each other, in their order."""
    return sorted(rows, key=lambda row: group(row) == "PCIe")


def _places(rows: Sequence[Row]) -> Iterator[float]:
    """Where each row stands, from the top, with a gap between groups."""
    start = 0.0
    for _, alike in groupby(rows, key=group):
        for number, _ in enumerate(list(alike)):
            yield start + number
        start += number + 1 + GROUP_GAP


def _prepare(axes: Axes, rows: Sequence[Row], places: dict[int, float], last: int) -> None:
    edge, bottom = last * BEYOND, max(places.values(), default=0.0)
    axes.set_xscale("log", base=2)
    axes.set(xlim=(LEAST, edge * BEYOND**2), ylim=(bottom + 0.6, -0.6))
    ticks = [2**power for power in range(last.bit_length()) if 2**power <= last]
    axes.xaxis.set_major_locator(FixedLocator([*ticks, edge * BEYOND]))
    axes.set_xticklabels([*map(str, ticks), f">{last}"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="x")
    axes.axvspan(edge, edge * BEYOND**2, color=INK, alpha=0.07, linewidth=0)
    axes.tick_params(axis="both", length=0)
    axes.spines["left"].set_visible(False)
    for number, place in places.items():
        if number % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color=INK, alpha=0.035, linewidth=0)
    for at, strategy in zip(NUMBER_PLACES, STRATEGIES, strict=True):
        colour = STYLES[strategy][1]
        axes.annotate(
            strategy, (at, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", rotation=38,
            fontsize=7.5, color=colour, ha="left", va="bottom", rotation_mode="anchor", annotation_clip=False,
        )  # fmt: skip


def _name_rows(axes: Axes, rows: Sequence[Row], places: dict[int, float]) -> None:
    axes.set_yticks(list(places.values()), [_row_name(row) for row in rows])
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if row.is_calibrated else "normal")
        text.set_fontsize(8.5)


def _name_groups(axes: Axes, rows: Sequence[Row], places: dict[int, float]) -> None:
    tops = {group(row): places[number] for number, row in reversed(list(enumerate(rows)))}
    for name, top in tops.items():
        axes.annotate(
            name, (0, top - 0.5), (-6, 3), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            fontsize=8.5, fontstyle="italic", ha="right", va="bottom", annotation_clip=False,
        )  # fmt: skip


def _row_name(row: Row) -> str:
    rate = row.link.one_way_bytes_per_s
    stated = "rate not stated" if rate is None else format_rate(rate)
    return label(f"{row.node.name}  {row.link.name}  {stated}")


def _draw_row(axes: Axes, row: Row, place: float, target: float, last: int) -> None:
    for finding in row.findings:
        for reach in finding.reaches:
            if reach.target == target and reach.last > 1:
                _draw_finding(axes, finding, reach, place, last)
    if target != BALANCE_EFFICIENCY:
        return
    if row.balance is not None:
        at = min(row.balance, last * BEYOND**2)
        axes.plot([at, at], [place - 0.42, place + 0.42], color=INK, linewidth=1.8, solid_capstyle="butt", zorder=2)
    if row.printed is not None:
        axes.plot(row.printed, place, marker="*", markersize=11, color=RED, markeredgecolor=PAPER, zorder=5)
        axes.annotate(
            f"{row.printed:g}", (row.printed, place), (-7, 0), textcoords="offset points", ha="right", va="center",
            fontsize=7.5, color=RED, path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
        )  # fmt: skip


def _draw_finding(axes: Axes, finding: Finding, reach: Reach, place: float, last: int) -> None:
    """A hollow mark for the data sheet, else a full one with its interval and its number."""
    marker, colour, lane = STYLES[finding.strategy]
    crossing, height = reach.crossing, place + lane
    # Beyond the degrees of this strategy, which may be fewer than those of the figure.
    beyond = last * BEYOND**2 if reach.last == last else float(reach.last)
    at = min(crossing.value, beyond)
    style: dict[str, Any] = {"marker": marker, "markersize": 6.0 if marker == "^" else 5.2, "linestyle": "none"}
    if finding.basis == "datasheet":
        axes.plot(at, height, markerfacecolor=PAPER, markeredgecolor=colour, markeredgewidth=1.1, zorder=3, **style)
        return
    if crossing.has_interval:
        ends = [min(crossing.low, beyond), last * BEYOND**4 if isinf(crossing.high) else crossing.high]
        axes.plot(ends, [height, height], color=colour, linewidth=1.0, alpha=0.5, zorder=2.5)
    axes.plot(at, height, markerfacecolor=colour, markeredgecolor=PAPER, markeredgewidth=0.4, zorder=4, **style)
    axes.text(
        NUMBER_PLACES[STRATEGIES.index(finding.strategy)], place, degree_text(crossing.value, reach.last, beyond=">"),
        transform=axes.get_yaxis_transform(), color=colour, fontsize=7.5, ha="center", va="center", clip_on=False,
    )  # fmt: skip


def _keys(marked: bool) -> Iterator[Line2D]:
    """The legend: strategies, then how sure, then the article."""
    plain: dict[str, Any] = {"linestyle": "none", "markersize": 5.5}
    for strategy, (marker, colour, _) in STYLES.items():
        yield Line2D([], [], marker=marker, color=colour, label=strategy, **plain)
    words = "data sheet: dense peak, line rate"
    yield Line2D([], [], marker="o", color=INK, markerfacecolor=PAPER, label=words, **plain)
    words = "calibrated (bold) or expected, 90 % interval"
    yield Line2D([], [], marker="o", color=INK, linewidth=1.1, markersize=5.5, label=words)
    if marked:
        words = "balance: products as long as sending"
        yield Line2D([], [], marker="|", markeredgewidth=1.8, markersize=9, color=INK, linestyle="none", label=words)
        yield Line2D([], [], marker="*", color=RED, linestyle="none", markersize=9, label="printed by the article")


def _words(rows: Sequence[Row], targets: Sequence[float]) -> str:
    """The kind of figure, how its numbers are to be read, and its first and last row."""
    asked = " or ".join(map(percent, targets))
    words = [
        f"The tensor-parallel degree at which the efficiency of a layer falls under {asked}, by hardware and link, for "
        f"{', '.join(STRATEGIES)}: by the data sheet and by the best theory known, with its 90 % interval. Every link "
        f"is taken to join one domain of any size; between degrees that divide the curve is interpolated. The data "
        f"sheet bounds times, not efficiencies: a GPU slower than its sheet waits less for its link. Hardware in bold "
        f"has published measurements behind it."
    ]
    if BALANCE_EFFICIENCY in targets and any(row.balance is not None for row in rows):
        words.append("Beside 50 % stand the degree that balances products and sending, and the article's.")
    for row in [*rows[:1], *rows[1:][-1:]]:
        words.append(f"{row.node.name} over {row.link.name}: {_row_words(row)}.")
    return " ".join(words)


def _row_words(row: Row) -> str:
    best = row.findings[-len(STRATEGIES) :]
    return "; ".join(
        f"{finding.strategy} {percent(reach.target)} at "
        + degree_text(reach.crossing.value, reach.last, beyond="more than ")
        for finding in best
        for reach in finding.reaches
    )
