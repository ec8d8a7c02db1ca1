"""What came of the cases but speed: their checks against the oracle, and what was not measured and why."""

from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

import pandas as pd

from analysis.frames.parts import status_of
from analysis.frames.rows import Row, frame_of
from analysis.load import Run
from bench.harness.record.records import CaseResult, CheckResult

CHECK_COLUMNS: Final = (
    "record",
    "case",
    "tensors",
    "passed",
    "worst_tensor",
    "figure",
    "value",
    "limit",
    "value_over_limit",
)
UNMEASURED_COLUMNS: Final = ("record", "case", "status", "reason")


def checks_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a checked case: of all its tensors' errors and gains the one nearest to its limit, or furthest over."""
    rows = [
        {"record": str(run.path), "case": case.result.key, "tensors": len(case.result.checks)} | _worst(case.result)
        for run in runs
        for case in run.cases
        if case.result.checks
    ]
    return frame_of(rows, CHECK_COLUMNS)


def _worst(result: CaseResult) -> Row:
    figures = [figure for check in result.checks for figure in _figures(check)]
    worst = max(figures, key=lambda row: row["value_over_limit"])
    return worst | {"tensors": len(result.checks), "passed": all(check.passed for check in result.checks)}


def _figures(check: CheckResult) -> Iterator[Row]:
    """The error and the gain of a tensor over their limits; what is not a number is infinitely far over."""
    for figure, value, limit in (
        ("error", check.error, check.error_limit),
        ("gain", check.gain, check.gain_limit),
    ):
        over = inf if value is None or limit <= 0 else abs(value) / limit
        yield {
            "worst_tensor": check.tensor,
            "figure": figure,
            "value": value,
            "limit": limit,
            "value_over_limit": over,
        }


def unmeasured_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The cases and ops without a speed and why: failed, skipped, and planned but never ended."""
    rows = []
    for run in runs:
        for case in run.cases:
            status = status_of(case.result)
            if status != "ok":
                reason = case.result.reason or _wrong(case.result)
                rows.append({"record": str(run.path), "case": case.result.key, "status": status, "reason": reason})
        for key in run.unfinished:
            reason = "the run ended before the case did"
            rows.append({"record": str(run.path), "case": key, "status": "unfinished", "reason": reason})
        for line in run.failed_ops:
            name = f"{line.op.part} {line.op.op} alone"
            rows.append({"record": str(run.path), "case": name, "status": "failed", "reason": line.reason})
    return frame_of(rows, UNMEASURED_COLUMNS)


def _wrong(result: CaseResult) -> str:
    names = [check.tensor for check in result.checks if not check.passed]
    return f"wrong against the oracle: {', '.join(names)}" if names else "no reason was recorded"
