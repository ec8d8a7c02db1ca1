"""The limits that a control group sets on this process, and how often they held it back; loads without torch.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and scheduler/sched-bwc.rst. A limit
of any group above holds too, so the strictest counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

NO_LIMIT: Final = "no limit"
# Version 1 writes the largest number of pages that it can count instead of a word for no limit.
_UNLIMITED_BYTES: Final = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The group of this process under one controller, and those above it."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]

    def texts(self, name: str) -> Iterator[tuple[Path, str]]:
        """The files of that name with their text, from the process's own group up; FileNotFoundError without any."""
        paths = [folder / name for folder in self.folders if (folder / name).is_file()]
        if not paths:
            raise FileNotFoundError(f"no {name} in {self.folders[0]} or above")
        for path in paths:
            yield path, path.read_text()


def cpu_limit(root: Path) -> float | str:
    """CPUs that the process may use at a time, or `no limit`; raises OSError or ValueError where that is not known."""
    groups = _groups(root, "cpu")
    quotas = list(_quotas(groups))
    return min((quota for quota in quotas if quota is not None), default=NO_LIMIT)


def memory_limit_bytes(root: Path) -> int | str:
    """Bytes that the process may hold, or `no limit`; raises OSError or ValueError where that is not known."""
    groups = _groups(root, "memory")
    name = "memory.max" if groups.version == 2 else "memory.limit_in_bytes"
    limits = [int(text) for _, text in groups.texts(name) if text.strip() != "max"]
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=NO_LIMIT)


def throttled_periods(root: Path) -> int:
    """Enforcement periods in which the limit on CPUs stopped the process; the errors are those of `cpu_limit`."""
    return sum(_throttling(_groups(root, "cpu"), "nr_throttled"))


def throttled_s(root: Path) -> float:
    """CPU time for which the limit on CPUs stopped the process; the errors are those of `cpu_limit`."""
    groups = _groups(root, "cpu")
    if groups.version == 2:
        return sum(_throttling(groups, "throttled_usec")) / 1e6
    return sum(_throttling(groups, "throttled_time")) / 1e9


def _groups(root: Path, controller: str) -> Groups:
    """Version 1 where the controller has a hierarchy of its own, else version 2.

    In a container the path may be the host's while the mount shows the container's group as its top; folders that
    are not there are passed over.
    """
    listing = root / "proc/self/cgroup"
    paths: dict[str, str] = {}
    for line in listing.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    mount = root / "sys/fs/cgroup"
    if controller in paths:
        return Groups(version=1, folders=_upwards(mount / controller, paths[controller]))
    if "" in paths:
        return Groups(version=2, folders=_upwards(mount, paths[""]))
    raise ValueError(f"{listing} names no group of the controller {controller}")


def _upwards(mount: Path, path: str) -> tuple[Path, ...]:
    own = mount / path.lstrip("/")
    return (own, *(folder for folder in own.parents if folder.is_relative_to(mount)))


def _quotas(groups: Groups) -> Iterator[float | None]:
    """CPUs by group; None where one sets no limit."""
    if groups.version == 2:
        for path, text in groups.texts("cpu.max"):
            quota, _, period = text.strip().partition(" ")
            yield None if quota == "max" else _share(quota, period, path)
    else:
        for path, quota in groups.texts("cpu.cfs_quota_us"):
            period = path.with_name("cpu.cfs_period_us").read_text()
            yield None if int(quota) < 0 else _share(quota, period, path)


def _share(quota: str, period: str, path: Path) -> float:
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{path} says {quota.strip()!r} of {period.strip()!r}, which is no share of time") from error


def _throttling(groups: Groups, counter: str) -> list[int]:
    """The counter in every group that has it; each counts what its own limit did."""
    counts = []
    for _, text in groups.texts("cpu.stat"):
        fields = dict(line.split(None, 1) for line in text.splitlines())
        counts += [int(fields[counter])] if counter in fields else []
    if not counts:
        raise ValueError(f"no {counter} in cpu.stat of {groups.folders[0]} or above")
    return counts
