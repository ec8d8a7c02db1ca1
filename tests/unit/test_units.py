"""Scaling for people: three digits, the right prefix, no exponents, and nothing lost beyond rounding."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp import units
from tp.errors import ConfigError

pytestmark = pytest.mark.unit

# Three significant digits are off by at most half a unit of the third: 0.5 of 100.
ROUNDING = 0.005 * (1 + 1e-9)

SCALES = {"P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
FORMATTERS = [
    (units.format_bytes, "B"),
    (units.format_rate, "B/s"),
    (units.format_flops, "FLOP"),
    (units.format_flops_rate, "FLOP/s"),
]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (1.0, 3, "1.00"),
        (12.345, 3, "12.3"),
        (123.4, 3, "123"),
        (123456.0, 3, "123000"),
        (0.0012345, 3, "0.00123"),
        (-2.5, 2, "-2.5"),
        (math.inf, 3, "inf"),
        (math.nan, 3, "nan"),
    ],
)
def test_significant_keeps_digits_without_an_exponent(value: float, digits: int, text: str) -> None:
    assert units.significant(value, digits=digits) == text


@given(st.floats(1e-12, 1e21), st.integers(1, 8))
def test_significant_is_within_half_a_unit_of_its_last_digit(value: float, digits: int) -> None:
    text = units.significant(value, digits=digits)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) * (1 + 1e-9))


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1.00 s"),
        (0.00123, "1.23 ms"),
        (45.6e-6, "45.6 us"),
        (7e-9, "7.00 ns"),
        (5e-10, "0.500 ns"),
        (-0.25, "-250 ms"),
        (3600.0, "3600 s"),
    ],
)
def test_format_seconds(value_s: float, text: str) -> None:
    assert units.format_seconds(value_s) == text


@pytest.mark.parametrize(
    ("formatted", "text"),
    [
        (units.format_bytes(67.1e6), "67.1 MB"),
        (units.format_bytes(512), "512 B"),
        (units.format_bytes(0), "0 B"),
        (units.format_rate(450e9), "450 GB/s"),
        (units.format_flops(12.9e9), "12.9 GFLOP"),
        (units.format_flops_rate(312e12), "312 TFLOP/s"),
        (units.format_flops_rate(1.979e15), "1.98 PFLOP/s"),
        (units.format_signed_percent(0.041), "+4.1 %"),
        (units.format_signed_percent(-0.5), "-50.0 %"),
    ],
)
def test_quantities_in_decimal_multiples(formatted: str, text: str) -> None:
    assert formatted == text


@given(st.floats(1e-9, 1e6))
@settings(deadline=None)
def test_seconds_survive_formatting(value_s: float) -> None:
    number, unit = units.format_seconds(value_s).split()
    assert float(number) * TIMES[unit] == pytest.approx(value_s, rel=ROUNDING)


@pytest.mark.parametrize(("format_quantity", "unit"), FORMATTERS)
@given(value=st.floats(1.0, 1e18))
@settings(deadline=None)
def test_quantities_survive_formatting(format_quantity: Callable[[float], str], unit: str, value: float) -> None:
    number, scaled_unit = format_quantity(value).split()
    prefix = scaled_unit.removesuffix(unit)
    assert float(number) * SCALES[prefix] == pytest.approx(value, rel=ROUNDING)
    assert 1 <= float(number) <= 1000


@given(st.floats(1.0, 1e15), st.floats(1.0, 1e15))
def test_formatting_keeps_the_order(one: float, other: float) -> None:
    def read(text: str) -> float:
        number, unit = text.split()
        return float(number) * SCALES[unit.removesuffix("B")]

    small, large = sorted((one, other))
    assert read(units.format_bytes(small)) <= read(units.format_bytes(large)) * (1 + 1e-12)


def test_multiples_and_dtypes() -> None:
    assert (units.KB, units.MB, units.GB) == (1000, 1000**2, 1000**3)
    assert (units.KIB, units.MIB, units.GIB) == (1024, 1024**2, 1024**3)
    assert units.DTYPE_BYTES == {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


def test_fp8_is_for_operands_alone() -> None:
    assert [units.activation_dtype(dtype) for dtype in units.DTYPES] == ["fp32", "bf16", "fp16", "bf16"]
    assert set(units.DTYPES) == set(units.DTYPE_BYTES)


def test_what_would_steer_a_terminal_is_not_printed() -> None:
    assert units.printable("größe \x1b[2J\r\n\x07\u202e\udc80 [red]") == "größe ?[2J????? [red]"
    assert str(ConfigError("key '\x1b[2J' is unknown")) == "key '?[2J' is unknown"
