"""Seconds of a training step of a layout."""

from analysis.planner.degrees import Degrees, layers_of, replica_spread
from analysis.planner.layout import Choice, TimeTerm, Timing
from analysis.planner.pipeline import border, make_slots, source_errors
from analysis.planner.prices import Prices
from analysis.planner.request import Request


def step_timing(prices: Prices, degrees: Degrees, choice: Choice, *, elements: int) -> Timing | None:
    """A step under 1F1B; None where the theory lacks a price. `elements` are the weights of the fullest stage's rank.

    T = (M - 1) slowest slot + all slots + gradient sum + optimiser, a slot being a stage and its sends. For M
    micro-batches that is exact where stages are equal or the slowest is the last, else a bound from above: too long by
    no more than the stages behind the slowest are faster than it, once. Of the mean slot M are the ideal time and
    pp - 1 the bubble, (pp - 1)/M of it (Narayanan et al. 2021, section 2.2); M - 1 times what the slowest takes longer
    are the uneven stages. A stage is its layers, the last also the output layer. Nothing of the sends and of the
    gradient sum is hidden: an upper estimate. The embedding takes no time, nor does the sum of its gradient where both
    ends of a pipeline share it.
    """
    request, (tp, pp, dp), micro = prices.request, degrees, choice.micro_batch
    layer = prices.layer(choice.strategy, tp, "train", micro, choice.recompute)
    output = prices.output_layer(choice.strategy, tp, "train", micro)
    send = border(prices, degrees, choice.strategy, "train", micro)
    summed = prices.gradient_sum(elements, dp, nodes=replica_spread(request, degrees).priced_nodes(dp))
    stepped = prices.optimizer(-(-elements // dp) if request.optimizer == "sharded" else elements)
    if layer is None or output is None or send is None or summed is None or stepped is None:
        return None
    many = request.batch // (dp * micro)
    sends = send.times(2)  # an activation there, a gradient back
    slots = make_slots(layer, output, sends, layers_of(request.model, pp))
    whole = slots.passes(many) + summed + stepped
    mean = slots.work.times(1 / pp)
    terms: dict[TimeTerm, float] = {
        "compute": many * mean.compute.seconds,
        "TP communication": many * mean.communication_s,
        "recomputation": many * mean.recompute_s,
        "uneven stages": (many - 1) * (slots.slowest.seconds - slots.mean_s),
        "bubble": (pp - 1) * slots.mean_s,
        "stage sends": many * sends.seconds,
        "gradient sum": summed.seconds,
        "optimizer": stepped.seconds,
    }
    return Timing(
        whole=whole,
        terms=terms,
        log_errors=source_errors([slots.work], sends.times(many) + summed, stepped),
        num_micro_batches=many,
        tokens_per_s=request.batch * request.seq / whole.seconds,
        mfu=model_flops_utilisation(request, whole.seconds),
    )


def model_flops_utilisation(request: Request, seconds: float) -> float | None:
    """Model FLOPs over those of the dense peak; None where no source states one.

    6 P + 12 L a d s for each token: P parameters, forward and backward, and attention as if it were not causal, without
    what is made again (Chowdhery et al. 2022, PaLM, appendix B).
    """
    peak = request.node.device.dense_peak(request.dtype)
    if peak is None:
        return None
    model = request.model
    attention = 12 * model.num_layers * model.attention_width * request.seq
    flops = request.batch * request.seq * (6 * model.num_parameters + attention)
    return flops / (seconds * request.num_gpus * peak.flops_per_s)
