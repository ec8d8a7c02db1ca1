"""What a device cannot run is refused by its flags, in one line, before any process group."""

from collections.abc import Sequence
from typing import Final

import torch

from bench.harness.world.launch import DeviceKind
from tp.case import Phase, Strategy
from tp.errors import ConfigError
from tp.suite import CUDA_ONLY
from tp.units import Dtype

# NVIDIA's first with fp8 matrix units: Ada (8.9); torch._scaled_mm asks for the same.
FP8_CAPABILITY: Final = (8, 9)
# Their products go through layers of ours in one piece, which fp8 needs to quantise its input.
FP8_STRATEGIES: Final[tuple[Strategy, ...]] = ("columns", "allreduce", "sequence")


def require_runnable(
    strategies: Sequence[Strategy], phases: Sequence[Phase], dtype: Dtype, *, device: DeviceKind, dry_run: bool
) -> None:
    """Raise ConfigError for the first strategy or dtype that `device` has not; a dry run needs no device."""
    for strategy in strategies:
        if strategy in CUDA_ONLY and device != "cuda":
            raise ConfigError(
                f"--strategy {strategy}: torch's fused symmetric-memory operators run on CUDA only; leave it out here, "
                f"or check it with --dry-run --device cuda"
            )
    if dtype == "fp8":
        _require_fp8(strategies, phases, device=device, dry_run=dry_run)


def _require_fp8(strategies: Sequence[Strategy], phases: Sequence[Phase], *, device: DeviceKind, dry_run: bool) -> None:
    if device != "cuda":
        raise ConfigError("--dtype fp8: needs a GPU with fp8 matrix units, not a CPU; use fp32 or bf16")
    if not dry_run and torch.cuda.get_device_capability() < FP8_CAPABILITY:
        name, have = torch.cuda.get_device_name(), ".".join(map(str, torch.cuda.get_device_capability()))
        raise ConfigError(f"--dtype fp8: {name} (capability {have}) has no fp8 matrix units, 8.9 has; use bf16")
    if "train" in phases:
        raise ConfigError("--phase train: fp8 is measured forward only; use --phase prefill,decode, or --dtype bf16")
    for strategy in strategies:
        if strategy not in FP8_STRATEGIES:
            raise ConfigError(f"--strategy {strategy}: has no fp8 products; use {', '.join(FP8_STRATEGIES)}")
