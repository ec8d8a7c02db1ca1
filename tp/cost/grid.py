"""Estimates over a grid of workloads: every op of a family's plan priced once, for all of the grid.

A plan's time is a sum over the tokens of each point and the time of its attention cores, before and after which nothing
is under way: a core waits for all that was sent. So a pass is laid out over the distinct token counts alone, of which
there are far fewer than points, with cores that take no time; theirs is added at the points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tp.case import Case
from tp.cost.choose import CHUNK_COUNTS, MIN_CHUNK_TOKENS, first_of_the_least
from tp.cost.theory import (
    OpEstimate,
    PartEstimate,
    Price,
    Theory,
    Whole,
    estimate_parts,
    point,
    price_once,
    with_launches,
)
from tp.numbers import any_of
from tp.plan.grid import Ints, Points, spread, template_plan
from tp.plan.ops import AttentionCore, Backend, Op, Part

# Parts and wholes that hold the attention cores.
WITH_CORES: Final = ("core", "compute", "serial", "total")
FREE: Final = point(0.0)

Parts = dict[Part | Whole, PartEstimate]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridEstimate:
    """What a theory says of a family at the P points of a grid."""

    divides: NDArray[np.bool_]
    """Whether a point's tokens can be cut as the strategy needs; where not, its seconds mean nothing."""
    chunks: Ints
    parts: Parts
    """Seconds are arrays over the points, or one number where nothing varies."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridPricer:
    """Estimates the families of one grid under one theory; what several of them compute or send is priced once."""

    theory: Theory
    backend: Backend
    points: Points
    template: int
    """Tokens of the templates, a multiple of what every family is cut into (`template_tokens`)."""
    _prices: dict[Op, Price] = field(default_factory=dict)

    def estimate(self, case: Case, wanted: Sequence[Part | Whole], *, choose_chunks: bool) -> GridEstimate:
        """The wanted parts that occur, of a family that `case` stands for; in as many chunks as are best, if asked."""
        counts = CHUNK_COUNTS if choose_chunks else (case.chunks,)
        candidates = [self._laid_out(replace(case, chunks=count)) for count in counts]
        laid_out, cores = candidates[0]
        chunks = np.full(len(self.points), counts[0])
        if len(counts) > 1:
            chosen = self._chosen(case, counts, [parts["total"] for parts, _ in candidates])
            laid_out = {name: _of_the_chosen([parts[name] for parts, _ in candidates], chosen) for name in laid_out}
            chunks = self.points.gathered(np.array(counts)[chosen])
        divides = self.points.tokens % (case.tp * counts[0]) == 0 if case.splits_tokens else self.points.tokens > 0
        return GridEstimate(
            divides=self.points.gathered(divides),
            chunks=chunks,
            parts={name: self._at_points(laid_out[name], cores) for name in wanted if name in laid_out},
        )

    def _laid_out(self, case: Case) -> tuple[Parts, list[OpEstimate]]:
        """The parts over the distinct token counts without the cores, and what each of the cores takes."""
        plan = template_plan(case, self.template, backend=self.backend)
        prices = with_launches(plan, price_once(plan.ops, self._price), self.theory.overheads)
        cores, beside = list[OpEstimate](), list[Price]()
        for op, price in zip(plan.ops, prices, strict=True):
            if isinstance(op, AttentionCore) and price is not None:
                cores.append(price)
                price = FREE
            beside.append(price)
        return {part.part: part for part in estimate_parts(plan, beside, self.theory)}, cores

    def _price(self, op: Op) -> Price:
        if op not in self._prices:
            self._prices[op] = self.theory.price(spread(op, self.template, self.points))
        return self._prices[op]

    def _chosen(self, case: Case, counts: Sequence[int], totals: Sequence[PartEstimate]) -> NDArray[np.intp]:
        """Which of the chunk counts each token count is sent in, as `choose_chunks` does for one case."""
        tokens = self.points.tokens
        found = []
        for count, total in zip(counts, totals, strict=True):
            pieces = case.tp * count
            long_enough = (tokens % pieces == 0) & (tokens >= pieces * MIN_CHUNK_TOKENS)
            seconds = 0.0 if total.seconds is None else total.seconds
            found.append(np.where(long_enough | (count == counts[0]), seconds, np.inf))
        return first_of_the_least(found)

    def _at_points(self, part: PartEstimate, cores: Sequence[OpEstimate]) -> PartEstimate:
        if part.seconds is None or part.low_s is None or part.high_s is None:
            return part
        added = cores if part.part in WITH_CORES else []
        seconds = self._with(part.seconds, [core.seconds for core in added])
        is_point = part.low_s is part.seconds is part.high_s and all(core.low_s is core.high_s for core in added)
        return PartEstimate(
            part=part.part,
            seconds=seconds,
            low_s=seconds if is_point else self._with(part.low_s, [core.low_s for core in added]),
            high_s=seconds if is_point else self._with(part.high_s, [core.high_s for core in added]),
            extrapolated=any_of([self._gathered(part.extrapolated), *(core.extrapolated for core in added)]),
        )

    def _with(self, seconds: float, cores: Sequence[float]) -> float:
        found: float = reduce(add, cores, self._gathered(seconds))
        return found

    def _gathered(self, value: Any) -> Any:
        """Of every point; a number is that of all of them."""
        return self.points.gathered(value) if isinstance(value, np.ndarray) else value


def _of_the_chosen(parts: Sequence[PartEstimate], chosen: NDArray[np.intp]) -> PartEstimate:
    """At each token count the part of the candidate that was chosen."""

    def pick(values: Sequence[Any]) -> Any:
        rows = np.stack(np.broadcast_arrays(*values, chosen)[:-1])
        return np.take_along_axis(rows, chosen[np.newaxis], axis=0)[0]

    if any(part.seconds is None for part in parts):
        return parts[0]
    seconds = pick([part.seconds for part in parts])
    is_point = all(part.low_s is part.seconds is part.high_s for part in parts)
    return PartEstimate(
        part=parts[0].part,
        seconds=seconds,
        low_s=seconds if is_point else pick([part.low_s for part in parts]),
        high_s=seconds if is_point else pick([part.high_s for part in parts]),
        extrapolated=pick([part.extrapolated for part in parts]),
    )
