"""A claim's numbers for people."""

from tp.claim import Unit
from tp.units import format_bytes, format_flops, format_flops_rate, format_rate, significant


def format_quantity(value: float, unit: Unit) -> str:
    """A number in the unit of its claim."""
    match unit:
        case "B/s":
            return format_rate(value)
        case "FLOP/s":
            return format_flops_rate(value)
        case "B":
            return format_bytes(value)
        case "FLOP":
            return format_flops(value)
        case "elements":
            return f"{value:,.0f}"
        case "FLOP/B":
            return f"{value:,.0f} FLOP/B"
        case "1":
            return significant(value)
