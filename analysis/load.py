"""Record files and published tables, as they come in: runs, and flat tables of their rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.harness.records import CaseResult, Header, OpResult, Planned, read_lines
from tp.cost.calibrated import curve_key, curve_sizes
from tp.errors import ConfigError
from tp.plan.ops import Collective, Op

# `op` is its kind and `key` the curve that prices it; `bytes` are moved by compute, the nccl-tests size of collectives.
OP_COLUMNS: Final = ("op", "key", "sizes", "flops", "bytes", "time_s")

# Metadata that must agree before the cases of two runs may stand in one table.
CHECKED: Final[dict[str, Callable[[Header], object]]] = {
    "hardware": lambda header: header.hardware.device.name,
    "world": lambda header: header.world,
    "num_nodes": lambda header: header.num_nodes,
    "backend": lambda header: header.backend,
    "oversubscribed": lambda header: header.oversubscribed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case that was planned, and what came of it."""

    header: Header
    planned: Planned
    result: CaseResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One record file."""

    path: Path
    headers: tuple[Header, ...]
    """More than one where the run was resumed."""
    cases: tuple[Case, ...]
    ops: tuple[OpResult, ...]
    unfinished: tuple[str, ...]
    """Keys of cases that were planned and never ended."""


def load_run(path: Path) -> Run:
    """Read a record file; ConfigError when it is none, or a case ends that was not planned before."""
    headers: list[Header] = []
    planned: dict[str, Planned] = {}
    cases: dict[str, Case] = {}
    ops: list[OpResult] = []
    for line in read_lines(path):
        if isinstance(line, Header):
            headers.append(line)
            continue
        if not headers:
            raise ConfigError(f"{path}: begins without a header; is this a record file of bench/?")
        match line:
            case Planned():
                planned[line.key] = line
            case CaseResult():
                if line.key not in planned:
                    raise ConfigError(f"{path}: case {line.key} ends without an estimate written before it")
                cases[line.key] = Case(header=headers[-1], planned=planned[line.key], result=line)
            case OpResult():
                ops.append(line)
    if not headers:
        raise ConfigError(f"{path}: holds no record; is this a record file of bench/?")
    return Run(
        path=path,
        headers=tuple(headers),
        cases=tuple(cases.values()),
        ops=tuple(ops),
        unfinished=tuple(key for key in planned if key not in cases),
    )


def load_runs(paths: Sequence[Path], *, mixed: bool = False) -> list[Run]:
    """Read several record files; unless `mixed`, ConfigError when their checked metadata differ."""
    runs = [load_run(path) for path in paths]
    headers = [(run.path, header) for run in runs for header in run.headers]
    first_path, first = headers[0]
    for path, header in headers[1:]:
        for field, read in CHECKED.items():
            ours, theirs = read(first), read(header)
            if ours != theirs and not mixed:
                raise ConfigError(
                    f"{path}: {field} is {theirs!r} but {first_path} has {ours!r}; report them apart, or add --mixed"
                )
    return runs


def ops_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row an op timed alone, in `OP_COLUMNS`; its time is the median of the slowest rank's."""
    rows = [_op_row(result.op, np.array(result.samples.times_s)) for run in runs for result in run.ops]
    return pd.DataFrame(rows, columns=list(OP_COLUMNS))


def _op_row(op: Op, times_s: NDArray[np.float64]) -> tuple[object, ...]:
    size = op.size_bytes if isinstance(op, Collective) else op.moved_bytes
    return op.op, curve_key(op), curve_sizes(op), op.flops, float(size), float(np.median(times_s.max(axis=1)))
