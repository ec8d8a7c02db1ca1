"""A grid of predictions evaluated once, for its file and for its summary."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.forecast.grid import Columns
from analysis.forecast.grid_file import open_grid_file
from analysis.forecast.grid_summary import Summary, by_phase, summarise
from analysis.verbs.output import writing
from tp.case import Case
from tp.hardware import Device
from tp.plan.footprint import RESERVE_BYTES
from tp.units import format_bytes, format_seconds


def evaluate(families: Iterable[tuple[Case, int, Columns]], names: Sequence[str], *, out: Path | None) -> list[Summary]:
    """Every family of a grid, written to `out` where it is given; a summary of each phase."""
    if out is None:
        return by_phase(summarise(*family) for family in families)
    found = []
    with writing("--out", out), open_grid_file(out, names) as file:
        for case, rows, columns in families:
            file.write(rows, columns)
            found.append(summarise(case, rows, columns))
    return by_phase(found)


def print_summaries(console: Console, summaries: Sequence[Summary], device: Device) -> None:
    """What a large grid comes to, and the fastest few of each phase that fit."""
    for summary in summaries:
        console.print(f"\n{summary.phase}: {_counts(summary, device)}", markup=False)
        table = Table(box=None, pad_edge=False)
        table.add_column("fastest that fit" if summary.num_fit is not None else "fastest", no_wrap=True)
        for heading in ("total", "tokens/s", "whole model"):
            table.add_column(heading, justify="right")
        for fast in summary.fastest:
            held = "-" if fast.model_bytes is None else format_bytes(fast.model_bytes)
            table.add_row(escape(fast.key), format_seconds(fast.total_s), f"{fast.tokens_per_s:,.0f}", held)
        if summary.fastest:
            console.print(table)


def _counts(summary: Summary, device: Device) -> str:
    text = f"{summary.num_configurations:,} configurations"
    cannot = summary.num_configurations - summary.num_divide
    if cannot:
        text += f", {cannot:,} whose tokens cannot be cut as their strategy needs"
    if summary.num_fit is None or device.memory_bytes is None:
        return text
    reserve = f" less {format_bytes(RESERVE_BYTES)}" if device.kind == "gpu" else ""
    return f"{text}, {summary.num_fit:,} whose whole model fits {format_bytes(device.memory_bytes)}{reserve} a rank"
