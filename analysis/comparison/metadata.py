"""What two versions must agree in to be compared, and what they differ in otherwise: usually the point of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.load import CHECKED, Run
from bench.harness.record.records import Header
from tp.errors import ConfigError

# How time is read; not how long a run may hang.
METHOD: Final = ("clock", "flush_bytes", "soak_s", "graph", "delayed_rank", "delay_s", "cold")
# What differs between any two runs and explains nothing.
_IDLE: Final = ("cpu.load_average", "torch_threads", "facts.values.memory_total_bytes", "variables.MASTER_")
_CLOCKS: Final = ("sm_clock_mhz", "memory_clock_mhz", "cpu_frequency_mhz")
# Clocks that are read this near to each other are the same.
_SAME_CLOCK: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field of the metadata, as words; what a side's runs disagree in stands with all its values."""

    field: str
    old: str
    new: str


def require_comparable(old: Sequence[Run], new: Sequence[Run], *, mixed: bool) -> None:
    """ConfigError that names the first checked field in which any two headers differ, unless `mixed`."""
    if mixed:
        return
    headers = [(run, header) for run in (*old, *new) for header in run.headers]
    first_run, first = headers[0]
    for run, header in headers[1:]:
        for field, read in checked_fields().items():
            ours, theirs = read(first), read(header)
            if ours != theirs:
                raise ConfigError(
                    f"{run.path}: {field} is {theirs!r} but {first_run.path} has {ours!r}; compare runs of one setup, "
                    f"or add --mixed"
                )


def checked_fields() -> dict[str, Callable[[Header], object]]:
    """The fields that must agree: the setup, and how time is read."""
    return {**CHECKED, "network": _network, **{f"method.{name}": _method(name) for name in METHOD}}


def _network(header: Header) -> object:
    """What joins the nodes: its name and rate; nothing on one node."""
    network = header.crossed
    return None if network is None else (network.name, network.one_way_bytes_per_s)


def _method(name: str) -> Callable[[Header], object]:
    return lambda header: header.method.get(name)


def differences(old: Sequence[Run], new: Sequence[Run]) -> tuple[Difference, ...]:
    """Every other field that is not the same on both sides, software and settings first found first told."""
    ours, theirs = _facts(old), _facts(new)
    found = [
        Difference(field=field, old=_words(ours.get(field)), new=_words(theirs.get(field)))
        for field in dict.fromkeys((*ours, *theirs))
        if ours.get(field) != theirs.get(field)
    ]
    return (*found, *_clocks(old, new))


def _facts(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """The values of every field over all headers and ranks of a side, each once."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for header in run.headers:
            for field, value in _fields(header):
                found.setdefault(field, {})[value] = None
    return {field: tuple(sorted(values)) for field, values in found.items()}


def _fields(header: Header) -> Iterator[tuple[str, str]]:
    ranks = header.environment.get("ranks")
    for rank in ranks if isinstance(ranks, list) else []:
        for field, value in _flat(rank):
            if not field.startswith(_IDLE) and ".unread." not in field:
                yield field.replace("facts.values.", ""), value
    yield "calibration", str(header.calibration)
    for name, read in checked_fields().items():
        yield name, str(read(header))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested tables by their dotted path."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, str(value)


def _words(values: tuple[str, ...] | None) -> str:
    return "; ".join(values) if values else "not recorded"


def _clocks(old: Sequence[Run], new: Sequence[Run]) -> Iterator[Difference]:
    """Clocks as they were read while samples were taken, where their medians differ."""
    for name in _CLOCKS:
        ours, theirs = _clock(old, name), _clock(new, name)
        if ours and theirs and abs(theirs / ours - 1) > _SAME_CLOCK:
            yield Difference(field=f"median {name}", old=f"{ours:.0f}", new=f"{theirs:.0f}")


def _clock(runs: Sequence[Run], name: str) -> float | None:
    readings = [
        reading.values[name]
        for run in runs
        for telemetry in run.telemetry
        for moment in telemetry.moments
        for reading in moment.ranks
        if name in reading.values
    ]
    return float(np.median(readings)) if readings else None
