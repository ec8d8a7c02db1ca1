"""A grid's table as a CSV or Parquet file, written family by family, so that the whole is never in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from analysis.forecast.grid import Columns
from tp.errors import ConfigError

SUFFIXES: Final = (".csv", ".parquet")
_TEXT: Final = ("block", "model", "phase", "strategy", "dtype", "recompute", "status")
_WHOLE: Final = ("tp", "batch", "seq", "context", "chunks", "layer_bytes", "model_bytes")
_FLAG: Final = ("extrapolated", "fits")


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFile:
    """An open file of one table."""

    schema: Any
    writer: Any

    def write(self, rows: int, columns: Columns) -> None:
        """Add so many rows."""
        arrays = [_array(columns[field.name], rows, field.type) for field in self.schema]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))


def require_suffix(path: Path, *, flag: str) -> None:
    """ConfigError unless the name says which kind of file it is."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{flag} {path}: neither .csv nor .parquet; end the name in one of them")


@contextmanager
def open_grid_file(path: Path, names: Sequence[str]) -> Iterator[GridFile]:
    """Write a table with these columns to `path`, in a folder that is made if it is missing; OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, _type(name)) for name in names])
    with path.open("wb") as stream:
        opened = pa.csv.CSVWriter if path.suffix == ".csv" else pa.parquet.ParquetWriter
        with opened(stream, schema) as writer:
            yield GridFile(schema=schema, writer=writer)


def _type(name: str) -> Any:
    if name in _TEXT:
        return pa.string()
    if name in _WHOLE:
        return pa.int64()
    return pa.bool_() if name in _FLAG else pa.float64()


def _array(values: Any, rows: int, kind: Any) -> Any:
    """One column; NaN and what is masked are absent."""
    if isinstance(values, np.ndarray):
        mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        return pa.array(np.asarray(values), type=kind, mask=mask, from_pandas=True)
    return pa.repeat(pa.scalar(values, type=kind), rows)
