"""Pipeline parallelism alone against tensor parallelism in a node: the article's "80 stages" and "8 x 10"."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from analysis.planner.degrees import divisors, strategies_of
from analysis.planner.layout import Choice, Layout, Ranking
from analysis.planner.memory import Holder, fewest_stages
from analysis.planner.pipeline import least_micro_batches
from analysis.planner.request import Request
from tp.case import TOKEN_STRATEGIES, Recompute, Strategy
from tp.units import format_bytes

BUBBLE_PERCENT: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """The deepest pipeline of a TP degree: all GPUs in one replica."""

    tp: int
    pp: int
    strategy: Strategy
    fewest: Mapping[Recompute, int | None]
    """Stages from which on it fits at micro-batch 1; None: however many, it does not."""
    kept_bytes: int
    """Activations of the first stage at micro-batch 1, nothing made again and the pipeline full."""

    @property
    def least_batch(self) -> int:
        """Sequences for a bubble (pp - 1)/M of no more than `BUBBLE_PERCENT`, at micro-batch 1."""
        return least_micro_batches(self.pp, bubble_percent=BUBBLE_PERCENT)


def deepest(request: Request) -> tuple[Deep, ...]:
    """Of TP 1 and of the largest TP that stays in a node, where it is another."""
    devices = min(request.node.num_devices, request.num_gpus)
    largest = max(tp for tp in divisors(devices) if request.num_gpus % tp == 0 and strategies_of(request, tp))
    return tuple(_deep(request, tp) for tp in sorted({1, largest}))


def _deep(request: Request, tp: int) -> Deep:
    strategies = strategies_of(request, tp)
    strategy = next((each for each in strategies if each in TOKEN_STRATEGIES), strategies[0])
    pp = max(pp for pp in divisors(request.num_gpus // tp) if pp <= request.model.num_layers)
    full = replace(request, batch=pp)  # at dp 1 and micro-batch 1 as many micro-batches as stages
    memory = Holder(request=full).memory((tp, pp, 1), Choice(strategy=strategy, recompute="none", micro_batch=1))
    fewest = {
        recompute: fewest_stages(
            request.model,
            request.node,
            tp,
            strategy=strategy,
            recompute=recompute,
            seq=request.seq,
            dtype=request.dtype,
        )
        for recompute in request.recomputes
    }
    return Deep(
        tp=tp,
        pp=pp,
        strategy=strategy,
        fewest=fewest,
        kept_bytes=0 if memory is None else memory.terms.get("activations", 0),
    )


def sentences(request: Request, ranking: Ranking) -> Iterator[str]:
    """What each deepest pipeline needs, of memory and of batch."""
    deeps = deepest(request)
    for deep in deeps:
        yield f"{_word(deep)}: {_stages(request, deep)}. {_here(deep, ranking)}."
    yield (
        f"A bubble (pp - 1)/M of at most {BUBBLE_PERCENT} % needs M = {100 // BUBBLE_PERCENT} (pp - 1) micro-batches, "
        f"of one sequence and without replicas: {', '.join(map(_batch, deeps))}."
    )


def advice(request: Request) -> str:
    """From how many GPUs on something fits in training, where nothing does."""
    found = []
    for tp in divisors(request.node.num_devices):
        for strategy in strategies_of(request, tp):
            stages = fewest_stages(
                request.model,
                request.node,
                tp,
                strategy=strategy,
                recompute=request.recomputes[-1],
                seq=request.seq,
                dtype=request.dtype,
            )
            found += [(tp * stages, tp, stages)] if stages is not None else []
    if not found:
        return f"nothing fits, however many {request.node.name}; give fewer tokens or another GPU"
    gpus, tp, pp = min(found)
    return (
        f"nothing fits; from {gpus} GPUs on something does: {tp} x {pp} x 1 at micro-batch 1 ({request.recomputes[-1]})"
    )


def _word(deep: Deep) -> str:
    return "pipeline alone (TP 1)" if deep.tp == 1 else f"TP {deep.tp} in the node"


def _batch(deep: Deep) -> str:
    sizes = f"{_count(deep.least_batch, 'sequence')} for {_count(deep.pp, 'stage')}"
    return f"{sizes} (TP {deep.tp})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def _stages(request: Request, deep: Deep) -> str:
    """From how many stages on it fits, by what is made again."""
    fitting = [f"{least} ({recompute})" for recompute, least in deep.fewest.items() if least is not None]
    failing = [recompute for recompute, least in deep.fewest.items() if least is None]
    found = [f"without replicas the fewest stages that fit, by recomputation: {', '.join(fitting)}"] if fitting else []
    if failing:
        found += [
            f"{' and '.join(failing)}: no number of them once the pipeline is full, as the first keeps the activations "
            f"of {request.model.num_layers} layers or more, {format_bytes(deep.kept_bytes)} if none is made again"
        ]
    return "; ".join(found)


def _here(deep: Deep, ranking: Ranking) -> str:
    layout = next((each for each in ranking.layouts if (each.tp, each.pp) == (deep.tp, deep.pp)), None)
    if layout is None or layout.memory is None or layout.choice is None:
        return f"With these GPUs {_count(deep.pp, 'stage')} cannot be laid out"
    made = f"{format_bytes(layout.memory.total)} a GPU ({layout.choice.recompute})"
    return f"{layout.name} takes {made}" if layout.memory.fits else f"{layout.name} would take {made}"


def notable(request: Request, ranking: Ranking, *, most: int = 7) -> tuple[Layout, ...]:
    """The first, the deepest pipelines, and the best of every TP degree, in the ranking's order."""
    wanted = [ranking.layouts[0]] if ranking.layouts else []
    for deep in deepest(request):
        wanted += [each for each in ranking.layouts if (each.tp, each.pp) == (deep.tp, deep.pp)][:1]
    for tp in sorted({each.tp for each in ranking.layouts}):
        wanted += [each for each in ranking.layouts if each.tp == tp and each.memory is not None][:1]
    return in_order(wanted[:most], ranking)


def in_order(wanted: Sequence[Layout], ranking: Ranking) -> tuple[Layout, ...]:
    """Without doubles, the best first."""
    names = {each.name for each in wanted}
    return tuple(each for each in ranking.layouts if each.name in names)
