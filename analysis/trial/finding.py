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

    def times(self, factor: float, text: str) -> "Finding":
        """So many times as much."""
        return Finding(value=factor * self.value, low=factor * self.low, high=factor * self.high, text=text)


def exact(value: float, text: str) -> Finding:
    """A count, which has no spread."""
    return Finding(value=value, low=value, high=value, text=text)
