"""One GPU as NVML shows it: what it is, and the state that it is in; loads without torch.

Source: NVML API reference (docs.nvidia.com/deploy/nvml-api), through nvidia-ml-py. NVML counts clocks in MHz, power in
mW, energy in mJ, violation times in ns and temperatures in degrees Celsius.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Final

import pynvml

from bench.harness.machine import nvlink
from bench.harness.machine.ask import Handle, ask, field_value
from bench.harness.machine.reading import Facts, FactValue, Number, Reading, read_facts, read_values, reason

IDLE: Final = 0x1
"""The event reason of a GPU with nothing to do, which is no throttling."""

_POLICIES: Final = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "reliability": 5}
_COMPUTE_MODES: Final = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_TOPOLOGY_LEVELS: Final = {
    0: "same board",
    10: "one PCIe switch",
    20: "several PCIe switches",
    30: "host bridge",
    40: "NUMA node",
    50: "system",
}
_BITS_A_WORD: Final = 64


class Gpu:
    """One GPU, open in NVML for as long as the process lives; where it cannot be opened, everything is unread."""

    def __init__(self, which: str | int) -> None:
        """Open the GPU of that UUID, as NVML or as torch writes it, or of that index in NVML's order by PCI bus."""
        self._handle: Handle | None = None
        self._absent = ""
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(which) if isinstance(which, int) else _by_uuid(which)
        except Exception as error:  # no library, no driver or no such GPU is a state of the machine, not a failure
            self._absent = reason(error)

    def read(self) -> Reading:
        """The state at this moment; counters count from the driver's start."""
        if self._handle is None:
            return Reading(values={}, unread=dict.fromkeys(_READINGS, self._absent))
        return read_values({name: partial(read, self._handle) for name, read in _READINGS.items()})

    def facts(self) -> Facts:
        """What it is, how it is set, and how far the other GPUs are, by NVML's index."""
        if self._handle is None:
            return Facts(values={}, unread=dict.fromkeys([*_FACTS, "topology"], self._absent))
        readers: dict[str, Callable[[], FactValue]] = {
            name: partial(read, self._handle) for name, read in _FACTS.items()
        }
        try:
            others = _others(self._handle)
        except pynvml.NVMLError as error:
            found = read_facts(readers)
            return Facts(values=found.values, unread=found.unread | {"topology": reason(error)})
        readers |= {f"topology_gpu{index}": partial(_topology, self._handle, index) for index in others}
        return read_facts(readers)


def _by_uuid(uuid: str) -> Handle:
    """The GPU of that UUID, or the one that the MIG instance of that UUID is a part of."""
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{bare}")
    except pynvml.NVMLError_NotFound:
        instance = pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{bare}")
        return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)


def _others(handle: Handle) -> list[int]:
    own = ask("nvmlDeviceGetIndex", handle)
    return [index for index in range(ask("nvmlDeviceGetCount")) if index != own]


def _topology(handle: Handle, index: int) -> str:
    other = pynvml.nvmlDeviceGetHandleByIndex(index)
    level = ask("nvmlDeviceGetTopologyCommonAncestor", handle, other)
    return _TOPOLOGY_LEVELS.get(level, f"level {level}")


def _event_reasons(handle: Handle) -> int:
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return int(ask(names, handle))


def _temperature(handle: Handle) -> int:
    names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
    return int(ask(names, handle, pynvml.NVML_TEMPERATURE_GPU))


def _memory_temperature(handle: Handle) -> Number:
    value = field_value(handle, pynvml.NVML_FI_DEV_MEMORY_TEMP)
    if value == 0:
        raise ValueError("NVML answers 0, as it does for a memory without a sensor")
    return value


def _violation_ns(handle: Handle, *, policy: int) -> int:
    return int(ask("nvmlDeviceGetViolationStatus", handle, policy).violationTime)


def _ecc_errors(handle: Handle, *, kind: int) -> int:
    return int(ask("nvmlDeviceGetTotalEccErrors", handle, kind, pynvml.NVML_VOLATILE_ECC))


def _cuda_version() -> str:
    version = ask("nvmlSystemGetCudaDriverVersion")
    return f"{version // 1000}.{version % 1000 // 10}"


def _cpus(handle: Handle) -> list[int]:
    words = (os.cpu_count() or 1) // _BITS_A_WORD + 1
    return _set_bits(list(ask("nvmlDeviceGetCpuAffinity", handle, words)))


def _numa_nodes(handle: Handle) -> list[int]:
    return _set_bits(list(ask("nvmlDeviceGetMemoryAffinity", handle, 1, pynvml.NVML_AFFINITY_SCOPE_NODE)))


def _set_bits(words: list[int]) -> list[int]:
    bits = [
        number * _BITS_A_WORD + bit
        for number, word in enumerate(words)
        for bit in range(_BITS_A_WORD)
        if word >> bit & 1
    ]
    if not bits:
        raise ValueError("NVML answers an empty set")
    return bits


def _compute_mode(handle: Handle) -> str:
    mode = ask("nvmlDeviceGetComputeMode", handle)
    return _COMPUTE_MODES.get(mode, f"mode {mode}")


_READINGS: Final[dict[str, Callable[[Handle], Number]]] = {
    "sm_clock_mhz": lambda gpu: ask("nvmlDeviceGetClockInfo", gpu, pynvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda gpu: ask("nvmlDeviceGetClockInfo", gpu, pynvml.NVML_CLOCK_MEM),
    "power_w": lambda gpu: ask("nvmlDeviceGetPowerUsage", gpu) / 1e3,
    "energy_j": lambda gpu: ask("nvmlDeviceGetTotalEnergyConsumption", gpu) / 1e3,
    "temperature_c": _temperature,
    "memory_temperature_c": _memory_temperature,
    "gpu_idle": lambda gpu: _event_reasons(gpu) & IDLE,
    "event_reasons": lambda gpu: _event_reasons(gpu) & ~IDLE,
    **{f"violation_{name}_ns": partial(_violation_ns, policy=policy) for name, policy in _POLICIES.items()},
    "pcie_gen": lambda gpu: ask("nvmlDeviceGetCurrPcieLinkGeneration", gpu),
    "pcie_width": lambda gpu: ask("nvmlDeviceGetCurrPcieLinkWidth", gpu),
    "pcie_replays": lambda gpu: ask("nvmlDeviceGetPcieReplayCounter", gpu),
    "ecc_corrected": partial(_ecc_errors, kind=pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    "ecc_uncorrected": partial(_ecc_errors, kind=pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    "nvlink_active": nvlink.num_active,
    "nvlink_sent_bytes": nvlink.sent_bytes,
    "nvlink_received_bytes": nvlink.received_bytes,
    "nvlink_errors": nvlink.num_errors,
}
_FACTS: Final[dict[str, Callable[[Handle], FactValue]]] = {
    "driver_version": lambda _: str(ask("nvmlSystemGetDriverVersion")),
    "nvml_version": lambda _: str(ask("nvmlSystemGetNVMLVersion")),
    "cuda_driver_version": lambda _: _cuda_version(),
    "gpu_name": lambda gpu: str(ask("nvmlDeviceGetName", gpu)),
    "gpu_uuid": lambda gpu: str(ask("nvmlDeviceGetUUID", gpu)),
    "gpu_serial": lambda gpu: str(ask("nvmlDeviceGetSerial", gpu)),
    "gpu_index": lambda gpu: int(ask("nvmlDeviceGetIndex", gpu)),
    "vbios_version": lambda gpu: str(ask("nvmlDeviceGetVbiosVersion", gpu)),
    "pci_bus_id": lambda gpu: str(ask("nvmlDeviceGetPciInfo", gpu).busId),
    "sm_clock_max_mhz": lambda gpu: int(ask("nvmlDeviceGetMaxClockInfo", gpu, pynvml.NVML_CLOCK_SM)),
    "memory_clock_max_mhz": lambda gpu: int(ask("nvmlDeviceGetMaxClockInfo", gpu, pynvml.NVML_CLOCK_MEM)),
    "power_limit_w": lambda gpu: ask("nvmlDeviceGetEnforcedPowerLimit", gpu) / 1e3,
    "power_limit_default_w": lambda gpu: ask("nvmlDeviceGetPowerManagementDefaultLimit", gpu) / 1e3,
    "slowdown_temperature_c": lambda gpu: int(
        ask("nvmlDeviceGetTemperatureThreshold", gpu, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    ),
    "pcie_gen_max": lambda gpu: int(ask("nvmlDeviceGetMaxPcieLinkGeneration", gpu)),
    "pcie_width_max": lambda gpu: int(ask("nvmlDeviceGetMaxPcieLinkWidth", gpu)),
    "ecc_enabled": lambda gpu: bool(ask("nvmlDeviceGetEccMode", gpu)[0]),
    "mig_enabled": lambda gpu: bool(ask("nvmlDeviceGetMigMode", gpu)[0]),
    "persistence_enabled": lambda gpu: bool(ask("nvmlDeviceGetPersistenceMode", gpu)),
    "compute_mode": _compute_mode,
    "nvlink_links": nvlink.num_links,
    "nvlink_version": nvlink.version,
    "nvlink_peers": nvlink.peers,
    "gpu_cpu_affinity": _cpus,
    "gpu_numa_nodes": _numa_nodes,
}
