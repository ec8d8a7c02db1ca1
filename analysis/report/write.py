"""A report on disk: one self-contained page, its figures, and its tables as CSV."""

from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import Final

from analysis.figures.charts import charts
from analysis.figures.drawing import KINDS, save
from analysis.report.content import Content, Tell, read_content
from analysis.report.page import Drawn, render
from analysis.report.sections import FIGURES_OF
from bench.harness.record.parts import COLUMNS
from tp.errors import ConfigError

PAGE: Final = "report.html"
FIGURES: Final = "figures"


def write_report(paths: Sequence[Path], out: Path, *, mixed: bool, tell: Tell = lambda problem: None) -> Path:
    """Write the report of record files and CSV tables to the folder `out`; the path of its page.

    Raises what `read_content` raises, and ConfigError for a folder that cannot be written.
    """
    return write_content(read_content(paths, mixed=mixed, tell=tell), out)


def write_content(content: Content, out: Path) -> Path:
    """Write page, figures and tables to the folder `out`; the path of the page."""
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        return _write(content, out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error}); name another folder") from error


def _write(content: Content, out: Path) -> Path:
    for name, frame in content.frames.items():
        shown = frame[list(COLUMNS)] if name == "parts" else frame
        shown.to_csv(out / f"{name}.csv", index=False)
    # Those of a report that was here before, of which this one may have none.
    for name, kind in product(chain(*FIGURES_OF.values()), KINDS):
        (out / FIGURES / f"{name}.{kind}").unlink(missing_ok=True)
    drawn = [Drawn(chart=chart, svg=save(chart, out / FIGURES)) for chart in charts(content.runs, content.frames)]
    page = out / PAGE
    files = [f"{name}.csv" for name in content.frames]
    page.write_text(render(content, drawn, out=out, files=files), encoding="utf-8")
    return page
