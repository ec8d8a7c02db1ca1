"""What a theory is, and the estimate of a plan under one: seconds for every part, with an interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, get_args

from tp.cost.schedule import schedule
from tp.plan.ops import COLLECTIVE_KINDS, Collective, CollectiveKind, Op, Part, Plan

TheoryName = Literal["article", "datasheet", "calibrated"]
THEORIES: Final[tuple[TheoryName, ...]] = get_args(TheoryName)

Whole = Literal["compute", "communication", "serial", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpEstimate:
    """Seconds for one op; the interval is nominally 90 %, or the point itself where the theory has none."""

    seconds: float
    low_s: float
    high_s: float
    extrapolated: bool = False


class Theory(Protocol):
    """Prices ops."""

    @property
    def name(self) -> TheoryName: ...

    @property
    def bounds(self) -> bool:
        """Whether its prices are lower bounds, so that a sum without some of its ops is still one."""
        ...

    def price(self, op: Op) -> OpEstimate | None:
        """None where the theory has nothing to say of the op."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEstimate:
    """Seconds for a part or a whole."""

    part: Part | Whole
    seconds: float | None
    """None where the theory leaves an op without a price, or a bound leaves all of them."""
    low_s: float | None
    high_s: float | None
    extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a theory says of a plan."""

    theory: TheoryName
    parts: tuple[PartEstimate, ...]

    def part(self, name: Part | Whole) -> PartEstimate:
        """The estimate of `name`; KeyError when the plan has no such part."""
        for part in self.parts:
            if part.part == name:
                return part
        raise KeyError(name)


def point(seconds: float) -> OpEstimate:
    """An estimate of a theory that gives no interval."""
    return OpEstimate(seconds=seconds, low_s=seconds, high_s=seconds)


def estimate_plan(plan: Plan, theory: Theory) -> Estimate:
    """Seconds for each part and whole of a plan.

    `serial` is compute and communication one after the other, `total` the pass as the strategy lays it out; a
    collective's part is the time that compute stands still for it. A bound leaves out what it cannot price; of any
    other theory one op without a price leaves the wholes that hold it without one too. Intervals add end to end, as if
    all ops erred together: wide rather than wrong.
    """
    priced = [(op, theory.price(op)) for op in plan.ops]

    def total(name: Part | Whole, wanted: Callable[[Op], bool]) -> PartEstimate:
        return _sum(name, [price for op, price in priced if wanted(op)], bounds=theory.bounds)

    def scheduled(name: CollectiveKind | Literal["total"]) -> PartEstimate:
        wanted = total(name, lambda op: name == "total" or op.part == name)
        return wanted if wanted.seconds is None else _scheduled(wanted, priced)

    return Estimate(
        theory=theory.name,
        parts=(
            *(
                scheduled(part) if part in COLLECTIVE_KINDS else total(part, lambda op, part=part: op.part == part)  # type: ignore[misc]
                for part in plan.parts
            ),
            total("compute", lambda op: not isinstance(op, Collective)),
            total("communication", lambda op: isinstance(op, Collective)),
            total("serial", lambda op: True),
            scheduled("total"),
        ),
    )


def _scheduled(serial: PartEstimate, priced: Sequence[tuple[Op, OpEstimate | None]]) -> PartEstimate:
    """The part as the schedule of the plan has it; an op without a price takes no time there."""
    ops = [op for op, _ in priced]

    def seconds(read: Callable[[OpEstimate], float]) -> float:
        laid_out = schedule(ops, [0.0 if price is None else read(price) for _, price in priced])
        if serial.part == "total":
            return laid_out.total_s
        return laid_out.exposed_s[serial.part]  # type: ignore[index]

    return replace(
        serial,
        seconds=seconds(lambda price: price.seconds),
        low_s=seconds(lambda price: price.low_s),
        high_s=seconds(lambda price: price.high_s),
    )


def _sum(name: Part | Whole, prices: Sequence[OpEstimate | None], *, bounds: bool) -> PartEstimate:
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) and not (bounds and known):
        return PartEstimate(part=name, seconds=None, low_s=None, high_s=None, extrapolated=False)
    return PartEstimate(
        part=name,
        seconds=math.fsum(price.seconds for price in known),
        low_s=math.fsum(price.low_s for price in known),
        high_s=math.fsum(price.high_s for price in known),
        extrapolated=any(price.extrapolated for price in known),
    )
