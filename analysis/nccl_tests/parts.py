"""What a log holds, as it printed it: numbers stay text, so that a check knows how they were rounded."""

from dataclasses import dataclass
from typing import Final, Literal

Placement = Literal["out_of_place", "in_place"]
PLACEMENTS: Final[tuple[Placement, ...]] = ("out_of_place", "in_place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of one process, or what is left of it."""

    number: int
    """In the file, from 1."""
    text: str
    debug: str = ""
    """What NCCL wrote behind the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A line of "Using devices"."""

    place: str
    number: int
    group: int
    pid: int
    host: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something in the log that cannot be read, and where."""

    place: str
    """Such as "line 12"."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What a log says of a test before its table, and the name that it repeats after it."""

    collective: str
    """Empty where nothing names the program."""
    ranks: tuple[Rank, ...] = ()
    per_process: int | None = None
    """GPUs of one process: nThread times nGpus."""
    library: str = "NCCL"
    version: str = ""
    tests: str = "nccl-tests"
    """What measured it."""
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One size in one placement."""

    place: str
    size: int
    count: int
    type: str
    redop: str
    root: str
    placement: Placement
    time: str
    """Microseconds."""
    algbw: str
    """GB/s, as is the other."""
    busbw: str
    wrong: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One table with its heading."""

    place: str
    heading: Heading
    rows: tuple[Row, ...]
    ended: bool
    """Whether its last lines are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """All tests of a file, and what of it could not be read."""

    sweeps: tuple[Sweep, ...]
    faults: tuple[Fault, ...]
