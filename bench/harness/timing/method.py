"""How the user asked for time to be taken."""

from dataclasses import dataclass
from typing import Final

from tp.errors import ConfigError
from tp.flags import positive_float

# Shorter drowns in the ranks' own skew; longer is a hang.
MIN_DELAY_MS: Final = 0.1
MAX_DELAY_MS: Final = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Choices that change what a time means."""

    cold: bool
    """Whether a GPU's L2 cache is flushed before every pass."""
    graph: bool
    """Whether passes are replayed from CUDA graphs."""
    delayed_rank: int | None
    """The rank that comes late on purpose, if any, to passes of their own."""
    delay_s: float

    def delay_of(self, rank: int) -> float:
        return self.delay_s if rank == self.delayed_rank else 0.0


def read_delay(text: str, *, world: int) -> tuple[int | None, float]:
    """Rank and seconds of `--plant-delay rank:ms`; ConfigError when it has no meaning in a world of so many."""
    if not text:
        return None, 0.0
    rank, colon, milliseconds = text.partition(":")
    if not colon or not rank.isdecimal():
        raise ConfigError(f"--plant-delay {text}: is not rank:ms; write 1:5 to let rank 1 come 5 ms late")
    if int(rank) >= world or world == 1:
        raise ConfigError(f"--plant-delay {text}: there is no rank {rank} that others wait for in a world of {world}")
    delay_ms = positive_float(milliseconds, flag="--plant-delay")
    if not MIN_DELAY_MS <= delay_ms <= MAX_DELAY_MS:
        raise ConfigError(f"--plant-delay {text}: must lie between {MIN_DELAY_MS:g} and {MAX_DELAY_MS:g} ms")
    return int(rank), delay_ms / 1e3
