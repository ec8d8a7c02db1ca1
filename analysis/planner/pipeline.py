"""What training and serving share of a pipeline: its slowest stage, its borders, and the batch that fills it."""

from collections.abc import Sequence

from analysis.planner.degrees import Degrees, sends_cross
from analysis.planner.layout import NOTHING, Span
from analysis.planner.prices import Prices, Work
from tp.case import Phase, Strategy


def mean_and_slowest(layer: Work, output: Work, layers: Sequence[int]) -> tuple[Work, Span]:
    """Of stages of so many layers, the last with the output layer: the mean of all, and the slowest."""
    mean = (layer.times(sum(layers)) + output).times(1 / len(layers))
    others = [layer.times(max(layers[:-1])).whole] if len(layers) > 1 else []
    return mean, max([*others, (layer.times(layers[-1]) + output).whole], key=lambda span: span.seconds)


def border(prices: Prices, degrees: Degrees, strategy: Strategy, phase: Phase, batch: int) -> Span | None:
    """What a micro-batch takes from a stage to the next; nothing of one stage."""
    tp, pp, _ = degrees
    if pp == 1:
        return NOTHING
    return prices.send(strategy, tp, phase, batch, crosses=sends_cross(prices.request))


def least_micro_batches(pp: int, *, idle_percent: int = 10) -> int:
    """The fewest of a replica for which a stage idles no more than this share of the pipeline's time.

    (pp - 1) / (M + pp - 1) <= x, hence M >= (pp - 1) (1 - x) / x.
    """
    return max(1, -(-(pp - 1) * (100 - idle_percent) // idle_percent))
