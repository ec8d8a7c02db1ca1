"""Seconds of a training step of a layout."""

from analysis.planner.degrees import Degrees, layers_of, replica_nodes
from analysis.planner.layout import Choice, TimeTerm, Timing
from analysis.planner.pipeline import border, mean_and_slowest
from analysis.planner.prices import Prices
from analysis.planner.request import Request


def step_timing(prices: Prices, degrees: Degrees, choice: Choice, *, elements: int) -> Timing | None:
    """A step under 1F1B; None where the theory lacks a price. `elements` are the weights of the fullest stage's rank.

    T = (M + pp - 1) slot + gradient sum + optimiser, slot = slowest stage + its sends (Narayanan et al. 2021, section
    2.2: with M micro-batches and pp stages the bubble is (pp - 1)/M of the ideal time). A stage is its layers, the
    last also the output layer. Nothing of the sends and of the gradient sum is hidden: an upper estimate. The embedding
    takes no time, nor does the sum of its gradient where both ends of a pipeline share it.
    """
    request, (tp, pp, dp), micro = prices.request, degrees, choice.micro_batch
    layer = prices.layer(choice.strategy, tp, "train", micro, choice.recompute)
    output = prices.output_layer(choice.strategy, tp, "train", micro)
    send = border(prices, degrees, choice.strategy, "train", micro)
    summed = prices.gradient_sum(elements, dp, nodes=replica_nodes(request, degrees))
    stepped = prices.optimizer(-(-elements // dp) if request.optimizer == "sharded" else elements)
    if layer is None or output is None or send is None or summed is None or stepped is None:
        return None
    many = request.batch // (dp * micro)
    mean, slowest = mean_and_slowest(layer, output, layers_of(request.model.num_layers, pp))
    sends = send.times(2)  # an activation there, a gradient back
    slot = slowest + sends
    whole = slot.times(many + pp - 1) + summed + stepped
    terms: dict[TimeTerm, float] = {
        "compute": many * mean.compute_s,
        "TP communication": many * mean.communication_s,
        "recomputation": many * mean.recompute_s,
        "uneven stages": many * (slowest.seconds - mean.whole.seconds),
        "bubble": (pp - 1) * slot.seconds,
        "stage sends": many * sends.seconds,
        "gradient sum": summed.seconds,
        "optimizer": stepped.seconds,
    }
    return Timing(
        whole=whole,
        terms=terms,
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
