"""Which degrees of tensor, pipeline and data parallelism there are, and where their ranks are placed.

Ranks are numbered as Megatron-LM does by default (tensor innermost, then data, then pipeline), nodes are filled one
after the other, and each device has a port of the network of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt, lcm

from analysis.planner.request import Phase, Request
from tp.case import Strategy
from tp.model import ModelShape
from tp.plan.shards import misfit

Degrees = tuple[int, int, int]
"""tp, pp, dp."""


def all_degrees(request: Request) -> Iterator[tuple[Degrees, str]]:
    """Every tp x pp x dp of the GPUs with tp that the model can be cut into and pp up to its layers.

    With each, why it cannot be laid out, or nothing.
    """
    for tp in divisors(request.num_gpus):
        if tp > request.model.num_heads or not strategies_of(request, tp):
            continue
        for pp in divisors(request.num_gpus // tp):
            if pp <= request.model.num_layers:
                dp = request.num_gpus // (tp * pp)
                yield (tp, pp, dp), _beyond_node(request, tp) or _batch_misfit(request, dp)


def strategies_of(request: Request, tp: int) -> tuple[Strategy, ...]:
    """Those that can cut the model so; of one rank all are the same, so one."""
    fitting = tuple(each for each in request.strategies if misfit(request.model, "block", each, tp) is None)
    return fitting[:1] if tp == 1 else fitting


def micro_batches_of(request: Request, dp: int) -> tuple[int, ...]:
    """In training those that divide what a replica has of the batch, in serving those that are no larger than it."""
    share = replica_batch(request, dp)
    if request.phase == "train":
        return tuple(size for size in request.micro_batches if share % size == 0)
    return tuple(sorted({min(size, share) for size in request.micro_batches}))


def replica_batch(request: Request, dp: int) -> int:
    """Sequences of the replica that has most of the batch."""
    return -(-request.batch // dp)


def _beyond_node(request: Request, tp: int) -> str:
    devices = request.node.num_devices
    if tp == 1 or request.tp_across_nodes or request.num_gpus <= devices:
        return ""
    if tp > devices:
        joined = f"{request.link.name} joins {devices}" if devices > 1 else f"{request.link.name} joins no other"
        return f"TP beyond the node: {joined} (--tp-across-nodes)"
    return f"a node's {devices} do not divide by TP {tp}" if devices % tp else ""


def _batch_misfit(request: Request, dp: int) -> str:
    if request.phase == "serve":
        return ""
    if request.batch % dp:
        return f"a batch of {request.batch} does not divide into {dp} replicas"
    if not micro_batches_of(request, dp):
        return f"no micro-batch divides the {request.batch // dp} sequences of a replica"
    return ""


def sends_cross(request: Request) -> bool:
    """Whether some stage's neighbour is on another node; the slowest of the borders sets the pace."""
    return request.num_gpus > request.node.num_devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the ranks of a gradient sum are, of the sums of all stages the most spread."""

    nodes: int
    """The most that ranks of one sum are on."""
    fewest: int
    """The fewest ranks of one sum on any of its nodes, where there are several."""

    def priced_nodes(self, dp: int) -> int:
        """As many equal nodes as have no more ports than the smallest: the sum goes at that one's pace.

        Prices are of equal nodes, so ports are rounded down to what divides the replicas.
        """
        return 1 if self.nodes == 1 else dp // max(ports for ports in divisors(dp) if ports <= self.fewest)


def replica_spread(request: Request, degrees: Degrees) -> Spread:
    """The ranks of a stage are tp*dp in a row, those of one sum every tp-th of these."""
    tp, pp, dp = degrees
    devices, held = request.node.num_devices, tp * dp
    # Where a stage begins within its node repeats after so many stages.
    starts = [stage * held for stage in range(min(pp, lcm(held, devices) // held))]
    nodes, fewest = 1, dp
    for first in {(start + place) % devices for start in starts for place in range(min(tp, devices))}:
        last = first + (dp - 1) * tp
        spanned = min(dp, last // devices + 1)
        if spanned > 1:
            ends = -(-(devices - first) // tp), last % devices // tp + 1
            nodes, fewest = max(nodes, spanned), min(fewest, *ends, max(1, devices // tp))
    return Spread(nodes=nodes, fewest=fewest)


@cache
def layers_of(model: ModelShape, pp: int, phase: Phase = "train") -> tuple[int, ...]:
    """Layers of each stage.

    In training so that the slowest stage is the least, whatever the theory: the last also has the output layer, worth
    `output_share` layers, and holds fewer layers where that helps, at least one (Megatron-LM can be told so). The
    others hold the rest as evenly as it goes: where it does not divide, those in the middle have one more, as the first
    also holds the embedding and the activations of most micro-batches. In serving, whose prompts pass the output layer
    with one token each, the last is spared no more than one layer, as vLLM cuts.
    """
    if pp == 1:
        return (model.num_layers,)
    share = output_share(model) if phase == "train" else Fraction(0)

    def slowest(last: int) -> Fraction:
        return max(Fraction(-(-(model.num_layers - last) // (pp - 1))), last + share)

    last = min(range(model.num_layers // pp, 0, -1), key=slowest)  # the first of the least: the most even one
    each, more = divmod(model.num_layers - last, pp - 1)
    return (*(each + (1 <= stage <= more) for stage in range(pp - 1)), last)


def output_share(model: ModelShape) -> Fraction:
    """FLOPs of the output layer over those of a layer's products, of a token's forward pass."""
    attention = 2 * (model.attention_width + model.kv_width)
    ffn = (3 if model.gated else 2) * model.ffn_width
    return Fraction(model.vocab_size, attention + ffn)


def divisors(number: int) -> tuple[int, ...]:
    """Ascending."""
    small = [each for each in range(1, isqrt(number) + 1) if number % each == 0]
    return tuple(sorted({*small, *(number // each for each in small)}))
