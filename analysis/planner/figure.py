"""The figure of a ranking: where the time of a step goes, beside what the fullest rank holds."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib import transforms
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PINK, RED, SKY, Chart, house_style, label
from analysis.planner.alone import notable
from analysis.planner.layout import Layout, MemoryTerm, Ranking, TimeTerm
from analysis.planner.request import Request
from analysis.planner.show import by_name
from tp.units import GB, format_bytes, format_seconds

GREY: Final = "#9aa0a6"
# Colour and hatch, so that colour is never the only difference.
TIME_STYLES: Final[dict[TimeTerm, tuple[str, str]]] = {
    "compute": (BLUE, ""),
    "prefill compute": (SKY, ""),
    "decode compute": (BLUE, ""),
    "TP communication": (ORANGE, ""),
    "recomputation": (SKY, "////"),
    "uneven stages": (PINK, ""),
    "bubble": (RED, "\\\\\\\\"),
    "stage sends": (GREEN, ""),
    "gradient sum": (INK, ""),
    "optimizer": (GREY, ""),
}
MEMORY_STYLES: Final[dict[MemoryTerm, tuple[str, str]]] = {
    "weights": (BLUE, ""),
    "gradients": (SKY, ""),
    "optimizer": (GREY, ""),
    "activations": (ORANGE, "////"),
    "logits": (PINK, ""),
    "workspace": (GREEN, ""),
    "kv_cache": (RED, "\\\\\\\\"),
    "reserve": (INK, ""),
}
# Bars beyond so many times the capacity are cut, their sum stands beside them.
MOST_CAPACITIES: Final = 2.2


def layouts_chart(request: Request, ranking: Ranking) -> Chart:
    """Stacked time and stacked memory of the layouts that say most, the best on top, with the line of capacity."""
    layouts = notable(request, ranking)
    title = f"{request.model.name} on {request.num_gpus} x {request.node.name}: layouts tp x pp x dp"
    with house_style():
        left, right, figure = _panels(len(layouts))
        _draw_times(left, layouts)
        _draw_memory(right, layouts, request.memory_bytes)
        left.set_yticks(range(len(layouts)), [_row_text(request, layout) for layout in layouts], fontsize=8)
        figure.text(0.15 / 11, 1 - 0.28 / figure.get_figheight(), label(title), fontsize=10, fontweight="bold")
        done = "a training step" if request.phase == "train" else "serving the batch"
        left.set_title(f"time of {done}, with its 90 % interval", loc="left", pad=16)
        right.set_title("memory of a GPU of the fullest stage", loc="left", pad=16)
        _legend(left, TIME_STYLES, [x.timing.terms for x in layouts if x.timing is not None])
        _legend(right, MEMORY_STYLES, [x.memory.terms for x in layouts if x.memory is not None])
    return Chart(
        name=f"plan-{request.model.name}-{request.num_gpus}-{request.node.name}-{request.phase}",
        title=title,
        alternative=_words(request, layouts),
        figure=figure,
    )


def _panels(rows: int) -> tuple[Axes, Axes, Figure]:
    """Two panels beside each other, the rows' names to the left, room for the legends below."""
    width, height = 11.0, 2.05 + 0.5 * rows
    figure = Figure(figsize=(width, height))
    bottom, top = 1.05 / height, 1 - 0.95 / height
    places = [(2.75 / width, bottom, 4.4 / width, top - bottom), (7.55 / width, bottom, 3.2 / width, top - bottom)]
    left, right = (figure.add_axes(place) for place in places)
    right.set_yticks([])
    for axes in (left, right):
        axes.set_ylim(rows - 0.45, -0.55)
    return left, right, figure


def _draw_times(axes: Axes, layouts: Sequence[Layout]) -> None:
    longest = max((layout.timing.whole.high_s for layout in layouts if layout.timing is not None), default=1.0)
    for place, layout in enumerate(layouts):
        if layout.timing is None:
            axes.text(0.01 * longest, place, "does not fit", va="center", fontstyle="italic", color=RED)
            continue
        _stack(axes, place, by_name(layout.timing.terms), TIME_STYLES)
        whole = layout.timing.whole
        if whole.low_s < whole.high_s:
            ends = [[whole.seconds - whole.low_s], [whole.high_s - whole.seconds]]
            axes.errorbar([whole.seconds], [place], xerr=ends, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2.5)
        axes.text(whole.high_s + 0.015 * longest, place, format_seconds(whole.seconds), va="center", fontsize=8)
    axes.set_xlim(0, 1.14 * longest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    if all(layout.timing is None for layout in layouts):
        axes.set_xticks([])
    _tidy(axes)


def _draw_memory(axes: Axes, layouts: Sequence[Layout], capacity: float) -> None:
    most = MOST_CAPACITIES * capacity
    held = [layout.memory.total for layout in layouts if layout.memory is not None]
    end = min(most, max([*held, capacity])) * 1.3
    for place, layout in enumerate(layouts):
        if layout.memory is None:
            continue
        _stack(axes, place, by_name(layout.memory.terms), MEMORY_STYLES, most=most)
        total = layout.memory.total
        text = format_bytes(total) + (" (cut)" if total > most else "")
        # A number does not stand on the line.
        start = total if total + 0.25 * end < capacity else max(min(total, most), capacity)
        colour = INK if total <= capacity else RED
        axes.text(start + 0.015 * end, place, text, va="center", fontsize=8, color=colour)
    axes.axvline(capacity, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.text(capacity, -0.6, f"{format_bytes(capacity)} a GPU", ha="center", va="bottom", fontsize=8)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / GB:g} GB"))
    _tidy(axes)


def _stack(
    axes: Axes,
    place: int,
    values: Mapping[str, float],
    styles: Mapping[Any, tuple[str, str]],
    *,
    most: float = float("inf"),
) -> None:
    left = 0.0
    for term in styles:
        width = min(values.get(term, 0.0), most - left)
        if width > 0:
            axes.barh(place, width, left=left, height=0.62, **_fill(styles[term]))
            left += width


def _fill(style: tuple[str, str]) -> dict[str, Any]:
    colour, hatch = style
    return {"facecolor": colour, "edgecolor": PAPER, "linewidth": 0.4, "hatch": hatch}


def _tidy(axes: Axes) -> None:
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(axes: Axes, styles: Mapping[Any, tuple[str, str]], terms: Sequence[Mapping[Any, float]]) -> None:
    """What occurs, below the panel's axis."""
    present = [term for term in styles if any(each.get(term, 0) > 0 for each in terms)]
    handles = [Patch(label=str(term).replace("_", " "), **_fill(styles[term])) for term in present]
    if handles:
        below = transforms.offset_copy(axes.transAxes, fig=axes.get_figure(root=True), y=-0.3, units="inches")
        axes.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=below,
            borderaxespad=0,
            ncols=3,
            handlelength=1.4,
            columnspacing=1.2,
        )


def _row_text(request: Request, layout: Layout) -> str:
    if layout.choice is None:
        return layout.name
    micro = layout.choice.micro_batch
    words = ["no TP" if layout.tp == 1 else label(layout.choice.strategy)]
    if request.phase == "train":
        words.append(f"recompute {layout.choice.recompute}")
    return f"{layout.name}\n{', '.join([*words, f'micro-batch {micro}'])}"


def _words(request: Request, layouts: Sequence[Layout]) -> str:
    words = [f"Layouts tp x pp x dp of {request.model.name} on {request.num_gpus} {request.node.name}, best first."]
    for layout in layouts:
        if layout.memory is None:
            continue
        took = "does not fit" if layout.timing is None else format_seconds(layout.timing.whole.seconds)
        words.append(f"{layout.name}: {took}, {format_bytes(layout.memory.total)} a GPU.")
    return " ".join(words)
