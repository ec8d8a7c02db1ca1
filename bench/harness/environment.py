"""What the numbers depend on besides the code: versions, variables, processor, affinity, git state."""

import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

# Variables that change how fast or by which way something runs.
PREFIXES: Final = ("NCCL_", "GLOO_", "TORCH_", "CUDA_", "OMP_", "MKL_", "KMP_", "ONEDNN_", "PYTORCH_")
PACKAGES: Final = ("torch", "numpy", "scipy", "nvidia-ml-py")


def environment() -> dict[str, Any]:
    """The state of this rank's process and machine, as plain data."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "cpu": _cpu(),
        "gpus": _gpus(),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIXES)},
        "git": _git(),
    }


def _cpu() -> dict[str, Any]:
    model = None
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line)
        model = next(names, None)
    load = list(os.getloadavg())
    return {"model": model, "affinity": sorted(os.sched_getaffinity(0)), "load_average": load}


def _gpus() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if dist.is_nccl_available() else None
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"names": names, "cuda": torch.version.cuda, "nccl": nccl}


def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that runs, or None outside of one."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": status is None or status != ""}
