"""One cell as text for people: rounded, with its unit, a dash where nothing is known."""

from math import isfinite
from typing import Any

import pandas as pd

from analysis.frames.rows import number
from analysis.show.table import NOTHING
from tp.units import format_bytes, format_rate, format_seconds, format_signed_percent, significant


def seconds(value: Any) -> str:
    """A duration that may be missing."""
    known = number(value)
    return NOTHING if known is None else format_seconds(known)


def interval(low: Any, high: Any) -> str:
    """Both ends, the unit written once where they share it; nothing where there is no width."""
    if number(low) is None or number(high) is None or low == high:
        return NOTHING
    return span(format_seconds(low), format_seconds(high))


def span(start: str, end: str) -> str:
    """From one quantity to another, their unit written once where they share it."""
    (value, _, unit), (_, _, end_unit) = start.rpartition(" "), end.rpartition(" ")
    return f"{value if unit == end_unit else start} – {end}"


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


def percents(low: Any, high: Any) -> str:
    """Both ends of a share; nothing where there is no width."""
    if number(low) is None or number(high) is None or low == high:
        return NOTHING
    return f"{significant(100 * low)} – {significant(100 * high)} %"


def link_rate(value_bytes_per_s: Any) -> str:
    """The rate of a network, in bits as networks are named: 480 Mbit/s."""
    known = number(value_bytes_per_s)
    return NOTHING if known is None else f"{format_rate(8 * known).removesuffix('B/s')}bit/s"


def times(value: Any) -> str:
    """A speed-up that may be missing: 1.65 x."""
    known = number(value)
    return NOTHING if known is None else f"{significant(known)} x"


def scientific(value: Any) -> str:
    """A figure of a check, far below one."""
    known = number(value)
    return "not a number" if known is None else f"{known:.1e}"
