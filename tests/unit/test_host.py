"""What is read of the host: limits, clocks and counters from files as kernels write them, and odd ones as unread."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.harness.machine import environment
from bench.harness.machine.host import Host
from bench.harness.machine.reading import Facts, Reading, merge_readings, read_values

pytestmark = pytest.mark.unit

Write = Callable[[dict[str, str]], Host]

CPUINFO = """\
processor	: 0
model name	: Intel(R) Xeon(R) Processor
cpu MHz		: 2000.000
flags		: fpu sse2{flags}

processor	: 1
model name	: Another
cpu MHz		: 3000.000
flags		: fpu

"""
# In ticks: user nice system idle iowait irq softirq steal guest guest_nice.
STAT = """\
cpu  3000 100 500 90000 70 20 30 600 11 0
cpu0 2000 100 300 40000 30 10 10 400 11 0
cpu1 1000 0 200 50000 40 10 20 200 0 0
intr 12345
ctxt 1
"""
SOUND = {
    "proc/cpuinfo": CPUINFO.format(flags=" hypervisor"),
    "proc/stat": STAT,
    "proc/loadavg": "1.50 0.70 0.30 2/345 6789\n",
    "proc/meminfo": "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:   1500 kB\n",
    "proc/self/cgroup": "0::/job/step\n",
    "sys/devices/system/node/online": "0-1,4\n",
    **{
        f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{name}": f"{text}\n"
        for cpu, socket in ((0, "0-1"), (1, "0-1"), (10, "10"))
        for index, level, size, sharing in ((0, 1, "48K", cpu), (2, 2, "2048K", cpu), (3, 3, "16384K", socket))
        for name, text in (("level", level), ("size", size), ("shared_cpu_list", sharing))
    },
    "sys/fs/cgroup/cpu.stat": "usage_usec 1\n",
    "sys/fs/cgroup/job/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/job/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 2500000\n",
    "sys/fs/cgroup/job/memory.max": "4096\n",
    "sys/fs/cgroup/job/step/cpu.max": "max 100000\n",
    "sys/fs/cgroup/job/step/cpu.stat": "usage_usec 5\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
    "sys/fs/cgroup/job/step/memory.max": "max\n",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A host of the given files, CPUs 0 and 1, and ticks of 10 ms."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])

    def write_files(files: dict[str, str]) -> Host:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return Host(root=tmp_path, affinity=(0, 1))

    return write_files


def test_a_virtual_machine_with_limits(write: Write) -> None:
    facts = write(SOUND).facts()
    assert facts.values == {
        "cpu_model": "Intel(R) Xeon(R) Processor",
        "logical_cpus": 2,
        "cpu_affinity": [0, 1],
        "cpu_frequency_source": "/proc/cpuinfo, nominal: a virtual machine",
        "hypervisor": True,
        "numa_nodes": [0, 1, 4],
        # Of two sockets, each once.
        "last_level_caches_bytes": 2 * 16384 * 1024,
        "memory_total_bytes": 2_048_000,
        # Of the groups above it too.
        "cgroup_cpu_limit": 1.5,
        "cgroup_memory_limit_bytes": 4096,
    }
    assert facts.unread.keys() == {"cpu_governors"}
    assert "scaling_governor" in facts.unread["cpu_governors"]


def test_counters_are_seconds(write: Write) -> None:
    reading = write(SOUND).read()
    own = {"process_cpu_s", "involuntary_switches", "major_faults"}
    assert reading.unread == {}
    assert {name: value for name, value in reading.values.items() if name not in own} == {
        "cpu_frequency_mhz": 2500.0,
        "load_1min": 1.5,
        "busy_s": pytest.approx(36.5),  # 3000 + 100 + 500 + 20 + 30 ticks; guests are within user
        "steal_s": pytest.approx(6.0),
        "cgroup_throttled_s": 2.5,
        "cgroup_throttled_periods": 4,
        "memory_available_bytes": 1_536_000,
    }
    assert reading.values["process_cpu_s"] > 0
    assert own <= reading.values.keys()


def test_only_the_processes_own_cpus_count(write: Write) -> None:
    host = Host(root=write(SOUND).root, affinity=(1,))
    assert host.read().values["steal_s"] == pytest.approx(2.0)
    assert host.read().values["cpu_frequency_mhz"] == 3000
    elsewhere = Host(root=host.root, affinity=(7,)).read()
    assert "no line of CPU 7" in elsewhere.unread["steal_s"]
    assert "clock of every CPU" in elsewhere.unread["cpu_frequency_mhz"]


def test_cpufreq_comes_before_the_nominal_clock(write: Write) -> None:
    folder = "sys/devices/system/cpu/cpu{}/cpufreq/"
    files = {folder.format(cpu) + "scaling_cur_freq": f"{khz}\n" for cpu, khz in ((0, 1_200_000), (1, 3_400_000))}
    files |= {folder.format(cpu) + "scaling_governor": name for cpu, name in ((0, "powersave\n"), (1, "performance\n"))}
    host = write(SOUND | files)
    assert host.read().values["cpu_frequency_mhz"] == 2300
    assert host.facts().values["cpu_frequency_source"] == "cpufreq"
    assert host.facts().values["cpu_governors"] == ["performance", "powersave"]


def test_groups_of_version_1(write: Write) -> None:
    """In a container: the path is the host's, the mount shows the container's group alone."""
    files = {
        "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 10\nnr_throttled 3\nthrottled_time 1500000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    host = write(SOUND | files)
    assert host.facts().values["cgroup_cpu_limit"] == 4
    assert host.facts().values["cgroup_memory_limit_bytes"] == "no limit"
    assert host.read().values["cgroup_throttled_s"] == 1.5
    assert host.read().values["cgroup_throttled_periods"] == 3
    unlimited = write({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"})
    assert unlimited.facts().values["cgroup_cpu_limit"] == "no limit"


@pytest.mark.parametrize(
    ("name", "text", "unread", "why"),
    [
        ("proc/self/cgroup", "", "cgroup_cpu_limit", "names no group of the controller cpu"),
        ("proc/self/cgroup", "odd", "cgroup_memory_limit_bytes", "not enough values"),
        ("sys/fs/cgroup/job/cpu.max", "soon 100000", "cgroup_cpu_limit", "cpu.max says 'soon' of '100000'"),
        ("sys/fs/cgroup/job/cpu.max", "1000 0", "cgroup_cpu_limit", "which is no share of time"),
        ("sys/fs/cgroup/job/cpu.max", "", "cgroup_cpu_limit", "which is no share of time"),
        ("sys/fs/cgroup/job/memory.max", "-", "cgroup_memory_limit_bytes", "invalid literal"),
        ("sys/fs/cgroup/job/cpu.stat", "nr_throttled", "cgroup_throttled_s", "dictionary update"),
        ("proc/stat", "", "busy_s", "has not 8 columns"),
        ("proc/stat", "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2\n", "steal_s", "has not 8 columns"),
        ("proc/stat", "cpu  a b c\n", "logical_cpus", "invalid literal"),
        ("proc/loadavg", "\n", "load_1min", "is empty"),
        ("proc/meminfo", "MemTotal: many\n", "memory_total_bytes", "states no MemTotal in kB"),
        ("proc/meminfo", "", "memory_available_bytes", "states no MemAvailable in kB"),
        ("proc/cpuinfo", "", "cpu_model", "states no 'model name'"),
        ("proc/cpuinfo", "processor: 0\nFeatures: fp asimd\n", "hypervisor", "states no 'flags'"),
        ("proc/cpuinfo", "processor: 0\nFeatures: fp asimd\n", "cpu_frequency_mhz", "clock of every CPU"),
        ("sys/devices/system/node/online", "\n", "numa_nodes", "invalid literal"),
        ("sys/devices/system/cpu/cpu10/cache/index3/size", "large\n", "last_level_caches_bytes", "invalid literal"),
    ],
)
def test_an_odd_file_is_unread_with_the_reason(write: Write, name: str, text: str, unread: str, why: str) -> None:
    host = write(SOUND | {name: text})
    found = host.facts().unread | host.read().unread
    assert why in found[unread]
    assert unread not in host.facts().values | host.read().values


def test_without_any_file_only_the_process_is_known(tmp_path: Path) -> None:
    host = Host(root=tmp_path, affinity=(0,))
    assert host.facts().values == {"cpu_affinity": [0]}
    assert host.read().values.keys() == {"process_cpu_s", "involuntary_switches", "major_faults"}
    assert all(reason for reason in (host.facts().unread | host.read().unread).values())


def test_a_group_without_the_file_is_no_limit_left_out(write: Write) -> None:
    files = {name: text for name, text in SOUND.items() if not name.endswith("cpu.max")}
    assert "no cpu.max in" in write(files).facts().unread["cgroup_cpu_limit"]


def test_this_machine_can_be_read() -> None:
    host = Host()
    assert host.facts().values["cpu_affinity"] == sorted(os.sched_getaffinity(0))
    first, second = host.read(), host.read()
    assert second.values["busy_s"] >= first.values["busy_s"] > 0
    assert json.loads(json.dumps(asdict(host.facts()))) == asdict(host.facts())


def test_a_reader_that_raises_without_words_is_named() -> None:
    def fail() -> int:
        raise TimeoutError

    assert read_values({"speed": fail}) == Reading(values={}, unread={"speed": "TimeoutError"})
    one, other = Reading(values={"a": 1}, unread={}), Reading(values={"b": 2}, unread={"c": "no"})
    assert merge_readings([one, other]) == Reading(values={"a": 1, "b": 2}, unread={"c": "no"})


def test_variables_that_matter_are_recorded_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCCL_ALGO", "UCX_TLS", "SLURM_JOB_ID", "TORCH_HUB_TOKEN", "SLURM_JWT", "HOME", "MASTER_ADDR"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    found = environment.environment()
    assert {"NCCL_ALGO", "UCX_TLS", "SLURM_JOB_ID", "MASTER_ADDR"} <= found["variables"].keys()
    assert not {"TORCH_HUB_TOKEN", "SLURM_JWT", "HOME"} & found["variables"].keys()
    assert found["node"] == "node7"


def test_the_environment_holds_the_probes_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed:
        def facts(self) -> Facts:
            return Facts(values={"gpu_name": "toy"}, unread={"gpu_serial": "Not Supported"})

        def read(self) -> Reading:
            return Reading(values={}, unread={})

    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    found = environment.environment(Fixed())
    assert found["facts"] == {"values": {"gpu_name": "toy"}, "unread": {"gpu_serial": "Not Supported"}}
    assert found["packages"]["no-such-package"] == "not installed"
    assert found["libraries"]["torch"] in found["libraries"]["gloo"]
    assert found["cpu"].keys() == {"model", "affinity", "load_average"}
    assert json.loads(json.dumps(found)) == found
