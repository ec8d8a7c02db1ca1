"""A ranking as tables for people: layouts with reasons, and of the best what they hold and where their time goes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.planner.alone import in_order, notable
from analysis.planner.layout import MEMORY_TERMS, TIGHT, TIME_TERMS, Layout, Ranking, Span, Status
from analysis.planner.request import Request
from tp.units import format_bytes, format_rate, format_seconds, significant

TRAIN_HEADINGS = ("step", "90 % interval", "tokens/s", "MFU", "bubble (pp-1)/M", "a GPU")
SERVE_HEADINGS = ("time", "90 % interval", "new tokens/s", "first token alone", "per token", "a GPU")


def print_ranking(console: Console, request: Request, ranking: Ranking, *, most: int) -> None:
    """The heading, the best layouts and some that must not be missing, then those that do not fit and why."""
    counts = Counter(layout.status for layout in ranking.layouts)
    words = [f"{counts[status]} {text}" for status, text in _STATUS.items() if counts[status]]
    console.print(f"tp x pp x dp: {', '.join(words)}", markup=False)
    shown = in_order([*ranking.fitting[:most], *notable(request, ranking)], ranking)
    fitting = [layout for layout in shown if layout.status == "fits"]
    if fitting:
        console.print(_times(request, ranking, fitting))
        for note in _notes(request, fitting):
            console.print(note, markup=False)
        console.print()
        spent = [by_name(layout.timing.terms) if layout.timing else {} for layout in fitting]
        console.print(_terms("time by term", fitting, TIME_TERMS, spent, format_seconds))
        shown_sends = [term for term in ("stage sends", "gradient sum") if any(each.get(term) for each in spent)]
        if shown_sends:
            console.print(f"{' and '.join(shown_sends)}: counted as if nothing hid them", markup=False)
        console.print()
    with_memory = in_order([*fitting, *[x for x in ranking.lost if x.memory][:most]], ranking)
    if with_memory:
        held = [by_name(layout.memory.terms) if layout.memory else {} for layout in with_memory]
        table = _terms("memory of the fullest stage", with_memory, MEMORY_TERMS, held, format_bytes)
        console.print(table)
    _print_lost(console, ranking, most=most)


def _notes(request: Request, layouts: Sequence[Layout]) -> Iterator[str]:
    """What the marks mean, and of bounds that they say nothing of the order."""
    if request.theory.bounds:
        yield "of bounds no order is certain"
    elif not all(layout.is_certain for layout in layouts):
        yield "~: not certainly slower, the 90 % interval of its time over the first's reaches 1 (common errors cancel)"
    if any(layout.memory is not None and layout.memory.is_tight for layout in layouts):
        yield f"!: over {100 * TIGHT:.0f} % of the memory; fragmentation and libraries' buffers may break it"


_STATUS: Final[dict[Status, str]] = {
    "fits": "fit",
    "does not fit": "do not fit",
    "no price": "without a price",
    "cannot be": "cannot be laid out",
}


def heading(request: Request) -> list[str]:
    """The lines that say what was asked."""
    node, nodes = request.node, request.node.num_nodes(request.num_gpus)
    where = f"{request.num_gpus} x {node.name}" + (f" on {nodes} nodes" if nodes > 1 else "")
    if request.phase == "train":
        sizes = (
            f"a step of {request.batch} sequences of {request.seq} tokens, {request.dtype}, Adam "
            f"({request.optimizer}), 1F1B (not interleaved)"
        )
    else:
        sizes = (
            f"{request.batch} sequences at once, {request.seq} tokens of prompt and {request.new_tokens} new, "
            f"{request.dtype}"
        )
    links = _joined(request.link.name, request.link.one_way_bytes_per_s)
    if request.network is not None:
        links += f", between nodes {_joined(request.network.name, request.network.one_way_bytes_per_s)} a GPU"
    return [f"{request.model.name} on {where}: {sizes}", links]


def _joined(name: str, rate: float | None) -> str:
    return f"{name} ({'rate unknown' if rate is None else f'{format_rate(rate)} one way'})"


def _times(request: Request, ranking: Ranking, layouts: Sequence[Layout]) -> Table:
    trains = request.phase == "train"
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("tp x pp x dp", no_wrap=True)
    table.add_column("strategy, recompute, micro-batch" if trains else "strategy, prompts a pass", no_wrap=True)
    for name in TRAIN_HEADINGS if trains else SERVE_HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why not first", overflow="fold")
    for layout in layouts:
        number = ranking.layouts.index(layout) + 1
        is_marked = layout.reason and not layout.is_certain and not request.theory.bounds
        reason = f"~ {layout.reason}" if is_marked else layout.reason
        table.add_row(
            str(number), layout.name, escape(_choice(layout, trains)), *_numbers(layout, trains), escape(reason)
        )
    return table


def _choice(layout: Layout, trains: bool) -> str:
    choice, timing = layout.choice, layout.timing
    assert choice is not None and timing is not None
    strategy = "-" if layout.tp == 1 else choice.strategy
    if not trains:
        return f"{strategy}, {choice.micro_batch}"
    return f"{strategy}, {choice.recompute}, {choice.micro_batch} (x {timing.num_micro_batches})"


def _numbers(layout: Layout, trains: bool) -> list[str]:
    timing, memory = layout.timing, layout.memory
    assert timing is not None and memory is not None
    whole = [format_seconds(timing.whole.seconds), _interval(timing.whole), f"{timing.tokens_per_s:,.0f}"]
    if trains:
        bubble = (layout.pp - 1) / timing.num_micro_batches
        mfu = "-" if timing.mfu is None else f"{100 * timing.mfu:.0f} %"
        between = [mfu, "-" if layout.pp == 1 else f"{significant(100 * bubble, digits=2)} %"]
    else:
        between = [_span(timing.first_token), _span(timing.per_token)]
    return [*whole, *between, format_bytes(memory.total) + "!" * memory.is_tight]


def _span(span: Span | None) -> str:
    return "-" if span is None else format_seconds(span.seconds)


def _interval(span: Span) -> str:
    if span.low_s == span.high_s:
        return "-"
    return f"{format_seconds(span.low_s)} - {format_seconds(span.high_s)}"


def _terms(
    title: str,
    layouts: Sequence[Layout],
    terms: Sequence[str],
    values: Sequence[Mapping[str, float]],
    write: Callable[[float], str],
) -> Table:
    """A column each term that some layout has, and the sum."""
    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    present = [term for term in terms if any(each.get(term, 0.0) > 0 for each in values)]
    for term in (*present, "sum"):
        table.add_column(term, justify="right")
    for layout, each in zip(layouts, values, strict=True):
        numbers = [write(each[term]) if each.get(term, 0.0) > 0 else "-" for term in present]
        table.add_row(layout.name, *numbers, write(sum(each.values())))
    return table


def by_name(terms: Mapping[Any, float]) -> dict[str, float]:
    """Terms of any sort as names and numbers."""
    return {str(term): float(value) for term, value in terms.items()}


def _print_lost(console: Console, ranking: Ranking, *, most: int) -> None:
    """Why the others cannot be run: one line a layout, of those that cannot be laid out one a reason."""
    lost = [layout for layout in ranking.lost if layout.status != "cannot be"]
    for layout in lost[:most]:
        console.print(f"{layout.name} {layout.status}: {layout.reason}", markup=False)
    if len(lost) > most:
        console.print(f"and {len(lost) - most} more that need more (--show, --csv)", markup=False)
    reasons = dict[str, list[str]]()
    for layout in ranking.lost:
        if layout.status == "cannot be":
            reasons.setdefault(layout.reason, []).append(layout.name)
    for reason, names in reasons.items():
        console.print(f"{', '.join(names[:4])}{' ...' if len(names) > 4 else ''}: {reason}", markup=False)
