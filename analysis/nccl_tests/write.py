"""Tests as the text that nccl-tests prints, and our own records of collectives as such tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis.load import Run
from analysis.nccl_tests.parts import PLACEMENTS, Heading, Rank, Row, Sweep
from analysis.nccl_tests.spelling import PROGRAMS, REDUCTIONS, SHARED, TYPES
from bench.harness.record.records import Header, OpResult
from tp.plan.ops import Collective, bus_factor
from tp.units import DTYPE_BYTES, GB, printable

NOT_MEASURED: Final = "N/A"
_HALF: Final = "  {:>7}  {:>6}  {:>6}  {:>6}"
_LEAD: Final = "{:>12}  {:>12}  {:>8}  {:>6}  {:>6}"


def render(test: Sweep, *, notes: Sequence[str] = (), setup: str = "") -> Iterator[str]:
    """The lines of one test in the layout of nccl-tests 2.17; rows next to each other of one size share a line."""
    program = PROGRAMS[test.heading.collective]
    yield from (f"# tpbench: {note}" for note in notes)
    yield f"# Collective test starting: {program}"
    yield from ([f"# {setup}"] if setup else [])
    yield from ("#", "# Using devices")
    for rank in test.heading.ranks:
        yield (
            f"#  Rank {rank.number:>2} Group {rank.group:>2} Pid {rank.pid:>6} on {rank.host:>10} "
            f"device {rank.number:>2} [0x00] {rank.device}"
        )
    yield "#"
    for labels in (("",) * 5, ("size", "count", "type", "redop", "root"), ("(B)", "(elements)", "", "", "")):
        yield _header(labels)
    yield from _table(test.rows)
    yield f"# {'Avg bus bandwidth':<20} : {np.mean([float(row.busbw) for row in test.rows]):g}"
    yield from ("#", f"# Collective test concluded: {program}", "#")


def _header(labels: Sequence[str]) -> str:
    """One of the three lines above a table, known by its first label."""
    half = {"size": ("time", "algbw", "busbw", "#wrong"), "(B)": ("(us)", "(GB/s)", "(GB/s)", "")}.get(labels[0])
    titles = "".join(f"{title:^33}" for title in ("out-of-place", "in-place"))
    return ("#" + _LEAD.format(*labels)[1:] + (titles if half is None else 2 * _HALF.format(*half))).rstrip()


def _table(rows: Sequence[Row]) -> Iterator[str]:
    number = 0
    while number < len(rows):
        row = rows[number]
        pair = [row]
        after = rows[number + 1 : number + 2]
        if row.placement == "out_of_place" and after and after[0].placement == "in_place" and _same(row, after[0]):
            pair.append(after[0])
        cells = {each.placement: (each.time, each.algbw, each.busbw, each.wrong or NOT_MEASURED) for each in pair}
        lead = _LEAD.format(row.size, row.count, row.type, row.redop, row.root)
        yield lead + "".join(_HALF.format(*cells.get(placement, (NOT_MEASURED,) * 4)) for placement in PLACEMENTS)
        number += len(pair)


def _same(one: Row, other: Row) -> bool:
    return (one.size, one.count, one.type, one.redop, one.root) == (
        other.size,
        other.count,
        other.type,
        other.redop,
        other.root,
    )


def number_text(value: float, *, width: int) -> str:
    """A number as the tests print it: two decimals while they fit, then fewer, then an exponent."""
    digits = len(str(int(value))) if value >= 1 else 0
    if digits < width - 2:
        return f"{value:.2f}"
    if digits < width - 1:
        return f"{value:.1f}"
    return f"{value:.0f}" if digits < width + 1 else f"{value:.{1 if width >= 7 else 0}e}"


def render_run(run: Run) -> Iterator[str]:
    """The sweeps of a record of bench/collectives.py, a test for each collective and number of ranks."""
    timed = [(result, result.op) for result in run.ops if isinstance(result.op, Collective)]
    for kind, ranks in dict.fromkeys((op.kind, op.num_ranks) for _, op in timed):
        results = [result for result, op in timed if (op.kind, op.num_ranks) == (kind, ranks)]
        rows = sorted(map(_row, results), key=lambda row: (row.size, row.type))
        heading = Heading(collective=kind, ranks=tuple(_ranks(run.headers[0], ranks)))
        test = Sweep(place="", heading=heading, rows=tuple(rows), ended=True)
        yield from render(test, notes=tuple(_notes(run)), setup=_setup(run.headers[0], results, rows))


def _row(result: OpResult) -> Row:
    """An op alone. An all-reduce works in place, the others write to a buffer of their own."""
    op = result.op
    assert isinstance(op, Collective)
    # The buffer that was timed is a multiple of the ranks (bench/harness/cases/ops.py).
    elements = max(op.size_bytes // DTYPE_BYTES[op.dtype] // op.num_ranks, 1) * op.num_ranks
    size = elements * DTYPE_BYTES[op.dtype]
    seconds = float(np.median(np.array(result.samples.times_s).max(axis=1)))
    algbw = size / seconds / GB
    return Row(
        place="",
        size=size,
        count=elements // op.num_ranks if op.kind in SHARED else elements,
        type=TYPES[op.dtype],
        redop="sum" if op.kind in REDUCTIONS else "none",
        root="-1",
        placement="in_place" if op.kind == "all_reduce" else "out_of_place",
        time=number_text(seconds * 1e6, width=7),
        algbw=number_text(algbw, width=6),
        busbw=number_text(algbw * bus_factor(op.kind, op.num_ranks), width=6),
        wrong="",
    )


def _notes(run: Run) -> Iterator[str]:
    header = run.headers[0]
    libraries = _environment(header, 0).get("libraries")
    version = libraries.get("nccl") if isinstance(libraries, dict) and header.backend == "nccl" else None
    yield f"backend {header.backend}{f' {version}' if version else ''}, {Path(run.path).name} of {header.created}"
    yield "time is the median over passes of the slowest rank, each pass alone; nccl-tests prints a mean over passes"
    yield "one placement is measured; N/A is the other, and a result that was not checked; Pid numbers the processes"
    if header.oversubscribed is not None:
        yield printable(f"times are not comparable: {header.oversubscribed}")


def _setup(header: Header, results: Sequence[OpResult], rows: Sequence[Row]) -> str:
    warmups = min(len(result.samples.warmup_s) for result in results)
    passes = min(len(result.samples.times_s) for result in results)
    graph = int(bool(header.method.get("graph")))
    return (
        f"nThread 1 nGpus 1 minBytes {rows[0].size} maxBytes {rows[-1].size} step: 2(factor) warmup iters: {warmups} "
        f"iters: {passes} agg iters: 1 validation: 0 graph: {graph}"
    )


def _ranks(header: Header, group_size: int) -> Iterator[Rank]:
    """Every rank of the run; neighbours make a group, and all groups ran at once."""
    for number in range(header.world):
        rank = _environment(header, number)
        gpus = rank.get("gpus")
        names = gpus.get("names") if isinstance(gpus, dict) else None
        device = names[0] if names else header.hardware.device.name
        yield Rank(
            place="",
            number=number,
            group=number // group_size,
            pid=number,
            host="-".join(printable(str(rank.get("host", "unnamed"))).split()) or "unnamed",
            device=printable(str(device)),
        )


def _environment(header: Header, number: int) -> dict[str, Any]:
    """What a rank said of itself."""
    ranks = header.environment.get("ranks")
    listed = ranks[number] if isinstance(ranks, list) and number < len(ranks) else {}
    return listed if isinstance(listed, dict) else {}
