"""What is read of the machine at hand: the peak of a core by its flags, and the dtypes it multiplies in."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tp import probe
from tp.units import Dtype

pytestmark = pytest.mark.unit

X86 = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Processor
cpu MHz		: 2000.000
flags		: fpu sse2 {flags}

processor	: 1
model name	: Another
cpu MHz		: 9999.000
flags		: amx_bf16 amx_fp16
"""
ARM = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes
CPU part	: 0xd0c
"""


def cpuinfo(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    return path


def max_clock(tmp_path: Path, kilohertz: int) -> Path:
    path = tmp_path / "cpuinfo_max_freq"
    path.write_text(f"{kilohertz}\n", encoding="utf-8")
    return path


def peaks(cpuinfo: Path, clock: Path) -> dict[str, float]:
    device = probe.cpu_node(cpuinfo, clock).device
    assert all(peak.sparsity == "dense" for peak in device.peaks)
    return {peak.dtype: peak.flops_per_s for peak in device.peaks}


@pytest.mark.parametrize(
    ("flags", "native", "flops_per_cycle"),
    [
        # Two FMA units of 16 fp32 lanes, 2 FLOPs each: 64. An AMX tile product is 16*16*32 multiply-adds in 16 cycles.
        ("fma avx2 avx512f avx512_bf16 amx_bf16 amx_tile", ("fp32", "bf16"), (64, 1024, 64)),
        ("fma avx2 avx512f amx_bf16 amx_fp16 avx512_fp16", ("fp32", "bf16", "fp16"), (64, 1024, 1024)),
        # A bf16 dot-product unit adds two products a lane: twice the fp32 rate.
        ("fma avx2 avx512f avx512_bf16", ("fp32", "bf16"), (64, 128, 64)),
        ("fma avx2 avx512f avx512_fp16", ("fp32", "fp16"), (64, 64, 128)),
        ("fma avx2 avx512f", ("fp32",), (64, 64, 64)),
        # Two FMA units of 8 lanes.
        ("fma avx2 f16c", ("fp32",), (32, 32, 32)),
    ],
)
def test_an_x86_core_by_its_flags(
    tmp_path: Path, flags: str, native: tuple[Dtype, ...], flops_per_cycle: tuple[int, int, int]
) -> None:
    path, clock = cpuinfo(tmp_path, X86.format(flags=flags)), max_clock(tmp_path, 3_000_000)
    assert probe.native_dtypes(path) == native
    # 3,000,000 kHz = 3 GHz
    fp32, bf16, fp16 = (rate * 3e9 for rate in flops_per_cycle)
    assert peaks(path, clock) == {"fp32": fp32, "bf16": bf16, "fp16": fp16}


def test_an_arm_core(tmp_path: Path) -> None:
    path = cpuinfo(tmp_path, ARM)
    # Two FMA units of 4 lanes; emulated dtypes are bound by fp32's rate.
    assert peaks(path, max_clock(tmp_path, 2_600_000)) == dict.fromkeys(("fp32", "bf16", "fp16"), 16 * 2.6e9)
    assert probe.native_dtypes(path) == ("fp32",)
    # Without a clock there is no peak, rather than a guessed one.
    assert peaks(path, tmp_path / "absent") == {}


def test_the_nominal_clock_comes_with_a_doubt(tmp_path: Path) -> None:
    path = cpuinfo(tmp_path, X86.format(flags="fma avx512f"))
    device = probe.cpu_node(path, tmp_path / "absent").device
    assert {peak.flops_per_s for peak in device.peaks} == {64 * 2e9}  # 2000 MHz
    assert all(peak.doubt and "turbo" in peak.doubt for peak in device.peaks)
    assert "nominal clock" in device.source
    sure = probe.cpu_node(path, max_clock(tmp_path, 3_000_000)).device
    assert all(peak.doubt is None for peak in sure.peaks)


@pytest.mark.parametrize("text", ["", "\n", "processor\t: 0\nflags\t: sse2\ncpu MHz\t: 2000\n", "no colon at all"])
def test_a_core_that_says_little_has_no_peak(tmp_path: Path, text: str) -> None:
    path = cpuinfo(tmp_path, text)
    node = probe.cpu_node(path, tmp_path / "absent")
    assert node.device.peaks == ()
    assert node.device.memory_bytes_per_s is None
    assert node.link().one_way_bytes_per_s is None
    assert node.num_devices >= 1
    assert probe.native_dtypes(path) == ("fp32",)


def test_no_cpuinfo_at_all(tmp_path: Path) -> None:
    node = probe.cpu_node(tmp_path / "absent", tmp_path / "absent too")
    assert node.device.peaks == ()
    assert "unknown CPU" in node.device.name
    assert probe.native_dtypes(tmp_path / "absent") == ("fp32",)


def test_only_the_first_processor_counts(tmp_path: Path) -> None:
    path = cpuinfo(tmp_path, X86.format(flags="fma"))
    node = probe.cpu_node(path, tmp_path / "absent")
    assert node.device.name == "one core of Intel(R) Xeon(R) Processor"
    assert probe.native_dtypes(path) == ("fp32",)


class FakeNvml:
    """NVML with the given GPUs; no driver where there are None."""

    class NVMLError(Exception):
        pass

    def __init__(self, names: tuple[str, ...] | None) -> None:
        self.names = names
        self.shut = False

    def nvmlInit(self) -> None:
        if self.names is None:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names or ())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(index=index)

    def nvmlDeviceGetName(self, handle: SimpleNamespace) -> str:
        return (self.names or ())[handle.index]

    def nvmlShutdown(self) -> None:
        self.shut = True


def test_gpus_are_found_by_their_nvml_name(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(("NVIDIA H100 80GB HBM3",) * 4)
    monkeypatch.setattr(probe, "pynvml", nvml)
    node = probe.resolve_node("auto")
    assert (node.name, node.num_devices) == ("h100-sxm", 4)
    assert nvml.shut


def test_an_unknown_gpu_has_no_rates_rather_than_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "pynvml", FakeNvml(("NVIDIA Vapour",) * 2))
    node = probe.resolve_node("auto")
    assert (node.num_devices, node.device.name, node.device.kind) == (2, "NVIDIA Vapour", "gpu")
    assert (node.device.peaks, node.device.memory_bytes_per_s, node.link().bytes_per_s) == ((), None, None)
    assert "'NVIDIA Vapour'" in node.device.source


@pytest.mark.parametrize("names", [None, ()])
def test_without_a_gpu_the_machine_is_its_cpu(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] | None) -> None:
    monkeypatch.setattr(probe, "pynvml", FakeNvml(names))
    assert probe.resolve_node("auto").name == "cpu-local"


def test_a_named_node_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "pynvml", None)
    assert probe.resolve_node("a100-sxm-80gb").name == "a100-sxm-80gb"
