"""The machine at hand as a Node: its GPUs by their NVML names, else one core of its CPU.

Of a CPU only the arithmetic peak can be read (cores, clock and vector width); its memory and the host's loopback
state no rate, so none is given.
"""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pynvml

from tp import catalogue
from tp.hardware import Device, Link, Node, Peak, load_node
from tp.units import Dtype, printable

CPUINFO: Final = Path("/proc/cpuinfo")
MAX_CLOCK: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")

# FLOPs a cycle of one core by CPU flag, best first: two fused multiply-add units of the vector width, or one matrix
# unit (Intel 64 and IA-32 Architectures Optimization Reference Manual, chapters on AVX-512 and AMX).
_FP32_FLOPS_PER_CYCLE: Final = (("avx512f", 64), ("fma", 32), ("asimd", 16))
_BF16_FLOPS_PER_CYCLE: Final = (("amx_bf16", 1024), ("avx512_bf16", 128))
_FP16_FLOPS_PER_CYCLE: Final = (("amx_fp16", 1024), ("avx512_fp16", 128))


def resolve_node(name: str) -> Node:
    """The node called `name` of the catalogue; `auto` is the machine at hand."""
    return local_node() if name == "auto" else load_node(name)


def local_node() -> Node:
    """The machine at hand; a GPU that the catalogue does not know is measured all the same, without any bound."""
    gpus = gpu_names()
    if not gpus:
        return cpu_node()
    for name in catalogue.names("hardware"):
        node = load_node(name)
        if gpus[0] in node.device.nvml_names:
            return replace(node, num_devices=len(gpus))
    return unknown_gpu_node(gpus[0], len(gpus))


def unknown_gpu_node(name: str, count: int) -> Node:
    """A GPU of which only the name is known: every rate is absent, so the datasheet theory says nothing of it."""
    source = f"NVML; no configs/hardware/*.toml lists {name!r} under nvml_names, describe it there"
    device = Device(
        name=printable(name),
        vendor="unknown",
        kind="gpu",
        num_units=1,
        memory_bytes=None,
        memory_bytes_per_s=None,
        peaks=(),
        source=source,
        date=date.today().isoformat(),
    )
    link = Link(name="unknown", kind="pcie", bytes_per_s=None, direction="one-way", source=source)
    return Node(name="gpu-unknown", num_devices=count, device=device, links=(link,))


def gpu_names() -> tuple[str, ...]:
    """What NVML calls the GPUs; empty without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    finally:
        pynvml.nvmlShutdown()


def cpu_node(cpuinfo: Path = CPUINFO, max_clock: Path = MAX_CLOCK) -> Node:
    """One core of this CPU as a device, as many as this process may use."""
    fields = _first_processor(cpuinfo)
    flags = frozenset(fields.get("flags", fields.get("Features", "")).split())
    clock_hz, clock_source, doubt = _clock(fields, max_clock)
    today = date.today().isoformat()
    model = fields.get("model name", "unknown CPU")
    source = f"{cpuinfo} of {model}, {clock_source}"
    device = Device(
        name=printable(f"one core of {model}"),
        vendor=fields.get("vendor_id", "unknown"),
        kind="cpu-core",
        num_units=1,
        memory_bytes=None,
        memory_bytes_per_s=None,
        peaks=_peaks(flags, clock_hz, source, doubt),
        source=source,
        date=today,
    )
    link = Link(
        name="host-memory", kind="host-memory", bytes_per_s=None, direction="one-way", source="no source states one"
    )
    return Node(name="cpu-local", num_devices=len(os.sched_getaffinity(0)), device=device, links=(link,))


def native_dtypes(cpuinfo: Path = CPUINFO) -> tuple[Dtype, ...]:
    """The dtypes in which this CPU multiplies by itself; in others every product is emulated in fp32."""
    flags = frozenset(_first_processor(cpuinfo).get("flags", "").split())
    native: list[Dtype] = ["fp32"]
    if any(flag in flags for flag, _ in _BF16_FLOPS_PER_CYCLE):
        native.append("bf16")
    if any(flag in flags for flag, _ in _FP16_FLOPS_PER_CYCLE):
        native.append("fp16")
    return tuple(native)


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    if not cpuinfo.is_file():
        return {}
    first = cpuinfo.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _clock(fields: dict[str, str], max_clock: Path) -> tuple[float | None, str, str | None]:
    """The highest clock in Hz, where it was read, and a doubt about it."""
    if max_clock.is_file():
        return float(max_clock.read_text()) * 1e3, f"highest clock from {max_clock}", None
    if "cpu MHz" in fields:
        doubt = "the clock is the nominal one, as in most virtual machines; a turbo above it beats this peak"
        return float(fields["cpu MHz"]) * 1e6, "nominal clock", doubt
    return None, "no clock stated", None


def _peaks(flags: frozenset[str], clock_hz: float | None, source: str, doubt: str | None) -> tuple[Peak, ...]:
    fp32 = _best(flags, _FP32_FLOPS_PER_CYCLE)
    if clock_hz is None or fp32 is None:
        return ()
    rates: dict[Dtype, int] = {
        "fp32": fp32,
        "bf16": _best(flags, _BF16_FLOPS_PER_CYCLE) or fp32,
        "fp16": _best(flags, _FP16_FLOPS_PER_CYCLE) or fp32,
    }
    return tuple(
        Peak(
            dtype=dtype,
            flops_per_s=rate * clock_hz,
            sparsity="dense",
            source=source,
            flops_per_cycle_per_unit=rate,
            clock_hz=clock_hz,
            doubt=doubt,
        )
        for dtype, rate in rates.items()
    )


def _best(flags: frozenset[str], rates: tuple[tuple[str, int], ...]) -> int | None:
    return next((rate for flag, rate in rates if flag in flags), None)
