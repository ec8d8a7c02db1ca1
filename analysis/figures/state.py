"""The figure of the machine's state over the time of sampling, a line a rank, with marked blocks shaded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.drawing import BLUE, GREEN, INK, ORANGE, PINK, RED, SKY, Chart, house_style, label
from analysis.frames.state import levels, marked_spans, num_ranks, rises
from analysis.load import Run, State

Points = list[tuple[float, float]]

# Record files that get a column; the others stand in state.csv.
MAX_RUNS: Final = 3
# Groups of cases beyond which they are drawn as one line, of so many stretches.
MAX_GROUPS: Final = 60
MAX_POINTS: Final = 400
# Lines in the legend.
MAX_RANKS: Final = 8
_DASHES: Final[tuple[Literal["-", "--"], ...]] = ("-", "--")
_RANK_STYLES: Final = tuple((colour, dash) for dash in _DASHES for colour in (BLUE, ORANGE, GREEN, RED, PINK, INK))
# A GPU at its power limit, and at the clock that this brings, is in its normal state; anything else disturbs.
_NORMAL: Final = ("power", "clock")
_DISTURBED: Final = ("thermal", "hardware", "sync", "errors", "steal", "quota", "others")
_SHADES: Final[tuple[tuple[str, Sequence[str], dict[str, Any]], ...]] = (
    ("held by the power limit", _NORMAL, {"facecolor": SKY, "alpha": 0.22, "linewidth": 0}),
    (
        "marked otherwise",
        _DISTURBED,
        {"facecolor": ORANGE, "alpha": 0.3, "edgecolor": RED, "linewidth": 0, "hatch": "//"},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantity:
    """A row of panels."""

    title: str
    read: Callable[[State, int], Points]
    gpu: bool


def _level(name: str) -> Callable[[State, int], Points]:
    return lambda state, rank: levels(state, rank, name)


def _share(state: State, rank: int) -> Points:
    """CPU seconds a second that were stolen, from each moment to the next."""
    steps = [step for step in rises(state, rank, "steal_s") if step[1] > step[0]]
    rates = [(since_s, until_s, rise / (until_s - since_s)) for since_s, until_s, rise in steps]
    return [point for since_s, until_s, rate in rates for point in ((since_s, rate), (until_s, rate))]


_QUANTITIES: Final = (
    _Quantity(title="SM clock, MHz", read=_level("sm_clock_mhz"), gpu=True),
    _Quantity(title="power, W", read=_level("power_w"), gpu=True),
    _Quantity(title="CPU frequency, MHz", read=_level("cpu_frequency_mhz"), gpu=False),
    _Quantity(title="load over one minute", read=_level("load_1min"), gpu=False),
    _Quantity(title="CPUs stolen", read=_share, gpu=False),
)


def state_chart(runs: Sequence[Run]) -> Chart | None:
    """Clock and power of GPUs, elsewhere frequency, load and steal of CPUs; None where nothing was read twice."""
    found = [run for run in runs if any(len(state.telemetry.moments) > 1 for state in run.states)]
    shown = found[:MAX_RUNS]
    quantities = _chosen(shown)
    if not quantities:
        return None
    with house_style():
        figure = Figure(figsize=(2.2 + 5.0 * len(shown), 1.0 + 1.5 * len(quantities)), layout="constrained")
        panels = figure.subplots(len(quantities), len(shown), sharex="col", squeeze=False)
        for column, run in enumerate(shown):
            for row, quantity in enumerate(quantities):
                _draw(panels[row][column], run, quantity)
                panels[row][0].set_ylabel(quantity.title)
            panels[0][column].set_title(label(run.path.name))
            panels[-1][column].set_xlabel("seconds of sampling, groups of cases end to end")
        figure.legend(handles=_keys(shown), loc="outside right upper")
        left_out = f" Of {len(found)} record files the first {len(shown)} are drawn." if len(found) > len(shown) else ""
        return Chart(
            name="machine-state",
            title="Machine state over time",
            alternative=_words(shown, quantities) + left_out,
            figure=figure,
        )


def _chosen(runs: Sequence[Run]) -> list[_Quantity]:
    """Those that were read; of GPUs where there is one, else of CPUs."""
    read = [
        quantity
        for quantity in _QUANTITIES
        if any(quantity.read(state, rank) for run in runs for state in run.states for rank in range(num_ranks(state)))
    ]
    return [quantity for quantity in read if quantity.gpu] or read


def _placed(run: Run) -> Iterator[tuple[float, State]]:
    """Every group after the one before; the time between them, in which cases are made and checked, is left out."""
    start_s = 0.0
    for state in run.states:
        if state.telemetry.moments:
            yield start_s, state
            start_s += max(state.telemetry.moments[-1].since_s, 0.0)


def _draw(axes: Axes, run: Run, quantity: _Quantity) -> None:
    axes.grid(True, axis="y")
    placed = list(_placed(run))
    crowded = len(placed) > MAX_GROUPS
    for start_s, _ in placed[1:] if not crowded else []:
        axes.axvline(start_s, color=INK, linewidth=0.6, linestyle=":")
    for _, kinds, style in _SHADES:
        spans = [(start_s + a, start_s + b) for start_s, state in placed for a, b in marked_spans(state, kinds)]
        for since_s, until_s in _joined(spans, gap_s=_length(placed) / MAX_POINTS):
            axes.axvspan(since_s, until_s, zorder=0, **style)
    ranks = max(num_ranks(state) for _, state in placed)
    for rank, (colour, dash) in zip(range(ranks), cycle(_RANK_STYLES), strict=False):
        lines = [
            [(start_s + since_s, value) for since_s, value in quantity.read(state, rank)]
            for start_s, state in placed
            if rank < num_ranks(state)
        ]
        # Of more groups than can be told apart one line: of each stretch of time the lowest and the highest.
        for points in [_thinned([point for line in lines for point in line])] if crowded else lines:
            places, values = [at for at, _ in points], [value for _, value in points]
            width, mark = (0.8, "") if crowded else (1.2, ".")
            axes.plot(places, values, color=colour, linestyle=dash, linewidth=width, marker=mark, markersize=4)


def _length(placed: Sequence[tuple[float, State]]) -> float:
    start_s, state = placed[-1]
    return start_s + state.telemetry.moments[-1].since_s


def _joined(spans: Sequence[tuple[float, float]], *, gap_s: float) -> list[tuple[float, float]]:
    """Spans that touch, or nearly so, as one."""
    found: list[tuple[float, float]] = []
    for since_s, until_s in sorted(spans):
        if found and since_s <= found[-1][1] + gap_s:
            found[-1] = (found[-1][0], max(until_s, found[-1][1]))
        else:
            found.append((since_s, until_s))
    return found


def _thinned(points: Points) -> Points:
    """Of each stretch of points the lowest and the highest, so that no excursion is lost."""
    step = max(1, -(-len(points) // MAX_POINTS))
    stretches = (points[first : first + step] for first in range(0, len(points), step))
    return [
        point
        for stretch in stretches
        for point in sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    ]


def _keys(runs: Sequence[Run]) -> list[Any]:
    """The first ranks, and the shades that occur."""
    ranks = max((num_ranks(state) for run in runs for state in run.states), default=0)
    keys: list[Any] = [
        Line2D([], [], color=colour, linestyle=dash, label=f"rank {rank}")
        for rank, (colour, dash) in zip(range(min(ranks, MAX_RANKS)), _RANK_STYLES, strict=False)
    ]
    keys += [
        Patch(label=name, **style)
        for name, kinds, style in _SHADES
        if any(marked_spans(state, kinds) for run in runs for state in run.states)
    ]
    return [*keys, Line2D([], [], color=INK, linewidth=0.6, linestyle=":", label="next group of cases")]


def _words(runs: Sequence[Run], quantities: Sequence[_Quantity]) -> str:
    """What is drawn, and its range on all ranks."""
    told = []
    for quantity in quantities:
        values = [
            value
            for run in runs
            for state in run.states
            for rank in range(num_ranks(state))
            for _, value in quantity.read(state, rank)
        ]
        told.append(f"{quantity.title} from {min(values):.4g} to {max(values):.4g}")
    return (
        f"The machine while it was measured, read once a block of samples, a line a rank: {'; '.join(told)}. Blocks "
        f"with marks are shaded."
    )
