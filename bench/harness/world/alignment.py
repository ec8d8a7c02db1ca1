"""One clock for all ranks: how far each host's monotonic clock is from that of rank 0.

Ranks of one host share its clock. Between hosts the offset is found by round trips, the fastest of which bounds the
error by half of its time (Cristian, Probabilistic clock synchronization, 1989), before and after what is timed; in
between it is interpolated, since oscillators differ by some parts in a million.
"""

import time
from dataclasses import dataclass

from bench.harness.world.ranks import Ranks

ROUND_TRIPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """Every rank's clock minus that of rank 0, at one moment of rank 0's."""

    at_s: float
    offsets_s: tuple[float, ...]
    uncertainty_s: tuple[float, ...]
    """Half of the fastest round trip; 0 on the host of rank 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedClock:
    """Offsets before and after, and what lies between."""

    before: Offsets
    after: Offsets

    def shared_s(self, rank: int, host_s: float) -> float:
        """A moment of `rank`'s clock on that of rank 0."""
        first, last = self.before.offsets_s[rank], self.after.offsets_s[rank]
        span_s = self.after.at_s - self.before.at_s
        passed = (host_s - first - self.before.at_s) / span_s if span_s > 0 else 0.0
        return host_s - first - (last - first) * passed


def find_offsets(ranks: Ranks) -> Offsets:
    """Ask every host's clock; every rank calls it and gets the same."""
    at_s = time.perf_counter()
    # The first rank of each host answers for all of them.
    speakers = {place.host: rank for rank, place in reversed(list(enumerate(ranks.places)))}
    found = {host: (0.0, 0.0) if rank == 0 else ask_clock(ranks, rank) for host, rank in sorted(speakers.items())}
    everyone = ranks.gather_objects((at_s, found))
    at_s, offsets = everyone[0]
    by_rank = [offsets[place.host] for place in ranks.places]
    return Offsets(at_s=at_s, offsets_s=tuple(o for o, _ in by_rank), uncertainty_s=tuple(u for _, u in by_rank))


def ask_clock(ranks: Ranks, peer: int) -> tuple[float, float]:
    """Offset of `peer`'s clock and its uncertainty, in seconds, as rank 0 sees them; elsewhere 0, 0."""
    trips = [trip for _ in range(ROUND_TRIPS) if (trip := ranks.ask_time(peer)) is not None]
    if not trips:
        return 0.0, 0.0
    sent_s, theirs_s, back_s = min(trips, key=lambda trip: trip[2] - trip[0])
    return theirs_s - (sent_s + back_s) / 2, (back_s - sent_s) / 2
