"""--dry-run: every case on fake tensors against its plan, for worlds that are not here."""

import re

import pytest

pytestmark = [pytest.mark.dist, pytest.mark.solo]


@pytest.mark.parametrize(("block", "degrees"), [("attention", "64"), ("ffn", "64"), ("block", "1,8,64")])
def test_sixty_four_gpus_without_one(python, block, degrees):
    flags = (
        "--dry-run",
        "--world",
        "64",
        "--device",
        "cuda",
        "--hardware",
        "h100-sxm",
        "--batch",
        "64",
        "--seq",
        "128",
    )
    done = python(f"bench/{block}.py", *flags, "--phase", "prefill,train,decode", "--tp", degrees)
    assert done.returncode == 0, done.stderr
    # 6 strategies, 3 phases.
    count = 18 * len(degrees.split(","))
    assert done.stdout.count(": as planned, ") == count
    assert f"{count} cases fit a world of 64" in done.stdout


def test_what_is_made_again_is_planned(python):
    flags = (
        "--dry-run",
        "--world",
        "64",
        "--tp",
        "64",
        "--device",
        "cuda",
        "--hardware",
        "h100-sxm",
        "--phase",
        "train",
    )
    done = python("bench/block.py", *flags, "--seq", "4096", "--chunks", "2", "--recompute", "none,selective,full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": as planned, ") == 18


def test_fp8_products_are_planned(python):
    flags = ("--dry-run", "--world", "8", "--device", "cuda", "--hardware", "h100-sxm", "--dtype", "fp8")
    done = python("bench/block.py", *flags, "--phase", "prefill,decode", "--batch", "8", "--seq", "128")
    assert done.returncode == 0, done.stderr
    # 4 degrees, the 3 strategies whose products are in one piece, 2 phases.
    assert done.stdout.count(": as planned, ") == 24


def test_skipped_case_says_why(python):
    flags = ("--dry-run", "--world", "2", "--phase", "decode", "--strategy", "allreduce,sequence", "--tp", "2")
    done = python("bench/attention.py", *flags)
    assert done.returncode == 0
    assert "1 tokens are not divisible by tp 2" in done.stdout
    assert "1 cases fit a world of 2, 1 do not" in done.stdout


def test_a_layer_that_sends_otherwise_is_found(python, tmp_path):
    """Plant a second all-reduce in the layers; the dry run must object and say what it saw."""
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import sys\n"
        "import torch.distributed as dist\n"
        "from tp.layers.collectives import GroupCollectives\n"
        "once = GroupCollectives.all_reduce\n"
        "GroupCollectives.all_reduce = lambda self, x: once(self, once(self, x))\n"
        "sys.argv = ['bench/attention.py', '--dry-run', '--world', '2', '--strategy', 'allreduce', '--tp', '2']\n"
        "from bench.harness.run.cli import run_main\n"
        "from bench.harness.run.runner import run_block\n"
        "run_main(lambda: run_block('attention'))\n"
    )
    done = python(str(planted))
    assert done.returncode == 1
    assert "'all_reduce': (2, " in done.stderr
    assert "planned {'all_reduce': (1, " in done.stderr


def test_a_layer_that_keeps_more_is_found(python, tmp_path):
    """Plant a SwiGLU that autograd differentiates, which keeps silu(gate) beside gate and up."""
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import sys\n"
        "from torch.nn.functional import silu\n"
        "import tp.layers.ffn as ffn\n"
        "def kept(hidden):\n"
        "    gate, up = hidden.chunk(2, dim=-1)\n"
        "    return silu(gate) * up\n"
        "ffn.swiglu = kept\n"
        "sys.argv = ['bench/ffn.py', '--dry-run', '--world', '2', '--strategy', 'allreduce', '--tp', '2',\n"
        "            '--phase', 'train', '--dtype', 'fp32', '--batch', '1', '--seq', '64',\n"
        "            '--model', 'tinyllama-1.1b']\n"
        "from bench.harness.run.cli import run_main\n"
        "from bench.harness.run.runner import run_block\n"
        "run_main(lambda: run_block('ffn'))\n"
    )
    done = python(str(planted))
    assert done.returncode == 1
    # silu(gate): 64 tokens, half of 5632 columns, fp32.
    more = 64 * 2816 * 4
    kept, planned = map(int, re.search(r"saves .*, planned .* \((\d+) and (\d+) bytes\)", done.stderr).groups())
    assert kept - planned == more


def test_a_case_names_the_memory_it_needs(python):
    flags = (
        "--dry-run",
        "--world",
        "8",
        "--tp",
        "8",
        "--device",
        "cuda",
        "--hardware",
        "h100-sxm",
        "--strategy",
        "allreduce",
    )
    done = python(
        "bench/block.py", *flags, "--phase", "prefill", "--model", "llama2-70b", "--seq", "4096", "--batch", "1"
    )
    assert done.returncode == 0, done.stderr
    # 214 MB of weights; x, normed and y of 67 MB; gate, up and their product of 29 MB.
    assert "and 503 MB a rank, sends 2 all_reduce" in done.stdout
