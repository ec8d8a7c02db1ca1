"""Bad input: one line that names the place, the value and the remedy, exit code 2, and no process group."""

import sys

import pytest
import torch
import torch.distributed as dist

from bench.harness.run.cli import run_main
from bench.harness.run.runner import run_block
from tp.catalogue import CONFIGS

pytestmark = [pytest.mark.dist, pytest.mark.solo]

H100 = (CONFIGS / "hardware" / "h100-sxm.toml").read_text()
TINYLLAMA = (CONFIGS / "models" / "tinyllama-1.1b.toml").read_text()


def changed(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


FILES = {
    "sparse.toml": changed(H100, 'sparsity = "dense"\n', ""),
    "doubled.toml": changed(H100, "989.4e12", "1978.9e12"),
    "misspelt.toml": changed(TINYLLAMA, "num_heads", "num_haeds"),
    "negative.toml": changed(TINYLLAMA, "hidden = 2048", "hidden = -2048"),
    "broken.toml": "name = ",
}

BAD = {
    "unknown model": (["--model", "llama2-7"], ["--model llama2-7", "did you mean llama2-7b", "tinyllama-1.1b"]),
    "degree that does not divide the heads": (
        ["--tp", "3", "--dry-run", "--world", "3"],
        ["--tp 3", "num_heads 32 is not divisible by tp 3", "use 1, 2, 4"],
    ),
    "degree that does not divide the world": (["--tp", "2"], ["--tp 2", "world of 1"]),
    "unwritable output": (["--out", "/proc/nowhere/a.jsonl"], ["--out /proc/nowhere/a.jsonl", "name another file"]),
    "output that exists": (["--out", "pyproject.toml"], ["--out pyproject.toml", "--resume"]),
    "misspelt flag": (["--modle", "x"], ["--modle", "did you mean --model"]),
    "negative size": (["--seq", "-4"], ["--seq -4", "positive"]),
    "size that is no number": (["--batch", "two"], ["--batch two", "positive whole number"]),
    "unknown strategy": (["--strategy", "allreduce,ring"], ["--strategy ring", "columns, allreduce, sequence"]),
    "empty entry": (["--tp", "1,,2"], ["--tp", "empty entry"]),
    "unknown hardware": (["--hardware", "h100"], ["--hardware h100", "h100-sxm"]),
    "unknown link": (["--hardware", "h100-sxm", "--link", "pcie9"], ["--link pcie9", "nvlink4"]),
    "missing calibration": (["--calibration", "nowhere.json"], ["--calibration nowhere.json", "analysis calibrate"]),
    "cuda without a gpu": (["--device", "cuda"], ["--device cuda", "--device cpu"]),
    "world without dry run": (["--world", "8"], ["--world", "--dry-run"]),
    "resume without file": (["--resume"], ["--resume", "--out"]),
    "resume of another file": (["--resume", "--out", "{broken.toml}"], ["broken.toml", "no record to resume"]),
    "unknown suite": (["--suite", "small"], ["--suite small", "small-model-sizes"]),
    "sparse peak without label": (["--hardware", "{sparse.toml}"], ["sparse.toml", "sparsity", "missing"]),
    "sparse peak labelled dense": (["--hardware", "{doubled.toml}"], ["doubled.toml", "2 times", "sparsity = '2:4'"]),
    "misspelt key": (["--model", "{misspelt.toml}"], ["misspelt.toml", "num_haeds", "num_heads"]),
    "negative size in a file": (["--model", "{negative.toml}"], ["negative.toml", "hidden", "-2048"]),
    "broken file": (["--model", "{broken.toml}"], ["broken.toml", "not valid TOML"]),
    "no such file": (["--model", "nowhere.toml"], ["--model nowhere.toml", "no such file"]),
    "fused operators on a cpu": (
        ["--strategy", "allreduce,async-tp", "--device", "cpu"],
        ["--strategy async-tp", "CUDA only", "--dry-run --device cuda"],
    ),
    "fp8 on a cpu": (["--dtype", "fp8", "--device", "cpu"], ["--dtype fp8", "not a CPU", "use fp32"]),
    "fp8 training": (
        ["--dtype", "fp8", "--dry-run", "--device", "cuda", "--hardware", "h100-sxm", "--phase", "train"],
        ["--phase train", "fp8", "--dtype bf16"],
    ),
    "fp8 through torch's layers": (
        ["--dtype", "fp8", "--dry-run", "--device", "cuda", "--phase", "prefill", "--strategy", "dtensor"],
        ["--strategy dtensor", "fp8", "columns, allreduce, sequence"],
    ),
    "chunks that do not divide": (
        ["--dry-run", "--world", "2", "--tp", "2", "--strategy", "overlap", "--chunks", "3", "--phase", "prefill"],
        ["256 tokens", "tp 2 x 3 chunks", "multiple of 6"],
    ),
    "no chunks": (["--chunks", "0"], ["--chunks 0", "positive"]),
    "unknown recomputation": (["--recompute", "some"], ["--recompute some", "none, selective, full"]),
    "recomputation without training": (
        ["--recompute", "full", "--phase", "prefill"],
        ["--recompute full", "--phase train"],
    ),
    "emulation beside a degree": (["--emulate-tp", "4", "--tp", "2"], ["--emulate-tp", "--tp"]),
    "emulation of what sends by itself": (
        ["--emulate-tp", "4", "--strategy", "dtensor"],
        ["--strategy dtensor", "cannot be emulated", "columns, allreduce"],
    ),
    "emulated degree that does not divide": (["--emulate-tp", "3"], ["--tp 3", "num_heads 32", "use 1, 2, 4"]),
    "context outside decode": (["--context", "64"], ["--context 64", "--phase decode"]),
}


@pytest.mark.parametrize(("words", "expected"), BAD.values(), ids=BAD.keys())
def test_one_line_and_exit_code_2(words, expected, tmp_path, monkeypatch, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    filled = [str(tmp_path / word[1:-1]) if word.startswith("{") else word for word in words]
    out = [] if "--out" in words or "--resume" in words else ["--out", str(tmp_path / "out.jsonl")]
    monkeypatch.setattr(sys, "argv", ["bench/attention.py", *filled, *out])
    monkeypatch.setattr(dist, "init_process_group", _must_not_be_called)
    with pytest.raises(SystemExit) as end:
        run_main(lambda: run_block("attention"))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for piece in expected:
        assert piece in line
    assert not (tmp_path / "out.jsonl").exists()


def _must_not_be_called(*args, **kwargs):
    raise AssertionError("a process group was started")


def test_no_process_group_is_started(python, tmp_path):
    """With a master nobody listens at, joining a group would hang until the timeout."""
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    nobody = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    done = python("bench/attention.py", "--model", "nope", timeout=60, **place, **nobody)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_other_ranks_keep_quiet(python):
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    done = python("bench/attention.py", "--model", "nope", **place)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
