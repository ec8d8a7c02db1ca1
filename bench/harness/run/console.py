"""What the user sees while a run goes on; only the leading rank speaks, and it never decides anything."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.harness.record.arrivals import of_pass
from bench.harness.record.parts import PartRow
from bench.harness.record.records import OpResult
from tp.plan.ops import STREAM_KINDS, AttentionCore, Collective, Elementwise, Gemm, Op, bus_factor
from tp.units import (
    format_bytes,
    format_flops,
    format_flops_rate,
    format_rate,
    format_seconds,
    format_signed_percent,
    printable,
)

NOTHING: Final = "-"


def make_console(*, leads: bool) -> Console:
    """A console that prints on the leading rank and nowhere else; plain text when it is not a terminal."""
    console = Console(quiet=not leads, highlight=False)
    # In a pipe or a file the width is unknown; rows are kept on one line there.
    return console if console.is_terminal else Console(quiet=not leads, highlight=False, width=140)


def progress_bar(console: Console) -> Progress:
    """A bar over the cases; silent when the output is not a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )


def part_table(rows: Sequence[PartRow]) -> Table:
    """Measured beside predicted, one line a part; the rows are those of one case."""
    first = rows[0]
    table = Table(title=escape(printable(first.case)), title_justify="left", box=None, pad_edge=False)
    for heading in ("part", "measured", "95 % interval", "predicted", "90 % interval", "error", "FLOP", "bytes"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for row in rows:
        table.add_row(
            row.part,
            _seconds(row.measured_s),
            _interval(row.low_s, row.high_s),
            _seconds(row.estimate_s),
            _interval(row.estimate_low_s, row.estimate_high_s),
            _error(row),
            format_flops(row.flops) if row.flops else NOTHING,
            format_bytes(row.bytes) if row.bytes else NOTHING,
        )
    notes = [f"predicted by: {first.theory or 'nothing'}, error: predicted / measured - 1"]
    if first.theory == "datasheet":
        notes.append("a bound, not a forecast: measure gemm.py and collectives.py and pass --calibration")
    if any(row.extrapolated for row in rows):
        notes.append("partly extrapolated beyond the calibration's sizes")
    table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else format_seconds(value)


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None or low == high:
        return NOTHING
    return f"{format_seconds(low)} - {format_seconds(high)}"


def _error(row: PartRow) -> str:
    quotient = row.predicted_over_measured
    return NOTHING if quotient is None else format_signed_percent(quotient - 1)


def op_table(timed: Sequence[tuple[Op, float]]) -> Table:
    """One line an op: its size, its time, and the rates that follow (NCCL's for collectives)."""
    table = Table(box=None, pad_edge=False)
    for heading in ("op", "size", "median", "FLOP/s", "bytes/s or algbw", "busbw"):
        table.add_column(heading, justify="left" if heading in ("op", "size") else "right")
    for op, seconds in timed:
        if isinstance(op, Collective):
            algbw = op.size_bytes / seconds
            busbw = algbw * bus_factor(op.kind, op.num_ranks)
            rates = (NOTHING, format_rate(algbw), format_rate(busbw))
        else:
            flops = format_flops_rate(op.flops / seconds) if op.flops else NOTHING
            rates = (flops, format_rate(op.moved_bytes / seconds), NOTHING)
        table.add_row(_op_name(op), _op_size(op), format_seconds(seconds), *rates)
    return table


def memory_table(timed: Sequence[tuple[Elementwise, float]], *, world: int) -> Table:
    """One line a pass that moves memory, by kind and size: its rate on a rank, and on all of them together."""
    table = Table(box=None, pad_edge=False)
    for heading in ("pass", "moved by a rank", "median", "a rank", f"all {world} together"):
        table.add_column(heading, justify="left" if heading == "pass" else "right")
    for op, seconds in sorted(timed, key=lambda each: (STREAM_KINDS.index(each[0].kind), each[0].moved_bytes)):
        rate = op.moved_bytes / seconds
        moved = format_bytes(op.moved_bytes)
        table.add_row(op.kind, moved, format_seconds(seconds), format_rate(rate), format_rate(world * rate))
    table.caption, table.caption_justify = "read and written count once each, a transfer once", "left"
    return table


def arrival_table(results: Sequence[OpResult]) -> Table:
    """One line a collective: who came late, and how long it took once all were there; with a control, what it did."""
    table = Table(title="arrival and transfer", title_justify="left", box=None, pad_edge=False)
    planted = any(result.delayed is not None for result in results)
    headings = ("op", "size", "skew", "95th percentile", "last", "transfer")
    for heading in (*headings, *(("late: skew", "transfer", "moved") if planted else ())):
        table.add_column(heading, justify="left" if heading in ("op", "size") else "right")
    for result in results:
        assert isinstance(result.op, Collective), "only collectives are arrived at"
        found = of_pass(result.samples, groups=result.grouping)
        late = None if result.delayed is None else of_pass(result.delayed, groups=result.grouping)
        if found is None:
            continue
        cells = [
            _op_name(result.op),
            _op_size(result.op),
            format_seconds(found.skew.median_s),
            format_seconds(found.skew.p95_s),
            f"rank {found.last_rank} ({found.last_share:.0%})",
            format_seconds(found.transfer.median_s),
        ]
        if late is not None:
            moved = format_signed_percent(late.transfer.median_s / found.transfer.median_s - 1)
            cells += [format_seconds(late.skew.median_s), format_seconds(late.transfer.median_s), moved]
        table.add_row(*cells)
    return table


def _op_name(op: Op) -> str:
    match op:
        case Gemm():
            return f"gemm {op.layout}"
        case AttentionCore():
            return f"attention {op.direction}"
        case Elementwise():
            return op.kind
        case Collective():
            return f"{op.kind} x{op.num_ranks}"


def _op_size(op: Op) -> str:
    match op:
        case Gemm():
            return f"m {op.m} n {op.n} k {op.k}"
        case AttentionCore():
            return f"b {op.batch} s {op.seq} c {op.context} a {op.num_heads}/{op.num_kv_heads} d {op.head_dim}"
        case Elementwise():
            return format_bytes(op.moved_bytes)
        case Collective():
            return format_bytes(op.size_bytes)
