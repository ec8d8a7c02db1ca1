"""Theories around a theory: one that is asked for the price of an op once."""

from dataclasses import dataclass, field

from tp.cost.overheads import Overheads
from tp.cost.theory import OpEstimate, Price, Theory, TheoryName
from tp.plan.ops import Op


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Around:
    """All of a theory but its prices."""

    theory: Theory

    @property
    def name(self) -> TheoryName:
        return self.theory.name

    @property
    def bounds(self) -> bool:
        return self.theory.bounds

    @property
    def overheads(self) -> Overheads:
        return self.theory.overheads


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Remembered(Around):
    """The same prices: degrees, strategies and the search for a rate ask for the same products again and again."""

    _known: dict[Op, Price] = field(default_factory=dict)

    def price(self, op: Op) -> OpEstimate | None:
        if op not in self._known:
            self._known[op] = self.theory.price(op)
        return self._known[op]
