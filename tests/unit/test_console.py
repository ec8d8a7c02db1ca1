"""What a run prints: names from files are text, and nothing in them steers the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.harness.record.parts import part_rows
from bench.harness.run.console import part_table, progress_bar
from tests.unit.record_factory import FixedTheory, header, planned, result

pytestmark = pytest.mark.unit

HOSTILE = "[red]a[/nothing]\x1b[2J"


def test_a_name_is_shown_as_it_is() -> None:
    plan = planned(FixedTheory())
    rows = [replace(row, case=HOSTILE) for row in part_rows(header(), plan, result(plan))]
    console = Console(file=io.StringIO(), force_terminal=False, width=140)
    console.print(part_table(rows))
    assert isinstance(console.file, io.StringIO)
    assert "[red]a[/nothing]?[2J" in console.file.getvalue()


def test_a_progress_bar_takes_no_markup() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    with progress_bar(console) as bar:
        bar.add_task("[red]a[/nothing]", total=1)
    assert isinstance(console.file, io.StringIO)
    assert "[red]a[/nothing]" in console.file.getvalue()
