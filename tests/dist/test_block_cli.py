"""bench/ffn.py and bench/block.py as a user starts them: every strategy and phase in one run, on real ranks."""

import pytest

from analysis.load import load_run
from bench.harness.record.parts import part_rows
from tp.plan.memory import held_bytes
from tp.plan.ops import Collective, Gemm, planned_count

pytestmark = pytest.mark.dist

STRATEGIES = ("columns", "allreduce", "sequence", "overlap", "dtensor")
# The whole block holds an FFN of each; alone, one that sends sums, one that sends pieces and torch's own.
OF_FFN = ("allreduce", "overlap", "dtensor")
PHASES = ("prefill", "train", "decode")


@pytest.fixture(scope="module")
def both(tiny, torchrun_in_turn, tmp_path_factory):
    """Of each block one run of all phases on two ranks: standard output, and the run."""
    folder = tmp_path_factory.mktemp("records")
    flags = ("--model", str(tiny), "--seq", "32", "--batch", "2", "--phase", ",".join(PHASES), "--chunks", "2")
    flags = (*flags, "--recompute", "none,full", "--seconds", "0.1", "--tp", "2")
    commands = [
        ("bench/ffn.py", *flags, "--strategy", ",".join(OF_FFN), "--out", str(folder / "ffn.jsonl")),
        ("bench/block.py", *flags, "--out", str(folder / "block.jsonl")),
    ]
    printed = dict(zip(("ffn", "block"), torchrun_in_turn(2, *commands), strict=True))
    return {block: (text, load_run(folder / f"{block}.jsonl")) for block, text in printed.items()}


@pytest.fixture(params=["ffn", "block"])
def measured(request, both):
    """The block's name, standard output, and the run."""
    return request.param, *both[request.param]


def test_every_strategy_and_phase_in_one_run(measured):
    block, _, run = measured
    strategies = STRATEGIES if block == "block" else OF_FFN
    found = {
        (c.planned.case.block, c.planned.case.strategy, c.planned.case.workload.phase, c.planned.case.recompute)
        for c in run.cases
    }
    plain = {(block, strategy, phase, "none") for strategy in strategies for phase in PHASES}
    assert found == plain | {(block, strategy, "train", "full") for strategy in strategies}
    # In decode 2 tokens on 2 ranks are one each, and do not go in 2 chunks.
    skipped = {(c.planned.case.strategy, c.planned.case.workload.phase) for c in run.cases if c.result.status != "ok"}
    assert skipped == {("overlap", "decode")}


def test_what_was_sent_and_held_is_the_plan(measured):
    _, _, run = measured
    for case in run.cases:
        seen = case.result.observed
        if case.result.status == "skipped":
            assert seen is None
            continue
        sent = {each.kind: (each.count, each.size_bytes) for each in seen.sent}
        assert sent == planned_count([op for op in case.planned.ops if isinstance(op, Collective)])
        assert sent
        by_kind = {
            kind: held_bytes(case.planned.memory, kind) for kind in ("weights", "gradients", "saved", "kv_cache")
        }
        assert by_kind["weights"] == seen.weight_bytes
        assert by_kind["gradients"] == seen.gradient_bytes
        assert by_kind["saved"] == seen.saved_bytes
        assert by_kind["kv_cache"] == seen.kv_cache_bytes
        assert seen.attention_kernel == ("flash (CPU)" if case.planned.case.has_attention else None)


def test_what_is_made_again_is_not_kept(measured):
    block, _, run = measured
    saved = {
        (c.planned.case.strategy, c.planned.case.recompute): c.result.observed.saved_bytes
        for c in run.cases
        if c.planned.case.workload.phase == "train"
    }
    for strategy in STRATEGIES if block == "block" else OF_FFN:
        assert saved[strategy, "full"] < saved[strategy, "none"] / 4


def test_every_part_is_timed_and_shown(measured):
    block, stdout, run = measured
    expected = {"norm", "up", "activation", "down", "residual"}
    expected |= {"qkv", "core", "out"} if block == "block" else set()
    for case in run.cases:
        if case.result.status == "ok":
            rows = {row.part: row for row in part_rows(case.header, case.planned, case.result)}
            assert expected < set(rows)
            assert all(rows[part].measured_s > 0 for part in expected)
    for part in (*expected, "send_recv", "total"):
        assert part in stdout


def test_one_rank_stands_for_four(tiny, python, tmp_path):
    out = tmp_path / "emulated.jsonl"
    flags = ("--model", str(tiny), "--seq", "32", "--batch", "4", "--phase", "prefill,train", "--seconds", "0.1")
    done = python("bench/block.py", *flags, "--emulate-tp", "4", "--hardware", "h100-sxm", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "emulated: one rank computed its shard" in done.stdout
    run = load_run(out)
    assert {case.planned.case.strategy for case in run.cases} == {"columns", "allreduce", "sequence", "overlap"}
    for case in run.cases:
        assert case.planned.emulated
        assert case.planned.case.tp == 4
        assert case.result.observed.sent == ()
        # A quarter of the products of one rank alone, and the kv heads that four ranks must hold twice.
        products = sum(op.flops for op in case.planned.ops if isinstance(op, Gemm) and op.part == "up")
        passes = 3 if case.planned.case.workload.phase == "train" else 1
        assert products == passes * 2 * (4 * 32) * 128 * (2 * 256) / 4
        rows = {row.part: row for row in part_rows(case.header, case.planned, case.result)}
        assert not any(row.comparable for row in rows.values())
        assert rows["communication"].measured_s is None
        added = rows["serial"].estimate_s - rows["compute"].estimate_s
        assert added > 0
        assert rows["serial"].measured_s == pytest.approx(rows["compute"].measured_s + added)
