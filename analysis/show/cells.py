"""One cell as text for people: rounded, with its unit, a dash where nothing is known."""

from math import isfinite
from typing import Any

import pandas as pd

from analysis.frames.rows import number
from analysis.show.table import NOTHING
from tp.units import format_bytes, format_seconds, format_signed_percent, significant


def seconds(value: Any) -> str:
    """A duration that may be missing."""
    known = number(value)
    return NOTHING if known is None else format_seconds(known)


def interval(low: Any, high: Any) -> str:
    """Both ends, the unit written once where they share it; nothing where there is no width."""
    if number(low) is None or number(high) is None or low == high:
        return NOTHING
    (start, unit), (end, end_unit) = (format_seconds(value).split(" ") for value in (low, high))
    return f"{start} – {end} {unit}" if unit == end_unit else f"{start} {unit} – {end} {end_unit}"


def size(value: Any) -> str:
    """Bytes that may be missing."""
    return NOTHING if pd.isna(value) else format_bytes(float(value))


def signed(value: Any) -> str:
    """A signed error that may be missing."""
    known = number(value)
    return NOTHING if known is None else format_signed_percent(known)


def percent(value: Any) -> str:
    """A share that may be missing or beyond all bounds."""
    known = number(value)
    if known is None:
        return NOTHING
    return f"{significant(100 * known)} %" if isfinite(known) else "over"


def times(value: Any) -> str:
    """A speed-up that may be missing: 1.65 x."""
    known = number(value)
    return NOTHING if known is None else f"{significant(known)} x"


def scientific(value: Any) -> str:
    """A figure of a check, far below one."""
    known = number(value)
    return "not a number" if known is None else f"{known:.1e}"
