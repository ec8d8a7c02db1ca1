"""--dry-run: every case on fake tensors against its plan, for worlds that are not here."""

import pytest

pytestmark = pytest.mark.dist


def test_sixty_four_gpus_without_one(python):
    flags = ("--dry-run", "--world", "64", "--device", "cuda", "--hardware", "h100-sxm", "--batch", "64")
    done = python("bench/attention.py", *flags, "--phase", "prefill,train,decode")
    assert done.returncode == 0, done.stderr
    # 7 degrees, 3 strategies, 3 phases.
    assert done.stdout.count(": as planned, ") == 63
    assert "63 cases fit a world of 64" in done.stdout


def test_skipped_case_says_why(python):
    flags = ("--dry-run", "--world", "2", "--phase", "decode", "--strategy", "sequence", "--tp", "2")
    done = python("bench/attention.py", *flags)
    assert done.returncode == 0
    assert "1 tokens are not divisible by tp 2" in done.stdout


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
        "from bench.harness.cli import run_main\n"
        "from bench.harness.runner import run_block\n"
        "run_main(lambda: run_block('attention'))\n"
    )
    done = python(str(planted))
    assert done.returncode == 1
    assert "'all_reduce': (2, " in done.stderr
    assert "planned {'all_reduce': (1, " in done.stderr
