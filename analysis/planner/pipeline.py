"""What training and serving share of a pipeline: its slowest stage, its borders, and the batch that fills it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.planner.degrees import Degrees, sends_cross
from analysis.planner.layout import NOTHING, Source, Span
from analysis.planner.prices import Prices, Work
from tp.case import Phase, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What a micro-batch takes of the stages of a pipeline: a slot is a stage's work and its sends."""

    pp: int
    work: Work
    """Of all stages together."""
    slowest_stage: Span
    send: Span
    """Of each stage, those at the ends too, which have less to send."""

    @property
    def slowest(self) -> Span:
        return self.slowest_stage + self.send

    @property
    def through(self) -> Span:
        """All slots, one after the other."""
        return self.work.whole + self.send.times(self.pp)

    @property
    def mean_s(self) -> float:
        return self.through.seconds / self.pp

    def passes(self, many: int) -> Span:
        """So many micro-batches: (M - 1) times the slowest slot and once all slots."""
        return self.slowest.times(many - 1) + self.through


def make_slots(layer: Work, output: Work, send: Span, layers: Sequence[int]) -> Slots:
    """Of stages of so many layers, the last with the output layer."""
    stages = [layer.times(max(layers[:-1])).whole] if len(layers) > 1 else []
    stages.append((layer.times(layers[-1]) + output).whole)
    slowest = max(stages, key=lambda span: span.seconds)
    return Slots(pp=len(layers), work=layer.times(sum(layers)) + output, slowest_stage=slowest, send=send)


def source_errors(works: Iterable[Work], network: Span, optimizer: Span) -> dict[Source, float]:
    """The 90 % half-widths of what a layout's time is made of."""
    products, sending = NOTHING, NOTHING
    for work in works:
        products, sending = products + work.compute, sending + work.sending
    return {
        "products": products.log_error,
        "TP communication": sending.log_error,
        "network": network.log_error,
        "optimizer": optimizer.log_error,
    }


def border(prices: Prices, degrees: Degrees, strategy: Strategy, phase: Phase, batch: int) -> Span | None:
    """What a micro-batch takes from a stage to the next; nothing of one stage."""
    tp, pp, _ = degrees
    if pp == 1:
        return NOTHING
    return prices.send(strategy, tp, phase, batch, crosses=sends_cross(prices.request))


def least_micro_batches(pp: int, *, bubble_percent: int = 10) -> int:
    """The fewest of a replica whose bubble, (pp - 1)/M of the ideal time (Narayanan et al. 2021), is no larger."""
    return max(1, -(-(pp - 1) * 100 // bubble_percent))
