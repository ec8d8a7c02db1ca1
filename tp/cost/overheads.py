"""What a pass costs beside its ops: the host's work for each part, and ops and transfers that slow each other down."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tp.case import Case, Phase
from tp.numbers import larger
from tp.plan.ops import Collective, Direction, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """By how much compute and a transfer that goes on beside it slow each other down; 0: not at all."""

    compute: float = 0.0
    communication: float = 0.0
    rows: int = 0
    """Measured layers that say so; 0: none, an assumption."""
    compute_s_per_byte: float | None = None
    """Between nodes: the compute that a byte costs which a rank sends beside it; None where nothing tells."""

    def beside(self, op: Collective, seconds: float) -> float:
        """By what share compute is slower while `op` takes so long: over a network, by what hosts do for each byte."""
        if self.compute_s_per_byte is None or op.num_nodes == 1:
            return self.compute
        return self.compute_s_per_byte * op.sent_bytes / larger(seconds, SHORTEST_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """The launch terms and the contention of a machine."""

    launch_s: dict[str, float] = field(default_factory=dict)
    """By `launch_key`: host time of a part of a whole layer that no op of it carries."""
    wait_s: float = 0.0
    """What waiting for a transfer costs that went on beside compute and is long here."""
    contention: Contention = Contention()

    def __post_init__(self) -> None:
        for key, seconds in self.launch_s.items():
            if key.count("/") != 2 or seconds < 0:
                raise ValueError(f"launch_s has {key!r} = {seconds:g}; a key is phase/direction/part, a term positive")

    def launches(self, case: Case) -> Iterator[tuple[tuple[Direction, Part], float]]:
        """Direction, part and seconds of the terms of a case."""
        halves = case.has_attention + case.has_ffn
        for key, seconds in self.launch_s.items():
            phase, direction, part = key.split("/")
            if phase == case.workload.phase and seconds > 0:
                share = halves / 2 if part in IN_BOTH_HALVES else 1.0
                yield (direction, part), seconds * share  # type: ignore[misc]


NONE: Final = Overheads()
# Shorter than anything is.
SHORTEST_S: Final = 1e-9
# Parts that each half of a layer has; the term of a layer is that of both.
IN_BOTH_HALVES: Final[tuple[Part, ...]] = ("norm", "residual")
# A launch term is the host's, and varies as host times do: the interval is this share of it to either side.
LAUNCH_SPREAD: Final = 0.5


def launch_key(phase: Phase, direction: Direction, part: Part) -> str:
    """Where a launch term is kept."""
    return f"{phase}/{direction}/{part}"
