"""What there is to time, and what a rank times it with."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.harness.machine.probe import Probe
from bench.harness.timing.clock import Clock
from bench.harness.timing.contention import Beside
from bench.harness.world.faults import Guard
from bench.harness.world.ranks import Ranks
from tp.layers.wire import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to time: `run` is timed, `reset` is called before it outside of the timing.

    What `run` gives back is compared where a pass is replayed, and nowhere else.
    """

    name: str
    run: Callable[[Timeline], object]
    reset: Callable[[], None]
    marks_parts: bool = False
    decides: bool = True
    """Whether sampling goes on until this one is known, too."""
    beside: Beside | None = None
    """What runs at the same time, untimed."""
    delay_s: float = 0.0
    """By how much this rank comes late on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What a rank measures with."""

    clock: Clock
    ranks: Ranks
    probe: Probe
    guard: Guard
