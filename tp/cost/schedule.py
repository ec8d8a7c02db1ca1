"""Compute and communication laid side by side: one device that computes, one link that sends, each one thing at a time.

An op of a plan starts when everything listed before it is done, but for collectives that overlap: those only have to
be here for an op that needs them (`tp/plan/ops.py`). The time that compute stands still is charged to the collective
that it waits for, so the parts of a pass sum to the whole: max(Tc, Tm) <= total <= Tc + Tm.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tp.plan.ops import Collective, CollectiveKind, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a pass ends, and how long compute stood still for each kind of collective."""

    total_s: float
    exposed_s: dict[CollectiveKind, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer:
    kind: CollectiveKind
    start_s: float
    end_s: float


def schedule(ops: Sequence[Op], seconds: Sequence[float]) -> Schedule:
    """Run the ops, each as long as it says in `seconds`, on one device and one link."""
    now, sent = 0.0, list[_Transfer]()
    exposed: defaultdict[CollectiveKind, float] = defaultdict(float)

    def arrival(number: int) -> float:
        """The moment at which the first so many are here and the device, idle since `now`, goes on."""
        if number == 0 or sent[number - 1].end_s <= now:
            return now
        for transfer in sent[:number]:
            exposed[transfer.kind] += max(0.0, transfer.end_s - max(now, transfer.start_s))
        return sent[number - 1].end_s

    for op, duration in zip(ops, seconds, strict=True):
        if isinstance(op, Collective):
            start = max(now, sent[-1].end_s if sent else 0.0)
            sent.append(_Transfer(kind=op.kind, start_s=start, end_s=start + duration))
            if not op.overlaps:
                now = arrival(len(sent))
        else:
            now = arrival(len(sent) if op.needs is None else op.needs) + duration
    return Schedule(total_s=arrival(len(sent)), exposed_s=exposed)
