"""Claims: a number that somebody prints, how it follows from which inputs, and which inputs would be right.

An input is a number, or a reference into the catalogue such as `peak h100-sxm bf16` (analysis/trial/quantities.py), so
that a ledger repeats nothing that a description holds.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import with_config

from tp import catalogue
from tp.errors import ConfigError
from tp.schema import STRICT, Name

Relation = Literal["=", "<", ">", ">="]
Unit = Literal["1", "FLOP/B", "FLOP/s", "B/s", "B", "FLOP", "elements"]
Origin = Literal["article", "vendor", "user", "planted"]
"""Who says it; `planted` claims are known to be false, and show that the trial can refute."""
Qualifier = Literal["dense", "2:4", "one-way", "two-way", "per link", "per device", "per port", "peak", "sustained"]

Inputs = dict[str, float | str]

# Printed numbers are rounded, some of them to one digit.
TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the claim should have been computed from."""

    why: str
    inputs: Inputs = field(default_factory=dict)
    """Instead of, and beside, the claim's own."""
    formula: str | None = None
    """Instead of the claim's own."""
    beside: dict[str, str] = field(default_factory=dict)
    """Formulas over the same inputs whose values the reason tells, by what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One numeric or comparative statement, in our words."""

    name: Name
    subject: str
    """What it is about, in few words."""
    statement: str
    printed: str
    """The number as its source prints it; empty where it compares in words."""
    stated: float | None = None
    """The number in `unit`; of a comparison what its formula is compared with. None: nothing that could be computed."""
    unit: Unit = "1"
    relation: Relation = "="
    formula: str | None = None
    """Arithmetic over the inputs by name; its value stands in `relation` to `stated`."""
    inputs: Inputs = field(default_factory=dict)
    """The claim's own."""
    right: Correction | None = None
    """None: the claim's own inputs are right."""
    note: str | None = None
    """What to know of the arithmetic, where nothing is to be corrected."""
    measured: str | None = None
    """Which measurement is its counterpart (analysis/trial/rates.py and layers.py)."""
    hardware: str | None = None
    """Whose measurement counts, a name of the catalogue; None: that of any machine."""
    link: str | None = None
    """Of a degree: the link of `hardware` that it is of."""
    qualifiers: tuple[Qualifier, ...] = ()
    doubt: str | None = None
    untestable: str | None = None
    """Why it cannot be tested, of a claim without a formula."""
    tolerance: float = TOLERANCE
    """Relative, of an equality."""

    def __post_init__(self) -> None:
        if (self.formula is None) != (self.stated is None):
            raise ValueError(f"{self.name}: stated and formula go together; give both or neither")
        if self.formula is None and self.untestable is None:
            raise ValueError(f"{self.name}: has no formula; add one, or say under untestable why there is none")
        if self.right is not None and self.formula is None:
            raise ValueError(f"{self.name}: right has nothing to correct; add a formula")
        if self.unit in ("FLOP/s", "B/s") and self.stated is not None and not self.stated > 0:
            raise ValueError(f"{self.name}: stated is {self.stated:g}; a rate is positive")
        if not self.tolerance >= 0:
            raise ValueError(f"{self.name}: tolerance is {self.tolerance:g}; it must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Ledger:
    """The claims of one source."""

    origin: Origin
    source: str
    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        names = [claim.name for claim in self.claims]
        doubles = {name for name in names if names.count(name) > 1}
        if doubles:
            raise ValueError(f"two claims are called {min(doubles)}; rename one")


def load_ledger(name: str) -> Ledger:
    """The ledger `name` of configs/claims, or the TOML file of that path."""
    ledger = catalogue.load(name, Ledger, kind="claims", flag="--claims")
    if not ledger.claims:
        raise ConfigError(f"--claims {name}: claims is empty; add at least one [[claims]] table")
    return ledger
