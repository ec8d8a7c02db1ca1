"""Matrix products as points of a roofline: FLOP a byte against the rate that was reached, alone and in layers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from analysis.frames.rows import Row, frame_of, rows_of
from analysis.load import Run
from bench.harness.record.interference import slowest
from tp.plan.ops import Gemm

# `roof`: the lesser of the data sheet's dense peak and its memory bandwidth times the intensity (Williams et al.
# 2009); empty where a sheet does not state them.
PRODUCT_COLUMNS: Final = (
    "record",
    "hardware",
    "measured_in",
    "case",
    "part",
    "tp",
    "dtype",
    "m",
    "n",
    "k",
    "flops",
    "bytes",
    "flops_per_byte",
    "measured_s",
    "flops_per_s",
    "peak_flops_per_s",
    "memory_bytes_per_s",
    "roof_flops_per_s",
    "rate_over_roof_ratio",
)
GEMM_PARTS: Final = ("qkv", "out", "up", "down")


def products_frame(runs: Sequence[Run], parts: pd.DataFrame) -> pd.DataFrame:
    """One row a product timed alone, and one a part of a measured case that is nothing but products."""
    rows = [row for run in runs for row in _alone(run)]
    by_record = {str(run.path): run for run in runs}
    timed = parts[parts["part"].isin(GEMM_PARTS) & parts["measured_s"].gt(0) & parts["comparable"].astype(bool)]
    rows += [_in_layer(row, by_record[row["record"]]) for row in rows_of(timed) if row["bytes"]]
    return frame_of(rows, PRODUCT_COLUMNS)


def _alone(run: Run) -> Iterator[Row]:
    for result in run.ops:
        op = result.op
        if isinstance(op, Gemm):
            seconds = slowest(result.samples).median_s
            sizes = {"m": op.m, "n": op.n, "k": op.k, "dtype": op.dtype, "tp": None}
            measured = {"flops": op.flops, "bytes": op.moved_bytes, "measured_s": seconds}
            place = {"record": str(run.path), "measured_in": "alone", "case": "", "part": op.part}
            yield _rated(place | sizes | measured, run)


def _in_layer(row: Mapping[Any, Any], run: Run) -> Row:
    """All products of a part together: those of one direction in prefill, of both in training."""
    names = ("record", "case", "part", "tp", "dtype", "flops", "bytes", "measured_s")
    return _rated({name: row[name] for name in names} | {"measured_in": "layer"}, run)


def _rated(row: Row, run: Run) -> Row:
    node = run.headers[0].hardware
    peak, memory = node.device.dense_peak(row["dtype"]), node.device.memory_bytes_per_s
    intensity, rate = row["flops"] / row["bytes"], row["flops"] / row["measured_s"]
    # A peak without a memory bandwidth is a roof all the same, only higher than it might be.
    roofs = [each for each in (peak and peak.flops_per_s, memory and memory * intensity) if each]
    return row | {
        "hardware": node.name,
        "flops_per_byte": intensity,
        "flops_per_s": rate,
        "peak_flops_per_s": peak and peak.flops_per_s,
        "memory_bytes_per_s": memory,
        "roof_flops_per_s": min(roofs, default=None),
        "rate_over_roof_ratio": rate / min(roofs) if roofs else None,
    }
