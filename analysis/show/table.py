"""A table as it is shown to people: columns, groups of rows, notes; which cells may go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NOTHING: Final = "-"
Cells = Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, and whether figures stand below it."""

    heading: str
    figures: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A column, and what stands in it; one that is empty in every row may go."""

    heading: str
    read: Callable[[Cells], str]
    figures: bool = True
    may_go: bool = False

    @property
    def column(self) -> Column:
        return Column(heading=self.heading, figures=self.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows under a title of their own, or under none."""

    title: str = ""
    detail: str = ""
    marks: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """A table as it is shown; without groups there is nothing to show."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


def cells_in_use(cells: Sequence[Cell], rows: Sequence[Cells]) -> list[Cell]:
    """All but those that may go and are empty in every row."""
    return [cell for cell in cells if not cell.may_go or any(cell.read(row) not in (NOTHING, "") for row in rows)]


def text_column(heading: str) -> Column:
    """A column of words."""
    return Column(heading=heading, figures=False)


def figure_columns(*headings: str) -> Sequence[Column]:
    """Columns of numbers."""
    return [Column(heading=heading) for heading in headings]
