"""Whether the machine disturbed what was measured on it, by what was read before and after; loads without torch.

A mark is about one block of samples, a warning about the whole run. Neither says that all was well: what could not be
read is in the reading, with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bench.harness.machine.reading import Facts, Reading
from tp.units import format_seconds, significant

MarkKind = Literal["power", "thermal", "hardware", "sync", "clock", "errors", "steal", "quota", "others"]

CLOCK_SHARE: Final = 0.9
"""A loaded GPU's clock below this share of its maximum is marked."""
STEAL_SHARE: Final = 0.05
"""Of the time of every CPU that the process may run on."""
OTHERS_SHARE: Final = 0.1
"""Of one CPU."""
OTHERS_SHARE_OF_HOST: Final = 0.01
"""Of all CPUs: what the services of a large node use anyhow."""
TICK_S: Final = 0.01
"""In which the kernel counts the time of a CPU (USER_HZ is 100): less cannot be told from nothing."""

_CLOCKS_SET: Final = 0x2
"""The event reason of application clocks: a setting, no throttling."""
# nvml.h, nvmlClocksEventReason*; 0x1 is idleness, 0x100 a setting for displays.
_EVENT_REASONS: Final[tuple[tuple[int, MarkKind, str], ...]] = (
    (0x4, "power", "SW power cap"),
    (0x8, "hardware", "HW slowdown"),
    (0x10, "sync", "sync boost"),
    (0x20, "thermal", "SW thermal slowdown"),
    (0x40, "thermal", "HW thermal slowdown"),
    (0x80, "hardware", "HW power brake slowdown"),
)
_VIOLATIONS: Final[tuple[tuple[str, MarkKind, str], ...]] = (
    ("violation_power_ns", "power", "the power limit"),
    ("violation_thermal_ns", "thermal", "the thermal limit"),
    ("violation_sync_boost_ns", "sync", "sync boost"),
    ("violation_board_limit_ns", "hardware", "the board limit"),
    ("violation_reliability_ns", "hardware", "the reliability limit"),
)
_ERRORS: Final = (
    ("ecc_uncorrected", "uncorrected ECC errors"),
    ("nvlink_errors", "NVLink errors"),
    ("pcie_replays", "PCIe replays"),
)
_THROTTLING: Final = sum(bit for bit, _, _ in _EVENT_REASONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Why a block of samples is not what an undisturbed machine gives."""

    kind: MarkKind
    """`power` stands apart: a GPU at its default power limit is in its normal state."""
    text: str
    """With the number."""


def marks(before: Reading, after: Reading, *, elapsed_s: float, own_cpu_s: float, facts: Facts) -> tuple[Mark, ...]:
    """What throttled or disturbed a rank between two readings `elapsed_s` apart.

    `own_cpu_s` are the CPU seconds of all ranks of the run on that host in the interval. ValueError when `elapsed_s`
    is not positive.
    """
    if not elapsed_s > 0:
        raise ValueError(f"elapsed_s is {elapsed_s:g}; it must be positive")
    return (
        *_seen(before, after, facts),
        *_violated(before, after, elapsed_s),
        *_slow_clock(before, after, facts),
        *_hot(before, after, facts),
        *_failed(before, after),
        *_stolen(before, after, elapsed_s, facts),
        *_held_back(before, after),
        *_shared(before, after, elapsed_s, own_cpu_s, facts),
    )


def _seen(before: Reading, after: Reading, facts: Facts) -> Iterator[Mark]:
    for bit, kind, name in _EVENT_REASONS:
        ends = [end for end, reading in (("before", before), ("after", after)) if _event_reasons(reading) & bit]
        if ends:
            limit = facts.number("power_limit_w")
            at = f" at a limit of {significant(limit)} W" if kind == "power" and limit is not None else ""
            yield Mark(kind=kind, text=f"{name}{at} seen {' and '.join(ends)} (event reason {bit:#x})")


def _event_reasons(reading: Reading) -> int:
    """None can be seen where none was read; `warnings` says so of the run."""
    return int(reading.values.get("event_reasons", 0))


def _violated(before: Reading, after: Reading, elapsed_s: float) -> Iterator[Mark]:
    for name, kind, limit in _VIOLATIONS:
        held_ns = _rise(before, after, name)
        if held_ns:
            share = significant(100 * held_ns / 1e9 / elapsed_s)
            yield Mark(
                kind=kind, text=f"{limit} held clocks down for {significant(held_ns / 1e6)} ms, {share} % of the time"
            )


def _slow_clock(before: Reading, after: Reading, facts: Facts) -> Iterator[Mark]:
    """An idle GPU lowers its clock by itself; throttled beside, it has the clock of a load."""
    highest = facts.number("sm_clock_max_mhz")
    loaded = [
        reading.values["sm_clock_mhz"]
        for reading in (before, after)
        if "sm_clock_mhz" in reading.values
        and (_event_reasons(reading) & _THROTTLING or not reading.values.get("gpu_idle", 0))
    ]
    if highest and loaded and min(loaded) < CLOCK_SHARE * highest:
        below = significant(100 * (1 - min(loaded) / highest))
        yield Mark(kind="clock", text=f"SM clock {min(loaded)} MHz, {below} % below its maximum of {highest:.0f} MHz")


def _hot(before: Reading, after: Reading, facts: Facts) -> Iterator[Mark]:
    limit = facts.number("slowdown_temperature_c")
    seen = [reading.values["temperature_c"] for reading in (before, after) if "temperature_c" in reading.values]
    if limit is not None and seen and max(seen) >= limit:
        yield Mark(kind="thermal", text=f"{max(seen)} C; the GPU slows down from {limit:.0f} C on")


def _failed(before: Reading, after: Reading) -> Iterator[Mark]:
    for name, what in _ERRORS:
        count = _rise(before, after, name)
        if count:
            yield Mark(kind="errors", text=f"{count} {what}")


def _stolen(before: Reading, after: Reading, elapsed_s: float, facts: Facts) -> Iterator[Mark]:
    """What the hypervisor gave to other machines, of the CPUs that the process may run on."""
    cpus = _num_affinity(facts)
    stolen_s = _rise(before, after, "steal_s")
    if stolen_s and cpus and stolen_s > cpus * max(STEAL_SHARE * elapsed_s, TICK_S):
        share = significant(100 * stolen_s / (cpus * elapsed_s))
        yield Mark(kind="steal", text=f"the hypervisor took {format_seconds(stolen_s)}, {share} % of {cpus} CPUs' time")


def _held_back(before: Reading, after: Reading) -> Iterator[Mark]:
    held_s = _rise(before, after, "cgroup_throttled_s")
    periods = _rise(before, after, "cgroup_throttled_periods")
    if held_s or periods:
        lasting = f" for {format_seconds(held_s)}" if held_s else ""
        times = f" in {periods} periods" if periods else ""
        yield Mark(kind="quota", text=f"the control group's CPU limit held processes back{lasting}{times}")


def _shared(before: Reading, after: Reading, elapsed_s: float, own_cpu_s: float, facts: Facts) -> Iterator[Mark]:
    """CPU time of the host that the run's ranks did not use themselves.

    It counts from a tenth of a CPU on, or from one percent of the host's CPUs where that is more; and from a tick of
    each CPU on, to which the kernel's count is not exact.
    """
    busy_s = _rise(before, after, "busy_s")
    cpus = facts.number("logical_cpus")
    if not busy_s or not cpus:
        return
    others_s = busy_s - own_cpu_s
    if others_s > max(elapsed_s * max(OTHERS_SHARE, OTHERS_SHARE_OF_HOST * cpus), cpus * TICK_S):
        used = significant(others_s / elapsed_s)
        yield Mark(kind="others", text=f"other processes used {used} of {cpus:.0f} CPUs")


def _rise(before: Reading, after: Reading, name: str) -> float | int | None:
    """How far a counter went up; None where it was not read twice, or was set back in between."""
    if name not in before.values or name not in after.values:
        return None
    rise = after.values[name] - before.values[name]
    return rise if rise >= 0 else None


def _num_affinity(facts: Facts) -> int:
    cpus = facts.values.get("cpu_affinity")
    return len(cpus) if isinstance(cpus, list) else 0


def warnings(facts: Facts, reading: Reading) -> tuple[str, ...]:
    """What a reader must know of the machine before its numbers, one line each."""
    return tuple(
        line
        for lines in (_unreadable(facts, reading), _links(facts, reading), _settings(facts, reading), _cpus(facts))
        for line in lines
    )


def _unreadable(facts: Facts, reading: Reading) -> Iterator[str]:
    if "gpu_name" in facts.unread:
        yield f"the GPU's state cannot be read: {facts.unread['gpu_name']}"
        return
    counters = [name for name, _, _ in _VIOLATIONS]
    blind = [name for name in ("event_reasons", *counters) if name in reading.unread]
    if "event_reasons" in blind:
        rest = " and some of its counters" if len(blind) > 1 else ""
        yield f"throttling{rest} cannot be read: {reading.unread['event_reasons']}"


def _links(facts: Facts, reading: Reading) -> Iterator[str]:
    gen, gen_max = reading.values.get("pcie_gen"), facts.number("pcie_gen_max")
    if gen is not None and gen_max is not None and gen < gen_max:
        yield f"PCIe is at generation {gen} of {gen_max:.0f} (an idle GPU may lower it by itself)"
    width, width_max = reading.values.get("pcie_width"), facts.number("pcie_width_max")
    if width is not None and width_max is not None and width < width_max:
        yield f"PCIe is {width} of {width_max:.0f} lanes wide"
    active, links = reading.values.get("nvlink_active"), facts.number("nvlink_links")
    if active is not None and links is not None and active < links:
        yield f"{active} of {links:.0f} NVLinks are up"


def _settings(facts: Facts, reading: Reading) -> Iterator[str]:
    limit, default = facts.number("power_limit_w"), facts.number("power_limit_default_w")
    if limit is not None and default is not None and limit < default:
        yield f"the power limit is {significant(limit)} W, below the default of {significant(default)} W"
    if _event_reasons(reading) & _CLOCKS_SET:
        yield f"application clocks are set (event reason {_CLOCKS_SET:#x})"
    if facts.values.get("ecc_enabled") is False:
        yield "ECC is off"
    errors = reading.values.get("ecc_uncorrected")
    if errors:
        yield f"{errors} uncorrected ECC errors since the driver was loaded"
    if facts.values.get("mig_enabled") is True:
        yield "MIG is on: what is read is the state of the whole GPU, of which the ranks have a part"


def _cpus(facts: Facts) -> Iterator[str]:
    limit, cpus = facts.number("cgroup_cpu_limit"), _num_affinity(facts)
    if limit is not None and limit < cpus:
        yield f"the control group allows {significant(limit)} CPUs at a time, the affinity {cpus}"
