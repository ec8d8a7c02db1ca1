"""Seconds of serving a batch with a layout: all prompts, then token after token."""

from dataclasses import dataclass

from analysis.planner.degrees import Degrees, layers_of, replica_batch
from analysis.planner.layout import Choice, Span, TimeTerm, Timing
from analysis.planner.pipeline import border, mean_and_slowest
from analysis.planner.prices import Prices, Work
from tp.case import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """What a micro-batch takes in a stage."""

    mean: Work
    slowest: Span
    send: Span

    @property
    def slot(self) -> Span:
        return self.slowest + self.send

    @property
    def uneven_s(self) -> float:
        """By how much the slowest stage is behind the mean."""
        return self.slowest.seconds - self.mean.whole.seconds


def serve_timing(prices: Prices, degrees: Degrees, choice: Choice) -> Timing | None:
    """The prompts of a replica and then its new tokens; None where the theory lacks a price.

    Prompts pass the stages in M micro-batches: T = (M + pp - 1) slot. Of each new token the replica's b sequences are
    cut into pp micro-batches that follow each other: T = pp slot at ceil(b/pp) sequences, so stages idle where b < pp.
    A slot is the slowest stage and its send. The context is that half-way through; the new tokens of a batch start
    together, as without continuous batching. Sampling takes no time.
    """
    request, (tp, pp, dp), micro = prices.request, degrees, choice.micro_batch
    share = replica_batch(request, dp)
    pace = -(-share // pp)
    prompts = _passes(prices, degrees, choice, "prefill", micro)
    tokens = _passes(prices, degrees, choice, "decode", pace)
    single = prices.layer(choice.strategy, tp, "prefill", 1)
    output = prices.output_layer(choice.strategy, tp, "prefill", 1)
    send = border(prices, degrees, choice.strategy, "prefill", 1)
    if prompts is None or tokens is None or single is None or output is None or send is None:
        return None
    many, used, new = -(-share // micro), -(-share // pace), request.new_tokens
    per_token = tokens.slot.times(pp)
    whole = prompts.slot.times(many + pp - 1) + per_token.times(new)
    terms: dict[TimeTerm, float] = {
        "prefill compute": many * prompts.mean.compute_s,
        "decode compute": new * used * tokens.mean.compute_s,
        "TP communication": many * prompts.mean.communication_s + new * used * tokens.mean.communication_s,
        "uneven stages": many * prompts.uneven_s + new * used * tokens.uneven_s,
        "bubble": (pp - 1) * prompts.slot.seconds + new * (pp - used) * tokens.slot.seconds,
        "stage sends": many * prompts.send.seconds + new * used * tokens.send.seconds,
    }
    return Timing(
        whole=whole,
        terms=terms,
        num_micro_batches=many,
        tokens_per_s=request.batch * new / whole.seconds,
        first_token=(single.times(request.model.num_layers) + output).whole + send.times(pp - 1),
        per_token=per_token,
    )


def _passes(prices: Prices, degrees: Degrees, choice: Choice, phase: Phase, batch: int) -> _Passes | None:
    tp, pp, _ = degrees
    layer = prices.layer(choice.strategy, tp, phase, batch)
    output = prices.output_layer(choice.strategy, tp, phase, batch)
    send = border(prices, degrees, choice.strategy, phase, batch)
    if layer is None or output is None or send is None:
        return None
    mean, slowest = mean_and_slowest(layer, output, layers_of(prices.request.model.num_layers, pp))
    return _Passes(mean=mean, slowest=slowest, send=send)
