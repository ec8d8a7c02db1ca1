"""What the planner answers with: layouts, what a rank of each holds, how long it takes, and why it is not the first."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
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

Source = Literal["products", "TP communication", "network", "optimizer"]
"""What errs together: the times of a term err by the source that they scale with."""
SOURCES: Final[Mapping[TimeTerm, Source]] = {
    "compute": "products",
    "prefill compute": "products",
    "decode compute": "products",
    "TP communication": "TP communication",
    "recomputation": "products",
    "uneven stages": "products",
    "bubble": "products",
    "stage sends": "network",
    "gradient sum": "network",
    "optimizer": "optimizer",
}

# What a card reports may be more than its sheet says: an "80 GB" A100 or H100 has 81 920 MiB (NVML), 85.9e9 bytes.
MORE_THAN_SHEET: Final = 0.07
# Beyond this share of the memory fragmentation and libraries' buffers may break a layout that fits; a convention.
TIGHT: Final = 0.95

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

    @property
    def log_error(self) -> float:
        """Half the interval's width, on a log scale; of nothing none."""
        return log(self.high_s / self.low_s) / 2 if self.low_s > 0 else 0.0


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
    def is_near(self) -> bool:
        """Whether it is over the sheet's capacity, by less than cards may report beyond their sheet."""
        return self.capacity < self.total < (1 + MORE_THAN_SHEET) * self.capacity

    @property
    def is_tight(self) -> bool:
        """Whether it fits, but nearly fills the memory."""
        return TIGHT * self.capacity < self.total <= self.capacity

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
    log_errors: Mapping[Source, float]
    """Half-widths of each source's 90 % interval, on a log scale."""
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

    def share(self, source: Source) -> float:
        """What of the whole errs with this source."""
        return sum(seconds for term, seconds in self.terms.items() if SOURCES[term] == source) / self.whole.seconds


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
    """Whether it is slower than the first beyond what errors leave open (`certainty.least_ratio`); of bounds never."""
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
