"""What tests of the schedulers share: suites that take no time."""

from pathlib import Path

import pytest

MODEL = """
name = "tiny"
hidden = 128
num_heads = 4
num_kv_heads = 2
head_dim = 32
ffn_width = 256
gated = true
num_layers = 1
vocab_size = 8
tied_embeddings = false
norm = "rms"
position = "rope"
max_positions = 64
bias = "none"
source = "made up for this test"
"""

SUITE = """
name = "of a tiny model"
model = ["{model}"]
{degrees}
strategy = ["allreduce"]
phase = ["prefill"]
seq = [16]
"""


@pytest.fixture(scope="session")
def suites(tmp_path_factory):
    """The files of a suite that is sound, and of one whose degree divides no world of one or two ranks."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "tiny.toml").write_text(MODEL)

    def write(name: str, degrees: str) -> Path:
        path = folder / f"{name}.toml"
        path.write_text(SUITE.format(model=folder / "tiny.toml", degrees=degrees))
        return path

    return write("sound", ""), write("unsound", "tp = [3]")
