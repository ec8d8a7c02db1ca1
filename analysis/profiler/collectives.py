"""Collectives by what they send, and how long each rank waits in them for the others.

The k-th collective of a name in a step, in one process group, is the same on every rank of the group; what it takes
there more than on the rank that needs least is that rank's wait for those that come late (peers' "straggler figure").
The least is still not the transfer alone where all ranks waited for a rank whose trace is not here.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.profiler.activity import Activity, Device, Message
from analysis.profiler.load import Trace, Traces

# Pairs of ranks: the k-th on one rank need not be with the k-th of another.
_PAIRWISE = "send_recv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The collectives of one kind and size that a rank sends in a step."""

    rank: int
    device: str
    step: int | None
    message: Message
    count: int = 0
    total_ns: int = 0
    shortest_ns: int | None = 0
    """What they take on the rank that needs least, one by one; None where they are not known on two ranks."""
    skew_ns: int | None = 0
    """Latest arrival less earliest, added up; None where the ranks share no clock."""

    @property
    def wait_ns(self) -> int | None:
        """What they take here more than on the rank that needs least."""
        return None if self.shortest_ns is None else self.total_ns - self.shortest_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """What the other ranks say of one collective."""

    shortest_ns: int | None
    skew_ns: int | None


_UNMET = _Met(shortest_ns=None, skew_ns=None)
_Lane = tuple[int, str]
_Row = tuple[int, str, int | None, Message]


def sent_collectives(traces: Traces) -> tuple[list[Sent], list[str]]:
    """A row a (rank, device, step, collective, group, bytes), and what could not be matched."""
    lanes, notes = _by_name(traces.traces), list[str]()
    rows: dict[_Row, Sent] = {}
    unmatched = 0
    is_guessed = False
    for (step, _, _, group), ranks in lanes.items():
        met, is_matched = _meet(ranks, traces.traces)
        unmatched += 0 if is_matched else 1
        is_guessed |= is_matched and not group and len(ranks) > 1
        for (rank, device), activities in ranks.items():
            for number, activity in enumerate(activities):
                assert activity.message is not None
                key = (rank, device, step, activity.message)
                old = rows.get(key, Sent(rank=rank, device=device, step=step, message=activity.message))
                rows[key] = _added(old, activity, met[number] if met else _UNMET)
    outside = sum(
        each.step is None
        for trace in traces.traces
        for device in trace.devices
        if device.windows[0].step is not None
        for each in _sent(device)
    )
    if outside:
        notes.append(f"{outside} collectives were called outside of all steps: none is counted")
    if unmatched:
        notes.append(f"{unmatched} kinds of collective came not equally often on all ranks: no wait is told for them")
    if is_guessed:
        notes.append("some collectives do not say their process group (as in CUDA graphs): matched over all ranks")
    return sorted(rows.values(), key=lambda row: (row.rank, row.device, row.step or 0, -row.total_ns)), notes


def _by_name(
    traces: Sequence[Trace],
) -> dict[tuple[int | None, str, str, str], dict[_Lane, list[Activity]]]:
    """The collectives of a (step, kernel, collective, group), a list in order for every rank and device."""
    found: dict[tuple[int | None, str, str, str], dict[_Lane, list[Activity]]] = defaultdict(dict)
    for trace in traces:
        for device in trace.devices:
            is_whole = device.windows[0].step is None
            for activity in _sent(device):
                if activity.message is not None and (is_whole or activity.step is not None):
                    key = (activity.step, activity.name, activity.message.collective, activity.message.group)
                    found[key].setdefault((trace.rank, device.name), []).append(activity)
    return found


def _sent(device: Device) -> list[Activity]:
    """In the order of the program: gloo's threads and a device's streams may swap neighbours."""
    sent = [each for each in device.activities if each.message is not None]
    return sorted(sent, key=lambda each: each.start_ns if each.asked_ns is None else each.asked_ns)


def _meet(ranks: dict[_Lane, list[Activity]], traces: Sequence[Trace]) -> tuple[list[_Met], bool]:
    """Shortest and skew of each, in order; empty where they cannot be matched, and whether they should have been."""
    counts = {len(activities) for activities in ranks.values()}
    first = next(iter(ranks.values()))[0].message
    assert first is not None
    if len(ranks) < 2 or first.collective == _PAIRWISE:
        return [], True
    if len(counts) > 1:
        return [], False
    bases = {trace.rank: trace.base_ns for trace in traces}
    hosts = {trace.host for trace in traces if trace.rank in {rank for rank, _ in ranks}}
    share_clock = len(hosts) == 1 and "" not in hosts
    met = []
    for together in zip(*ranks.values(), strict=True):
        starts = [bases[rank] + each.start_ns for (rank, _), each in zip(ranks, together, strict=True)]
        met.append(
            _Met(
                shortest_ns=min(each.end_ns - each.start_ns for each in together),
                skew_ns=max(starts) - min(starts) if share_clock else None,
            )
        )
    return met, True


def _added(row: Sent, activity: Activity, met: _Met) -> Sent:
    return replace(
        row,
        count=row.count + 1,
        total_ns=row.total_ns + activity.end_ns - activity.start_ns,
        shortest_ns=_plus(row.shortest_ns, met.shortest_ns),
        skew_ns=_plus(row.skew_ns, met.skew_ns),
    )


def _plus(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right
