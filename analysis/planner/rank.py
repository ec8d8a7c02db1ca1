"""Every layout of a request, priced and ranked."""

from collections.abc import Iterator
from dataclasses import replace

from analysis.planner.certainty import least_ratio
from analysis.planner.degrees import Degrees, all_degrees, micro_batches_of, replica_batch, strategies_of
from analysis.planner.layout import Choice, Layout, Memory, Ranking, Timing
from analysis.planner.memory import Holder
from analysis.planner.prices import Prices
from analysis.planner.reasons import why_slower, why_too_large
from analysis.planner.request import Request
from analysis.planner.serve import serve_timing
from analysis.planner.train import step_timing
from tp.case import Phase


def plan_layouts(request: Request) -> Ranking:
    """What every tp x pp x dp of the GPUs comes to: the fastest first, each other with why it is not."""
    found = list(all_degrees(request))
    possible = [degrees for degrees, reason in found if not reason]
    holder = Holder(request=request)
    prices = Prices(request=request, sizes=_sizes(request, possible), degrees=tuple({tp for tp, _, _ in possible}))
    layouts = [
        _unlaid(degrees, reason) if reason else _best_of(request, holder, prices, degrees) for degrees, reason in found
    ]
    fitting = sorted((each for each in layouts if each.status == "fits"), key=_seconds)
    first = [replace(each, is_certain=not request.theory.bounds) for each in fitting[:1]]
    slower = [_slower(request, fitting[0], each) for each in fitting[1:]]
    rest = sorted((each for each in layouts if each.status != "fits"), key=_lack)
    return Ranking(layouts=(*first, *slower, *rest))


def _slower(request: Request, best: Layout, layout: Layout) -> Layout:
    assert best.timing is not None and layout.timing is not None
    is_certain = not request.theory.bounds and least_ratio(layout.timing, best.timing) > 1
    return replace(layout, reason=why_slower(request, best, layout), is_certain=is_certain)


def _sizes(request: Request, possible: list[Degrees]) -> dict[Phase, tuple[int, ...]]:
    passes = {size for _, _, dp in possible for size in micro_batches_of(request, dp)}
    if request.phase == "train":
        return {"train": tuple(sorted(passes))}
    paces = {-(-replica_batch(request, dp) // pp) for _, pp, dp in possible}
    return {"prefill": tuple(sorted(passes | {1})), "decode": tuple(sorted(paces))}


def _choices(request: Request, degrees: Degrees) -> Iterator[Choice]:
    tp, _, dp = degrees
    for strategy in strategies_of(request, tp):
        for recompute in request.recomputes:
            for size in micro_batches_of(request, dp):
                yield Choice(strategy=strategy, recompute=recompute, micro_batch=size)


def _best_of(request: Request, holder: Holder, prices: Prices, degrees: Degrees) -> Layout:
    """The fastest choice that fits; where none does, the one that needs least."""
    found = [(choice, memory) for choice in _choices(request, degrees) if (memory := holder.memory(degrees, choice))]
    if not found:
        strategies = ", ".join(strategies_of(request, degrees[0]))
        return _unlaid(degrees, f"the tokens of a pass cannot be cut by TP {degrees[0]} as {strategies} needs")
    fitting = [(choice, memory) for choice, memory in found if memory.fits]
    if not fitting:
        choice, memory = min(found, key=lambda pair: pair[1].total)
        layout = _layout(degrees, choice, memory, None)
        return replace(layout, reason=why_too_large(request, layout))
    timed = [(choice, memory, _timing(holder, prices, degrees, choice)) for choice, memory in fitting]
    priced = [(choice, memory, timing) for choice, memory, timing in timed if timing is not None]
    if not priced:
        return replace(_layout(degrees, *fitting[0], None), status="no price", reason="the theory lacks a price for it")
    return _layout(degrees, *min(priced, key=lambda each: each[2].whole.seconds))


def _timing(holder: Holder, prices: Prices, degrees: Degrees, choice: Choice) -> Timing | None:
    if prices.request.phase == "serve":
        return serve_timing(prices, degrees, choice)
    return step_timing(prices, degrees, choice, elements=holder.elements(degrees, choice))


def _layout(degrees: Degrees, choice: Choice, memory: Memory, timing: Timing | None) -> Layout:
    tp, pp, dp = degrees
    status = "fits" if memory.fits else "does not fit"
    return Layout(tp=tp, pp=pp, dp=dp, status=status, choice=choice, memory=memory, timing=timing)  # type: ignore[arg-type]


def _unlaid(degrees: Degrees, reason: str) -> Layout:
    tp, pp, dp = degrees
    return Layout(tp=tp, pp=pp, dp=dp, status="cannot be", reason=reason)


def _seconds(layout: Layout) -> tuple[float, int, int]:
    assert layout.timing is not None
    return layout.timing.whole.seconds, layout.tp, layout.pp


def _lack(layout: Layout) -> tuple[int, float, int, int]:
    """First what has no price, then what does not fit, the nearest to it first, then what cannot be."""
    held = 0.0 if layout.memory is None else float(layout.memory.total)
    return ("no price", "does not fit", "cannot be").index(layout.status), held, layout.tp, layout.pp
