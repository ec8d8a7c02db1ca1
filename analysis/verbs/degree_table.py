"""The article's degrees and the corrected ones, as tables on the console."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from analysis.trial.degrees import Corrected, article_ratio, article_table
from tp.model import ModelShape
from tp.units import format_flops_rate, format_rate, significant


def print_article(console: Console, model: ModelShape) -> None:
    """The ratio of one head a rank, and the four degrees with the article's numbers and with the right ones."""
    ratio = article_ratio(model)
    console.print(
        f"{model.name} at one head a rank (tp {ratio.tp}): {significant(ratio.multi_head)} FLOP a byte with multi-head "
        f"attention, as the article has it;\nof use with its {model.num_kv_heads} kv heads: "
        f"{significant(ratio.grouped)}. The article's A100 then needs {format_rate(ratio.needed_bytes_per_s)} in, and "
        f"as much out.",
        markup=False,
    )
    table = Table(title="largest useful degree", title_justify="left", box=None, pad_edge=False)
    headings = ("", "article: peak", "link, two-way", "printed", "unrounded", "dense peak", "one-way", "corrected")
    for heading in (*headings, "full layer"):
        table.add_column(heading, justify="right" if heading else "left")
    degrees = article_table(model)
    for degree in degrees:
        table.add_row(
            degree.pair.label,
            format_flops_rate(degree.pair.flops_per_s),
            format_rate(degree.pair.link_two_way_bytes_per_s),
            f"{degree.rounded:.1f}",
            f"{degree.unrounded:.2f}",
            format_flops_rate(degree.right.flops_per_s),
            format_rate(degree.right.one_way_bytes_per_s),
            f"{degree.right.by_the_rule:.2f}",
            f"{degree.right.balance:.1f}",
        )
    console.print(table)
    for degree in degrees:
        console.print(f"  {degree.pair.label}: {degree.pair.note}", markup=False)
    console.print()


def print_corrected(console: Console, model: ModelShape, rows: Sequence[Corrected]) -> None:
    """Every machine by the article's rule and by the full layer."""
    title = f"degree at which sending takes as long as computing, {model.name}, dense peak, one way"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("hardware", "link"):
        table.add_column(heading, no_wrap=True)
    for heading in ("peak", "rate", "article's rule", "full layer, ring"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.hardware,
            row.link,
            format_flops_rate(row.flops_per_s),
            format_rate(row.one_way_bytes_per_s),
            f"{row.by_the_rule:.2f}",
            f"{row.balance:.1f}",
        )
    console.print(table)
