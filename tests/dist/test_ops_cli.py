"""bench/gemm.py and bench/collectives.py, and the calibration that follows from them, on two real ranks."""

import json
from statistics import median

import pytest

from analysis.__main__ import main
from analysis.fitting.overheads import is_probe
from analysis.load import load_run
from analysis.measured.op import seconds_of
from bench.harness.record.arrivals import of_pass
from tp.cost.known import load_calibration

pytestmark = pytest.mark.dist


# The sweeps of a CPU, up to smaller ops: their full ranges are what `scripts/run` measures in test_readme.py.
SMALL = """
from dataclasses import replace
from bench.harness.cases.sweeps import RANGES
RANGES["cpu"] = replace(
    RANGES["cpu"],
    tokens=(1, 512),
    width=(128, 2048),
    max_gemm_flops=1e9,
    sequence=(32, 256),
    context=(64, 1024),
    heads=(2, 8),
    max_attention_flops=2e8,
    elementwise_bytes=(16 << 10, 2 << 20),
    collective_bytes=(1 << 10, 2 << 20),
)
"""
PRINTED = ("gemm", "collectives", "memory", "block", "plain_loop")


@pytest.fixture(scope="module")
def measured(torchrun_in_turn, tiny, tmp_path_factory):
    """Every script in turn on two ranks: the folder of their records, and what each printed."""
    folder = tmp_path_factory.mktemp("ops")

    def out(name):
        return "--out", str(folder / f"{name}.jsonl")

    of_layers = ("--model", str(tiny), "--tp", "1,2", "--seq", "64", "--strategy", "columns,allreduce,sequence")
    printed = torchrun_in_turn(
        2,
        ("bench/gemm.py", "--shapes", "8", "--seconds", "1", *out("gemm")),
        ("bench/collectives.py", "--seconds", "2", "--plant-delay", "1:5", *out("collectives")),
        ("bench/memory.py", "--seconds", "1", "--largest-mib", "2", *out("memory")),
        ("bench/block.py", *of_layers, "--phase", "train", "--seconds", "0.2", *out("block")),
        ("scripts/plain_loop.py", "--rounds", "2"),
        before=SMALL,
    )
    return folder, dict(zip(PRINTED, printed, strict=True))


@pytest.fixture(scope="module")
def records(measured):
    folder, printed = measured
    assert "busbw" in printed["collectives"]
    assert "late: skew" in printed["collectives"]
    return folder / "gemm.jsonl", folder / "collectives.jsonl"


def test_every_kind_of_op_is_there(records):
    gemm, collectives = records
    kinds = {result.op.op for result in load_run(gemm).ops}
    assert kinds == {"gemm", "attention", "elementwise"}
    sent = {(result.op.kind, result.op.num_ranks) for result in load_run(collectives).ops}
    assert sent == {(kind, 2) for kind in ("all_reduce", "all_gather", "reduce_scatter", "send_recv")}


def test_ops_carry_an_estimate_and_all_ranks(records):
    gemm, _ = records
    for result in load_run(gemm).ops:
        assert {len(row) for row in result.samples.times_s} == {2}
        if result.op.op == "gemm":
            assert "datasheet" in result.estimates


def test_ops_are_timed_in_a_pass_too(records):
    for path in records:
        for result in load_run(path).ops:
            parts = {(times.part, times.direction) for times in result.in_pass.parts}
            assert {("out", "forward"), (result.op.part, result.op.direction)} <= parts
            assert len(result.in_pass.times_s[0]) == 2
            assert (result.overlapped is not None) == (result.op.part == "send_recv")
            assert 0 < seconds_of(result) < 1


def test_a_layer_of_launches_is_timed_beside_the_ops(records, tmp_path, capsys):
    gemm, _ = records
    run = load_run(gemm)
    assert [case.planned.case.workload.phase for case in run.cases] == ["prefill", "train", "decode"]
    assert all(is_probe(case) and case.result.status == "ok" for case in run.cases)
    out = tmp_path / "calibration.json"
    assert main(["calibrate", str(gemm), "--out", str(out)]) == 0
    assert "host time beside the ops: prefill" in capsys.readouterr().out
    terms = load_calibration(out, device=run.headers[0].hardware.device.name).overheads.launch_s
    assert {"prefill/forward/norm", "train/backward/qkv", "decode/forward/down"} <= set(terms)
    # It is no layer to score.
    assert main(["score", str(gemm), "--calibration", str(out), "--json"]) == 0
    assert not [kind for kind in json.loads(capsys.readouterr().out)["kinds"] if kind.startswith("layer/")]


def test_calibration_prices_the_block(records, tmp_path, capsys):
    gemm, collectives = records
    out = tmp_path / "calibration.json"
    assert main(["calibrate", str(gemm), str(collectives), "--out", str(out)]) == 0
    assert "held-out error" in capsys.readouterr().out
    calibration = load_calibration(out, device=load_run(gemm).headers[0].hardware.device.name)
    assert {key.split("/")[1] for key in calibration.gemm} == {"nt", "nn", "tn"}
    assert "all_reduce/2/fp32" in calibration.collectives or "all_reduce/2/bf16" in calibration.collectives
    table = tmp_path / "prediction.csv"
    words = ["predict", "--hardware", "auto", "--model", "tinyllama-1.1b", "--tp", "2", "--seq", "128"]
    assert main([*words, "--calibration", str(out), "--csv", str(table)]) == 0
    rows = table.read_text().splitlines()
    assert rows[0] == "case,part,estimate_s,low_s,high_s,extrapolated,theory"
    assert all(row.endswith("calibrated") for row in rows[1:])
    totals = [row.split(",") for row in rows if ",total," in row]
    assert len(totals) == 6
    assert all(float(low) < float(at) < float(high) for _, _, at, low, high, *_ in totals)


def test_one_rank_has_nobody_to_talk_to(python, tmp_path):
    done = python("bench/collectives.py", "--out", str(tmp_path / "c.jsonl"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: bench/collectives.py: one rank says nothing to itself; use torchrun --nproc-per-node 2"
    ]


def test_records_are_json_lines(records):
    for path in records:
        for line in path.read_text().splitlines():
            assert json.loads(line)["line"] in ("header", "op", "planned", "case", "telemetry", "drift", "end")


def test_a_planted_delay_is_the_skew_that_is_reported(records):
    _, collectives = records
    found = [
        (of_pass(result.samples, groups=1), of_pass(result.delayed, groups=1)) for result in load_run(collectives).ops
    ]
    assert found
    for undisturbed, late in found:
        assert late.last_rank == 1
        # Of many ops, each by few samples; one pass may be off on a busy host by more than 5 ms, never most of them.
        assert undisturbed.skew.median_s < late.skew.median_s
    assert sum(late.last_share for _, late in found) / len(found) > 0.95
    typical = median(late.skew.median_s for _, late in found)
    assert typical == pytest.approx(5e-3, rel=0.1)


def test_ops_are_resumed(records, torchrun_in_turn, tmp_path):
    _, collectives = records
    cut = tmp_path / "cut.jsonl"
    lines = collectives.read_text().splitlines(keepends=True)
    ops = [number for number, line in enumerate(lines) if '"line":"op"' in line]
    cut.write_text("".join(lines[: ops[-3] + 1]))
    resumed = ("bench/collectives.py", "--seconds", "1", "--resume", "--out", str(cut))
    torchrun_in_turn(2, resumed, before=SMALL)
    assert cut.read_text().startswith("".join(lines[: ops[-3] + 1]))
    measured = [result.op for result in load_run(cut).ops]
    assert len(measured) == len(set(measured)) == len(ops)


def test_a_plain_loop_and_the_harness_take_turns(measured):
    lines = measured[1]["plain_loop"].splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "all_reduce 1 KiB",
        "all_reduce 1 MiB",
        "all_reduce 16 MiB",
        "gemm 512 x 2048 x 2048",
    ]
    assert all("harness" in line and "plain loop" in line for line in lines)


def test_memory_is_measured_on_all_ranks_and_calibrates_nothing(measured, tmp_path, capsys):
    folder, printed = measured
    record = folder / "memory.jsonl"
    assert "all 2 together" in printed["memory"]
    run = load_run(record)
    assert {result.op.kind for result in run.ops} == {"copy", "triad", "read"}
    assert len(run.ops) == 3 * 4
    for result in run.ops:
        assert result.in_pass is None and result.estimates == {}
        assert {len(row) for row in result.samples.times_s} == {run.headers[0].world} == {2}
        assert 0.5e9 < result.op.moved_bytes / seconds_of(result) < 2e12
    assert run.drifts[0].key == "copy of 524 kB"
    assert main(["calibrate", str(record), "--out", str(tmp_path / "c.json")]) == 2
    told = capsys.readouterr().err
    assert "12 ops of bench/memory.py, which are part of no layer; left out" in told
    assert "no op timed alone" in told


def test_claims_are_measured_on_this_machine(measured, capsys):
    """Six claims and more get their verdict from real ranks; one that is false on purpose is refuted."""
    paths = [str(measured[0] / f"{name}.jsonl") for name in ("gemm", "collectives", "block")]
    assert main(["claims", "--measured", "--json", "--records", *paths]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["claims"]}
    counted = {
        "heads-are-independent": 1.0,
        "activations-of-a-pipeline": pytest.approx(2.0, rel=0.05),
        # columns sends 128 + 128 + 256 + 128 a token forward and 128 + 2 x 128 + 256 + 2 x 128 backward, allreduce
        # 4 x 128 each way.
        "better-partitioning": (640 + 896) / 1024,
    }
    assert {name: rows[name]["measured"] for name in counted} == counted
    assert {rows[name]["verdict"] for name in counted} == {"holds"}
    assert {"communication-counts", "ffn-alike"} <= set(rows)
    assert {name for name, row in rows.items() if row["origin"] == "vendor"} <= {
        f"cpu-local {dtype} dense" for dtype in ("fp32", "bf16", "fp16")
    }
    assert [row["verdict"] for row in rows.values() if row["origin"] == "planted"] == ["refuted"]
    assert len(rows) >= 6
