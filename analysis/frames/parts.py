"""Every part and whole of every case, measured beside predicted, and how far the predictions are off.

Seconds, bytes and FLOPs; show/ rounds them. A case without a speed (failed, skipped, or wrong against the oracle) has
none in any frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pandas as pd

from analysis.frames.rows import Row, frame_of
from analysis.load import Case, Run
from bench.harness.record.interference import over_ranks
from bench.harness.record.names import FULL
from bench.harness.record.parts import COLUMNS, WHOLES, part_rows
from bench.harness.record.records import CaseResult
from tp.cost.theory import TheoryName
from tp.plan.ops import PARTS

# What must agree for two cases to be the same work; emulated times are never held against measured ones.
WORKLOAD: Final = (
    *("hardware", "backend", "block", "model", "phase", "batch", "seq", "context", "dtype", "emulated"),
    "network",
)
# What must agree for two cases to differ in strategy, chunks, degree and placement alone.
SCENARIO: Final = (*WORKLOAD, "recompute")
# In the parts frame after COLUMNS. `unpriced`: the parts that the estimate of a whole leaves out; `network`: what joins
# the nodes of the run, empty on one node and where nobody described it, with the one-way rate of a port.
EXTRA: Final = (
    "record",
    "hardware",
    "backend",
    "block",
    "recompute",
    "chunks",
    "emulated",
    "groups",
    "signed_error",
    "unpriced",
    "fastest_rank_s",
    "fastest_rank_low_s",
    "fastest_rank_high_s",
    "group_nodes",
    "network",
    "network_bytes_per_s",
)
ERROR_COLUMNS: Final = (
    "theory",
    "part",
    "cases",
    "median_signed_error",
    "median_abs_error",
    "mean_abs_error",
    "with_interval",
    "inside_interval",
    "extrapolated",
)


def parts_frame(runs: Sequence[Run], *, theory: TheoryName | None = None) -> pd.DataFrame:
    """One row a (case, part), COLUMNS and then EXTRA; `theory` is by default the best that was written down."""
    rows = [row for run in runs for case in run.cases for row in _part_rows(str(run.path), case, theory)]
    return frame_of(rows, [*COLUMNS, *EXTRA])


def _part_rows(record: str, case: Case, theory: TheoryName | None) -> Iterator[Row]:
    header, planned, status = case.header, case.planned, status_of(case.result)
    rows = case.rows if theory is None else part_rows(header, planned, case.result, theory=theory)
    unpriced = [row.part for row in rows if row.part in PARTS and row.estimate_s is None]
    collectives: set[str] = {op.part for op in planned.ops if op.op == "collective"}
    network = header.crossed
    for row in rows:
        if status != "ok":
            row = replace(row, status=status, measured_s=None, low_s=None, high_s=None, samples=0)
        # An emulated whole is part estimate: held against the same estimate it would look better than it is.
        derived = planned.emulated and row.part in ("serial", "total")
        quotient = None if derived else row.predicted_over_measured
        missing = _left_out(row.part, unpriced, collectives) if row.estimate_s is not None else []
        yield {name: getattr(row, name) for name in COLUMNS} | {
            "record": record,
            "hardware": header.hardware.name,
            "backend": header.backend,
            "block": planned.case.block,
            "recompute": planned.case.recompute,
            "chunks": planned.case.chunks,
            "emulated": planned.emulated,
            "groups": case.result.groups,
            "signed_error": None if quotient is None else quotient - 1,
            "unpriced": ", ".join(missing),
            "group_nodes": planned.case.nodes,
            "network": "" if network is None else network.name,
            "network_bytes_per_s": None if network is None else network.one_way_bytes_per_s,
            **(_fastest_rank(case.result) if row.part == "total" and status == "ok" and not derived else {}),
        }


def _fastest_rank(result: CaseResult) -> Row:
    """The full pass on the rank that was the first of each iteration."""
    full = next((each for each in result.samples if each.task == FULL), None)
    if full is None:
        return {}
    fastest = over_ranks(full).fastest
    return {
        "fastest_rank_s": fastest.median_s,
        "fastest_rank_low_s": fastest.low_s,
        "fastest_rank_high_s": fastest.high_s,
    }


def status_of(result: CaseResult) -> str:
    """The status of a case; one that is wrong against the oracle has failed, whatever else it says."""
    return "failed" if any(not check.passed for check in result.checks) else result.status


def _left_out(part: str, unpriced: Sequence[str], collectives: set[str]) -> list[str]:
    """The parts of the whole `part` that its estimate does not hold; a part itself leaves out nothing."""
    match part:
        case "compute":
            return [name for name in unpriced if name not in collectives]
        case "communication":
            return [name for name in unpriced if name in collectives]
        case "serial" | "total":
            return list(unpriced)
        case _:
            return []


def error_frame(parts: pd.DataFrame) -> pd.DataFrame:
    """How far the estimates are off, one row a (theory, part), over the comparable cases that have both figures.

    Errors are predicted / measured - 1; `inside_interval` is a share of `with_interval`, the rows that have one.
    """
    known = parts[parts["comparable"].astype(bool) & parts["signed_error"].notna()]
    rows = [_error_row(group) for _, group in known.groupby(["theory", "part"], sort=False)]
    ranks = {part: rank for rank, part in enumerate((*PARTS, *WHOLES))}
    rows.sort(key=lambda row: (row["theory"], ranks[row["part"]]))
    return frame_of(rows, ERROR_COLUMNS)


def _error_row(group: pd.DataFrame) -> Row:
    error = group["signed_error"]
    wide = group[group["estimate_low_s"] < group["estimate_high_s"]]
    inside = wide["measured_s"].between(wide["estimate_low_s"], wide["estimate_high_s"])
    return {
        "theory": group["theory"].iloc[0],
        "part": group["part"].iloc[0],
        "cases": len(group),
        "median_signed_error": error.median(),
        "median_abs_error": error.abs().median(),
        "mean_abs_error": error.abs().mean(),
        "with_interval": len(wide),
        "inside_interval": inside.mean() if len(wide) else None,
        "extrapolated": int(group["extrapolated"].sum()),
    }
