"""Efficiency against the rate of the link between nodes, and where splitting stops paying, as rows of text."""

from typing import Final

import pandas as pd

from analysis.frames.rates import panel
from analysis.frames.rows import gather, number, rows_of
from analysis.show.cells import link_rate, percent, percents, seconds, signed, span
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from analysis.show.words import MIN_SAMPLES, scenario_text, several_machines, strategy_text

# By answer what a table says in place of a rate, and a sentence.
_CELL_WORDS: Final = {"pays at every rate": "every rate", "pays at none": "none", "pays at some": "some rates"}
_WORDS: Final = {
    "pays at every rate": "at every rate",
    "pays at none": "at none",
    "pays at some": "at some rates, not at the fastest",
    "": "nobody knows where",
}


def show_rates(rates: pd.DataFrame) -> Display:
    """Efficiency against link rate, a group for each workload, degree and placement."""
    return _show(rates, _RATE_CELLS, _rate_notes(rates))


def show_crossings(crossings: pd.DataFrame) -> Display:
    """The rate from which splitting over nodes pays, a group for each workload, degree and placement."""
    notes = (
        "Splitting pays from the rate on at which TP n takes as long as TP 1, its efficiency 1/n: interpolated between "
        "the two measured rates around it, in logarithms of both. Predicted is the same of the estimates at these "
        "rates; error is predicted / measured - 1. The intervals are where the ends of the efficiencies' intervals "
        "cross.",
        "Balanced is the rate at which compute alone takes as long as communication alone, as measured.",
    )
    return _show(crossings, _CROSSING_CELLS, notes)


def panel_text(row: Cells, *, hardware: bool) -> str:
    """What the curves of a panel share: workload, degree and placement."""
    shared = scenario_text({**row, "network": "", "series": ""}, hardware=hardware)
    return f"{shared}, TP {row['tp']} over {row['group_nodes']} nodes"


def pays_text(row: Cells) -> str:
    """From which rate on a curve pays: from 486 Mbit/s on (predicted 470 Mbit/s)."""
    measured = _pays(row, "measured")
    if not row["estimate_answer"]:
        return measured
    both = row["measured_answer"] == row["estimate_answer"] == "crosses"
    expected = link_rate(row["estimate_crossing_bytes_per_s"]) if both else _pays(row, "estimate")
    return f"{measured} (predicted {expected})"


def _pays(row: Cells, kind: str) -> str:
    rate = link_rate(row[f"{kind}_crossing_bytes_per_s"])
    return _WORDS.get(row[f"{kind}_answer"], f"from {rate} on")


def _show(frame: pd.DataFrame, every: tuple[Cell, ...], notes: tuple[str, ...]) -> Display:
    rows, machines = rows_of(frame), several_machines(frame)
    cells = cells_in_use(every, rows)
    groups = [
        Group(
            title=panel_text(same[0], hardware=machines),
            rows=tuple(tuple(cell.read(row) for cell in cells) for row in same),
        )
        for same in gather(rows, panel).values()
    ]
    columns = tuple(cell.column for cell in cells)
    return Display(columns=columns, groups=tuple(groups), notes=notes if groups else ())


def _strategy(row: Cells) -> str:
    """The strategy with its chunks where they are one number; the title has the nodes."""
    return strategy_text({"chunks": 1, **row, "group_nodes": 1})


def _rate_marks(row: Cells) -> str:
    marks = [] if row["comparable"] else ["not comparable"]
    marks += [f"{row['samples']} samples"] if 0 < row["samples"] < MIN_SAMPLES else []
    marks += ["extrapolated"] if row["extrapolated"] else []
    marks += [f"predicted without {row['unpriced']}"] if row["unpriced"] else []
    return ", ".join(marks)


def _crossing(row: Cells, kind: str) -> str:
    answer = row[f"{kind}_answer"]
    return link_rate(row[f"{kind}_crossing_bytes_per_s"]) if answer == "crosses" else _CELL_WORDS.get(answer, NOTHING)


def _ends(row: Cells, kind: str) -> str:
    """Both ends of a crossing; an end beyond the measured rates is told by the last of them."""
    low, high = (number(row[f"{kind}_crossing_{end}_bytes_per_s"]) for end in ("low", "high"))
    if row[f"{kind}_answer"] != "crosses" or (low is not None and low == high):
        return NOTHING
    start = f"under {link_rate(row['slowest_bytes_per_s'])}" if low is None else link_rate(low)
    end = f"over {link_rate(row['fastest_bytes_per_s'])}" if high is None else link_rate(high)
    return span(start, end)


_RATE_CELLS: Final = (
    Cell(heading="strategy", read=_strategy, figures=False),
    Cell(heading="link", read=lambda row: row["network"], figures=False),
    Cell(heading="rate", read=lambda row: link_rate(row["network_bytes_per_s"])),
    Cell(heading="total", read=lambda row: seconds(row["measured_total_s"])),
    Cell(heading="at TP 1", read=lambda row: seconds(row["measured_tp1_total_s"])),
    Cell(heading="efficiency", read=lambda row: percent(row["measured_efficiency"])),
    Cell(
        heading="its interval",
        read=lambda row: percents(row["measured_low_efficiency"], row["measured_high_efficiency"]),
    ),
    Cell(heading="predicted total", read=lambda row: seconds(row["estimate_total_s"])),
    Cell(heading="predicted at TP 1", read=lambda row: seconds(row["estimate_tp1_total_s"])),
    Cell(heading="predicted efficiency", read=lambda row: percent(row["estimate_efficiency"])),
    Cell(
        heading="predicted interval",
        read=lambda row: percents(row["estimate_low_efficiency"], row["estimate_high_efficiency"]),
    ),
    Cell(heading="error of total", read=lambda row: signed(row["signed_error"])),
    Cell(heading="marks", read=_rate_marks, figures=False, may_go=True),
)
_CROSSING_CELLS: Final = (
    Cell(heading="strategy", read=_strategy, figures=False),
    Cell(heading="pays from", read=lambda row: _crossing(row, "measured")),
    Cell(heading="its interval", read=lambda row: _ends(row, "measured")),
    Cell(heading="predicted", read=lambda row: _crossing(row, "estimate")),
    Cell(heading="predicted interval", read=lambda row: _ends(row, "estimate")),
    Cell(heading="error", read=lambda row: signed(row["signed_error"])),
    Cell(heading="balanced", read=lambda row: link_rate(row["balanced_bytes_per_s"])),
    Cell(heading="rates", read=lambda row: str(row["rates"])),
    Cell(heading="slowest", read=lambda row: link_rate(row["slowest_bytes_per_s"])),
    Cell(heading="fastest", read=lambda row: link_rate(row["fastest_bytes_per_s"])),
    Cell(heading="marks", read=lambda row: "" if row["comparable"] else "not comparable", figures=False, may_go=True),
)


def _rate_notes(rates: pd.DataFrame) -> tuple[str, ...]:
    notes = (
        "Efficiency is T(1) / (n T(n)), both of one run over one link: at 1/n, TP n is no faster than TP 1. Its ends "
        "are those of both totals put against each other, wider than the totals' own intervals.",
        "The rate is that of one port one way, as described. Error is predicted / measured - 1 of the total.",
    )
    if rates["samples"].between(1, MIN_SAMPLES - 1).any():
        return (*notes, f"Under {MIN_SAMPLES} samples an interval rests on extremes, and holds less than 95 %.")
    return notes
