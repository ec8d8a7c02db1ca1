"""--dry-run: every case on fake tensors against its plan, for worlds that are not here."""

import re

import pytest
from torch.nn.functional import silu

import tp.layers.ffn as ffn
from tp.layers.collectives import GroupCollectives

pytestmark = [pytest.mark.dist, pytest.mark.solo]


# The whole block on 64 holds both halves on 64.
@pytest.mark.parametrize(("block", "degrees"), [("attention", "8"), ("ffn", "8"), ("block", "1,8,64")])
def test_sixty_four_gpus_without_one(bench, block, degrees):
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
    done = bench(block, *flags, "--phase", "prefill,train,decode", "--tp", degrees)
    assert done.returncode == 0, done.stderr
    # 6 strategies, 3 phases.
    count = 18 * len(degrees.split(","))
    assert done.stdout.count(": as planned, ") == count
    assert f"{count} cases fit a world of 64" in done.stdout


def test_what_is_made_again_is_planned(bench):
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
        "--phase",
        "train",
    )
    done = bench("block", *flags, "--seq", "4096", "--chunks", "2", "--recompute", "none,selective,full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": as planned, ") == 18


def test_fp8_products_are_planned(bench):
    flags = ("--dry-run", "--world", "8", "--device", "cuda", "--hardware", "h100-sxm", "--dtype", "fp8")
    done = bench("block", *flags, "--phase", "prefill,decode", "--batch", "8", "--seq", "128")
    assert done.returncode == 0, done.stderr
    # 4 degrees, the 3 strategies whose products are in one piece, 2 phases.
    assert done.stdout.count(": as planned, ") == 24


def test_skipped_case_says_why(bench):
    flags = ("--dry-run", "--world", "2", "--phase", "decode", "--strategy", "allreduce,sequence", "--tp", "2")
    done = bench("attention", *flags)
    assert done.returncode == 0
    assert "1 tokens are not divisible by tp 2" in done.stdout
    assert "1 cases fit a world of 2, 1 do not" in done.stdout


def test_a_layer_that_sends_otherwise_is_found(bench, monkeypatch):
    """Plant a second all-reduce in the layers; the dry run must object and say what it saw."""
    once = GroupCollectives.all_reduce
    monkeypatch.setattr(GroupCollectives, "all_reduce", lambda self, x: once(self, once(self, x)))
    done = bench("attention", "--dry-run", "--world", "2", "--strategy", "allreduce", "--tp", "2")
    assert done.returncode == 1
    assert "'all_reduce': (2, " in done.stderr
    assert "planned {'all_reduce': (1, " in done.stderr


def test_a_layer_that_keeps_more_is_found(bench, monkeypatch):
    """Plant a SwiGLU that autograd differentiates, which keeps silu(gate) beside gate and up."""

    def kept(hidden):
        gate, up = hidden.chunk(2, dim=-1)
        return silu(gate) * up

    monkeypatch.setattr(ffn, "swiglu", kept)
    flags = ("--dry-run", "--world", "2", "--strategy", "allreduce", "--tp", "2", "--phase", "train", "--dtype", "fp32")
    done = bench("ffn", *flags, "--batch", "1", "--seq", "64", "--model", "tinyllama-1.1b")
    assert done.returncode == 1
    # silu(gate): 64 tokens, half of 5632 columns, fp32.
    more = 64 * 2816 * 4
    kept, planned = map(int, re.search(r"saves .*, planned .* \((\d+) and (\d+) bytes\)", done.stderr).groups())
    assert kept - planned == more


def test_a_case_names_the_memory_it_needs(bench):
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
    done = bench("block", *flags, "--phase", "prefill", "--model", "llama2-70b", "--seq", "4096", "--batch", "1")
    assert done.returncode == 0, done.stderr
    # 214 MB of weights; x, normed and y of 67 MB; gate, up and their product of 29 MB.
    assert "and 503 MB a rank, sends 2 all_reduce" in done.stdout
