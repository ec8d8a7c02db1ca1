"""Collectives timed alone, ours and those of nccl-tests' tables, as a frame: bandwidth, its fit, the link's claim."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from analysis.fitting.rows import stack, too_few
from analysis.fitting.size import fit_size
from analysis.frames.rows import Row, frame_of
from analysis.load import Run
from analysis.measured.op import placed
from bench.harness.record.interference import slowest
from bench.harness.record.parts import PREFERENCE
from bench.harness.record.records import Header, OpResult
from tp import catalogue
from tp.hardware import Node, load_node
from tp.plan.ops import COLLECTIVE_KINDS, Collective, bus_factor

# `busbw` as in nccl-tests (doc/PERFORMANCE.md), by the slowest rank; `fit`: two regimes through the sizes of a curve,
# without what interpolates between them; `claimed`: one way, by the data sheet of the link within a node.
COLLECTIVE_COLUMNS: Final = (
    "record",
    "hardware",
    "backend",
    "link",
    "nodes",
    "collective",
    "ranks",
    "placement",
    "dtype",
    "size_bytes",
    "samples",
    "measured_s",
    "low_s",
    "high_s",
    "algbw_bytes_per_s",
    "busbw_bytes_per_s",
    "fit_busbw_bytes_per_s",
    "theory",
    "estimate_s",
    "signed_error",
    "claimed_bytes_per_s",
    "busbw_over_claimed_ratio",
    "reduces_in_switch",
    "comparable",
    "wrong",
)
# What a curve over sizes has in common.
CURVE: Final = ("record", "hardware", "backend", "nodes", "collective", "ranks", "placement", "dtype")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTable:
    """A CSV table of collectives, as `import nccl-tests` writes it."""

    path: Path
    rows: pd.DataFrame


def collectives_frame(runs: Sequence[Run], tables: Sequence[LogTable] = ()) -> pd.DataFrame:
    """One row a collective timed alone, in `COLLECTIVE_COLUMNS`, sizes of a curve ascending."""
    rows = [row for run in runs for row in _of_run(run)]
    rows += [row for table in tables for row in _of_table(table)]
    frame = frame_of(rows, COLLECTIVE_COLUMNS).sort_values([*CURVE, "size_bytes"], kind="stable", ignore_index=True)
    for _, curve in frame.groupby(list(CURVE), sort=False):
        frame.loc[curve.index, "fit_busbw_bytes_per_s"] = _fitted(curve)
    return frame


def right_ones(collectives: pd.DataFrame) -> pd.DataFrame:
    """Those whose results nobody found wrong: how fast the others were says nothing."""
    return collectives[collectives["wrong"].isin(("", "0"))]


def _of_run(run: Run) -> Iterator[Row]:
    header = run.headers[0]
    for result in run.ops:
        op = placed(run, result.op)
        if isinstance(op, Collective) and op.num_ranks > 1:
            yield _op_row(run, header, result, op)


def _op_row(run: Run, header: Header, result: OpResult, op: Collective) -> Row:
    times = slowest(result.samples)
    theory = next((name for name in PREFERENCE if name in result.estimates), None)
    expected = None if theory is None else result.estimates[theory].seconds
    rates = _rates(op.kind, op.num_ranks, op.size_bytes, times.median_s)
    return {
        "record": str(run.path),
        "backend": op.backend,
        "nodes": op.num_nodes,
        "collective": op.kind,
        "ranks": op.num_ranks,
        "placement": "",
        "dtype": op.dtype,
        "samples": times.num_samples,
        "low_s": times.low_s,
        "high_s": times.high_s,
        "theory": theory or "",
        "estimate_s": expected,
        "signed_error": None if expected is None else expected / times.median_s - 1,
        "comparable": header.oversubscribed is None,
        "wrong": "",
        **rates,
        **_claim(header.hardware, op.kind, rates["busbw_bytes_per_s"], nodes=op.num_nodes),
    }


def _of_table(table: LogTable) -> Iterator[Row]:
    known = set(catalogue.names("hardware")) & set(table.rows["hardware"].astype(str))
    described = {name: load_node(name) for name in known}
    for row in table.rows.to_dict("records"):
        kind, ranks, nodes = row["collective"], int(row["gpus"]), int(row["nodes"])
        if kind not in COLLECTIVE_KINDS or ranks < 2:
            continue
        name, size, seconds = str(row["hardware"]), int(row["bytes"]), float(row["time_us"]) * 1e-6
        rates = _rates(kind, ranks, size, seconds)
        claim = _claim(described.get(name), kind, rates["busbw_bytes_per_s"], nodes=nodes, name=_word(row.get("link")))
        yield {
            "record": str(table.path),
            "backend": "rccl" if str(row.get("library", "")).lower().startswith("rccl") else "nccl",
            "nodes": nodes,
            "collective": kind,
            "ranks": ranks,
            "placement": _word(row.get("placement")).replace("_", " "),
            "samples": 0,
            "theory": "",
            "comparable": True,
            "wrong": _wrong(row.get("wrong")),
            "dtype": _word(row.get("type")),
            **rates,
            **(claim | {"hardware": name}),
        }


def _word(value: object) -> str:
    """A field of a table, nothing where it is empty."""
    return "" if value is None or value != value else str(value)


def _wrong(value: object) -> str:
    """How many results were wrong; below one it is the largest error of a sum, as tests of before 2022 print it."""
    word = _word(value)
    return "" if not word else f"{int(float(word))}"


def _rates(kind: str, ranks: int, size_bytes: int, seconds: float) -> Row:
    return {
        "size_bytes": size_bytes,
        "measured_s": seconds,
        "algbw_bytes_per_s": size_bytes / seconds,
        "busbw_bytes_per_s": size_bytes / seconds * bus_factor(kind, ranks),  # type: ignore[arg-type]
    }


def _claim(node: Node | None, kind: str, busbw: float, *, nodes: int, name: str = "") -> Row:
    """What the link of a node is said to carry one way; between nodes nothing here states it."""
    if node is None:
        return {"hardware": "", "link": "", "claimed_bytes_per_s": None, "reduces_in_switch": False}
    link = node.link() if not name else next((each for each in node.links if each.name == name), None)
    if link is None:
        return {"hardware": node.name, "link": name, "claimed_bytes_per_s": None, "reduces_in_switch": False}
    claimed = link.one_way_bytes_per_s if nodes == 1 else None
    return {
        "hardware": node.name,
        "link": link.name if nodes == 1 else "",
        "claimed_bytes_per_s": claimed,
        "busbw_over_claimed_ratio": None if claimed is None else busbw / claimed,
        # In-switch sums send less than the bus bandwidth counts, so that it may pass the link's rate.
        "reduces_in_switch": link.reduces_in_switch and kind == "all_reduce" and nodes == 1,
    }


def _fitted(curve: pd.DataFrame) -> list[float] | float:
    """The bus bandwidth of the curve's two regimes at its sizes, or none where it has too few."""
    first = curve.iloc[0]
    sizes = curve["size_bytes"].to_numpy(dtype=np.float64)
    ops = [
        Collective(
            kind=first["collective"],
            direction="forward",
            num_ranks=int(first["ranks"]),
            size_bytes=int(size),
            dtype="fp32",
            backend="gloo" if first["backend"] == "gloo" else "nccl",
        )
        for size in sizes
    ]
    rows = stack(ops, curve["measured_s"].tolist())
    if too_few(rows, "") is not None:
        return float("nan")
    seconds = fit_size(rows, corrected=False).at(sizes)
    fitted: list[float] = (sizes / seconds * bus_factor(first["collective"], int(first["ranks"]))).tolist()
    return fitted
