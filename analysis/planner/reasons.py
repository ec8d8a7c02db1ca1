"""Why a layout is not the first: the term of its time, or of its memory, that broke it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.planner.degrees import Spread, layers_of, replica_spread, sends_cross
from analysis.planner.layout import MORE_THAN_SHEET, TIME_TERMS, Choice, Layout, Memory, TimeTerm
from analysis.planner.memory import Holder
from analysis.planner.request import Request
from tp.case import TOKEN_STRATEGIES
from tp.units import format_bytes, format_signed_percent


def why_slower(request: Request, best: Layout, layout: Layout) -> str:
    """The term with the largest excess over the first layout's, as a share of the first's time.

    The next one too where it is half as large.
    """
    assert best.timing is not None and layout.timing is not None
    excess = {
        term: (layout.timing.terms.get(term, 0.0) - best.timing.terms.get(term, 0.0)) / best.timing.whole.seconds
        for term in TIME_TERMS
    }
    largest, second, *_ = sorted(TIME_TERMS, key=lambda term: -excess[term])
    told = [largest] + ([second] if 2 * excess[second] >= excess[largest] > 0 else [])
    return ", ".join(_excess(excess[term], term, _detail(request, term, best, layout)) for term in told)


def _excess(share: float, term: TimeTerm, detail: str) -> str:
    return f"{term} {format_signed_percent(share)}" + (f" ({detail})" if detail else "")


def _detail(request: Request, term: TimeTerm, best: Layout, layout: Layout) -> str:
    assert layout.choice is not None and layout.timing is not None and layout.memory is not None
    tp, pp, dp = layout.tp, layout.pp, layout.dp
    match term:
        case "compute" | "prefill compute":
            fewer = best.choice is not None and layout.choice.micro_batch < best.choice.micro_batch
            return f"TP {tp} cuts the products" if tp > best.tp else f"micro-batch {layout.choice.micro_batch}" * fewer
        case "decode compute":
            held = format_bytes(Holder(request=request).read_bytes((tp, pp, dp), layout.choice))
            passes = f"{pp} passes a token over" if pp > 1 else "each token reads"
            return f"{passes} {held} of weights"
        case "TP communication":
            return f"{layout.choice.strategy} over {tp} ranks"
        case "recomputation":
            return layout.choice.recompute
        case "uneven stages":
            return _cut(layers_of(request.model, pp, request.phase))
        case "bubble":
            waits = "1 stage waits" if pp == 2 else f"{pp - 1} stages wait"
            return f"{waits}, {layout.timing.num_micro_batches} micro-batches"
        case "stage sends":
            joined = request.network if sends_cross(request) and request.network is not None else request.link
            return f"{pp} stages over {joined.name}"
        case "gradient sum":
            return _spread(dp, replica_spread(request, (tp, pp, dp)))
        case "optimizer":
            return f"{dp} shards" if request.optimizer == "sharded" else "whole on each replica"


def _cut(layers: Sequence[int]) -> str:
    *others, last = layers
    if min(layers) == max(layers):
        return "the last with the output layer"
    counts = " or ".join(str(count) for count in sorted(set(others)))
    return f"{counts} layers, the last {last} with the output layer"


def _spread(replicas: int, spread: Spread) -> str:
    if spread.nodes == 1:
        return f"{replicas} replicas"
    uneven = f", {spread.fewest} on the emptiest" if spread.nodes * spread.fewest < replicas else ""
    return f"{replicas} replicas on {spread.nodes} nodes{uneven}"


def why_too_large(request: Request, layout: Layout) -> str:
    """What it needs, the largest term of that, and what would make it fit."""
    memory, choice = layout.memory, layout.choice
    assert memory is not None and choice is not None
    largest = memory.largest
    size = memory.terms[largest]
    found = f"needs {format_bytes(memory.total)} of {format_bytes(memory.capacity)}; {largest} {format_bytes(size)}"
    near = f"; near: cards report up to {100 * MORE_THAN_SHEET:.0f} % more than their sheet" if memory.is_near else ""
    return f"{found}, {_remedy(request, layout, choice) or _without(memory, size)}{near}"


def _without(memory: Memory, size: int) -> str:
    if size > memory.capacity:
        return "alone too much"
    return "would fit without it" if memory.total - size <= memory.capacity else "does not fit without it either"


def _remedy(request: Request, layout: Layout, choice: Choice) -> str:
    """The first change that makes it fit, of those that the request leaves out."""
    degrees = layout.tp, layout.pp, layout.dp
    for words, changed, other in _changes(request, layout, choice):
        found = Holder(request=changed).memory(degrees, other)
        if found is not None and found.fits:
            return f"fits with {words}"
    return ""


def _changes(request: Request, layout: Layout, choice: Choice) -> Iterator[tuple[str, Request, Choice]]:
    """One after the other, then all of them together."""
    changed, other, words = request, choice, list[str]()
    if request.phase == "train" and choice.recompute != "full":
        words.append("full recomputation")
        other = replace(other, recompute="full")
        yield words[-1], request, replace(choice, recompute="full")
    if request.phase == "train" and request.optimizer != "sharded" and layout.dp > 1:
        words.append("a sharded optimizer")
        changed = replace(request, optimizer="sharded")
        yield words[-1], changed, choice
    if choice.micro_batch > 1:
        words.append("micro-batch 1")
        other = replace(other, micro_batch=1)
        yield words[-1], request, replace(choice, micro_batch=1)
    if layout.tp > 1 and choice.strategy not in TOKEN_STRATEGIES:
        words.append("strategy sequence")
        other = replace(other, strategy="sequence")
        yield words[-1], request, replace(choice, strategy="sequence")
    if len(words) > 1:
        yield ", ".join(words), changed, other
