"""Compute and communication laid side by side: one device that computes, one link that sends, each one thing at a time.

An op of a plan starts when everything listed before it is done, but for collectives that overlap: those only have to
be here for an op that needs them (`tp/plan/ops.py`). The time that compute stands still is charged to the collective
that it waits for, so the parts of a pass sum to the whole: max(Tc, Tm) <= total <= Tc + Tm. Overheads come on top:
what overlaps slows each other down, both by a share of the time that they have in common, and waiting for what went on
beside compute costs something though it be here. Seconds may be arrays over a grid; each of its points then has a
schedule of its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tp.cost.overheads import NONE, Overheads
from tp.numbers import larger, lesser
from tp.plan.ops import Collective, CollectiveKind, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a pass ends, and how long compute stood still for each kind of collective."""

    total_s: float
    exposed_s: dict[CollectiveKind, float]


def schedule(ops: Sequence[Op], seconds: Sequence[float], overheads: Overheads = NONE) -> Schedule:
    """Run the ops, each as long as it says in `seconds`, on one device and one link."""
    now, awaited, contention = 0.0, 0, overheads.contention
    slows = contention.compute > 0 or contention.communication > 0 or contention.compute_s_per_byte is not None
    beside = 0.0  # by what share the last collective slows compute
    sent = list[tuple[CollectiveKind, float]]()  # and the moment at which it is here
    exposed: defaultdict[CollectiveKind, float] = defaultdict(float)

    def wait_for(number: int, *, overlapped: bool = True) -> None:
        """The device, idle since `now`, goes on once the first so many are here."""
        nonlocal now, awaited
        for kind, arrival_s in sent[awaited:number]:
            # One after the other on one link, so what is still to come has it from `now` on.
            later = larger(now + overheads.wait_s, arrival_s) if overlapped else larger(now, arrival_s)
            exposed[kind] = exposed[kind] + (later - now)
            now = later
        awaited = max(awaited, number)

    def compute(duration: float) -> None:
        nonlocal now
        common = 0.0
        if slows and len(sent) > awaited:
            common = lesser(duration, larger(0.0, sent[-1][1] - now))
            late = contention.communication * common
            sent[awaited:] = [(kind, arrival_s + late) for kind, arrival_s in sent[awaited:]]
        now = now + duration + beside * common

    for op, duration in zip(ops, seconds, strict=True):
        if isinstance(op, Collective):
            # What was awaited is here, and leaves the link free.
            free = larger(now, sent[-1][1]) if len(sent) > awaited else now
            sent.append((op.kind, free + duration))
            beside = contention.beside(op, duration) if slows else 0.0
            if not op.overlaps:
                wait_for(len(sent), overlapped=False)
        else:
            wait_for(len(sent) if op.needs is None else op.needs)
            compute(duration)
    wait_for(len(sent))
    return Schedule(total_s=now, exposed_s=exposed)
