"""What compute and communication do to each other, ranks among themselves, others on the wire; loads without torch."""

from dataclasses import dataclass

import numpy as np

from bench.harness.record.names import COMMUNICATION, COMPUTE, CONTENDED_COMMUNICATION, CONTENDED_COMPUTE, FULL
from bench.harness.record.records import CaseResult, Drift, Samples, Traffic
from bench.harness.record.stats import Summary, summarise
from tp.units import format_seconds, format_signed_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """Medians of the slowest rank: each alone, each while the other runs, and both as the strategy runs them."""

    compute_s: float
    contended_compute_s: float
    communication_s: float
    contended_communication_s: float
    full_s: float
    uncovered: int
    """Contended passes that outlasted what ran beside them: their slow-down is a lower bound."""

    @property
    def compute_slowdown(self) -> float:
        return self.contended_compute_s / self.compute_s

    @property
    def communication_slowdown(self) -> float:
        return self.contended_communication_s / self.communication_s

    @property
    def overlap_percent(self) -> float:
        """100 * max(0, min(1, (Tm + Tc - To) / min(Tm, Tc))) of the times alone (Intel MPI Benchmarks, IMB-NBC)."""
        hidden = self.communication_s + self.compute_s - self.full_s
        return 100 * max(0.0, min(1.0, hidden / min(self.communication_s, self.compute_s)))

    @property
    def exposed_s(self) -> float:
        """Communication that compute does not hide, by the times alone; derived, not measured."""
        return self.full_s - self.compute_s


def contention(result: CaseResult) -> Contention | None:
    """Of a case that was timed so; None where nothing is sent, and in records before version 3."""
    by_task = {samples.task: samples for samples in result.samples}
    names = (COMPUTE, CONTENDED_COMPUTE, COMMUNICATION, CONTENDED_COMMUNICATION, FULL)
    if not all(name in by_task for name in names):
        return None
    compute, contended_compute, sending, contended_sending, full = (slowest(by_task[name]).median_s for name in names)
    return Contention(
        compute_s=compute,
        contended_compute_s=contended_compute,
        communication_s=sending,
        contended_communication_s=contended_sending,
        full_s=full,
        uncovered=by_task[CONTENDED_COMPUTE].uncovered + by_task[CONTENDED_COMMUNICATION].uncovered,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverRanks:
    """An iteration's slowest and fastest rank, over the iterations."""

    slowest: Summary
    fastest: Summary
    spread_s: float
    """Median of the difference."""


def over_ranks(samples: Samples) -> OverRanks:
    """Maximum, minimum and spread over the ranks of each iteration."""
    times = np.array(samples.times_s)
    return OverRanks(
        slowest=slowest(samples),
        fastest=summarise(times.min(axis=1).tolist()),
        spread_s=float(np.median(times.max(axis=1) - times.min(axis=1))),
    )


def slowest(samples: Samples) -> Summary:
    """Of the maximum over ranks of each iteration."""
    return summarise(np.array(samples.times_s).max(axis=1).tolist())


def sent_over_planned(traffic: Traffic) -> float | None:
    """What all counters saw over what the plan says of all ranks; None where nothing is planned or none counted."""
    seen = sum(sum(host.sent_bytes.values()) for host in traffic.hosts)
    planned = traffic.passes * traffic.planned_bytes * sum(host.num_ranks for host in traffic.hosts)
    return seen / planned if planned and seen else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftChange:
    """The same work at a run's start and at its end, by its slowest rank."""

    before: Summary
    after: Summary

    @property
    def beyond_noise(self) -> bool:
        """Whether the two intervals lie apart."""
        return self.before.high_s < self.after.low_s or self.after.high_s < self.before.low_s

    @property
    def change(self) -> float | None:
        """The relative change of the median; None from nothing."""
        return self.after.median_s / self.before.median_s - 1 if self.before.median_s else None


def drift_change(drift: Drift) -> DriftChange:
    """What a run's last line but one says of the machine."""
    return DriftChange(before=slowest(drift.before), after=slowest(drift.after))


def drift_sentence(drift: Drift) -> str:
    """By how much the machine drifted, and whether the two intervals leave any doubt."""
    found = drift_change(drift)
    change = "" if found.change is None else f"{format_signed_percent(found.change)}, "
    return (
        f"drift: {drift.key} took {format_seconds(found.before.median_s)} at the start and "
        f"{format_seconds(found.after.median_s)} at the end ({change}"
        f"{'beyond' if found.beyond_noise else 'within'} the intervals of {found.before.num_samples} and "
        f"{found.after.num_samples} samples)"
    )
