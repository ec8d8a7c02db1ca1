"""What the figures of a report share: style and palette, and how a figure becomes a file and a part of a page.

Colours are Okabe and Ito's, which the colour-blind tell apart, and never the only difference. Text from files is
drawn as it is, never as mathematics or markup. No pyplot, hence no state but matplotlib's settings while drawing.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

# Stand-ins that an inlined figure replaces by the page's own colours, so that it follows light and dark.
INK: Final = "#1f2329"
PAPER: Final = "#fefefe"
PAGE_COLOURS: Final = {INK: "currentColor", PAPER: "var(--paper)"}

BLUE, ORANGE, GREEN, RED, PINK, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
MAX_LABEL: Final = 90
KINDS: Final = ("svg", "png", "pdf")
# More points than this are drawn as how many of them fall where.
TOO_MANY: Final = 1500

# Keys are Any, as matplotlib from 3.11 on lists them in its types and before does not.
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "tpbench",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#808890",
    "grid.alpha": 0.4,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure, and the same in words."""

    name: str
    title: str
    alternative: str
    """What it shows, for those who do not see it."""
    figure: Figure


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and render in the style of the house; a letter that the font lacks is no reason for a warning."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def label(text: str) -> str:
    """A name from a file as one short line that XML can hold."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return printable if len(printable) <= MAX_LABEL else f"{printable[: MAX_LABEL - 1]}…"


def save(chart: Chart, folder: Path) -> str:
    """Write the chart to `folder` as SVG, PNG and PDF; the SVG, which takes long to draw."""
    drawn = svg(chart)
    (folder / f"{chart.name}.svg").write_text(drawn, encoding="utf-8")
    metadata = {"Title": chart.title, "Description": chart.alternative, "Software": None}
    with house_style():
        # Where everything lies has been found for the SVG, and is the same on every other canvas.
        chart.figure.set_layout_engine("none")
        chart.figure.savefig(folder / f"{chart.name}.png", dpi=150, metadata=metadata)
        with rc_context({"pdf.fonttype": 42}):
            about = {"Title": chart.title, "Subject": chart.alternative, "CreationDate": None}
            chart.figure.savefig(folder / f"{chart.name}.pdf", metadata=about)
    return drawn


def svg(chart: Chart) -> str:
    """The chart as an SVG document with its alternative in it; the same bytes each time."""
    target = StringIO()
    with house_style():
        chart.figure.savefig(target, format="svg", metadata=_NO_METADATA)
    text = target.getvalue()
    opening, body = text[text.index("<svg") :].split(">", 1)
    # The style sheet's two rules become attributes: in a page it would hold for the whole page.
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)
    alternative = escape(chart.alternative)
    return f'{opening} role="img" stroke-linejoin="round" stroke-linecap="butt" aria-label="{alternative}">{body}'


def inline_svg(drawn: str, name: str) -> str:
    """A chart's SVG as an element of a page: in its colours, labelled by its caption, with ids of its own."""
    root, body = drawn.split(">", 1)
    root = re.sub(r'aria-label="[^"]*"', f'aria-labelledby="{name}-caption"', root)
    return f"{root}>{re.sub(r'<[^>]*>', lambda tag: _for_page(tag[0], name), body)}"


def draw_density(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """How many points fall where, on the axes' logarithmic scales; for more points than can be told apart."""
    hexagons = axes.hexbin(
        x.to_numpy(dtype=float),
        y.to_numpy(dtype=float),
        xscale="log",
        yscale="log",
        gridsize=48,
        mincnt=1,
        norm=LogNorm(),
        cmap="cividis",
        edgecolors=INK,
        linewidths=0.15,
    )
    bar = axes.figure.colorbar(hexagons, ax=axes, label="points", shrink=0.7)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _for_page(tag: str, name: str) -> str:
    for stand_in, colour in PAGE_COLOURS.items():
        tag = tag.replace(stand_in, colour)
    return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", tag)
