"""Units: what a byte multiple is, how long a dtype is, and how a quantity is written for people.

Inside the program every quantity is in seconds, bytes, FLOPs or their ratios; only this file scales.
"""

import math
from typing import Final, Literal, get_args

KB: Final = 10**3
MB: Final = 10**6
GB: Final = 10**9
KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30

Dtype = Literal["fp32", "bf16", "fp16", "fp8"]
DTYPES: Final[tuple[Dtype, ...]] = get_args(Dtype)
DTYPE_BYTES: Final[dict[Dtype, int]] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


def activation_dtype(dtype: Dtype) -> Dtype:
    """What activations are kept and sent in: fp8 is for the operands of matrix products alone."""
    return "bf16" if dtype == "fp8" else dtype


def printable(text: str) -> str:
    """The text with a question mark for every character that would steer a terminal instead of being shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


_SI: Final = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def significant(value: float, *, digits: int = 3) -> str:
    """A number with so many significant digits, never in exponent notation."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):.{max(places, 0)}f}"


def format_seconds(value_s: float) -> str:
    """A duration in the largest unit that keeps it at or above one: 1.23 ms."""
    for scale, unit in _TIMES:
        if abs(value_s) >= scale:
            return f"{significant(value_s / scale)} {unit}"
    return "0 s" if value_s == 0 else f"{significant(value_s / 1e-9)} ns"


def _format_si(value: float, unit: str) -> str:
    for scale, prefix in _SI:
        if abs(value) >= scale:
            return f"{significant(value / scale)} {prefix}{unit}"
    return f"{significant(value)} {unit}"


def format_bytes(value_bytes: float) -> str:
    """Bytes in decimal multiples: 67.1 MB."""
    return _format_si(value_bytes, "B")


def format_rate(value_bytes_per_s: float) -> str:
    """Bandwidth in decimal multiples: 450 GB/s."""
    return _format_si(value_bytes_per_s, "B/s")


def format_flops(value: float) -> str:
    """A count of floating-point operations: 12.9 GFLOP."""
    return _format_si(value, "FLOP")


def format_flops_rate(value_flops_per_s: float) -> str:
    """A rate of floating-point operations: 312 TFLOP/s."""
    return _format_si(value_flops_per_s, "FLOP/s")


def format_signed_percent(fraction: float) -> str:
    """A signed error: +4.1 %."""
    return f"{100 * fraction:+.1f} %"
