"""Seconds of serving a batch with a layout: all prompts, then token after token."""

from analysis.planner.degrees import Degrees, layers_of, replica_batch
from analysis.planner.layout import NOTHING, Choice, TimeTerm, Timing
from analysis.planner.pipeline import Slots, border, make_slots, source_errors
from analysis.planner.prices import Prices
from tp.case import Phase


def serve_timing(prices: Prices, degrees: Degrees, choice: Choice) -> Timing | None:
    """The prompts of a replica and then its new tokens; None where the theory lacks a price.

    A slot is a stage and its send. Prompts pass the stages in M micro-batches: T = (M - 1) slowest slot + all slots,
    which is exact. Of each new token the replica's b sequences are cut into m <= pp micro-batches that go round: a
    round takes all slots or m times the slowest, whichever is longer, and the last one T with m for M. The context is
    that half-way through; the new tokens of a batch start together, as without continuous batching. Sampling takes no
    time.
    """
    request, (tp, pp, dp), micro = prices.request, degrees, choice.micro_batch
    share = replica_batch(request, dp)
    pace = -(-share // pp)
    prompts = _slots(prices, degrees, choice, "prefill", micro)
    tokens = _slots(prices, degrees, choice, "decode", pace)
    single = prices.layer(choice.strategy, tp, "prefill", 1)
    output = prices.output_layer(choice.strategy, tp, "prefill", 1)
    send = border(prices, degrees, choice.strategy, "prefill", 1)
    if prompts is None or tokens is None or single is None or output is None or send is None:
        return None
    many, used, new = -(-share // micro), -(-share // pace), request.new_tokens
    per_token = max(tokens.through, tokens.slowest.times(used), key=lambda span: span.seconds)
    whole = prompts.passes(many) + per_token.times(new - 1) + tokens.passes(used)
    sent = prompts.send.times(many) + tokens.send.times(new * used)
    done = prompts.work.times(many / pp), tokens.work.times(new * used / pp)
    terms: dict[TimeTerm, float] = {
        "prefill compute": done[0].compute.seconds,
        "decode compute": done[1].compute.seconds,
        "TP communication": done[0].communication_s + done[1].communication_s,
        "uneven stages": _uneven(prompts, many)
        + (new - 1) * (per_token.seconds - tokens.through.seconds)
        + _uneven(tokens, used),
        "bubble": (pp - 1) * prompts.mean_s + (new * (pp - used) + used - 1) * tokens.mean_s,
        "stage sends": sent.seconds,
    }
    return Timing(
        whole=whole,
        terms=terms,
        log_errors=source_errors(done, sent, NOTHING),
        num_micro_batches=many,
        tokens_per_s=request.batch * new / whole.seconds,
        first_token=(single.times(request.model.num_layers) + output).whole + send.times(pp - 1),
        per_token=per_token,
    )


def _uneven(slots: Slots, many: int) -> float:
    """What so many micro-batches wait for the slowest stage."""
    return (many - 1) * (slots.slowest.seconds - slots.mean_s)


def _slots(prices: Prices, degrees: Degrees, choice: Choice, phase: Phase, batch: int) -> Slots | None:
    tp, pp, _ = degrees
    layer = prices.layer(choice.strategy, tp, phase, batch)
    output = prices.output_layer(choice.strategy, tp, phase, batch)
    send = border(prices, degrees, choice.strategy, phase, batch)
    if layer is None or output is None or send is None:
        return None
    return make_slots(layer, output, send, layers_of(prices.request.model, pp, "serve"))
