"""How a block is laid over its ranks."""

from dataclasses import dataclass

from tp.case import Recompute, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What the layers of a block have to agree on."""

    strategy: Strategy
    chunks: int = 1
    """In how many pieces a rank's tokens go round the ring under `overlap`."""
    recompute: Recompute = "none"
    fp8: bool = False
    """Whether matrix products quantise their operands to fp8."""
