"""The README's commands work as written, and its output is what they print."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.__main__ import main
from tp.suite import Suite

pytestmark = pytest.mark.dist

BLOCK_FOR_CLAIMS = (
    "torchrun --nproc-per-node 2 bench/block.py --tp 1,2 --strategy columns,allreduce,sequence --phase prefill,train "
    "--out block.jsonl"
)
PROFILER = (
    "python -m analysis import torch-profiler rank0.json.gz rank1.json.gz --out steps.csv --model llama3-8b "
    "--hardware h100-sxm --tp 2"
)
SLURM = (
    "scripts/slurm/submit --out runs/cluster --nodes 2 --gpus-per-node 8 --time 30 block a.toml b.toml --seconds 2"
)
KUBERNETES = (
    "scripts/kubernetes/submit.py --image REGISTRY/tpbench --out runs/cluster --nodes 2 --gpus 8 block a.toml b.toml "
    "--seconds 2"
)
SEVERAL_NODES = (
    "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 8 --master-addr NODE0 bench/block.py --model llama3-70b "
    "--tp 8,16 --nodes 1,2 --network roce-400"
)
NETLAB = "scripts/netlab --hosts 2 --rate 1gbit -- torchrun bench/block.py --strategy allreduce,sequence,overlap,dtensor"
PRETEND = ("--dry-run", "--world", "8", "--device", "cuda", "--hardware", "h100-sxm")


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def blocks(readme, language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def commands(readme):
    return [line for block in blocks(readme, "") for line in block.splitlines()]


@pytest.mark.solo
def test_it_is_short(readme):
    assert len(readme.splitlines()) < 200
    assert "@" not in readme


@pytest.mark.solo
def test_every_command_is_tested_here(readme):
    tested_elsewhere = {
        "scripts/run": "test_scripts_run below",
        "scripts/test": "runs this test",
        "torchrun --nproc-per-node 8 bench/gemm.py --out gemm.jsonl": "test_ops_cli.py, on two ranks",
        "torchrun --nproc-per-node 8 bench/collectives.py --out collectives.jsonl": "test_ops_cli.py, on two ranks",
        "python -m analysis calibrate gemm.jsonl collectives.jsonl --out machine.json": "test_ops_cli.py",
        "python -m analysis report attention.jsonl --out report": "test_scripts_run below",
        "python -m analysis score unseen.jsonl --calibration machine.json": "test_calibrate_score.py",
        "torchrun --nproc-per-node 2 bench/collectives.py --plant-delay 1:5": "test_ops_cli.py",
        "torchrun --nproc-per-node 2 scripts/plain_loop.py": "test_ops_cli.py",
        "torchrun --nproc-per-node 2 bench/memory.py --out memory.jsonl": "test_ops_cli.py",
        "python -m analysis split --figure degrees": "test_split.py, of less hardware",
        BLOCK_FOR_CLAIMS: "test_ops_cli.py, at a tiny model's size",
        "python -m analysis claims --measured --records gemm.jsonl memory.jsonl collectives.jsonl attention.jsonl "
        "block.jsonl": "test_ops_cli.py",
        "python -m analysis compare before/ after/ --margin 3": "test_compare.py",
        "python -m analysis import nccl-tests all_reduce.log --out collectives.csv": "test_logs_become_tables below",
        "python -m analysis calibrate collectives.csv --hardware h100-sxm --out links.json": "the same",
        "python -m analysis report attention.jsonl collectives.csv --out report": "the same",
        "python -m analysis export nccl-tests collectives.jsonl --out sweep.log": "the same",
        PROFILER: "test_profiler_cli.py",
        "python bench/block.py --emulate-tp 8 --model llama2-70b --seq 2048": "test_block_cli.py, of a tiny model",
        SLURM: "tests/schedulers/test_slurm.py, of tiny suites",
        KUBERNETES: "tests/schedulers/test_kubernetes.py, but for the cluster",
        SEVERAL_NODES: "tests/netlab/test_runs.py, over gloo; dry below",
        NETLAB: "tests/netlab/test_runs.py, of a tiny model",
        "scripts/netsweep": "tests/netlab/test_sweep.py, of two rates",
    }
    others = [line for line in commands(readme) if line not in tested_elsewhere]
    assert {line.split()[0] for line in others} == {"torchrun", "python"}
    assert set(tested_elsewhere) <= set(commands(readme))


@pytest.mark.solo
def test_block_commands_fit_eight_gpus(readme, bench):
    scripts = ("bench/attention.py", "bench/block.py")
    lines = [line for line in commands(readme) if any(word in line for word in scripts) and "--emulate-tp" not in line]
    for elsewhere in (BLOCK_FOR_CLAIMS, SEVERAL_NODES, NETLAB):
        lines.remove(elsewhere)
    assert len(lines) == 5

    for line in lines:
        words = shlex.split(line)
        (script,) = set(words) & set(scripts)
        flags = words[words.index(script) + 1 :]
        if "--calibration" in flags:
            assert flags == ["--calibration", "machine.json", "--out", "attention.jsonl"]
            continue
        done = bench(Path(script).stem, *flags, *(() if "--dry-run" in flags else PRETEND))
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.solo
def test_degrees_are_what_the_readme_shows(readme, capsys):
    assert "python -m analysis claims" in commands(readme)
    assert main(["claims"]) == 0
    printed = {row.rstrip() for row in capsys.readouterr().out.splitlines()}
    (shown,) = [block.strip().splitlines() for block in blocks(readme, "text") if "full layer, ring" in block]
    assert len(shown) == 6
    assert set(shown) <= printed


@pytest.mark.solo
def test_what_needs_no_machine_answers(readme, tmp_path, monkeypatch, capsys):
    lines = [line for line in commands(readme) if " analysis split --m" in line or " analysis plan " in line]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line)
        assert main(words[words.index("analysis") + 1 :]) == 0, line
    assert len(list(tmp_path.rglob("*.svg"))) == len(list(tmp_path.rglob("*.png"))) == 1
    assert "4 x 4 x 5" in capsys.readouterr().out


@pytest.mark.solo
def test_predictions_need_no_machine(readme, tmp_path, monkeypatch, capsys):
    lines = [line for line in commands(readme) if "grid.parquet" in line or "--published" in line]
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line)
        assert main(words[words.index("analysis") + 1 :]) == 0, line
    assert (tmp_path / "grid.parquet").stat().st_size > 1_000_000
    assert "whole model" in capsys.readouterr().out


@pytest.mark.solo
def test_the_example_is_what_the_readme_shows(readme, root, tmp_path, monkeypatch, capsys):
    """The report's words and its figures, to the byte."""
    (line,) = [line for line in commands(readme) if "tests/records/cpu" in line]
    monkeypatch.chdir(root)
    words = shlex.split(line)
    words[words.index("--out") + 1] = str(tmp_path / "report")
    assert main(words[words.index("analysis") + 1 :]) == 0
    (shown,) = [block for block in blocks(readme, "text") if "TP 2 pays" in block]
    printed = [row.rstrip() for row in capsys.readouterr().out.splitlines()]
    assert set(shown.splitlines()) <= set(printed)
    named = re.findall(r"\]\((tests/records/cpu/figures/(.*?\.svg))\)", readme)
    assert len(named) == 2
    for kept, name in named:
        assert (root / kept).read_bytes() == (tmp_path / "report" / "figures" / name).read_bytes()


@pytest.mark.solo
def test_logs_become_tables(readme, root, tmp_path, monkeypatch, capsys):
    """The log is our own sweep in nccl-tests' layout; test_nccl_tests.py reads those that others wrote."""
    monkeypatch.chdir(tmp_path)
    for name in ("attention.jsonl", "collectives.jsonl"):
        shutil.copy(root / "tests" / "records" / "cpu" / name, name)
    lines = [line for line in commands(readme) if " export " in line or "collectives.csv" in line]
    lines.sort(key=lambda line: " export " not in line)
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)
        assert main(words[words.index("analysis") + 1 :]) == 0, line
        if " export " in line:
            Path("sweep.log").rename("all_reduce.log")
    assert "collectives alone" in capsys.readouterr().out


@pytest.mark.solo
def test_two_nodes_of_eight_gpus_are_planned_inside_and_across(bench):
    flags = SEVERAL_NODES.split("bench/block.py ")[1].split()
    pretend = ("--dry-run", "--world", "16", "--device", "cuda", "--hardware", "h100-sxm")
    done = bench("block", *flags, *pretend, "--strategy", "allreduce", "--phase", "prefill")
    assert done.returncode == 0, done.stderr
    assert [word for word in ("tp8/", "tp8x2nodes/", "tp16x2nodes/") if word in done.stdout] == [
        *("tp8/", "tp8x2nodes/", "tp16x2nodes/")
    ]


@pytest.mark.solo
def test_suites_of_the_catalogue_are_suites(readme):
    from tp import catalogue

    assert "configs/suites/small-model-sizes.toml" in readme
    for name in catalogue.names("suites"):
        assert catalogue.load(name, Suite, kind="suites", flag="--suite").model


def test_scripts_run(root, tmp_path):
    """The first command, with little sampling; the environment must be there, as it is under scripts/test."""
    if not (root / ".venv" / ".set-up[dev]").exists():
        pytest.skip("no environment in .venv; scripts/test makes one")
    before = set((root / "runs").glob("*")) if (root / "runs").exists() else set()
    environ = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        ["scripts/run", "--seq", "64", "--seconds", "0.2", "--phase", "prefill", "--strategy", "columns,allreduce"],
        cwd=root,
        env=environ | {"CALIBRATION_SECONDS": "2", "CALIBRATION_SHAPES": "8"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "setting up" not in done.stdout
    (folder,) = set((root / "runs").glob("*")) - before
    page = folder / "report" / "report.html"
    assert f"report: {page.relative_to(root)}" in done.stdout
    assert "predicted by: calibrated" in done.stdout
    assert "tinyllama-1.1b" in page.read_text()
