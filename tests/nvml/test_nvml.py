"""GPUs as NVML shows them, through the real ctypes calls into a library that stands in for the driver's."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit

SOURCE = Path(__file__).with_name("nvml_stand_in.c")
Launch = Callable[..., subprocess.CompletedProcess[str]]

# Every GPU read twice, a second apart as far as the judge knows.
PROGRAM = """\
import json
from dataclasses import asdict
from bench.harness.machine.judge import marks, warnings
from bench.harness.machine.nvml import Gpu
found = []
for index in range(9):
    gpu = Gpu(index)
    facts, before, after = gpu.facts(), gpu.read(), gpu.read()
    found.append({
        "facts": asdict(facts),
        "before": asdict(before),
        "after": asdict(after),
        "marks": [asdict(m) for m in marks(before, after, elapsed_s=1.0, own_cpu_s=0.0, facts=facts)],
        "warnings": warnings(facts, before),
    })
print(json.dumps(found))
"""
BY_UUID = """\
import json
from bench.harness.machine.nvml import Gpu
found = [Gpu(name).facts() for name in {names}]
print(json.dumps([facts.values.get("gpu_index") or facts.unread["gpu_index"] for facts in found]))
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile the stand-in; the folder that it is in."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the stand-in for NVML")

    def compile_with(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("nvml")
        command = ["gcc", "-Wall", "-Wextra", "-Werror", *flags, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
        subprocess.run([*command, "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)], check=True, timeout=60)
        return folder

    return compile_with


@pytest.fixture(scope="session")
def library(build: Callable[..., Path]) -> Path:
    return build()


def run(python: Launch, program: str, library: Path) -> Any:
    done = python("-c", program, LD_LIBRARY_PATH=str(library))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def gpus(python: Launch, library: Path) -> Any:
    return run(python, PROGRAM, library)


@pytest.fixture(scope="session")
def of_an_old_driver(python: Launch, build: Callable[..., Path]) -> Any:
    return run(python, PROGRAM, build("-DOLD_DRIVER"))


def texts(gpu: Any) -> list[tuple[str, str]]:
    return [(mark["kind"], mark["text"]) for mark in gpu["marks"]]


def test_the_state_of_a_sound_gpu(gpus: Any) -> None:
    assert gpus[0]["before"] == gpus[0]["after"]
    assert gpus[0]["before"] == {
        "values": {
            "sm_clock_mhz": 1965,
            "memory_clock_mhz": 2619,
            "power_w": 412.345,  # 412,345 mW
            "energy_j": 123456.789,  # 123,456,789 mJ
            "temperature_c": 41,
            "memory_temperature_c": 47,
            "gpu_idle": 1,
            "event_reasons": 0,  # the idle bit is no reason
            "violation_power_ns": 1000,
            "violation_thermal_ns": 1001,
            "violation_sync_boost_ns": 1002,
            "violation_board_limit_ns": 1003,
            "violation_reliability_ns": 1005,
            "pcie_gen": 5,
            "pcie_width": 16,
            "pcie_replays": 0,
            "ecc_corrected": 0,
            "ecc_uncorrected": 0,
            "nvlink_active": 18,
            # 18 links with 1000 + link KiB sent: 18,000 + 153; and 2000 + link received: 36,000 + 153.
            "nvlink_sent_bytes": 18153 * 1024,
            "nvlink_received_bytes": 36153 * 1024,
            "nvlink_errors": 6,
        },
        "unread": {},
    }
    assert gpus[0]["marks"] == gpus[0]["warnings"] == []


def test_the_facts_of_a_sound_gpu(gpus: Any) -> None:
    facts = gpus[0]["facts"]
    assert facts["unread"] == {"topology_gpu3": "GPU is lost"}
    topology = {f"topology_gpu{i}": "NUMA node" if i < 4 else "system" for i in (1, 2, 4, 5, 6, 7)}
    assert facts["values"] == topology | {
        "driver_version": "580.65.06",
        "nvml_version": "13.580.65.06",
        "cuda_driver_version": "13.1",
        "gpu_name": "NVIDIA H100 80GB HBM3",
        "gpu_uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "gpu_serial": "1650000000000",
        "gpu_index": 0,
        "vbios_version": "96.00.74.00.01",
        "pci_bus_id": "00000000:10:00.0",
        "sm_clock_max_mhz": 1980,
        "memory_clock_max_mhz": 2619,
        "power_limit_w": 700.0,
        "power_limit_default_w": 700.0,
        "slowdown_temperature_c": 87,
        "pcie_gen_max": 5,
        "pcie_width_max": 16,
        "ecc_enabled": True,
        "mig_enabled": False,
        "persistence_enabled": True,
        "compute_mode": "exclusive process",
        "nvlink_links": 18,
        "nvlink_version": "4.0",
        "nvlink_peers": {"00000000:20:00.0": 2, "switch": 16},
        "gpu_cpu_affinity": [0, 1],
        "gpu_numa_nodes": [0],
    }


def test_a_throttled_gpu_is_marked_with_every_number(gpus: Any) -> None:
    before, after = gpus[2]["before"]["values"], gpus[2]["after"]["values"]
    assert before["event_reasons"] == 0x20
    assert (before["violation_thermal_ns"], after["violation_thermal_ns"]) == (1001, 25_001_001)
    assert texts(gpus[2]) == [
        ("thermal", "SW thermal slowdown seen before and after (event reason 0x20)"),
        ("thermal", "the thermal limit held clocks down for 25.0 ms, 2.50 % of the time"),
        # 1215 / 1980 = 0.6136
        ("clock", "SM clock 1215 MHz, 38.6 % below its maximum of 1980 MHz"),
        ("thermal", "88 C; the GPU slows down from 87 C on"),
    ]
    assert gpus[2]["warnings"] == []


def test_a_lost_gpu_has_no_values_and_says_why(gpus: Any) -> None:
    lost = gpus[3]
    assert lost["before"]["values"] == {}
    assert set(lost["before"]["unread"].values()) == {"GPU is lost"}
    assert lost["before"]["unread"].keys() == gpus[0]["before"]["values"].keys()
    # The driver still answers for itself.
    assert lost["facts"]["values"].keys() == {"driver_version", "nvml_version", "cuda_driver_version"}
    assert set(lost["facts"]["unread"].values()) == {"GPU is lost"}
    assert lost["marks"] == []
    assert lost["warnings"] == ["the GPU's state cannot be read: GPU is lost"]


def test_a_narrow_pcie_link_is_a_warning(gpus: Any) -> None:
    assert gpus[4]["warnings"] == [
        "PCIe is at generation 3 of 5 (an idle GPU may lower it by itself)",
        "PCIe is 8 of 16 lanes wide",
    ]
    # Replays of before are no mark of this block.
    assert gpus[4]["before"]["values"]["pcie_replays"] == 12
    assert gpus[4]["marks"] == []


def test_what_a_consumer_card_does_not_support_is_unread(gpus: Any) -> None:
    card = gpus[5]
    violations = {f"violation_{name}_ns" for name in ("power", "thermal", "sync_boost", "board_limit", "reliability")}
    ecc = {"ecc_corrected", "ecc_uncorrected"}
    nvlink = {"nvlink_active", "nvlink_sent_bytes", "nvlink_received_bytes", "nvlink_errors"}
    refused = dict.fromkeys(violations | ecc | nvlink, "Not Supported")
    no_sensor = {"memory_temperature_c": "NVML answers 0, as it does for a memory without a sensor"}
    assert card["before"]["unread"] == refused | no_sensor
    assert card["before"]["values"]["sm_clock_mhz"] == 1965
    missing = ("gpu_serial", "ecc_enabled", "mig_enabled", "nvlink_links", "nvlink_version", "nvlink_peers")
    assert card["facts"]["unread"] == dict.fromkeys(missing, "Not Supported") | {
        "gpu_numa_nodes": "NVML answers an empty set",
        "topology_gpu3": "GPU is lost",
    }
    assert card["facts"]["values"]["gpu_cpu_affinity"] == [2, 3]
    assert card["marks"] == card["warnings"] == []


def test_a_link_down_and_a_low_limit_are_warnings(gpus: Any) -> None:
    assert gpus[6]["facts"]["values"]["nvlink_links"] == 18
    assert gpus[6]["before"]["values"]["nvlink_active"] == 17
    # What the link that is down would have sent is not asked: 17,000 KiB + 153 - 5.
    assert gpus[6]["before"]["values"]["nvlink_sent_bytes"] == 17148 * 1024
    assert gpus[6]["warnings"] == [
        "17 of 18 NVLinks are up",
        "the power limit is 500 W, below the default of 700 W",
        "ECC is off",
    ]


def test_what_a_gpu_keeps_to_itself_is_unread(gpus: Any) -> None:
    assert gpus[7]["before"]["unread"] == {
        "power_w": "NVML answers that the value is not available",
        "gpu_idle": "Unknown Error",
        "event_reasons": "Unknown Error",
        # One link of 18 refuses: the sum of the others would be too small.
        "nvlink_sent_bytes": "Not Supported",
        "nvlink_received_bytes": "Not Supported",
    }
    assert gpus[7]["before"]["values"]["ecc_corrected"] == 7
    assert gpus[7]["warnings"] == [
        "throttling cannot be read: Unknown Error",
        "2 uncorrected ECC errors since the driver was loaded",
        "MIG is on: what is read is the state of the whole GPU, of which the ranks have a part",
    ]


def test_a_gpu_that_is_not_there(gpus: Any) -> None:
    assert gpus[8]["before"]["values"] == gpus[8]["facts"]["values"] == {}
    assert gpus[8]["before"]["unread"] == dict.fromkeys(gpus[0]["before"]["values"], "Invalid Argument")
    assert gpus[8]["warnings"] == ["the GPU's state cannot be read: Invalid Argument"]


def test_a_gpu_is_found_by_its_uuid(python: Launch, library: Path) -> None:
    """As torch writes it, as NVML does, of a MIG instance, and one that no GPU has."""
    bare = "00000000-0000-0000-0000-000000000006"
    names = [bare, f"GPU-{bare}", "99999999-0000-0000-0000-000000000007", "12345678-0000-0000-0000-000000000000"]
    assert run(python, BY_UUID.format(names=names), library) == [6, 6, 7, "Not Found"]


def test_an_old_driver_lacks_functions(of_an_old_driver: Any) -> None:
    gpu = of_an_old_driver[0]
    violations = [f"violation_{name}_ns" for name in ("power", "thermal", "sync_boost", "board_limit", "reliability")]
    assert gpu["before"]["unread"] == dict.fromkeys(violations, "Function Not Found")
    assert gpu["facts"]["unread"] == {"mig_enabled": "Function Not Found", "topology_gpu3": "GPU is lost"}
    # Asked by the names of before.
    assert (gpu["before"]["values"]["temperature_c"], gpu["before"]["values"]["event_reasons"]) == (41, 0x4)
    assert texts(gpu) == [("power", "SW power cap at a limit of 700 W seen before and after (event reason 0x4)")]


def test_without_a_library_everything_is_unread(python: Launch, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    gpu = run(python, PROGRAM, tmp_path)[0]
    assert gpu["before"]["values"] == gpu["facts"]["values"] == {}
    assert set(gpu["before"]["unread"].values()) == {"NVML Shared Library Not Found"}
    assert gpu["marks"] == []
    assert gpu["warnings"] == ["the GPU's state cannot be read: NVML Shared Library Not Found"]
