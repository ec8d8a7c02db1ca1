"""Which degrees of tensor, pipeline and data parallelism there are, and where their ranks are placed.

Ranks are numbered as Megatron-LM does by default (tensor innermost, then data, then pipeline), nodes are filled one
after the other, and each device has a port of the network of its own.
"""

from collections.abc import Iterator
from math import isqrt, lcm

from analysis.planner.request import Request
from tp.case import Strategy
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


def replica_nodes(request: Request, degrees: Degrees) -> int:
    """The most nodes that ranks of one gradient sum are on, rounded up to a number that divides them.

    The ranks of a stage are tp*dp in a row, those of one sum every tp-th of these.
    """
    tp, pp, dp = degrees
    devices, held = request.node.num_devices, tp * dp
    # Where a stage begins within its node repeats after so many stages.
    firsts = [stage * held for stage in range(min(pp, lcm(held, devices) // held))]
    spans = [(first + held - tp) // devices - first // devices + 1 for first in firsts]
    return next(nodes for nodes in divisors(dp) if nodes >= min(dp, max(spans)))


def layers_of(num_layers: int, pp: int) -> tuple[int, ...]:
    """Layers of each stage, as even as they go.

    Where they do not divide, the stages in the middle have one more: the first also holds the embedding and the
    activations of most micro-batches, the last the output layer. At last the first one gets one more.
    """
    each, more = divmod(num_layers, pp)
    larger = {*range(1, more + 1)} if more < pp - 1 else {*range(pp - 1)} if more else set[int]()
    return tuple(each + (stage in larger) for stage in range(pp))


def divisors(number: int) -> tuple[int, ...]:
    """Ascending."""
    small = [each for each in range(1, isqrt(number) + 1) if number % each == 0]
    return tuple(sorted({*small, *(number // each for each in small)}))
