"""What tests on real ranks share."""

import pytest

MODEL = """
name = "tiny <b>&"
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The file of a model that takes no time; its name needs escaping on a page."""
    path = tmp_path_factory.mktemp("models") / "tiny.toml"
    path.write_text(MODEL)
    return path
