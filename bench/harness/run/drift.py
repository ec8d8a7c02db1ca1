"""How far the machine drifted while a run went on: what was timed first, timed once more at the end.

The same tasks take turns again, not one of them alone: what runs between two passes of a task decides how warm its
caches are, and would pass for drift.
"""

from dataclasses import replace
from typing import Final

from bench.harness.record.records import Drift, Samples
from bench.harness.run.lines import now
from bench.harness.timing.measure import Policy

MAX_ROUNDS: Final = 16


def briefly(policy: Policy) -> Policy:
    """A policy for the second time."""
    return replace(policy, max_rounds=min(policy.max_rounds, MAX_ROUNDS), max_seconds=policy.max_seconds / 2)


def drift_line(key: str, before: Samples, after: Samples) -> Drift:
    """The record's line of it."""
    return Drift(key=key, written=now(), before=before, after=after)
