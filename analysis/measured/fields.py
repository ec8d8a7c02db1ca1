"""Fields of a table's row: whole numbers, dtypes, and words of a list."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from tp.units import DTYPES, Dtype

# Of published dtypes, those that are ours under another name.
DTYPE_NAMES: Final[dict[str, Dtype]] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "fp8_e4m3": "fp8"}

V = TypeVar("V")


def dtype_of(row: Mapping[str, Any]) -> Dtype:
    """The dtype of a row; ValueError for one that is not modelled."""
    text = str(row["dtype"])
    return one_of(DTYPE_NAMES.get(text, text), DTYPES, "dtype")


def one_of(text: str, allowed: Sequence[V], column: str) -> V:
    """The value that the text names; ValueError, with all of them, where it names none."""
    for value in allowed:
        if value == text:
            return value
    raise ValueError(f"{column} {text!r} is unknown; use {', '.join(map(str, allowed))}")


def whole(row: Mapping[str, Any], column: str) -> int:
    """A whole number of a row; ValueError for any other."""
    value = float(row[column])
    if value != int(value):
        raise ValueError(f"{column} is {value:g}, not a whole number")
    return int(value)
