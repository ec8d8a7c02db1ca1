"""What a pass costs beside its ops: the host's work for each part, and ops and transfers that slow each other down."""

from dataclasses import dataclass, field
from typing import Final

from tp.case import Phase
from tp.plan.ops import Direction, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """By how much compute and a transfer that goes on beside it slow each other down; 0: not at all."""

    compute: float = 0.0
    communication: float = 0.0
    rows: int = 0
    """Measured layers that say so; 0: none, an assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """The launch terms and the contention of a machine."""

    launch_s: dict[str, float] = field(default_factory=dict)
    """By `launch_key`: host time of a part that no op of it carries."""
    contention: Contention = Contention()

    def launch(self, phase: Phase, direction: Direction, part: Part) -> float:
        """Seconds; 0 where nothing was measured."""
        return self.launch_s.get(launch_key(phase, direction, part), 0.0)


NONE: Final = Overheads()
# A launch term is the host's, and varies as host times do: the interval is this share of it to either side.
LAUNCH_SPREAD: Final = 0.5


def launch_key(phase: Phase, direction: Direction, part: Part) -> str:
    """Where a launch term is kept."""
    return f"{phase}/{direction}/{part}"
