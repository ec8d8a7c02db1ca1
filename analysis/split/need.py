"""The link that a degree needs: the one-way rate at which efficiency comes to a target."""

from dataclasses import dataclass
from math import exp, inf, log, nan

from analysis.split.remember import Around
from tp.cost.theory import OpEstimate, Theory, estimate_plan, point
from tp.plan.ops import Collective, Op, Plan

# A rate is bracketed by factors of this, and no link has more than the highest.
STEP = 16.0
HIGHEST_BYTES_PER_S = 1e18


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The rate that a target needs, bytes a second one way; infinite: no link suffices, NaN: nothing is sent."""

    target: float
    bytes_per_s: float


def no_need(target: float) -> Need:
    """Of a degree that sends nothing."""
    return Need(target=target, bytes_per_s=nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtRate(Around):
    """A theory whose collectives take `sent_bytes` at one rate, without latency; points only."""

    bytes_per_s: float

    def price(self, op: Op) -> OpEstimate | None:
        if isinstance(op, Collective):
            return point(op.sent_bytes / self.bytes_per_s)
        price = self.theory.price(op)
        return None if price is None else point(price.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A plan, in the chunks that the theory chose, over a link whose rate is open."""

    plan: Plan
    theory: Theory
    undivided_s: float
    """T(1) under the same theory."""

    def efficiency(self, bytes_per_s: float) -> float:
        """E(n) over a link of that rate; an infinite one sends in no time."""
        total = estimate_plan(self.plan, AtRate(theory=self.theory, bytes_per_s=bytes_per_s)).part("total").seconds
        return nan if total is None else self.undivided_s / (self.plan.case.tp * total)


def needed_rate(rated: Rated, target: float) -> Need:
    """The least rate with E(n) = target, by bisection on its logarithm (Brent)."""
    from scipy.optimize import brentq

    if not rated.efficiency(inf) > target:
        return Need(target=target, bytes_per_s=inf)
    # Sending alone takes twice as long as the whole pass may.
    low = high = rated.plan.sent_bytes * target * rated.plan.case.tp / (2 * rated.undivided_s)
    while rated.efficiency(high) < target:
        high *= STEP
        if high > HIGHEST_BYTES_PER_S:
            return Need(target=target, bytes_per_s=inf)
    found = brentq(lambda at: log(rated.efficiency(exp(at)) / target), log(low), log(high), xtol=1e-9, rtol=1e-12)
    return Need(target=target, bytes_per_s=exp(found))
