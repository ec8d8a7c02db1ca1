"""Parallel efficiency from two estimated times, and the degree at which it falls under a target."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, hypot, inf, isfinite, isinf, log, nan, sqrt

from tp.cost.curves.trust import LAYER_LOG_ERROR_90
from tp.cost.theory import PartEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranged:
    """A number with its 90 % interval; both ends are the number itself where the theory gives none."""

    value: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        return self.low < self.high


UNKNOWN = Ranged(value=nan, low=nan, high=nan)


def ranged(part: PartEstimate) -> Ranged:
    """The seconds of a part; NaN where the theory has none."""
    if part.seconds is None or part.low_s is None or part.high_s is None:
        return UNKNOWN
    return Ranged(value=part.seconds, low=part.low_s, high=part.high_s)


def efficiency(one: Ranged, many: Ranged, tp: int, *, compute: Ranged, sending: Ranged) -> Ranged:
    """E(n) = T(1)/(n T(n)), where T(n) is `many`, of which `compute` takes a share c and exposed `sending` the rest.

    What products take longer than predicted they take in both times: to first order ln E errs by (1 - c) (w_c e_c -
    w_s e_s), w the half-widths of the logarithms, e independent of each other, and by what two layers of one machine
    differ in beyond that (`LAYER_LOG_ERROR_90`, once each). E(1) is 1 whatever T(1) is.
    """
    if tp == 1:
        return Ranged(value=1.0, low=1.0, high=1.0)
    if not all(isfinite(seconds) and seconds > 0 for each in (one, many) for seconds in (each.low, each.value)):
        return UNKNOWN
    value = one.value / (tp * many.value)
    if not (one.has_interval or many.has_interval):
        return Ranged(value=value, low=value, high=value)
    exposed, apart = max(0.0, 1 - compute.value / many.value), sqrt(2) * LAYER_LOG_ERROR_90
    down = hypot(exposed * _below(compute), exposed * _above(sending), apart)
    up = hypot(exposed * _above(compute), exposed * _below(sending), apart)
    return Ranged(value=value, low=value * exp(-down), high=value * exp(up))


def _below(each: Ranged) -> float:
    """Half-width of the logarithm under the value; of nothing none."""
    return log(each.value / each.low) if each.value > 0 else 0.0


def _above(each: Ranged) -> float:
    return log(each.high / each.value) if each.value > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far efficiency stays at or above a target, over the degrees that are known."""

    target: float
    largest: int
    """The largest degree that divides and keeps to the target; 1 always does."""
    last: int
    """The largest degree known."""
    crossing: Ranged
    """The degree at which efficiency falls under the target; infinite where it does not up to `last`."""


def reach(target: float, curve: Iterable[tuple[int, Ranged]]) -> Reach | None:
    """The reach of a curve of degrees and efficiencies, ascending; None without a known point."""
    known = [(tp, each) for tp, each in curve if isfinite(each.value)]
    if not known:
        return None
    degrees = [tp for tp, _ in known]
    ends = [[each.value for _, each in known], [each.low for _, each in known], [each.high for _, each in known]]
    value, low, high = (crossing(target, degrees, values) for values in ends)
    largest = max((tp for tp, each in known if each.value >= target), default=degrees[0])
    return Reach(target=target, largest=largest, last=degrees[-1], crossing=Ranged(value=value, low=low, high=high))


def crossing(target: float, degrees: Sequence[int], values: Sequence[float]) -> float:
    """Where values fall under the target for good, between degrees linear in log n; NaN values are passed over.

    Infinite where the last value is not under it; the first degree where no value keeps to it; NaN without any value.
    """
    known = [(tp, value) for tp, value in zip(degrees, values, strict=True) if isfinite(value)]
    if not known:
        return nan
    kept = [place for place, (_, value) in enumerate(known) if value >= target]
    if not kept:
        return float(known[0][0])
    if kept[-1] == len(known) - 1:
        return inf
    (before, above), (after, under) = known[kept[-1]], known[kept[-1] + 1]
    share = (above - target) / (above - under)
    return float(before * (after / before) ** share)


def degree_text(degree: float, last: int, *, beyond: str = "beyond ") -> str:
    """A crossing for people."""
    return f"{beyond}{last}" if isinf(degree) else f"{degree:.1f}"
