"""What the planner answers with: layouts, what a rank of each holds, how long it takes, and why it is not the first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tp.case import Recompute, Strategy
from tp.plan.footprint import STAGE_TERMS, StageTerm

MemoryTerm = StageTerm | Literal["reserve"]
MEMORY_TERMS: Final[tuple[MemoryTerm, ...]] = (*STAGE_TERMS, "reserve")

TimeTerm = Literal[
    "compute",
    "prefill compute",
    "decode compute",
    "TP communication",
    "recomputation",
    "uneven stages",
    "bubble",
    "stage sends",
    "gradient sum",
    "optimizer",
]
TIME_TERMS: Final[tuple[TimeTerm, ...]] = get_args(TimeTerm)

Status = Literal["fits", "does not fit", "cannot be", "no price"]
"""Whether a layout can be run: it fits; its memory does not; it cannot be laid out so; the theory lacks a price."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds with both ends of their interval."""

    seconds: float
    low_s: float
    high_s: float

    def __add__(self, other: "Span") -> "Span":
        """End to end, as if both erred together."""
        return Span(self.seconds + other.seconds, self.low_s + other.low_s, self.high_s + other.high_s)

    def times(self, count: float) -> "Span":
        return Span(self.seconds * count, self.low_s * count, self.high_s * count)

    def overlaps(self, other: "Span") -> bool:
        """Whether the intervals have a point in common."""
        return self.low_s <= other.high_s and other.low_s <= self.high_s


NOTHING: Final = Span(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a layout leaves open."""

    strategy: Strategy
    recompute: Recompute
    micro_batch: int
    """Sequences; in serving of a prompt pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a rank of the fullest stage, by term."""

    terms: Mapping[MemoryTerm, int]
    stage: int
    """Counted from 0."""
    capacity: float

    @property
    def total(self) -> int:
        return sum(self.terms.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity

    @property
    def largest(self) -> MemoryTerm:
        """The term that takes most."""
        return max(self.terms, key=lambda term: self.terms[term])


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of a training step, or of serving the batch."""

    whole: Span
    terms: Mapping[TimeTerm, float]
    """Seconds; they add up to the whole."""
    num_micro_batches: int
    """Of one replica; in serving of its prompts."""
    tokens_per_s: float
    """Of all GPUs: trained, or newly made."""
    mfu: float | None = None
    """Model FLOPs utilisation of a step (Chowdhery et al. 2022, PaLM, appendix B), of the dense peak."""
    first_token: Span | None = None
    """One prompt through all stages."""
    per_token: Span | None = None
    """Between two tokens of a sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """tp x pp x dp ranks, the best that was found for them, and why it is not the first."""

    tp: int
    pp: int
    dp: int
    status: Status
    reason: str = ""
    """Empty of the first."""
    is_certain: bool = True
    """Whether its interval is apart from the first's; where not, the order of both is not certain."""
    choice: Choice | None = None
    memory: Memory | None = None
    timing: Timing | None = None

    @property
    def name(self) -> str:
        """tp x pp x dp."""
        return f"{self.tp} x {self.pp} x {self.dp}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Every layout of so many GPUs, the best first, then those that do not fit, the nearest to it first."""

    layouts: tuple[Layout, ...]

    @property
    def best(self) -> Layout | None:
        """None where none fits."""
        return self.fitting[0] if self.fitting else None

    @property
    def fitting(self) -> tuple[Layout, ...]:
        return tuple(layout for layout in self.layouts if layout.status == "fits")

    @property
    def lost(self) -> tuple[Layout, ...]:
        """Those that cannot be run."""
        return tuple(layout for layout in self.layouts if layout.status != "fits")

    def find(self, tp: int, pp: int, dp: int) -> Layout | None:
        """The layout of these degrees, if it was looked at."""
        return next((each for each in self.layouts if (each.tp, each.pp, each.dp) == (tp, pp, dp)), None)
