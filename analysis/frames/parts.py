"""The tables of a report as frames: seconds, bytes and FLOPs, one row what its name says; show/ shows them.

A case without a speed (failed, skipped, or wrong against the oracle) has none in any of them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any, Final, TypeVar

import pandas as pd

from analysis.load import Case, Run
from bench.harness.record.interference import over_ranks
from bench.harness.record.names import FULL
from bench.harness.record.parts import COLUMNS, WHOLES, part_rows
from bench.harness.record.records import CaseResult
from tp.cost.theory import TheoryName
from tp.plan.ops import PARTS

# What must agree for two cases to be the same work; emulated times are never held against measured ones.
WORKLOAD: Final = ("hardware", "backend", "block", "model", "phase", "batch", "seq", "context", "dtype", "emulated")
# What must agree for two cases to differ in strategy, chunks and degree alone.
SCENARIO: Final = (*WORKLOAD, "recompute")
# In the parts frame after COLUMNS. `unpriced`: the parts that the estimate of a whole leaves out.
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
# `series` is the record file where several hold the same case, and empty otherwise.
SCALING_COLUMNS: Final = (
    *SCENARIO,
    "series",
    "strategy",
    "chunks",
    "tp",
    "measured_total_s",
    "measured_total_low_s",
    "measured_total_high_s",
    "measured_total_fastest_rank_s",
    "measured_total_fastest_rank_low_s",
    "measured_total_fastest_rank_high_s",
    "samples",
    "measured_compute_s",
    "measured_communication_s",
    "measured_exposed_s",
    "measured_hidden_s",
    "measured_speedup_over_tp1",
    "measured_efficiency",
    "theory",
    "estimate_total_s",
    "estimate_total_low_s",
    "estimate_total_high_s",
    "estimate_compute_s",
    "estimate_communication_s",
    "estimate_exposed_s",
    "estimate_hidden_s",
    "estimate_speedup_over_tp1",
    "estimate_efficiency",
    "extrapolated",
    "unpriced",
    "groups",
    "comparable",
    "record",
    "case",
)

# How columns of figures that may be missing end, and the others of them.
_UNITS: Final = (
    "_s",
    "_tp1",
    "_efficiency",
    "_share",
    "_ratio",
    "_change",
    "_slowdown",
    "_percent",
    "_w",
    "_mhz",
    "_c",
)
_FLOATS: Final = ("signed_error", "inside_interval", "value", "limit", "total_over_shortest")
# Whole numbers that may be missing.
_COUNTS: Final = ("_predicted_bytes", "_observed_bytes")

Row = dict[str, Any]
R = TypeVar("R", bound=Mapping[Any, Any])


def frame_of(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a frame whose figures are floats, NaN where there is none, even if there is none at all."""
    frame = pd.DataFrame(rows, columns=list(columns))
    figures = [name for name in columns if name.endswith(_UNITS) or name in _FLOATS]
    counts = [name for name in columns if name.endswith(_COUNTS)]
    return frame.astype(dict.fromkeys(figures, "float64") | dict.fromkeys(counts, "Int64"))


def parts_frame(runs: Sequence[Run], *, theory: TheoryName | None = None) -> pd.DataFrame:
    """One row a (case, part), COLUMNS and then EXTRA; `theory` is by default the best that was written down."""
    rows = [row for run in runs for case in run.cases for row in _part_rows(str(run.path), case, theory)]
    return frame_of(rows, [*COLUMNS, *EXTRA])


def _part_rows(record: str, case: Case, theory: TheoryName | None) -> Iterator[Row]:
    header, planned, status = case.header, case.planned, status_of(case.result)
    rows = case.rows if theory is None else part_rows(header, planned, case.result, theory=theory)
    unpriced = [row.part for row in rows if row.part in PARTS and row.estimate_s is None]
    collectives: set[str] = {op.part for op in planned.ops if op.op == "collective"}
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


def scaling_frame(parts: pd.DataFrame) -> pd.DataFrame:
    """Time against TP degree, one row a case that has a speed, in `SCALING_COLUMNS`.

    Speed-up is the total at TP 1 over the total here, of the same strategy where it was measured at TP 1 and else of
    the fastest one there, since at TP 1 all compute the same; efficiency is speed-up / TP.
    """
    ok = rows_of(parts[parts["status"] == "ok"])
    rows = [_scaling_row(case) for case in gather(ok, lambda row: (row["record"], row["case"])).values()]
    rows = [row for row in rows if row["measured_total_s"] is not None]
    _name_series(rows)
    bases = gather((row for row in rows if row["tp"] == 1), scenario)
    for row in rows:
        _compare_with_tp1(row, bases.get(scenario(row), []))
    order = appearance(scenario(row) for row in rows)
    strategies = appearance(row["strategy"] for row in rows)
    rows.sort(key=lambda row: (order[scenario(row)], strategies[row["strategy"]], row["tp"], row["chunks"]))
    return frame_of(rows, SCALING_COLUMNS)


def rows_of(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows as dicts; pandas' own way takes strings out of Arrow one by one, ten times as slow."""
    strings = (str, object)
    columns = [
        values.to_numpy(dtype=object).tolist() if values.dtype in strings else values.tolist()
        for _, values in frame.items()
    ]
    names = list(frame.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def gather(rows: Iterable[R], key: Callable[[R], Hashable]) -> dict[Hashable, list[R]]:
    """The rows by what they have in common, in the order in which they come; a frame's own groups are far slower."""
    found: dict[Hashable, list[R]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def scenario(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What a scaling row shares with those it is compared with: everything but strategy, chunks and degree."""
    return (*(row[name] for name in SCENARIO), row["series"])


def workload(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What the rows of all strategies share: a scenario but for recomputation."""
    return (*(row[name] for name in WORKLOAD), row["series"])


def _scaling_row(rows: Sequence[Mapping[Any, Any]]) -> Row:
    by_part = {row["part"]: row for row in rows}
    total = by_part["total"]
    row = {name: total[name] for name in SCALING_COLUMNS if name in total}
    for name in ("total", "compute", "communication"):
        for kind in ("measured", "estimate"):
            row[f"{kind}_{name}_s"] = number(by_part.get(name, {}).get(f"{kind}_s"))
    for kind in ("measured", "estimate"):
        row |= _exposed_and_hidden(row, kind)
    for side in ("low", "high"):
        row[f"measured_total_{side}_s"] = number(total[f"{side}_s"])
        row[f"estimate_total_{side}_s"] = number(total[f"estimate_{side}_s"])
    for end in ("", "_low", "_high"):
        row[f"measured_total_fastest_rank{end}_s"] = number(total[f"fastest_rank{end}_s"])
    return row | {"series": ""}


def _exposed_and_hidden(row: Row, kind: str) -> Row:
    """Exposed is total - compute, hidden what is left of communication run alone; neither is below zero.

    Both are derived, from times that were taken alone.
    """
    total, compute, sending = (row[f"{kind}_{name}_s"] for name in ("total", "compute", "communication"))
    if total is None or compute is None:
        return {f"{kind}_exposed_s": None, f"{kind}_hidden_s": None}
    exposed = max(total - compute, 0.0)
    hidden = None if sending is None else max(sending - exposed, 0.0)
    return {f"{kind}_exposed_s": exposed, f"{kind}_hidden_s": hidden}


def _name_series(rows: Sequence[Row]) -> None:
    """Tell apart by their record file the rows of a workload of which two files hold the same case."""
    doubled = set()
    seen = set()
    for row in rows:
        case = (scenario(row), row["strategy"], row["chunks"], row["tp"])
        if case in seen:
            doubled.add(workload(row))
        seen.add(case)
    for row in rows:
        if workload(row) in doubled:
            row["series"] = row["record"]


def _compare_with_tp1(row: Row, bases: Sequence[Row]) -> None:
    own = [base for base in bases if base["strategy"] == row["strategy"]]
    for kind in ("measured", "estimate"):
        totals = [base[f"{kind}_total_s"] for base in own or bases if base[f"{kind}_total_s"]]
        here = row[f"{kind}_total_s"]
        speedup = min(totals) / here if totals and here else None
        row[f"{kind}_speedup_over_tp1"] = speedup
        row[f"{kind}_efficiency"] = None if speedup is None else speedup / row["tp"]


def appearance(values: Iterable[Any]) -> dict[Any, int]:
    """The rank of each value by where it comes first."""
    return {value: rank for rank, value in enumerate(dict.fromkeys(values))}


def number(value: Any) -> float | None:
    """A cell of a frame: None where it is empty."""
    return None if value is None or isnan(value) else float(value)
