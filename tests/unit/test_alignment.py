"""One clock out of several: offsets by round trips, and what lies between two of them."""

import pytest

from bench.harness.world import alignment
from bench.harness.world.alignment import Offsets, SharedClock, ask_clock, find_offsets
from bench.harness.world.ranks import LoneRank, Place

pytestmark = pytest.mark.unit


class Trips(LoneRank):
    """Rank 0, whose peer's clock is 100 ahead; answers take long, and longer one way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.trips = iter([(0.3, 0.1), (0.01, 0.01), (0.2, 0.5)] * alignment.ROUND_TRIPS)

    def ask_time(self, peer: int) -> tuple[float, float, float] | None:
        there_s, back_s = next(self.trips)
        sent = self.now
        self.now += there_s + back_s
        return sent, sent + there_s + 100.0, self.now


def test_the_fastest_round_trip_counts() -> None:
    offset_s, uncertainty_s = ask_clock(Trips(), 1)
    assert offset_s == pytest.approx(100.0)
    assert uncertainty_s == pytest.approx(0.01)


def test_ranks_of_one_host_share_its_clock() -> None:
    class SameHost(LoneRank):
        places = tuple(Place(node="n", host="h", machine="m", pid=pid) for pid in range(3))

        def ask_time(self, peer: int) -> tuple[float, float, float] | None:
            raise AssertionError("nobody needs to be asked")

    found = find_offsets(SameHost())
    assert found.offsets_s == found.uncertainty_s == (0.0, 0.0, 0.0)


def test_one_rank_answers_for_its_host() -> None:
    class TwoHosts(Trips):
        places = tuple(Place(node=host, host=host, machine="m", pid=0) for host in ("a", "a", "b", "b"))

    found = find_offsets(TwoHosts())
    assert found.offsets_s == pytest.approx((0.0, 0.0, 100.0, 100.0))
    assert found.uncertainty_s == pytest.approx((0.0, 0.0, 0.01, 0.01))


def test_between_two_alignments_the_offset_is_interpolated() -> None:
    before = Offsets(at_s=0.0, offsets_s=(0.0, 100.0), uncertainty_s=(0.0, 0.0))
    after = Offsets(at_s=10.0, offsets_s=(0.0, 100.4), uncertainty_s=(0.0, 0.0))
    clock = SharedClock(before=before, after=after)
    assert clock.shared_s(0, 3.0) == 3.0
    assert clock.shared_s(1, 100.0) == pytest.approx(0.0)
    assert clock.shared_s(1, 105.2) == pytest.approx(5.0, abs=0.01)
    assert clock.shared_s(1, 110.4) == pytest.approx(10.0, abs=0.02)
