"""What the numbers depend on besides the code: versions, variables, processor, affinity, git state."""

import os
import platform
import socket
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

from bench.harness.machine.host import Host
from bench.harness.machine.probe import Probe

# Variables that change how fast or by which way something runs.
PREFIXES: Final = (
    *("NCCL_", "GLOO_", "TORCH_", "CUDA_", "CUBLAS_", "OMP_", "MKL_", "KMP_", "ONEDNN_", "PYTORCH_"),
    *("UCX_", "FI_", "NVSHMEM_"),
)
NAMES: Final = (
    *("LD_PRELOAD", "MASTER_ADDR", "SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "SLURM_NNODES"),
    *("SLURM_CPUS_PER_TASK", "SLURM_CPU_BIND", "SLURM_CPU_FREQ_REQ", "SLURM_MEM_BIND", "SLURM_DISTRIBUTION"),
    *("SLURM_GPUS_ON_NODE", "SLURM_GPU_BIND", "SLURM_GPU_FREQ", "SLURM_TASKS_PER_NODE", "SLURM_TOPOLOGY_ADDR"),
)
# A record is passed on; what is called like a secret stays out of it.
SECRETS: Final = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY")
PACKAGES: Final = ("torch", "numpy", "scipy", "nvidia-ml-py")


def environment(probe: Probe | None = None) -> dict[str, Any]:
    """The state of this rank's process and machine, as plain data; without a probe, of its host alone."""
    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "libraries": _libraries(),
        "cpu": _cpu(),
        "gpus": _gpus(),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "variables": _variables(),
        "git": _git(),
        "facts": asdict((probe or Host()).facts()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _libraries() -> dict[str, str | None]:
    """Versions of what torch was built with; None where it was built without."""
    return {
        "torch": torch.__version__,
        "torch_commit": torch.version.git_version,
        "cuda": torch.version.cuda,
        "nccl": _nccl(),
        # Gloo has no version of its own: it is the one in torch's sources.
        "gloo": f"of torch {torch.__version__}" if dist.is_gloo_available() else None,
    }


def _nccl() -> str | None:
    return ".".join(map(str, torch.cuda.nccl.version())) if dist.is_nccl_available() else None


def _cpu() -> dict[str, Any]:
    facts = Host().facts()
    load = list(os.getloadavg())
    return {"model": facts.values.get("cpu_model"), "affinity": facts.values["cpu_affinity"], "load_average": load}


def _gpus() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"names": names, "cuda": torch.version.cuda, "nccl": _nccl()}


def _variables() -> dict[str, str]:
    chosen = (name for name in os.environ if name.startswith(PREFIXES) or name in NAMES)
    return {name: os.environ[name] for name in sorted(chosen) if not any(word in name for word in SECRETS)}


def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that runs, or None outside of one."""
    root = Path(__file__).resolve().parents[3]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": status is None or status != ""}
