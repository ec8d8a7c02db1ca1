"""A trace file as what the rest needs of it: whose it is, its steps, and its events of the kinds that are looked at.

The names of keys and categories are those that libkineto writes (pytorch/kineto, libkineto/src/output_json.cpp, and
torch/csrc/profiler); before torch 1.12 categories were capitalised (`Kernel`, `Memcpy`, `Runtime`, `Operator`). `ts`
and `dur` are microseconds whatever displayTimeUnit says, which is about display alone.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from analysis.profiler.json_stream import stream_trace
from analysis.profiler.operators import is_collective_event
from tp.errors import ConfigError

Category = Literal["kernel", "copy", "launch", "operator", "annotation", "step", "device_step"]

_CATEGORIES: Final[dict[str, Category]] = {
    "kernel": "kernel",
    **dict.fromkeys(("gpu_memcpy", "gpu_memset", "memcpy", "memset"), "copy"),
    **dict.fromkeys(
        ("cuda_runtime", "cuda_driver", "runtime", "driver", "hip_runtime", "privateuse1_runtime"), "launch"
    ),
    **dict.fromkeys(("cpu_op", "operator"), "operator"),
    "user_annotation": "annotation",
    "gpu_user_annotation": "device_step",
}
_STEP: Final = re.compile(r"ProfilerStep#(\d{1,18})$")
_KEPT_ARGS: Final = (
    *("device", "correlation", "Collective name", "In msg nelems", "Out msg nelems", "dtype", "Group size"),
    *("Process Group Name", "Process Group Ranks", "Input Dims", "Input type"),
)
NO_ARGS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event with a duration, in nanoseconds of the trace's own clock."""

    name: str
    category: Category
    start_ns: int
    end_ns: int
    process: str
    thread: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTrace:
    """A trace file, read."""

    path: Path
    rank: int | None
    world_size: int | None
    backend: str
    host: str
    """Name of the machine; empty where the trace does not say."""
    base_ns: int
    """What `start_ns` of 0 is on the machine's clock."""
    group_sizes: tuple[int, ...]
    """Of every process group that the rank is in, where the trace says them."""
    events: tuple[Event, ...]
    notes: tuple[str, ...]

    def of(self, category: Category) -> list[Event]:
        """Its events of a kind, by their start."""
        return sorted((e for e in self.events if e.category == category), key=lambda e: (e.start_ns, -e.end_ns))


def read_trace(path: Path) -> RawTrace:
    """Read one file; ConfigError for what is broken or no trace, a note for every event left out."""
    sieve = _Sieve()
    beside = stream_trace(path, sieve.take)
    if not sieve.events:
        raise ConfigError(f"{path}: holds no operator and no kernel; give a trace of ProfilerActivity.CPU or CUDA")
    info = beside.get("distributedInfo")
    info = info if isinstance(info, dict) else {}
    groups = info.get("pg_config")
    sizes = [group.get("pg_size") for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    return RawTrace(
        path=path,
        rank=_whole(info.get("rank")),
        world_size=_whole(info.get("world_size")),
        backend=str(info.get("backend", "")),
        host=str(beside.get("host_name", "")),
        base_ns=_whole(beside.get("baseTimeNanoseconds")) or 0,
        group_sizes=tuple(size for size in map(_whole, sizes) if size is not None),
        events=tuple(sieve.events),
        notes=tuple(f"{path.name}: {count} events left out, {why}" for why, count in sieve.left_out.items()),
    )


@dataclass(slots=True, kw_only=True)
class _Sieve:
    events: list[Event] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, event: Any) -> None:
        """Keep the event, or count why not; what was never of interest is passed over."""
        if not isinstance(event, dict):
            self.left_out["which are no objects"] += 1
            return
        name, category = event.get("name"), _category(event)
        if category is None or not isinstance(name, str):
            return
        if event.get("ph") != "X":
            # B and E: a duration in two halves, which torch's profiler does not write.
            if event.get("ph") in ("B", "E"):
                self.left_out["begin and end apart (ph B and E)"] += 1
            return
        start, duration = _nanoseconds(event.get("ts")), _nanoseconds(event.get("dur"))
        if start is None or duration is None:
            self.left_out["without a time (ts) or a duration (dur)"] += 1
        elif duration < 0:
            self.left_out["with a negative duration"] += 1
        else:
            self.events.append(_made(event, name, category, start, duration))


def _category(event: Mapping[str, Any]) -> Category | None:
    category, name = _CATEGORIES.get(str(event.get("cat", "")).lower()), str(event.get("name", ""))
    if category in ("operator", "annotation") and _STEP.match(name):
        return "step"
    if category == "device_step" and not _STEP.match(name):
        return None
    # Of what the program itself has marked only what gloo's threads say is of use.
    return None if category == "annotation" and not is_collective_event(name) else category


def _made(event: Mapping[str, Any], name: str, category: Category, start: int, duration: int) -> Event:
    args = event.get("args")
    kept = {key: args[key] for key in _KEPT_ARGS if key in args} if isinstance(args, dict) else NO_ARGS
    return Event(
        name=sys.intern(name),
        category=category,
        start_ns=start,
        end_ns=start + duration,
        process=sys.intern(str(event.get("pid", ""))),
        thread=sys.intern(str(event.get("tid", ""))),
        args=kept or NO_ARGS,
    )


def step_number(event: Event) -> int:
    """k of ProfilerStep#k."""
    found = _STEP.match(event.name)
    assert found is not None
    return int(found.group(1))


def _nanoseconds(value: Any) -> int | None:
    """Microseconds, as a number or as text of one, in whole nanoseconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return round(number * 1000) if isfinite(number) and abs(number) < 1e18 else None


def _whole(value: Any) -> int | None:
    """A whole number, also where the trace has it as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip('" ')
    return int(text) if re.fullmatch(r"\d{1,20}", text) else None
