"""The CPUs and the operating system under a rank: what they are, and who else uses them; loads without torch.

Source: proc(5) and the kernel's Documentation/admin-guide/pm/cpufreq.rst. Files lie under a `root`, which is `/` but in
tests.
"""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.harness.machine import cgroup
from bench.harness.machine.reading import Facts, FactValue, Number, Reading, read_facts, read_values

# Columns of a line of /proc/stat; guests' time is within user and nice.
_BUSY: Final = (0, 1, 2, 5, 6)
"""user, nice, system, irq, softirq"""
_STEAL: Final = 7
_COLUMNS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine as seen from this process."""

    root: Path = Path("/")
    affinity: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))
    """CPUs that the process may run on."""

    def facts(self) -> Facts:
        """What the host is, and what limits are set on the process."""
        readers: dict[str, Callable[[], FactValue]] = {
            "cpu_model": lambda: self._of_first_cpu("model name"),
            "logical_cpus": lambda: len(self._stat()) - 1,
            "cpu_affinity": lambda: list(self.affinity),
            "cpu_governors": self._governors,
            "cpu_frequency_source": self._frequency_source,
            "hypervisor": lambda: "hypervisor" in self._of_first_cpu("flags").split(),
            "numa_nodes": self._numa_nodes,
            "last_level_caches_bytes": self._last_level_caches_bytes,
            "memory_total_bytes": lambda: self._memory_bytes("MemTotal"),
            "cgroup_cpu_limit": lambda: cgroup.cpu_limit(self.root),
            "cgroup_memory_limit_bytes": lambda: cgroup.memory_limit_bytes(self.root),
        }
        return read_facts(readers)

    def read(self) -> Reading:
        """The state at this moment; counters count from the start of the host, of the process or of the group."""
        readers: dict[str, Callable[[], Number]] = {
            "cpu_frequency_mhz": self._frequency_mhz,
            "load_1min": self._load,
            "busy_s": lambda: sum(self._stat()["cpu"][column] for column in _BUSY),
            "steal_s": self._steal_s,
            "process_cpu_s": time.process_time,
            "involuntary_switches": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
            "major_faults": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
            "cgroup_throttled_s": lambda: cgroup.throttled_s(self.root),
            "cgroup_throttled_periods": lambda: cgroup.throttled_periods(self.root),
            "memory_available_bytes": lambda: self._memory_bytes("MemAvailable"),
        }
        return read_values(readers)

    def _stat(self) -> dict[str, tuple[float, ...]]:
        """Seconds by column, of every CPU and of all of them together as `cpu`."""
        path = self.root / "proc/stat"
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        rows = [line.split() for line in path.read_text().splitlines() if line.startswith("cpu")]
        found = {row[0]: tuple(int(ticks) * tick_s for ticks in row[1:]) for row in rows}
        if "cpu" not in found or any(len(times) < _COLUMNS for times in found.values()):
            raise ValueError(f"{path} has not {_COLUMNS} columns of every CPU and of all of them")
        return found

    def _steal_s(self) -> float:
        """Of the CPUs that the process may run on."""
        stat = self._stat()
        missing = [cpu for cpu in self.affinity if f"cpu{cpu}" not in stat]
        if missing:
            raise ValueError(f"{self.root / 'proc/stat'} has no line of CPU {missing[0]}")
        return sum(stat[f"cpu{cpu}"][_STEAL] for cpu in self.affinity)

    def _load(self) -> float:
        path = self.root / "proc/loadavg"
        words = path.read_text().split()
        if not words:
            raise ValueError(f"{path} is empty")
        return float(words[0])

    def _cpus(self) -> list[dict[str, str]]:
        """The fields of /proc/cpuinfo, by processor."""
        blocks = (self.root / "proc/cpuinfo").read_text().strip().split("\n\n")
        pairs = [[line.split(":", 1) for line in block.splitlines() if ":" in line] for block in blocks]
        return [{key.strip(): value.strip() for key, value in block} for block in pairs]

    def _of_first_cpu(self, name: str) -> str:
        value = self._cpus()[0].get(name)
        if not value:
            raise ValueError(f"{self.root / 'proc/cpuinfo'} states no {name!r}")
        return value

    def _cpufreq(self, cpu: int, name: str) -> Path:
        return self.root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq" / name

    def _governors(self) -> list[str]:
        return sorted({self._cpufreq(cpu, "scaling_governor").read_text().strip() for cpu in self.affinity})

    def _has_cpufreq(self) -> bool:
        return all(self._cpufreq(cpu, "scaling_cur_freq").is_file() for cpu in self.affinity)

    def _frequency_mhz(self) -> float:
        """The mean over the CPUs that the process may run on."""
        if self._has_cpufreq():
            kilohertz = [int(self._cpufreq(cpu, "scaling_cur_freq").read_text()) for cpu in self.affinity]
            return sum(kilohertz) / len(kilohertz) / 1e3
        stated = {fields.get("processor"): fields.get("cpu MHz") for fields in self._cpus()}
        megahertz = [float(clock) for cpu in self.affinity if (clock := stated.get(str(cpu)))]
        if len(megahertz) < len(self.affinity):
            raise ValueError(f"neither cpufreq nor {self.root / 'proc/cpuinfo'} states the clock of every CPU")
        return sum(megahertz) / len(megahertz)

    def _frequency_source(self) -> str:
        if self._has_cpufreq():
            return "cpufreq"
        virtual = "hypervisor" in self._of_first_cpu("flags").split()
        return "/proc/cpuinfo, nominal: a virtual machine" if virtual else "/proc/cpuinfo"

    def _numa_nodes(self) -> list[int]:
        """From ranges like `0-1,4`."""
        text = (self.root / "sys/devices/system/node/online").read_text().strip()
        ends = [part.partition("-") for part in text.split(",")]
        return [node for first, _, last in ends for node in range(int(first), int(last or first) + 1)]

    def _last_level_caches_bytes(self) -> int:
        """All of the host's together, each once however many CPUs share it."""
        cpus = sorted((self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache"))
        caches = [max(cpu.glob("index*"), key=lambda index: int((index / "level").read_text())) for cpu in cpus]
        if not caches:
            raise FileNotFoundError(f"{self.root / 'sys/devices/system/cpu'} tells of no cache")
        sizes = {(each / "shared_cpu_list").read_text(): (each / "size").read_text().strip() for each in caches}
        return sum(int(size.removesuffix("K")) * 1024 for size in sizes.values())

    def _memory_bytes(self, name: str) -> int:
        path = self.root / "proc/meminfo"
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        words = lines.get(name, "").split()
        if len(words) != 2 or words[1] != "kB":
            raise ValueError(f"{path} states no {name} in kB")
        return int(words[0]) * 1024
