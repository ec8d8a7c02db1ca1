"""The published layer's table as `analysis score --published` prints it."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from analysis.forecast.published import CellScore, PublishedLayer
from tp.cost.calibrated import Calibration
from tp.units import format_signed_percent, printable


def print_published(
    console: Console, layer: PublishedLayer, scores: Sequence[CellScore], calibration: Calibration
) -> None:
    """One line a cell: measured, estimated with collectives hidden as the plan lays them out, and with none hidden."""
    console.print(
        printable(
            f"{layer.model}, one layer, tp {layer.tp}, batch {layer.batch}, {layer.seq} tokens, {layer.hardware}: "
            f"{layer.source}"
        ),
        markup=False,
    )
    console.print(f"calibration of {calibration.hardware}: {'; '.join(calibration.citations.values())}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", no_wrap=True)
    for heading in ("measured", "estimate", "error", "nothing hidden", "error", "measured is between", layer.peer):
        table.add_column(heading, justify="right")
    for score in scores:
        cell, inside = score.cell, score.inside_bounds
        recompute = f", {cell.recompute} recompute" if cell.recompute != "none" else ""
        peer = cell.peer_over_measured
        table.add_row(
            f"{cell.direction}, {cell.strategy}{recompute}",
            f"{1e3 * cell.measured_s:.1f} ms",
            f"{1e3 * score.hidden_s:.2f} ms",
            format_signed_percent(score.estimate_over_measured - 1),
            "" if inside is None else f"{1e3 * score.serial_s:.2f} ms",
            "" if inside is None else format_signed_percent(score.serial_over_measured - 1),
            "" if inside is None else ("yes" if inside else "no"),
            "" if peer is None else format_signed_percent(peer - 1),
        )
    console.print(table)
