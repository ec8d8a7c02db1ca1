"""What is expected of a machine before anything was measured on it: curves of the GPU that it resembles.

Efficiencies and start-ups are those fitted to published tables of one GPU a class (aiconfigurator's GEMM and
attention tables of the A100 SXM, the H100 SXM and the L40S), over the data sheet of the machine at hand. Intervals
are the errors that such transfers had on the other GPUs of those tables: 5 to 13 % in the mean with HBM, 16 to 25 %
with GDDR, whose products hit or miss L2.
"""

from dataclasses import replace
from typing import Final, Literal

from tp.cost.curves.attention import SumAttention, TileAttention
from tp.cost.curves.gemm import Machine, TileGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.cost.overheads import Contention
from tp.hardware import Architecture, Device
from tp.units import MIB, Dtype

Resembles = Literal["ampere", "hopper", "gddr"]
CLASSES: Final[dict[Architecture, Resembles]] = {
    "ampere": "ampere",
    "hopper": "hopper",
    "blackwell": "hopper",
    "cdna3": "hopper",
    "ada": "gddr",
    "blackwell-rtx": "gddr",
}
# Logarithm of the factor within which 90 % of such transfers stay.
GEMM_LOG_ERROR: Final[dict[Resembles, float]] = {"ampere": 0.30, "hopper": 0.30, "gddr": 0.55}
ATTENTION_LOG_ERROR: Final = 0.40
# No form was measured without rows: the bounds within which the rules of thumb are known to hold.
LOOSE_LOG_ERROR: Final = 0.60
USUAL_L2_BYTES: Final = 40.0 * MIB
# Of the memory's rate, in an elementwise pass, and what a kernel costs (Korthikanti et al. 2022's kernels on an A100).
ELEMENTWISE_EFFICIENCY: Final = 0.87
KERNEL_S: Final = 2.5e-6
# Decode reads the cache at this share of the memory's rate.
DECODE_EFFICIENCY: Final = 0.75
DECODE_START_S: Final = 6e-6
# Backward kernels reach less of the peak than forward ones (FlashAttention-2, Dao 2023, tables 1 and 2).
BACKWARD_SHARE: Final = 0.8


# Multiprocessors that NCCL takes for a ring over NVLink (its default of 16 channels, a block of threads each).
NCCL_BLOCKS: Final = 16


def expected_contention(device: Device) -> Contention:
    """Compute beside a collective lacks the multiprocessors that send; nothing is known of the other way round."""
    if device.kind != "gpu" or device.num_units <= NCCL_BLOCKS:
        return Contention()
    return Contention(compute=NCCL_BLOCKS / (device.num_units - NCCL_BLOCKS))


def guess(log_error: float, sizes: int) -> Fit:
    """The trust in a curve that no row of this machine supports."""
    return Fit(
        rows=0,
        held_out_mape_percent=0.0,
        held_out_median_percent=0.0,
        log_error_90=log_error,
        low=(0.0,) * sizes,
        high=(float(2**62),) * sizes,
    )


def resembles(device: Device) -> Resembles | None:
    """Whose curves to start from; None for a CPU and for a GPU whose architecture is not stated."""
    return None if device.architecture is None else CLASSES[device.architecture]


def prior_gemm(device: Device, dtype: Dtype) -> TileGemm | None:
    """The tile model of the device's class on its data sheet; None without peak, memory rate or class."""
    kind, peak = resembles(device), device.dense_peak(dtype)
    if kind is None or peak is None or device.memory_bytes_per_s is None:
        return None
    machine = Machine(
        num_units=device.num_units,
        flops_per_s=peak.flops_per_s,
        bytes_per_s=device.memory_bytes_per_s,
        l2_bytes=device.l2_bytes or USUAL_L2_BYTES,
    )
    return replace(_TILE_GEMMS[kind], machine=machine, fit=guess(GEMM_LOG_ERROR[kind], 3))


def prior_attention(device: Device, dtype: Dtype, *, backward: bool) -> TileAttention | None:
    """Causal cores in the same way."""
    kind, peak = resembles(device), device.dense_peak(dtype)
    if kind is None or peak is None or device.memory_bytes_per_s is None:
        return None
    curve = _TILE_ATTENTION[kind]
    return replace(
        curve,
        num_units=device.num_units,
        flops_per_s=peak.flops_per_s,
        bytes_per_s=device.memory_bytes_per_s,
        compute_efficiency=curve.compute_efficiency * (BACKWARD_SHARE if backward else 1.0),
        fit=guess(LOOSE_LOG_ERROR if backward else ATTENTION_LOG_ERROR, 3),
    )


def prior_decode(device: Device) -> SumAttention | None:
    """One token against a cache: its bytes."""
    if device.memory_bytes_per_s is None or device.kind != "gpu":
        return None
    return SumAttention(
        startup_s=DECODE_START_S,
        seconds_per_flop=0.0,
        seconds_per_byte=1 / (DECODE_EFFICIENCY * device.memory_bytes_per_s),
        fit=guess(LOOSE_LOG_ERROR, 3),
    )


def prior_elementwise(device: Device) -> SizeCurve | None:
    """A kernel's start and its bytes."""
    if device.memory_bytes_per_s is None or device.kind != "gpu":
        return None
    per_byte = 1 / (ELEMENTWISE_EFFICIENCY * device.memory_bytes_per_s)
    return SizeCurve(
        latency_s=(KERNEL_S, KERNEL_S),
        seconds_per_byte=(per_byte, per_byte),
        log_size=(0.0,),
        log_correction=(0.0,),
        fit=guess(LOOSE_LOG_ERROR, 1),
    )


_NOWHERE: Final = Machine(num_units=1, flops_per_s=1.0, bytes_per_s=1.0, l2_bytes=1.0)
_AMPERE: Final = TileGemm(
    machine=_NOWHERE,
    startup_s=0.92e-6,
    compute_efficiency=0.921,
    tile_s=2.85e-6,
    tile_area_s=1.21e-6,
    memory_efficiency=0.802,
    slowdown=0.001,
    wave_blur=0.02,
    ramp_bytes=5.5e6,
    l2_share=0.14,
    sharpness=3.5,
    feed_bytes_per_flop=2.0,
    split_s=1.5e-6,
    l2_speedup=3.0,
    fit=guess(0.0, 3),
)
_TILE_GEMMS: Final[dict[Resembles, TileGemm]] = {
    "ampere": _AMPERE,
    "hopper": replace(
        _AMPERE,
        startup_s=1.95e-6,
        compute_efficiency=0.929,
        tile_s=0.56e-6,
        tile_area_s=1.14e-6,
        memory_efficiency=0.835,
        slowdown=0.017,
        wave_blur=0.85,
        ramp_bytes=2.3e6,
        l2_share=0.10,
    ),
    "gddr": replace(
        _AMPERE,
        startup_s=0.36e-6,
        compute_efficiency=0.963,
        tile_s=0.72e-6,
        tile_area_s=5.62e-6,
        memory_efficiency=0.853,
        slowdown=0.053,
        wave_blur=0.02,
        ramp_bytes=0.2e6,
        l2_share=0.26,
    ),
}
_AMPERE_CORE: Final = TileAttention(
    num_units=1,
    flops_per_s=1.0,
    bytes_per_s=1.0,
    startup_s=2.9e-6,
    compute_efficiency=0.544,
    diagonal_tokens=548.0,
    query_passes=1.06,
    key_passes=1.30,
    tail=0.49,
    slowdown=0.009,
    fit=guess(0.0, 3),
)
_TILE_ATTENTION: Final[dict[Resembles, TileAttention]] = {
    "ampere": _AMPERE_CORE,
    "hopper": replace(
        _AMPERE_CORE,
        startup_s=7.0e-6,
        compute_efficiency=0.760,
        diagonal_tokens=1050.0,
        query_passes=1.22,
        key_passes=1.75,
        tail=0.80,
        slowdown=0.027,
    ),
    "gddr": replace(
        _AMPERE_CORE,
        startup_s=1.1e-6,
        compute_efficiency=0.536,
        diagonal_tokens=684.0,
        query_passes=0.31,
        key_passes=2.96,
        tail=0.04,
        slowdown=0.030,
    ),
}
