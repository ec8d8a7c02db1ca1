"""Frames from rows and back: figures that may be missing, and what rows have in common."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import isnan
from typing import Any, Final, TypeVar

import pandas as pd

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


def appearance(values: Iterable[Any]) -> dict[Any, int]:
    """The rank of each value by where it comes first."""
    return {value: rank for rank, value in enumerate(dict.fromkeys(values))}


def number(value: Any) -> float | None:
    """A cell of a frame: None where it is empty."""
    return None if value is None or isnan(value) else float(value)
