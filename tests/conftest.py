"""What tests of every kind share."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def python() -> Launch:
    """Run a Python command line from the checkout's root."""

    def launch(*words: str, timeout: float = 120, **environ: str) -> subprocess.CompletedProcess[str]:
        return _run([sys.executable, *words], timeout=timeout, environ=environ)

    return launch


@pytest.fixture(scope="session")
def torchrun() -> Launch:
    """Run a script under real torchrun on so many ranks."""

    def launch(ranks: int, *words: str, timeout: float = 240, **environ: str) -> subprocess.CompletedProcess[str]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        return _run([*torchrun, *words], timeout=timeout, environ=environ)

    return launch


def _run(command: Sequence[str], *, timeout: float, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | {"OMP_NUM_THREADS": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
