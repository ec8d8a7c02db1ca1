"""How far the measurements can be trusted, as rows of text for people: the worst first, the rest in the CSV files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.frames.rows import number, rows_of
from analysis.frames.state import COUNTERS
from analysis.show.cells import interval, percent, seconds, signed, size
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from tp.units import significant

MAX_ROWS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A table of the section under its title, and what to say where it is empty."""

    title: str
    shown: Display
    empty: str


def show_trust(frames: dict[str, pd.DataFrame]) -> tuple[Trust, ...]:
    """The tables of ranks, arrivals, planted delays, contention, traffic and the machine's state, in this order."""
    arrivals = rows_of(frames["arrivals"])
    planted = [row for row in arrivals if number(row["delayed_skew_s"]) is not None]
    return (
        _table("Ranks: the slowest and the fastest", "ranks", rows_of(frames["ranks"]), _RANKS, _spread),
        _table("Arrivals at collectives", "arrivals", _worst_of_each(arrivals), _ARRIVALS, lambda row: row["skew_s"]),
        _table("Control: one rank late on purpose", "arrivals", _first_of_each(planted), _CONTROL, _moved),
        _table("Contention", "contention", rows_of(frames["contention"]), _CONTENTION, _slowdown),
        _table("Bytes on the wire", "traffic", rows_of(frames["traffic"]), _TRAFFIC, _off_plan),
        _table("The machine's state", "state", rows_of(frames["state"]), _STATE, _disturbed),
    )


def _table(
    title: str, name: str, rows: Sequence[Cells], cells: Sequence[Cell], badness: Callable[[Cells], float]
) -> Trust:
    ranked = sorted(rows, key=lambda row: -_or_zero(badness(row)))[:MAX_ROWS]
    used = cells_in_use((_case_cell(rows), *cells), ranked)
    text = tuple(tuple(cell.read(row) for cell in used) for row in ranked)
    count = f"Shown are the {len(text)} worst of {len(rows)}; all" if len(rows) > len(text) else "All"
    notes = (*_NOTES[title], f"{count} that was recorded stands in {name}.csv.") if text else ()
    columns = tuple(cell.column for cell in used)
    return Trust(
        title=title,
        shown=Display(columns=columns, groups=(Group(rows=text),) if text else (), notes=notes),
        empty=_EMPTY[title],
    )


def _case_cell(rows: Sequence[Cells]) -> Cell:
    """Names the record file where there are several."""
    several = len({row["record"] for row in rows}) > 1
    return Cell(
        heading="case",
        read=lambda row: _case_text(row) + (f" ({Path(row['record']).name})" if several else ""),
        figures=False,
    )


def _case_text(row: Cells) -> str:
    if "cases" not in row:
        return row["case"] or "an op alone"
    first, *others = row["cases"].split(" ") if row["cases"] else ["ops alone"]
    return f"{first} and {len(others)} more" if others else first


def _worst_of_each(rows: Iterable[Cells]) -> list[Cells]:
    """Of the collectives of a case, measured in the same kind of pass, the one with the largest skew."""
    worst: dict[tuple[Any, ...], Cells] = {}
    for row in rows:
        place = _place(row)
        if place not in worst or row["skew_s"] > worst[place]["skew_s"]:
            worst[place] = row
    return list(worst.values())


def _first_of_each(rows: Iterable[Cells]) -> list[Cells]:
    """A planted delay is before the pass, so that the first collective meets it."""
    first: dict[tuple[Any, ...], Cells] = {}
    for row in rows:
        first.setdefault(_place(row), row)
    return list(first.values())


def _place(row: Cells) -> tuple[Any, ...]:
    return (row["record"], row["case"], row["measured_in"], "" if row["case"] else row["collective"])


def _or_zero(value: Any) -> float:
    known = number(value)
    return 0.0 if known is None else known


def _spread(row: Cells) -> float:
    return _or_zero(row["spread_share"])


def _moved(row: Cells) -> float:
    return abs(_or_zero(row["transfer_change"]))


def _slowdown(row: Cells) -> float:
    return max(_or_zero(row["compute_slowdown"]), _or_zero(row["communication_slowdown"]))


def _off_plan(row: Cells) -> float:
    ratio = number(row["seen_over_planned_ratio"])
    return 0.0 if ratio is None else abs(ratio - 1)


def _disturbed(row: Cells) -> float:
    """By the share of its rounds that are marked; among those alike, by all that counters rose."""
    rounds = row["marked_rounds"] / row["rounds"] if row["rounds"] else 0.0
    held_s = sum(_or_zero(row[f"{name}_rise_s"]) for name, _, _ in COUNTERS)
    lasted_s = _or_zero(row["lasted_s"])
    return float(rounds + (min(held_s / lasted_s, 1.0) * 1e-3 if lasted_s > 0 else 0.0))


def _seconds(name: str) -> Callable[[Cells], str]:
    return lambda row: seconds(row[name])


def _change(name: str) -> Callable[[Cells], str]:
    """A slow-down of 1.25 as +25.0 %."""
    return lambda row: signed(None if number(row[name]) is None else row[name] - 1)


def _range(name: str, unit: str, sign: str) -> Callable[[Cells], str]:
    def read(row: Cells) -> str:
        low, high = number(row[f"{name}_min_{unit}"]), number(row[f"{name}_max_{unit}"])
        if low is None or high is None:
            return NOTHING
        return f"{low:.0f} {sign}" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} – {high:.0f} {sign}"

    return read


def _watts(row: Cells) -> str:
    power = number(row["mean_power_w"])
    return NOTHING if power is None else f"{significant(power)} W"


def _text(name: str) -> Callable[[Cells], str]:
    return lambda row: str(row[name]) or NOTHING


def _early(row: Cells) -> str:
    return percent(row["early_share"]) if _or_zero(row["early_share"]) else NOTHING


def _sampled(row: Cells) -> str:
    return f"{row['samples']}, by {row['stopped_by']}"


_RANKS: Final = (
    Cell(heading="pass", read=_text("whole"), figures=False),
    Cell(heading="slowest rank", read=_seconds("slowest_s")),
    Cell(heading="95 % interval", read=lambda row: interval(row["slowest_low_s"], row["slowest_high_s"])),
    Cell(heading="fastest rank", read=_seconds("fastest_s")),
    Cell(heading="they differ by", read=_seconds("spread_s")),
    Cell(heading="of the slowest", read=lambda row: percent(row["spread_share"])),
    Cell(heading="samples, ended", read=_sampled, figures=False),
    Cell(heading="host-bound", read=lambda row: str(row["host_bound"] or NOTHING), may_go=True),
    Cell(heading="warm-up rounds", read=_text("warmup_rounds")),
)
_ARRIVALS: Final = (
    Cell(heading="collective", read=_text("collective"), figures=False),
    Cell(heading="measured in", read=_text("measured_in"), figures=False),
    Cell(heading="skew", read=_seconds("skew_s")),
    Cell(heading="95th percentile", read=_seconds("skew_p95_s")),
    Cell(heading="transfer", read=_seconds("transfer_s")),
    Cell(heading="95 % interval", read=lambda row: interval(row["transfer_low_s"], row["transfer_high_s"])),
    Cell(
        heading="last most often",
        read=lambda row: f"rank {row['last_rank']:.0f}, in {percent(row['last_share'])}",
        figures=False,
    ),
    Cell(heading="done early", read=_early, may_go=True),
    Cell(heading="samples", read=_text("samples")),
)
_CONTROL: Final = (
    Cell(heading="collective", read=_text("collective"), figures=False),
    Cell(heading="measured in", read=_text("measured_in"), figures=False),
    Cell(heading="planted", read=_seconds("planted_s")),
    Cell(heading="on", read=lambda row: f"rank {row['delayed_rank']:.0f}", figures=False),
    Cell(heading="skew", read=_seconds("skew_s")),
    Cell(heading="becomes", read=_seconds("delayed_skew_s")),
    Cell(heading="transfer", read=_seconds("transfer_s")),
    Cell(heading="becomes", read=_seconds("delayed_transfer_s")),
    Cell(heading="moved by", read=lambda row: signed(row["transfer_change"])),
)
_CONTENTION: Final = (
    Cell(heading="compute alone", read=_seconds("compute_s")),
    Cell(heading="contended", read=_seconds("contended_compute_s")),
    Cell(heading="slow-down", read=_change("compute_slowdown")),
    Cell(heading="communication alone", read=_seconds("communication_s")),
    Cell(heading="contended", read=_seconds("contended_communication_s")),
    Cell(heading="slow-down", read=_change("communication_slowdown")),
    Cell(heading="full", read=_seconds("full_s")),
    Cell(heading="overlap (IMB-NBC)", read=lambda row: f"{row['overlap_percent']:.0f} %"),
    Cell(heading="exposed (derived)", read=_seconds("exposed_s")),
    Cell(heading="uncovered passes", read=lambda row: str(row["uncovered"] or NOTHING), may_go=True),
)
_TRAFFIC: Final = (
    Cell(heading="host", read=_text("host"), figures=False),
    Cell(heading="device", read=_text("device"), figures=False),
    Cell(heading="seen a rank and pass", read=lambda row: size(row["seen_per_rank_and_pass_bytes"])),
    Cell(heading="planned", read=lambda row: size(row["planned_per_rank_and_pass_bytes"])),
    Cell(
        heading="all devices / planned",
        read=lambda row: (
            NOTHING if number(row["seen_over_planned_ratio"]) is None else f"{row['seen_over_planned_ratio']:.3f}"
        ),
    ),
    Cell(heading="unread", read=_text("unread"), figures=False, may_go=True),
)
_STATE: Final = (
    Cell(heading="rank", read=_text("rank")),
    Cell(heading="lasted", read=_seconds("lasted_s")),
    Cell(heading="power", read=_range("power", "w", "W"), may_go=True),
    Cell(heading="mean, by energy", read=_watts, may_go=True),
    Cell(heading="SM clock", read=_range("sm_clock", "mhz", "MHz"), may_go=True),
    Cell(heading="temperature", read=_range("temperature", "c", "C"), may_go=True),
    Cell(heading="CPU frequency", read=_range("cpu_frequency", "mhz", "MHz"), may_go=True),
    *(
        Cell(heading=f"{name.replace('_', ' ')} for", read=_seconds(f"{name}_rise_s"), may_go=True)
        for name, _, _ in COUNTERS
    ),
    Cell(heading="marked rounds", read=lambda row: f"{row['marked_rounds']} of {row['rounds']}"),
    Cell(heading="marks", read=_text("marks"), figures=False, may_go=True),
    Cell(heading="for example", read=_text("mark_example"), figures=False, may_go=True),
    Cell(heading="unread", read=_text("unread"), figures=False, may_go=True),
)
_EMPTY: Final = {
    "Ranks: the slowest and the fastest": "No case has a time.",
    "Arrivals at collectives": "Not recorded: nothing was sent, or when ranks began, which records tell from version "
    "3 on.",
    "Control: one rank late on purpose": "Not recorded: no delay was planted (--plant-delay).",
    "Contention": "Not recorded: nothing was sent while something was computed, or the records are older than "
    "version 3.",
    "Bytes on the wire": "Not recorded: nothing was sent, or no counter was asked.",
    "The machine's state": "Not recorded: records tell the machine's state from version 3 on.",
}
_NOTES: Final[dict[str, tuple[str, ...]]] = {
    "Ranks: the slowest and the fastest": (
        "Of each pass the slowest and the fastest rank, then medians; they differ by the median of the difference. "
        "Target: the interval came to its target precision. Rounds, seconds: sampling ended at its cap.",
    ),
    "Arrivals at collectives": (
        "On clocks aligned with that of rank 0: skew is the latest arrival less the earliest, transfer the latest end "
        "less the latest arrival. Of the collectives of a case the one with the largest skew is shown.",
        "Done early: passes in which a rank was done before the last one came. What was timed is then the wait for a "
        "collective that was sent before, so that skew and transfer are those of the waits.",
    ),
    "Control: one rank late on purpose": (
        "Skew must grow by what was planted while transfer stays; what transfer moves by is the error of telling the "
        "two apart. Shown is the first collective of a pass, which meets the delay.",
    ),
    "Contention": (
        "Overlap is 100 max(0, min(1, (Tm + Tc - To) / min(Tm, Tc))), of communication alone, compute alone and full "
        "(Intel MPI Benchmarks, IMB-NBC). Exposed is full less compute alone: derived, not measured. Uncovered passes "
        "outlasted what ran beside them, so that their slow-down is a lower bound.",
    ),
    "Bytes on the wire": (
        "By the counters of network devices and NVLinks around a block of passes, beside the plan of one rank's pass.",
    ),
    "The machine's state": (
        "Lowest and highest of what was read once a block of samples. Limits are for how long they held clocks down, "
        "steal the CPU time that the hypervisor gave to others. A GPU at its power limit is in its normal state. A "
        "dash is a value that was not read or asked for, never a zero.",
    ),
}
