"""What was measured of a claim."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A measured number in the unit of its claim, with its 95 % interval where it comes from times."""

    value: float
    low: float
    high: float
    text: str
    """How it was measured, in few words."""


def exact(value: float, text: str) -> Finding:
    """A count, which has no spread."""
    return Finding(value=value, low=value, high=value, text=text)
