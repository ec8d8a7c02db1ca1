"""What a theory is, and the estimate of a plan under one: seconds for every part, with an interval."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, get_args

from tp.cost.overheads import LAUNCH_SPREAD, Overheads
from tp.cost.schedule import Schedule, schedule
from tp.numbers import add_up, any_of
from tp.plan.ops import COLLECTIVE_KINDS, Collective, Direction, Op, Part, Plan

TheoryName = Literal["article", "datasheet", "calibrated"]
THEORIES: Final[tuple[TheoryName, ...]] = get_args(TheoryName)

Whole = Literal["compute", "communication", "serial", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpEstimate:
    """Seconds for one op; the interval is nominally 90 %, or the point itself where the theory has none.

    Of an op whose sizes are arrays over a grid each may be an array, `extrapolated` too.
    """

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
        """None where the theory has nothing to say of the op; sizes may be arrays, and then the seconds are."""
        ...

    @property
    def overheads(self) -> Overheads:
        """What a pass costs beside its ops, as far as the theory knows."""
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
    prices = with_launches(plan, price_once(plan.ops, theory.price), theory.overheads)
    return Estimate(theory=theory.name, parts=tuple(estimate_parts(plan, prices, theory)))


Price = OpEstimate | None


def price_once(ops: Sequence[Op], price: Callable[[Op], Price]) -> list[Price]:
    """The price of each op, equal ones asked for once: a case sent in chunks repeats a shape dozens of times."""
    known: dict[Op, Price] = {}
    prices = []
    for op in ops:
        shape = alone(op)
        if shape not in known:
            known[shape] = price(shape)
        prices.append(known[shape])
    return prices


def alone(op: Op) -> Op:
    """The op without what it waits for, which does not matter to its price."""
    return op if isinstance(op, Collective) or op.needs is None else replace(op, needs=None)


def with_launches(plan: Plan, prices: Sequence[Price], overheads: Overheads) -> list[Price]:
    """The prices with the launch terms of the plan's phase.

    A term falls on the first op of its part and direction; on the part's first op where the plan has none in that
    direction, as the backward of a residual.
    """
    found, places = list(prices), dict[tuple[Direction | None, Part], int]()
    for number, op in enumerate(plan.ops):
        places.setdefault((op.direction, op.part), number)
        places.setdefault((None, op.part), number)
    for (direction, part), launch_s in overheads.launches(plan.case):
        place = places.get((direction, part), places.get((None, part)))
        price = None if place is None else found[place]
        if place is not None and price is not None:
            found[place] = _later(price, launch_s)
    return found


def _later(price: OpEstimate, launch_s: float) -> OpEstimate:
    return OpEstimate(
        seconds=price.seconds + launch_s,
        low_s=price.low_s + launch_s * (1 - LAUNCH_SPREAD),
        high_s=price.high_s + launch_s * (1 + LAUNCH_SPREAD),
        extrapolated=price.extrapolated,
    )


def estimate_parts(plan: Plan, prices: Sequence[Price], theory: Theory) -> Iterator[PartEstimate]:
    """The parts and wholes of a plan whose ops take what `prices` says, in the plan's order."""
    priced = list(zip(plan.ops, prices, strict=True))
    schedules = _schedules(plan.ops, prices, theory.overheads)
    bounds = theory.bounds

    def total(name: Part | Whole, wanted: Callable[[Op], bool]) -> PartEstimate:
        return _sum(name, [price for op, price in priced if wanted(op)], bounds=bounds)

    for part in plan.parts:
        found = total(part, lambda op, part=part: op.part == part)  # type: ignore[misc]
        if part in COLLECTIVE_KINDS:
            found = _as_laid_out(found, [each.exposed_s[part] for each in schedules])
        yield found
    yield total("compute", lambda op: not isinstance(op, Collective))
    yield total("communication", lambda op: isinstance(op, Collective))
    serial = total("serial", lambda op: True)
    yield serial
    yield _as_laid_out(replace(serial, part="total"), [each.total_s for each in schedules])


def _schedules(ops: Sequence[Op], prices: Sequence[Price], overheads: Overheads) -> tuple[Schedule, Schedule, Schedule]:
    """At the points, at the low and at the high ends; an op without a price takes no time there."""
    middle = schedule(ops, [0.0 if price is None else price.seconds for price in prices], overheads)
    if all(price is None or _is_point(price) for price in prices):
        return middle, middle, middle
    low = schedule(ops, [0.0 if price is None else price.low_s for price in prices], overheads)
    return middle, low, schedule(ops, [0.0 if price is None else price.high_s for price in prices], overheads)


def _as_laid_out(serial: PartEstimate, seconds: Sequence[float]) -> PartEstimate:
    """The part as the schedules have it: its seconds, and both ends."""
    if serial.seconds is None:
        return serial
    return replace(serial, seconds=seconds[0], low_s=seconds[1], high_s=seconds[2])


def _sum(name: Part | Whole, prices: Sequence[Price], *, bounds: bool) -> PartEstimate:
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) and not (bounds and known):
        return PartEstimate(part=name, seconds=None, low_s=None, high_s=None, extrapolated=False)
    # Equal ops share a price; an array of it is multiplied rather than added up again and again.
    counts = Counter(map(id, known))
    distinct = list({id(price): price for price in known}.values())

    def total(read: Callable[[OpEstimate], float]) -> float:
        return add_up(read(price) * counts[id(price)] for price in distinct)

    seconds = total(lambda price: price.seconds)
    is_point = all(_is_point(price) for price in distinct)
    return PartEstimate(
        part=name,
        seconds=seconds,
        low_s=seconds if is_point else total(lambda price: price.low_s),
        high_s=seconds if is_point else total(lambda price: price.high_s),
        extrapolated=any_of(price.extrapolated for price in distinct),
    )


def _is_point(price: OpEstimate) -> bool:
    """Whether the theory gave no interval (`point`)."""
    return price.low_s is price.seconds is price.high_s
