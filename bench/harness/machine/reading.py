"""What was read of a machine, and why the rest was not; loads without torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Number = float | int
FactValue = bool | int | float | str | list[int] | list[str] | dict[str, int]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What changes while a run goes on, at one moment: names carry the unit, counters count from the driver's start."""

    values: dict[str, float | int]
    unread: dict[str, str]
    """Why a value is absent, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stays as it is while a run goes on."""

    values: dict[str, FactValue]
    unread: dict[str, str]
    """Why a fact is absent, by its name."""

    def number(self, name: str) -> float | None:
        """The fact as a number; None where it was not read or is none."""
        value = self.values.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_values(readers: Mapping[str, Callable[[], Number]]) -> Reading:
    """Call every reader; the value or the reason why there is none goes under its name."""
    values, unread = _call_all(readers)
    return Reading(values=values, unread=unread)


def read_facts(readers: Mapping[str, Callable[[], FactValue]]) -> Facts:
    """Call every reader; the fact or the reason why there is none goes under its name."""
    values, unread = _call_all(readers)
    return Facts(values=values, unread=unread)


def merge_readings(readings: Iterable[Reading]) -> Reading:
    """One reading of several sources, whose names differ."""
    values: dict[str, Number] = {}
    unread: dict[str, str] = {}
    for reading in readings:
        values |= reading.values
        unread |= reading.unread
    return Reading(values=values, unread=unread)


def merge_facts(several: Iterable[Facts]) -> Facts:
    """The facts of several sources, whose names differ."""
    values: dict[str, FactValue] = {}
    unread: dict[str, str] = {}
    for facts in several:
        values |= facts.values
        unread |= facts.unread
    return Facts(values=values, unread=unread)


def reason(error: Exception) -> str:
    """What an exception says, or its name where it says nothing."""
    return str(error) or type(error).__name__


def _call_all(readers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    values: dict[str, T] = {}
    unread: dict[str, str] = {}
    for name, read in readers.items():
        try:
            values[name] = read()
        except Exception as error:  # whatever a driver or a file does, a run of hours must not end by it
            unread[name] = reason(error)
    return values, unread
