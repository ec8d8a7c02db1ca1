"""What all ranks timed, side by side as it goes into the record; every rank gets the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.harness.machine.judge import marks
from bench.harness.machine.reading import Facts, Reading
from bench.harness.record.records import BlockMark, Moment, PartTimes, Samples, StoppedBy, Telemetry, Times
from bench.harness.timing.recorder import Lap, Span
from bench.harness.timing.watch import Watch
from bench.harness.world.alignment import Offsets, SharedClock
from bench.harness.world.ranks import Place, Ranks

Laps = list[dict[str, Lap]]
"""Of one rank, by round and task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of timing some tasks together."""

    samples: dict[str, Samples]
    moments: tuple[Moment, ...]
    marks: tuple[BlockMark, ...]
    offsets: Offsets

    def telemetry(self, *, written: str, keys: Sequence[str]) -> Telemetry:
        """The record's line about the machine's state."""
        return Telemetry(
            written=written,
            keys=tuple(keys),
            moments=self.moments,
            clock_offsets_s=self.offsets.offsets_s,
            clock_uncertainty_s=self.offsets.uncertainty_s,
        )


def collect(
    names: Sequence[str],
    warmups: Laps,
    laps: Laps,
    reasons: Sequence[StoppedBy],
    offsets: tuple[Offsets, Offsets],
    watch: Watch,
    *,
    ranks: Ranks,
) -> Measured:
    """Every rank's laps and readings, joined."""
    everyone = ranks.gather_objects((warmups, laps, watch.readings, watch.facts))
    clock = SharedClock(before=offsets[0], after=offsets[1])
    samples = {
        name: _samples(name, reason, [w for w, *_ in everyone], [t for _, t, *_ in everyone], clock)
        for name, reason in zip(names, reasons, strict=True)
    }
    moments = _moments([readings for *_, readings, _ in everyone])
    return Measured(
        samples=samples,
        moments=moments,
        marks=tuple(_marks(moments, [facts for *_, facts in everyone], ranks.places)),
        offsets=offsets[0],
    )


def _samples(
    name: str, reason: StoppedBy, warmups: Sequence[Laps], timed: Sequence[Laps], clock: SharedClock
) -> Samples:
    warm = [[done[name] for done in theirs] for theirs in warmups]
    laps = [[done[name] for done in theirs] for theirs in timed]

    def shared(read: Callable[[Lap], float]) -> list[list[float]]:
        return [[clock.shared_s(rank, read(lap)) for lap in of_rank] for rank, of_rank in enumerate(laps)]

    starts = shared(lambda lap: lap.start_s)
    first = [min(row) for row in zip(*starts, strict=True)]

    def after_first(moments: list[list[float]]) -> Times:
        return _by_iteration([[at - begun for at, begun in zip(row, first, strict=True)] for row in moments])

    return Samples(
        task=name,
        warmup_s=_by_iteration([[lap.total_s for lap in rank] for rank in warm]),
        times_s=_by_iteration([[lap.total_s for lap in rank] for rank in laps]),
        parts=tuple(
            PartTimes(
                part=span.part,
                direction=span.direction,
                call=span.call,
                times_s=_by_iteration([[lap.parts_s[span] for lap in rank] for rank in laps]),
                arrivals_s=after_first(shared(partial(_arrival, span))) if span in laps[0][0].arrivals_s else (),
            )
            for span in laps[0][0].parts_s
        ),
        stopped_by=reason,
        host_bound=max(sum(lap.host_bound for lap in rank) for rank in laps),
        starts_s=after_first(starts),
        uncovered=max(sum(not lap.covered for lap in rank) for rank in laps),
    )


def _arrival(span: Span, lap: Lap) -> float:
    return lap.arrivals_s[span]


def _by_iteration(by_rank: Sequence[Sequence[float]]) -> Times:
    """[rank][iteration] -> [iteration][rank], to the nanosecond."""
    return tuple(tuple(round(value, 9) for value in row) for row in zip(*by_rank, strict=True))


def _moments(readings: Sequence[list[tuple[int, float, Reading]]]) -> tuple[Moment, ...]:
    begun = readings[0][0][1]
    return tuple(
        Moment(rounds=of_ranks[0][0], since_s=of_ranks[0][1] - begun, ranks=tuple(reading for *_, reading in of_ranks))
        for of_ranks in zip(*readings, strict=True)
    )


def _marks(moments: Sequence[Moment], facts: Sequence[Facts], places: Sequence[Place]) -> list[BlockMark]:
    """Why a block is not to be trusted, by rank; ranks of one host use its processors together."""
    found = []
    for before, after in zip(moments, moments[1:], strict=False):
        elapsed_s = after.since_s - before.since_s
        own_s = [_cpu_s(b, a) for b, a in zip(before.ranks, after.ranks, strict=True)]
        for rank, (b, a) in enumerate(zip(before.ranks, after.ranks, strict=True)):
            of_host = sum(s for s, place in zip(own_s, places, strict=True) if place.machine == places[rank].machine)
            found += [
                BlockMark(
                    first_round=before.rounds,
                    num_rounds=after.rounds - before.rounds,
                    rank=rank,
                    kind=mark.kind,
                    text=mark.text,
                )
                for mark in marks(b, a, elapsed_s=elapsed_s, facts=facts[rank], own_cpu_s=of_host)
            ]
    return found


def _cpu_s(before: Reading, after: Reading) -> float:
    """Processor seconds that a rank used."""
    name = "process_cpu_s"
    return after.values[name] - before.values[name] if name in before.values and name in after.values else 0.0
