"""How far the machine drifted while a run went on: what was timed first, timed once more at the end."""

from dataclasses import replace

import numpy as np

from bench.harness.record.records import Drift, Samples
from bench.harness.record.stats import Summary, summarise
from bench.harness.run.lines import now
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.task import Instruments, Task
from tp.units import format_seconds, format_signed_percent

MAX_ROUNDS = 24


def measure_again(task: Task, instruments: Instruments, policy: Policy) -> Samples:
    """The task alone, in a run's last moments."""
    briefly = replace(policy, max_rounds=min(policy.max_rounds, MAX_ROUNDS), max_seconds=policy.max_seconds / 2)
    return measure([task], instruments=instruments, policy=briefly).samples[task.name]


def drift_line(key: str, before: Samples, after: Samples) -> Drift:
    return Drift(key=key, written=now(), before=before, after=after)


def drift_sentence(drift: Drift) -> str:
    """By how much, and whether the two intervals leave any doubt."""
    before, after = _summary(drift.before), _summary(drift.after)
    overlap = before.low_s <= after.high_s and after.low_s <= before.high_s
    return (
        f"drift: {drift.key} took {format_seconds(before.median_s)} at first and {format_seconds(after.median_s)} at "
        f"the end ({format_signed_percent(after.median_s / before.median_s - 1)}, "
        f"{'within' if overlap else 'beyond'} the 95 % intervals)"
    )


def _summary(samples: Samples) -> Summary:
    return summarise(np.array(samples.times_s).max(axis=1).tolist())
