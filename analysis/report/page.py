"""The page of a report: one HTML file that asks for nothing; every word from a file is text, one script may run."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.drawing import Chart, inline_svg
from analysis.report.content import Content
from analysis.report.method import method
from analysis.report.provenance import commands, sources
from analysis.report.sections import sections
from analysis.show.table import Display, Group

# Rows of a table that stand in the page as such; the script shows the others when they are asked for.
MAX_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure as an element of the page."""

    chart: Chart
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """The rows of a table that stand in the page, and the others as JSON."""

    groups: tuple[Group, ...]
    rest: str
    """`[[title, detail, marks, rows], ...]`; a group of the page that goes on has its title again. Empty for none."""
    num_rows: int


def render(content: Content, drawn: Sequence[Drawn], *, out: Path, files: Sequence[str]) -> str:
    """The page as text; `files` lie beside it."""
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["split"] = split
    script = _part("report.js")
    return environment.get_template("report.html.j2").render(
        subject=content.subject,
        verdict=content.verdict,
        caveats=content.caveats,
        sections=sections(content),
        figures=_inline(drawn),
        sources=sources(content.runs),
        method=method(content.runs),
        commands=commands(content.runs, content.paths, out, mixed=content.mixed),
        files=files,
        style=Markup(_part("report.css")),
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def split(shown: Display) -> PageTable:
    """The first rows of a table, groups kept together as far as they go, and the rest."""
    first: list[Group] = []
    rest: list[tuple[Any, ...]] = []
    room = MAX_ROWS
    for group in shown.groups:
        here, later = group.rows[:room], group.rows[room:]
        room -= len(here)
        if here:
            first.append(Group(title=group.title, detail=group.detail, marks=group.marks, rows=here))
        if later:
            rest.append((group.title, group.detail, group.marks, later))
    # A script element ends at the first "</script", wherever it stands.
    text = json.dumps(rest, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c") if rest else ""
    return PageTable(groups=tuple(first), rest=Markup(text), num_rows=sum(len(group.rows) for group in shown.groups))


def _inline(drawn: Sequence[Drawn]) -> Mapping[str, tuple[Chart, Markup]]:
    return {each.chart.name: (each.chart, Markup(inline_svg(each.svg, each.chart.name))) for each in drawn}


def _part(name: str) -> str:
    """A file that becomes part of the page as it is."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
