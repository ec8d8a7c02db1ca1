"""A comparison for people: one sentence, what changed between the two, then case by case."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.comparison.rows import VERDICTS, Basis, CaseVerdict, Common, Comparison, Row, Verdict
from analysis.show.cells import percent, seconds
from analysis.show.table import NOTHING
from tp.units import format_signed_percent, printable

STYLES: Final[dict[Verdict, str]] = {"newly failing": "bold red", "slower": "red", "faster": "green"}
BASIS: Final[dict[Basis, str]] = {"the others": "beside others", "the clock": "as timed"}
# Under so many columns medians and intervals are left to --json.
NARROW: Final = 110
MOST_NAMED: Final = 3
LEGEND: Final = (
    "new/old: of the means of the shorter half of each run's times, which are steadier than medians; beside others: "
    "with what all parts share taken out; all 99 % intervals hold together; could see: a slow-down that nine of ten "
    "such comparisons would find; a row that could not see 25 % is not comparable, never the same"
)


def sentence(found: Comparison) -> str:
    """The whole comparison in one line, the worst first."""
    failing = [case.case for case in found.cases if case.verdict == "newly failing"]
    count = Counter(row.verdict for row in found.rows)
    slower = [f"{row.part} of {row.case} {_percent(row)}" for row in found.rows if row.verdict == "slower"]
    told = [f"newly failing: {_some(failing)}"] if failing else []
    told += [f"slower: {_some(slower)}"] if slower else []
    if found.common.verdict in ("slower", "faster"):
        told.append(f"all parts alike {found.common.verdict}: {_signed(found.common.time_new_over_old)}")
    if not told:
        judged = count["same"] + count["faster"]
        all_told = "nothing got slower" if judged == len(found.rows) else f"none of the {judged} rows judged got slower"
        told.append(all_told if judged else "nothing could be compared")
    others = [f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict]]
    seen = [row.change.could_see_change for row in found.rows if row.verdict == "same" and row.change]
    could = sorted(each for each in seen if each is not None)
    of = f" (could see {percent(could[0])} to {percent(could[-1])})" if could else ""
    return f"{'; '.join(told)}; of {len(found.rows)} rows {', '.join(others) or 'none'}{of}"


def print_comparison(console: Console, found: Comparison, *, everything: bool) -> None:
    """Print the sentence and tables; not `everything`: rows that changed or cannot be compared, and totals."""
    console.print(printable(sentence(found)), markup=False)
    console.print(_common_sentence(found.common), markup=False)
    if found.differences:
        table = _table(("what changed between the two", "old", "new"), figures=0)
        for each in found.differences:
            table.add_row(*(Text(printable(word), overflow="fold") for word in (each.field, each.old, each.new)))
        console.print()
        console.print(table)
    for case in found.cases:
        console.print()
        _print_case(console, case, [row for row in found.rows if row.case == case.case], everything)
    console.print(f"\n{LEGEND}", markup=False)


def _common_sentence(common: Common) -> str:
    if common.time_new_over_old is None:
        return f"all parts alike: {common.verdict}, {common.reason}"
    change = f"all parts alike: {_signed(common.time_new_over_old)}"
    if common.low is not None:
        change += f", 99 % interval {_signed(common.low)} to {_signed(common.high)}"
    return f"{change}: {common.verdict}{', ' if common.reason else ''}{common.reason}"


def _print_case(console: Console, case: CaseVerdict, rows: Sequence[Row], everything: bool) -> None:
    title = Text(printable(case.case))
    title.append(f": {case.verdict}", style=STYLES.get(case.verdict, ""))
    title.append(printable(f" ({case.reason})" if case.reason else ""))
    console.print(title)
    shown = [row for row in rows if everything or row.verdict != "same" or row.part == "total" or row.reason]
    if not shown:
        return
    judged: Basis = next((row.change.judged_by for row in rows if row.change), "the others")
    cells = [cell for cell in _cells(BASIS[judged]) if cell.in_narrow or console.width >= NARROW]
    table = _table([cell.heading for cell in cells], figures=sum(cell.figures for cell in cells))
    for row in shown:
        style = STYLES.get(row.verdict, "")
        table.add_row(*(Text(cell.read(row), style=style if cell.heading == "verdict" else "") for cell in cells))
    console.print(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """A column, and what stands in it."""

    heading: str
    read: Callable[[Row], str]
    figures: bool = True
    in_narrow: bool = True


def _cells(judged: str) -> tuple[_Cell, ...]:
    return (
        _Cell(heading="part", read=lambda row: row.part, figures=False),
        _Cell(heading="old median", read=lambda row: seconds(row.old_median_s), in_narrow=False),
        _Cell(heading="new median", read=lambda row: seconds(row.new_median_s), in_narrow=False),
        _Cell(heading="new/old", read=lambda row: _signed(row.change.time_new_over_old if row.change else None)),
        _Cell(heading=judged, read=_judged),
        _Cell(heading="99 % interval", read=_interval, in_narrow=False),
        _Cell(heading="could see", read=_could_see),
        _Cell(heading="verdict", read=lambda row: row.verdict, figures=False),
        # The noise stands in the column before.
        _Cell(heading="why", read=lambda row: row.reason.partition(": could only")[0], figures=False),
    )


def _judged(row: Row) -> str:
    return _signed(row.change.judged_time_new_over_old if row.change else None)


def _interval(row: Row) -> str:
    change = row.change
    if change is None or change.judged_low is None:
        return NOTHING
    return f"{_signed(change.judged_low)} to {_signed(change.judged_high)}"


def _could_see(row: Row) -> str:
    change = row.change
    return NOTHING if change is None or change.could_see_change is None else percent(change.could_see_change)


def _table(headings: Sequence[str], *, figures: int) -> Table:
    """Plain columns; the `figures` after the first are flush right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if 0 < number <= figures else "left", overflow="fold")
    return table


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _percent(row: Row) -> str:
    return "" if row.change is None else _signed(row.change.judged_time_new_over_old)


def _signed(ratio: float | None) -> str:
    return NOTHING if ratio is None else format_signed_percent(ratio - 1)
