"""What of skew, spread and throttling is large enough to be told in words, with its number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from analysis.frames.rows import number, rows_of
from analysis.show.cells import percent, seconds

# Of a pass: less than this of skew, or between ranks, is what hosts do anyway.
WORTH_TELLING: Final = 0.1

Cells = Mapping[Any, Any]


def trust_warnings(frames: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """A sentence on the worst of each kind, and how many cases there are of it."""
    return tuple(_warnings(frames))


def _warnings(frames: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    totals = {(row["record"], row["case"]): row["measured_total_s"] for row in rows_of(frames["scaling"])}

    def share_of_pass(row: Cells) -> float:
        total = totals.get((row["record"], row["case"]))
        return row["skew_s"] / total if total else 0.0

    # Passes of nothing but communication begin together: what skews them is the harness.
    arrivals = [row for row in rows_of(frames["arrivals"]) if row["case"] and row["measured_in"] == "the whole case"]
    for row, others in _worst(arrivals, share_of_pass):
        yield (
            f"Ranks arrive {seconds(row['skew_s'])} apart at {row['collective']} of {row['case']}, "
            f"{percent(share_of_pass(row))} of a pass; rank {row['last_rank']:.0f} is the last in "
            f"{percent(row['last_share'])} of them{others}."
        )
    spread = rows_of(frames["ranks"])
    for row, others in _worst(spread, lambda row: number(row["spread_share"]) or 0.0):
        yield (
            f"The slowest and the fastest rank of {row['case']} ({row['whole']}) differ by {seconds(row['spread_s'])}, "
            f"{percent(row['spread_share'])} of the slowest{others}."
        )
    throttled = [row for row in rows_of(frames["state"]) if row["rounds"]]
    for row, others in _worst(throttled, lambda row: row["marked_rounds"] / row["rounds"]):
        yield (
            f"Rank {row['rank']} was held back or disturbed in {row['marked_rounds']} of {row['rounds']} rounds: "
            f"{row['marks']}, for example {row['mark_example']}{others}."
        )


def _worst(rows: Sequence[Cells], badness: Callable[[Cells], float]) -> Iterator[tuple[Cells, str]]:
    """The worst row where it is worth telling, and of how many others the same could be said."""
    found = [row for row in rows if badness(row) > WORTH_TELLING]
    if found:
        others = f"; {len(found) - 1} more in the tables below" if len(found) > 1 else ""
        yield max(found, key=badness), others
