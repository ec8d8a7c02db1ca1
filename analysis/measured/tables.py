"""Published tables as measured ops: CSV files of products, attention cores, collectives and parts of layers.

The kind of a table is known by its columns. Times are microseconds in `time_us`; `bytes` of a collective follow
nccl-tests. A line that makes no sense is an error that names it: a table that is wrong in one place may be in others.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.measured.fields import dtype_of, one_of, whole
from analysis.measured.layers import LAYER_COLUMNS, layer_op
from analysis.measured.op import Measured, kind_of
from tp.cost.lookup import LAYERS
from tp.errors import ConfigError
from tp.plan.ops import COLLECTIVE_KINDS, AttentionCore, Collective, Gemm, Op

Select = Mapping[str, frozenset[str]]
"""Column to the values that its rows may have."""

GEMM_COLUMNS: Final = ("hardware", "dtype", "m", "n", "k", "time_us")
ATTENTION_COLUMNS: Final = ("hardware", "dtype", "batch", "seq", "heads", "kv_heads", "head_dim", "causal", "time_us")
COLLECTIVE_COLUMNS: Final = ("hardware", "nodes", "gpus", "collective", "bytes", "time_us")
# Of nccl-tests; no plan has them.
OTHER_COLLECTIVES: Final = ("broadcast", "reduce", "all_to_all", "all_to_all_v", "scatter", "gather", "hypercube")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a kind of table holds, and how a row becomes an op; None for a row that is no op of ours."""

    name: str
    columns: tuple[str, ...]
    op: Callable[[Mapping[str, Any]], Op | None]
    positive: tuple[str, ...]
    """Columns of sizes."""
    empty: tuple[str, ...] = ()
    """Those of them that may be 0, in a row that is then no op."""
    others: str = "whole layers, cores that are not causal"
    """Which rows are no op of ours."""


def read_table(path: Path, *, select: Select, tell: Callable[[str], None]) -> list[Measured]:
    """The ops of one CSV table; ConfigError, with file, line and remedy, when it cannot be read or makes no sense."""
    frame = _read(path)
    table = _kind(frame, path)
    frame = _selected(frame, select, path)
    hardware = sorted(map(str, frame["hardware"].unique()))
    if len(hardware) > 1:
        raise ConfigError(
            f"{path}: rows of several hardware ({', '.join(hardware)}); choose with --select hardware={hardware[0]}"
        )
    _check_numbers(frame, table, path)
    rows, left_out = list[Measured](), 0
    for line, fields in zip(frame.index, frame.to_dict("records"), strict=True):
        row = {str(column): value for column, value in fields.items()}
        op = _op(table, row, where=f"{path}, line {line + 2}")
        if op is None:
            left_out += 1
        else:
            rows.append(_measured(table, op, row))
    if left_out:
        tell(f"{path}: {left_out} rows are no op that is modelled ({table.others}); left out")
    return rows


def read_citations(path: Path) -> dict[str, str]:
    """Citation by source; ConfigError when the table has no such columns."""
    frame = _read(path)
    if not {"source", "citation"} <= set(frame.columns):
        raise ConfigError(
            f"--citations {path}: lacks the columns source and citation; it has {', '.join(frame.columns)}"
        )
    return dict(zip(frame["source"].astype(str), frame["citation"].astype(str), strict=True))


def _read(path: Path) -> pd.DataFrame:
    """The rows of a file by their number, blank ones left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than there are columns
            frame = pd.read_csv(path, index_col=False, skip_blank_lines=False)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"{path}: cannot be read ({why}); name a CSV table or a record file") from error
    except (ValueError, UnicodeDecodeError, pd.errors.ParserWarning) as error:
        raise ConfigError(f"{path}: is no CSV table ({' '.join(str(error).split())})") from error
    return frame.dropna(how="all")


def _kind(frame: pd.DataFrame, path: Path) -> Table:
    columns = set(frame.columns)
    for table in TABLES:
        if columns >= set(table.columns):
            return table
    nearest = max(TABLES, key=lambda table: len(columns & set(table.columns)))
    missing = [name for name in nearest.columns if name not in columns]
    times = [name for name in columns if str(name).startswith("time")]
    if missing == ["time_us"] and times:
        raise ConfigError(f"{path}: times are in a column {times[0]!r} of unknown unit; give microseconds as time_us")
    raise ConfigError(
        f"{path}: is no table of {', '.join(t.name for t in TABLES)}; as one of {nearest.name} it lacks the columns "
        f"{', '.join(missing)}"
    )


def _selected(frame: pd.DataFrame, select: Select, path: Path) -> pd.DataFrame:
    for column, values in select.items():
        if column not in frame.columns:
            raise ConfigError(f"--select {column}=...: {path} has no such column; it has {', '.join(frame.columns)}")
        kept = frame[frame[column].astype(str).isin(values)]
        if kept.empty:
            known = sorted(map(str, frame[column].unique()))[:12]
            raise ConfigError(
                f"--select {column}={','.join(sorted(values))}: no row of {path}; it has {', '.join(known)}"
            )
        frame = kept
    if frame.empty:
        raise ConfigError(f"{path}: holds no row; measure some")
    return frame


def _check_numbers(frame: pd.DataFrame, table: Table, path: Path) -> None:
    for column in (*(name for name in table.positive if name in frame.columns), "time_us"):
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
        least_is_0 = column in table.empty
        bad = np.flatnonzero(~(np.isfinite(values) & ((values > 0) | (least_is_0 & (values == 0)))))
        if len(bad):
            line, value = frame.index[bad[0]] + 2, frame[column].iloc[bad[0]]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise ConfigError(
                f"{path}, line {line}: {column} is {shown}, not a positive number; "
                f"mend or leave out the row ({len(bad)} such)"
            )


def _op(table: Table, row: Mapping[str, Any], *, where: str) -> Op | None:
    try:
        return table.op(row)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{where}: {str(error).strip(chr(39))}") from error


def _measured(table: Table, op: Op, row: Mapping[str, Any]) -> Measured:
    # An empty field is read as a number that is none.
    source = text if isinstance(text := row.get("source", ""), str) else ""
    layer = table.name == "layer parts"
    return Measured(
        op=op,
        seconds=float(row["time_us"]) * 1e-6,
        source=source,
        group=LAYERS if layer else source,
        kind=f"layer/{_part(op, row)}" if layer else kind_of(op),
    )


def _part(op: Op, row: Mapping[str, Any]) -> str:
    return "rope" if str(row["component"]).endswith("rope") else op.part


def _gemm(row: Mapping[str, Any]) -> Op:
    return Gemm(
        part="qkv",
        direction="forward",
        layout="nt",
        m=whole(row, "m"),
        n=whole(row, "n"),
        k=whole(row, "k"),
        dtype=dtype_of(row),
    )


def _attention(row: Mapping[str, Any]) -> Op | None:
    if str(row["causal"]).lower() not in ("true", "1") and whole(row, "seq") > 1:
        return None
    if whole(row, "heads") % whole(row, "kv_heads"):
        raise ValueError(f"kv_heads {row['kv_heads']} does not divide heads {row['heads']}")
    return AttentionCore(
        part="core",
        direction=one_of(str(row.get("pass", "forward")), ("forward", "backward"), "pass"),
        batch=whole(row, "batch"),
        seq=whole(row, "seq"),
        context=whole(row, "context") if "context" in row else whole(row, "seq"),
        num_heads=whole(row, "heads"),
        num_kv_heads=whole(row, "kv_heads"),
        head_dim=whole(row, "head_dim"),
        causal=whole(row, "seq") > 1,
        dtype=dtype_of(row),
    )


def _collective(row: Mapping[str, Any]) -> Op | None:
    ranks, nodes = whole(row, "gpus"), whole(row, "nodes")
    if row["collective"] in OTHER_COLLECTIVES or not whole(row, "bytes"):
        return None
    if ranks < 2 or ranks % nodes:
        raise ValueError(f"a collective of gpus = {ranks} on nodes = {nodes}; at least 2, as many on each node")
    return Collective(
        kind=one_of(str(row["collective"]), COLLECTIVE_KINDS, "collective"),
        direction="forward",
        num_ranks=ranks,
        size_bytes=whole(row, "bytes"),
        # The tables do not state it; links move bytes whatever they mean.
        dtype="bf16",
        backend="nccl",
        num_nodes=nodes,
    )


TABLES: Final = (
    Table(name="matrix products", columns=GEMM_COLUMNS, op=_gemm, positive=("m", "n", "k")),
    Table(
        name="layer parts",
        columns=LAYER_COLUMNS,
        op=layer_op,
        positive=("tp", "batch", "seq", "hidden", "heads", "kv_heads", "ffn"),
    ),
    Table(
        name="attention cores",
        columns=ATTENTION_COLUMNS,
        op=_attention,
        positive=("batch", "seq", "context", "heads", "kv_heads", "head_dim"),
    ),
    Table(
        name="collectives",
        columns=COLLECTIVE_COLUMNS,
        op=_collective,
        positive=("nodes", "gpus", "bytes"),
        empty=("bytes",),
        others="collectives of other kinds, or of no bytes",
    ),
)
