"""analysis import torch-profiler on traces of a real training step, two ranks over gloo."""

import csv
import gzip
import json
from collections import Counter, defaultdict

import pytest

from analysis.__main__ import main

pytestmark = pytest.mark.dist

TOKENS, HIDDEN, WIDTH, STEPS = SIZES = 32, 64, 96, 2
FP32 = 4
# What tests/dist/traced_step.py sends in a step: as often, and bytes as nccl-tests counts them.
SENT = Counter(
    {
        ("all_reduce", TOKENS * HIDDEN * FP32): 1,
        ("all_reduce", HIDDEN * WIDTH * FP32): 2,
        ("all_reduce", WIDTH * FP32): 1,
        ("all_reduce", HIDDEN * FP32): 1,
        ("all_gather", 2 * TOKENS * HIDDEN * FP32): 1,
        ("reduce_scatter", TOKENS * HIDDEN * FP32): 1,
        ("barrier", None): 1,
    }
)


@pytest.fixture(scope="module")
def traced(torchrun, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    done = torchrun(2, "tests/dist/traced_step.py", str(folder), *map(str, SIZES))
    assert done.returncode == 0, done.stderr[-4000:]
    return [folder / "rank0.json", folder / "rank1.json.gz"]


def test_collectives_are_counted_as_often_as_they_were_called(traced, tmp_path, capsys):
    assert main(["import", "torch-profiler", *map(str, traced), "--json"]) == 0
    shown, told = capsys.readouterr()
    found = json.loads(shown)
    assert found["is_cpu"]
    assert found["world_size"] == 2
    sent = defaultdict(Counter)
    for row in found["collectives"]:
        assert row["group_size"] == 2
        assert row["total_s"] >= row["shortest_s"] >= 0
        assert row["skew_s"] is not None
        sent[row["rank"], row["step"]][row["collective"], row["size_bytes"]] += row["count"]
    assert dict(sent) == {(rank, step): SENT for rank in (0, 1) for step in range(1, 1 + STEPS)}
    # Of the two that share a collective one waits for nobody.
    waits = defaultdict(list)
    for row in found["collectives"]:
        if row["count"] == 1:
            waits[row["step"], row["collective"], row["size_bytes"]].append(row["wait_s"])
    assert {min(pair) for pair in waits.values()} == {0.0}
    assert "not equally often" not in told


def test_products_are_counted_and_times_add_up(traced, tmp_path, capsys):
    out = tmp_path / "steps.csv"
    assert main(["import", "torch-profiler", *map(str, reversed(traced)), "--out", str(out), "--json"]) == 0
    kernels = {row["name"]: row for row in json.loads(capsys.readouterr().out)["kernels"]}
    # Forward two products with bias; backward two weight gradients and, but for the first layer's, an input's.
    assert kernels["aten::addmm"]["count"] == 2 * STEPS * 2
    assert kernels["aten::mm"]["count"] == 3 * STEPS * 2
    assert not any(name.startswith(("c10d::", "autograd::", "gloo:")) for name in kernels)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["step"]) for row in rows] == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    for row in rows:
        parts = [float(row[name]) for name in ("compute_s", "exposed_s", "copy_alone_s", "idle_s")]
        assert all(part >= 0 for part in parts)
        assert sum(parts) == pytest.approx(float(row["span_s"]))
        assert float(row["gemm_s"]) > 0


def test_a_step_is_as_long_as_its_range(traced, tmp_path):
    out = tmp_path / "steps.csv"
    assert main(["import", "torch-profiler", str(traced[1]), "--out", str(out)]) == 0
    with gzip.open(traced[1]) as file:
        events = json.load(file)["traceEvents"]
    ranges = {event["name"]: event["dur"] for event in events if event["name"].startswith("ProfilerStep#")}
    with out.open() as file:
        spans = {f"ProfilerStep#{row['step']}": float(row["span_s"]) for row in csv.DictReader(file)}
    assert spans == {name: pytest.approx(duration / 1e6) for name, duration in ranges.items()}


def test_a_sentence_and_tables(traced, capsys):
    assert main(["import", "torch-profiler", *map(str, traced)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("rank ")
    assert "a CPU trace" in shown
    assert "reduce_scatter" in shown


def test_a_trace_that_is_cut_is_one_line(traced, tmp_path, capsys):
    cut = tmp_path / "cut.json"
    cut.write_text(traced[0].read_text()[:-1000])
    assert main(["import", "torch-profiler", str(cut)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {cut}: ends too early, at line ")
    assert told.count("\n") == 1
