"""What tests on a laboratory of hosts share."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
NETLAB: Final = ROOT / "scripts" / "netlab"

MODEL = """
name = "tiny"
hidden = 256
num_heads = 4
num_kv_heads = 4
head_dim = 64
ffn_width = 1024
gated = false
num_layers = 1
vocab_size = 8
tied_embeddings = false
norm = "rms"
position = "rope"
max_positions = 4096
bias = "none"
source = "made up for this test"
"""

Netlab = Callable[..., subprocess.CompletedProcess[str]]
StartNetlab = Callable[..., subprocess.Popen[str]]


def _missing() -> str | None:
    """Why there can be no laboratory here, found out without it."""
    if os.geteuid() != 0:
        return "scripts/netlab needs root"
    if any(shutil.which(tool) is None for tool in ("ip", "tc", "unshare", "hostname")):
        return "scripts/netlab needs ip, tc, unshare and hostname"
    name = f"probe-{os.getpid()}"
    tries = """
        ip link add veth1 type veth peer name veth2 && ip link add br0 type bridge && ip link set veth1 master br0 &&
        tc qdisc add dev veth2 root tbf rate 1mbit burst 16kb latency 20ms"""
    kernel = f"ip netns add {name} && ip netns delete {name} && unshare --net --uts sh -c '{tries}'"
    done = subprocess.run(kernel, shell=True, capture_output=True, text=True, check=False)
    return f"no network namespaces here: {done.stderr.strip()}" if done.returncode else None


# Also for other files: `pytestmark = needs_netlab`; the fixtures here skip by themselves.
NETLAB_MISSING: Final = _missing()
needs_netlab = pytest.mark.skipif(NETLAB_MISSING is not None, reason=NETLAB_MISSING or "")


@pytest.fixture
def start_netlab() -> Iterator[StartNetlab]:
    """Start scripts/netlab with these words and variables; its process id is in the names of all that it makes."""
    if NETLAB_MISSING:
        pytest.skip(NETLAB_MISSING)
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path, cwd: Path = ROOT, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [NETLAB, *words],
            cwd=cwd,
            env=os.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def netlab(start_netlab: StartNetlab) -> Netlab:
    """Run scripts/netlab with these words and variables to its end."""

    def run(
        *words: str | Path, timeout: float = 240, cwd: Path = ROOT, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        process = start_netlab(*words, cwd=cwd, **environ)
        stdout, stderr = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that takes no time."""
    path = tmp_path_factory.mktemp("models") / "tiny.toml"
    path.write_text(MODEL)
    return path
