"""The machine's state while it was measured on, as a frame and as lines over time; what was not read is never zero."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import pandas as pd

from analysis.frames.rows import Row, frame_of
from analysis.load import Run, State
from bench.harness.machine.reading import Reading

# By name the value of a reading and its unit.
LEVELS: Final = (
    ("power", "power_w", "w"),
    ("sm_clock", "sm_clock_mhz", "mhz"),
    ("temperature", "temperature_c", "c"),
    ("cpu_frequency", "cpu_frequency_mhz", "mhz"),
)
# Counters, in seconds: by name the value of a reading and its scale.
COUNTERS: Final = (
    ("power_limit", "violation_power_ns", 1e-9),
    ("thermal_limit", "violation_thermal_ns", 1e-9),
    ("sync_boost", "violation_sync_boost_ns", 1e-9),
    ("board_limit", "violation_board_limit_ns", 1e-9),
    ("reliability_limit", "violation_reliability_ns", 1e-9),
    ("steal", "steal_s", 1.0),
    ("cpu_quota", "cgroup_throttled_s", 1.0),
)
# `..._rise_s`: for how long, between the first moment and the last. `mean_power_w`: energy over time, where
# `power_..._w` is what the driver says at a moment, an average over its last second on some GPUs.
STATE_COLUMNS: Final = (
    "record",
    "group",
    "cases",
    "rank",
    "moments",
    "lasted_s",
    *(f"{name}_{which}_{unit}" for name, _, unit in LEVELS for which in ("first", "last", "min", "max")),
    "mean_power_w",
    *(f"{name}_rise_s" for name, _, _ in COUNTERS),
    "marked_rounds",
    "rounds",
    "marks",
    "mark_example",
    "unread",
)


def state_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a group of cases that took turns and a rank, in `STATE_COLUMNS`."""
    rows = [
        {"record": str(run.path), "group": number, "rank": rank} | _row(state, rank)
        for run in runs
        for number, state in enumerate(run.states, start=1)
        for rank in range(num_ranks(state))
    ]
    return frame_of(rows, STATE_COLUMNS)


def num_ranks(state: State) -> int:
    """Of how many ranks the state was read."""
    return len(state.telemetry.moments[0].ranks) if state.telemetry.moments else 0


def levels(state: State, rank: int, name: str) -> list[tuple[float, float]]:
    """Seconds and value of every moment at which it was read."""
    read = ((moment.since_s, moment.ranks[rank].values.get(name)) for moment in state.telemetry.moments)
    return [(since_s, float(value)) for since_s, value in read if value is not None]


def rises(state: State, rank: int, name: str) -> list[tuple[float, float, float]]:
    """Between moments that follow one another: start, end, and by how much a counter rose; none where it was set back.

    A moment at which it was not read is passed over.
    """
    steps = pairwise(levels(state, rank, name))
    return [(since_s, until_s, high - low) for (since_s, low), (until_s, high) in steps if high >= low]


def marked_spans(state: State, kinds: Sequence[str]) -> list[tuple[float, float]]:
    """From when to when rounds were marked, on any rank, with one of the kinds."""
    moments = state.telemetry.moments
    return [
        (before.since_s, after.since_s)
        for before, after in pairwise(moments)
        if any(
            mark.kind in kinds
            and mark.first_round < after.rounds
            and mark.first_round + mark.num_rounds > before.rounds
            for mark in state.marks
        )
    ]


def _row(state: State, rank: int) -> Row:
    telemetry = state.telemetry
    lasted_s = telemetry.moments[-1].since_s
    row: Row = {
        "cases": " ".join(dict.fromkeys(telemetry.keys)),
        "moments": len(telemetry.moments),
        "lasted_s": lasted_s,
        "unread": _unread([moment.ranks[rank] for moment in telemetry.moments]),
    }
    for name, value, unit in LEVELS:
        read = [level for _, level in levels(state, rank, value)]
        if read:
            ends = {"first": read[0], "last": read[-1], "min": min(read), "max": max(read)}
            row |= {f"{name}_{which}_{unit}": level for which, level in ends.items()}
    for name, value, scale in COUNTERS:
        risen = _risen(state, rank, value)
        row[f"{name}_rise_s"] = None if risen is None else risen * scale
    energy_j = _risen(state, rank, "energy_j")
    row["mean_power_w"] = energy_j / lasted_s if energy_j is not None and lasted_s > 0 else None
    return row | _marks(state, rank)


def _risen(state: State, rank: int, name: str) -> float | None:
    """None where it was read less than twice, or was set back."""
    found = levels(state, rank, name)
    steps = rises(state, rank, name)
    return sum(rise for _, _, rise in steps) if steps and len(steps) == len(found) - 1 else None


def _marks(state: State, rank: int) -> Row:
    """By kind in how many rounds; the example is of the kind that is met least often, as that is news."""
    mine = [mark for mark in state.marks if mark.rank == rank]
    rounds = {(mark.kind, at) for mark in mine for at in _rounds(mark.first_round, mark.num_rounds, state)}
    counts = Counter(kind for kind, _ in sorted(rounds))
    told = [mark for mark in mine if mark.kind in counts]
    example = min(told, key=lambda mark: counts[mark.kind], default=None)
    return {
        "marked_rounds": len({at for _, at in rounds}),
        "rounds": _num_rounds(state),
        "marks": ", ".join(f"{kind} {count}" for kind, count in counts.items()),
        "mark_example": "" if example is None else example.text,
    }


def _rounds(first: int, count: int, state: State) -> range:
    """Clipped to those that there were, whatever the mark says."""
    return range(max(first, 0), min(first + count, _num_rounds(state)))


def _num_rounds(state: State) -> int:
    """How many rounds of samples the moments span."""
    return max((moment.rounds for moment in state.telemetry.moments), default=0)


def _unread(readings: Sequence[Reading]) -> str:
    """The values that were missing at any moment, by the reason."""
    names: dict[str, dict[str, None]] = {}
    for reading in readings:
        for name, why in reading.unread.items():
            names.setdefault(why, {})[name] = None
    return "; ".join(f"{', '.join(each)}: {why}" for why, each in names.items())
