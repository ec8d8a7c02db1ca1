"""What tests on real ranks share."""

import json
import socket
import sys
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(monkeypatch, capsys):
    """What `python bench/<block>.py` does, in this process: its layers and its fake world are no different there."""
    from bench.harness.run.cli import run_main
    from bench.harness.run.runner import run_block

    def run(block, *flags):
        monkeypatch.setattr(sys, "argv", [f"bench/{block}.py", *flags])
        code = 0
        try:
            run_main(lambda: run_block(block))
        except SystemExit as end:
            code = end.code
        return Ended(code, *capsys.readouterr())

    return run


# Each command line in turn, as if it were started alone; every one meets in a store of its own.
IN_TURN = """
import json, os, runpy, sys
before, commands, ports = json.loads(sys.argv[1])
exec(before)
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
for words, port in zip(commands, ports):
    if os.environ["RANK"] == "0":
        print("\x1e", end="", flush=True)
    os.environ["MASTER_PORT"] = str(port)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def torchrun_in_turn(torchrun, tmp_path_factory):
    """Run several scripts in turn in the same ranks, which import torch once; their standard outputs.

    `before` is Python that the ranks run first.
    """
    script = tmp_path_factory.mktemp("in_turn") / "in_turn.py"
    script.write_text(IN_TURN)

    def launch(ranks, *commands, before="", **others):
        done = torchrun(ranks, str(script), json.dumps([before, commands, _free_ports(len(commands))]), **others)
        assert done.returncode == 0, done.stderr[-4000:]
        _, *printed = done.stdout.split("\x1e")
        assert len(printed) == len(commands)
        return printed

    return launch


def _free_ports(count):
    taken = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports
