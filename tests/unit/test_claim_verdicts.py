"""Verdicts from measurement: at the borders, by direction, and only from the machine that a claim is of."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from analysis.load import Run, load_run
from analysis.trial.layers import (
    columns_over_allreduce,
    ffn_over_attention,
    gathered_size,
    oracle_agreement,
    saved_activations,
    scaling_efficiency,
)
from analysis.trial.rates import flops_per_s, host_bytes_per_s, link_bytes_per_s, memory_bytes_per_s
from analysis.trial.vendor import PLANTED_FACTOR, planted_ledger, vendor_ledger
from analysis.trial.verdicts import REACH, Ruling, control_failures, judge
from bench.harness.record.records import OpResult, Samples
from tests.conftest import ROOT
from tests.unit.record_factory import LATER, NODE, header, observation, planned, result, times, write_run
from tp.claim import Claim, Correction, Ledger
from tp.hardware import Node, load_node
from tp.plan.ops import Collective, Elementwise, Gemm, Op, StreamKind

pytestmark = pytest.mark.unit

RECORDS = ROOT / "tests" / "records"
H100 = load_node("h100-sxm")
CPU_PEAK = 1e11
# The slowest of two ranks' middle pass; passes lie evenly within 1 %.
EXACT = 0.011


def timed(op: Op, seconds: float) -> OpResult:
    samples = Samples(task=op.op, warmup_s=(), times_s=times(seconds), parts=(), stopped_by="rounds")
    return OpResult(written=LATER, op=op, estimates={}, samples=samples)


def product(dtype: str = "fp32") -> Gemm:
    return Gemm(part="qkv", direction="forward", layout="nt", m=64, n=64, k=64, dtype=dtype)  # type: ignore[arg-type]


def at_rate(op: Gemm, flops_per_s: float) -> OpResult:
    return timed(op, op.flops / flops_per_s)


def stream(kind: StreamKind, megabytes: float, bytes_per_s: float) -> OpResult:
    size = round(megabytes * 1e6)
    op = Elementwise(part="norm", direction="forward", kind=kind, read_bytes=size, written_bytes=0, dtype="fp32")
    return timed(op, op.moved_bytes / bytes_per_s)


def sent(kind: str, num_ranks: int, seconds: float) -> OpResult:
    op = Collective(
        kind=kind,  # type: ignore[arg-type]
        direction="forward",
        num_ranks=num_ranks,
        size_bytes=2**20,
        dtype="bf16",
        backend="nccl",
    )
    return timed(op, seconds)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Run]:
    def write(*results: OpResult, **changes: Any) -> Run:
        return write_run(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", header(**changes), *results)

    return write


def verdict_on(run: Run, node: Node = NODE, name: str = "toy-node fp32 dense") -> Ruling:
    return next(ruling for ruling in judge(vendor_ledger(node), [run]) if ruling.claim.name == name)


@pytest.mark.parametrize(
    ("share", "verdict", "word"),
    [
        (REACH + 0.02, "holds", "measured 62 %"),
        (REACH - 0.02, "refuted", "out of reach"),
        (1.04, "holds", "measured 104 %"),
        (1.08, "refuted", "beaten"),
        (0.5, "refuted", "out of reach"),
    ],
)
def test_a_peak_must_be_reached_and_not_beaten(
    record: Callable[..., Run], share: float, verdict: str, word: str
) -> None:
    ruling = verdict_on(record(at_rate(product(), share * CPU_PEAK)))
    assert (ruling.verdict, word in ruling.reason) == (verdict, True), ruling.reason
    assert ruling.finding is not None and ruling.finding.value == pytest.approx(share * CPU_PEAK, rel=EXACT)
    assert ruling.finding.low < ruling.finding.value < ruling.finding.high


def test_the_best_shape_counts_and_the_slowest_rank(record: Callable[..., Run]) -> None:
    slow, fast = at_rate(product(), 0.3 * CPU_PEAK), at_rate(replace(product(), m=128), 0.8 * CPU_PEAK)
    found = flops_per_s([record(slow, fast)], "fp32")
    assert found is not None and found.value == pytest.approx(0.8 * CPU_PEAK, rel=EXACT)
    assert found.text.startswith("product 128 x 64 x 64")
    # Rank 0 takes half as long: it is rank 1 that decides.
    samples = replace(fast.samples, times_s=tuple((b / 2, b) for _, b in fast.samples.times_s))
    assert flops_per_s([record(replace(fast, samples=samples))], "fp32") == found


def test_records_of_other_machines_and_dtypes_say_nothing(record: Callable[..., Run]) -> None:
    other = record(at_rate(product(), CPU_PEAK), hardware=replace(NODE, name="another"))
    assert verdict_on(other).verdict == "not testable here"
    assert "no record of such a machine" in verdict_on(other).reason
    narrow = verdict_on(record(at_rate(product("bf16"), CPU_PEAK)))
    assert (narrow.verdict, "hold no measurement of it" in narrow.reason) == ("not testable here", True)
    assert verdict_on(record(at_rate(product(), CPU_PEAK), oversubscribed="4 ranks, 2 cores")).finding is None


def test_memory_of_a_cpu_is_that_of_all_its_ranks_and_of_the_largest_arrays(record: Callable[..., Run]) -> None:
    run = record(stream("copy", 1, 9e9), stream("copy", 1000, 2e9), stream("triad", 1000, 1.5e9))
    found = memory_bytes_per_s([run])
    # Four ranks on one host; the small copy was in a cache.
    assert found is not None and found.value == pytest.approx(4 * 2e9, rel=EXACT)
    assert verdict_on(run, name="toy-node memory").verdict == "holds"  # 8 of 10 GB/s
    gpu = record(stream("copy", 1000, 3e12), hardware=H100, world=4)
    alone = memory_bytes_per_s([gpu])
    assert alone is not None and alone.value == pytest.approx(3e12, rel=EXACT)


def test_pcie_is_tested_by_copies_each_way_and_both_ways(record: Callable[..., Run]) -> None:
    run = record(stream("to_host", 200, 55e9), stream("to_device", 200, 50e9), hardware=H100)
    found = host_bytes_per_s([run])
    assert found is not None and found.value == pytest.approx(55e9, rel=EXACT)
    one_way = verdict_on(run, H100, "h100-sxm pcie5")
    assert (one_way.verdict, one_way.claim.stated) == ("holds", 63e9)
    # The same number passed for one direction's is refuted; as the two-way rate that it is, copies both ways test it.
    claim = replace(one_way.claim, stated=126e9, inputs={"rate": 126e9}, formula="rate")
    ledger = Ledger(origin="vendor", source="test", claims=(claim,))
    assert judge(ledger, [run])[0].verdict == "refuted"
    two_way = replace(claim, qualifiers=("two-way", "peak"))
    assert judge(replace(ledger, claims=(two_way,)), [run])[0].verdict == "not testable here"
    both = record(stream("both_ways", 32, 95e9), stream("both_ways", 200, 70e9), hardware=H100)
    two_way = replace(two_way, measured="host_bytes_both_ways_per_s")
    (ruling,) = judge(replace(ledger, claims=(two_way,)), [both])
    assert ruling.verdict == "holds"
    assert ruling.finding is not None and ruling.finding.value == pytest.approx(95e9, rel=EXACT)


def test_a_link_is_not_tested_by_what_a_switch_adds_up(record: Callable[..., Run]) -> None:
    # busbw of an all-reduce of n is 2(n-1)/n of size over time, of an all-gather (n-1)/n.
    reduced, gathered = sent("all_reduce", 8, 2**20 * 1.75 / 480e9), sent("all_gather", 8, 2**20 * 0.875 / 340e9)
    found = link_bytes_per_s([record(reduced, gathered, hardware=H100, world=8)], "nvlink")
    assert found is not None and found.value == pytest.approx(340e9, rel=EXACT)
    a100 = load_node("a100-sxm-80gb")
    found = link_bytes_per_s([record(reduced, gathered, hardware=a100, world=8)], "nvlink")
    assert found is not None and found.value == pytest.approx(480e9, rel=EXACT)
    assert link_bytes_per_s([record(gathered, hardware=H100, world=16, num_nodes=2)], "nvlink") is None


def test_what_is_planted_is_refuted_on_a_machine_at_its_best(record: Callable[..., Run]) -> None:
    run = record(at_rate(product("bf16"), 0.96 * 989.4e12), stream("triad", 3000, 3.2e12), hardware=H100)
    rulings = [ruling for ruling in judge(planted_ledger(H100), [run]) if ruling.is_measured]
    assert {ruling.claim.name for ruling in rulings} == {"planted: h100-sxm bf16 dense", "planted: h100-sxm memory"}
    assert {ruling.verdict for ruling in rulings} == {"refuted"}
    assert PLANTED_FACTOR["gpu"] == 2
    assert control_failures(rulings) == []


@pytest.mark.parametrize("factor", [1.8, 3.0])
def test_a_bench_that_is_too_fast_fails_the_control(record: Callable[..., Run], factor: float) -> None:
    """FLOPs counted twice make the planted claim hold; a clock that stands still beats it, which refutes nothing."""
    wrong = record(at_rate(product("bf16"), factor * 989.4e12), hardware=H100)
    (failure,) = control_failures(judge(planted_ledger(H100), [wrong]))
    assert (failure.verdict, "beaten" in failure.reason) == (("refuted", True) if factor > 2.1 else ("holds", False))


def test_what_is_within_reach_does_not_hold_against_its_own_arithmetic(record: Callable[..., Run]) -> None:
    """An H100 that makes 786 TFLOP/s is within reach of a claim of 1200, whose right inputs say 989."""
    run = record(at_rate(product("bf16"), 786e12), hardware=H100)
    claim = Claim(
        name="c",
        subject="s",
        statement="t",
        printed="",
        stated=1200e12,
        unit="FLOP/s",
        formula="rate",
        inputs={"rate": 1200e12},
        right=Correction(why="the sheet", inputs={"rate": "peak h100-sxm bf16"}),
        measured="flops_per_s bf16",
        hardware="h100-sxm",
        qualifiers=("peak",),
    )
    (ruling,) = judge(Ledger(origin="article", source="s", claims=(claim,)), [run])
    assert ruling.verdict == "refuted"
    assert ruling.reason.startswith("the sheet; -17.5 %, tolerance 5 %; measured 66 % of it")


def test_a_mesh_is_tested_by_all_its_devices(record: Callable[..., Run]) -> None:
    mesh = load_node("mi300x")
    few, all_of_them = sent("all_gather", 2, 2**20 / 2 / 50e9), sent("all_gather", 8, 2**20 * 0.875 / 300e9)
    assert link_bytes_per_s([record(few, hardware=mesh, world=8)], "infinity-fabric") is None
    found = link_bytes_per_s([record(few, all_of_them, hardware=mesh, world=8)], "infinity-fabric")
    assert found is not None and found.value == pytest.approx(300e9, rel=EXACT)


def test_links_are_planted_too(record: Callable[..., Run]) -> None:
    run = record(sent("all_gather", 8, 2**20 * 0.875 / 340e9), hardware=H100, world=8)
    (ruling,) = [r for r in judge(planted_ledger(H100), [run]) if r.is_measured]
    assert (ruling.claim.name, ruling.verdict) == ("planted: h100-sxm nvlink4", "refuted")


def layers(tmp_path: Path, *plans: Any, **changes: Any) -> Run:
    results = [result(plan, observed=observation(plan), **changes) for plan in plans]
    return write_run(tmp_path / "layers.jsonl", header(), *plans, *results)


def test_layers_show_what_is_sent_and_kept(tmp_path: Path) -> None:
    run = layers(
        tmp_path,
        planned(strategy="columns"),
        planned(strategy="allreduce"),
        planned(strategy="columns", block="block"),
        planned(strategy="allreduce", block="block"),
        planned(strategy="sequence", block="block", phase="train"),
        planned(strategy="sequence", block="block", phase="train", tp=1),
    )
    gathered = gathered_size([run])
    assert gathered is not None and gathered.value == 1.0
    # TOY: 64 + 64 in attention and 128 + 64 in the FFN, against 2 x 2 x 64; in attention alone both send the same.
    columns = columns_over_allreduce([run])
    assert columns is not None and columns.value == (64 + 64 + 128 + 64) / (4 * 64)
    attention = layers(tmp_path, planned(strategy="columns"), planned(strategy="allreduce"))
    assert columns_over_allreduce([attention]) is None
    kept = saved_activations([run])
    assert kept is not None and 1.8 < kept.value <= 2.0
    assert "tp 2" in kept.text
    agreement = oracle_agreement([run])
    assert agreement is not None and agreement.value == 1.0


def test_a_case_that_fails_its_check_counts(tmp_path: Path) -> None:
    good, bad = planned(strategy="allreduce"), planned(strategy="columns")
    run = write_run(
        tmp_path / "r.jsonl",
        header(),
        good,
        bad,
        result(good),
        result(bad, error=1e-3, status="failed", reason="output differs"),
    )
    agreement = oracle_agreement([run])
    assert agreement is not None and agreement.value == 0.5


def test_efficiency_is_of_the_highest_degree(tmp_path: Path) -> None:
    plans = {tp: planned(tp=tp) for tp in (1, 2, 4)}
    seconds = {1: 8e-3, 2: 5e-3, 4: 4e-3}
    results = [result(plan, total_s=seconds[tp]) for tp, plan in plans.items()]
    run = write_run(tmp_path / "r.jsonl", header(), *plans.values(), *results)
    found = scaling_efficiency([run])
    assert found is not None and found.value == pytest.approx(8 / (4 * 4))
    assert "n = 4" in found.text


def test_halves_of_a_layer_are_compared_by_their_own_ops(tmp_path: Path) -> None:
    found = ffn_over_attention([layers(tmp_path, planned(block="block"))])
    # Parts have equal shares: up, activation, down against qkv, core, out, of which some have two ops.
    assert found is not None and 0 <= found.value < 0.3
    assert ffn_over_attention([layers(tmp_path, planned(block="block", tp=1))]) is None


@pytest.mark.parametrize(
    ("relation", "stated", "verdict"), [("<", 1.1, "holds"), (">", 1.2, "refuted"), ("=", 1.0, "refuted")]
)
def test_a_comparison_is_measured_by_its_relation(tmp_path: Path, relation: str, stated: float, verdict: str) -> None:
    claim = Claim(
        name="c",
        subject="s",
        statement="t",
        printed="",
        stated=stated,
        relation=relation,  # type: ignore[arg-type]
        formula="1",
        measured="saved_activations",
        tolerance=0.05,
    )
    plans = [planned(strategy="sequence", block="block", phase="train", tp=tp) for tp in (1, 2)]
    results = [
        result(plan, observed=observation(plan, saved_bytes=size)) for plan, size in zip(plans, (109, 100), strict=True)
    ]
    run = write_run(tmp_path / "r.jsonl", header(), *plans, *results)
    (ruling,) = judge(Ledger(origin="article", source="s", claims=(claim,)), [run])
    assert ruling.finding is not None and ruling.finding.value == 1.09
    assert ruling.verdict == verdict


def test_an_h100_on_trial() -> None:
    """bench/gemm.py and bench/memory.py on one H100 SXM at its power limit (tests/records)."""
    runs = [load_run(RECORDS / f"h100-{name}.jsonl") for name in ("gemm", "memory")]
    rulings = {r.claim.name: r for r in judge(vendor_ledger(H100), runs) if r.finding is not None}
    reached = {name: round(r.finding.value / r.claim.stated, 2) for name, r in rulings.items()}  # type: ignore
    assert reached == {"h100-sxm bf16 dense": 0.79, "h100-sxm memory": 0.91, "h100-sxm pcie5": 0.86}
    assert {r.verdict for r in rulings.values()} == {"holds"}
    planted = [r for r in judge(planted_ledger(H100), runs) if r.is_measured]
    assert [r.verdict for r in planted] == ["refuted"] * 3


def test_the_verb_refutes_1979_on_an_h100(capsys: pytest.CaptureFixture[str]) -> None:
    records = [str(RECORDS / f"h100-{name}.jsonl") for name in ("gemm", "memory", "block")]
    assert main(["claims", "--json", "--records", *records]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["claims"]}
    assert rows["h100-peak"]["verdict"] == "refuted"
    # 126 GB/s after coding, of which copies both ways at once reached 100.
    assert rows["pcie5-rate"]["verdict"] == "holds with other inputs"
    assert "measured 78 % of it (both_ways" in rows["pcie5-rate"]["reason"]
    assert rows["h100-peak"]["measured"] == pytest.approx(786e12, rel=0.01)
    # The A100's claim is another machine's.
    assert rows["a100-peak"]["measured"] is None
    assert {row["origin"] for row in rows.values()} == {"article", "vendor", "planted"}


def test_a_false_claim_of_a_vendor_is_refuted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ledger = tmp_path / "vendor.toml"
    ledger.write_text(
        'origin = "vendor"\nsource = "a brochure"\n[[claims]]\nname = "brochure"\nsubject = "H100"\n'
        'statement = "Copies at 6.7 TB/s"\nprinted = "6.7 TB/s"\nstated = 6.7e12\nunit = "B/s"\nformula = "rate"\n'
        'inputs = { rate = 6.7e12 }\nmeasured = "memory_bytes_per_s"\nhardware = "h100-sxm"\nqualifiers = ["peak"]\n'
    )
    words = ["claims", "--claims", str(ledger), "--records", str(RECORDS / "h100-memory.jsonl")]
    assert main(words) == 0
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(out[out.index("\n{") :])["claims"]}
    assert rows["brochure"]["verdict"] == "refuted"
    assert "measured 46 % of it (triad, 3.22 GB moved" in rows["brochure"]["reason"]


def test_a_control_that_is_not_refuted_fails_the_run(
    capsys: pytest.CaptureFixture[str], record: Callable[..., Run]
) -> None:
    run = record(at_rate(product(), 9 * CPU_PEAK))
    assert main(["claims", "--records", str(run.path)]) == 1
    assert "is false on purpose and was not refuted; trust no verdict" in capsys.readouterr().err


def test_two_machines_of_one_name_are_refused(capsys: pytest.CaptureFixture[str], record: Callable[..., Run]) -> None:
    twin = replace(NODE, device=replace(NODE.device, name="another core"))
    runs = [record(at_rate(product(), CPU_PEAK)), record(at_rate(product(), CPU_PEAK), hardware=twin)]
    assert main(["claims", "--records", *(str(run.path) for run in runs)]) == 2
    assert "toy-node is another core here and toy core in another record" in capsys.readouterr().err


def test_arithmetic_that_does_not_give_a_vendors_number_refutes_it() -> None:
    claim = Claim(
        name="c",
        subject="s",
        statement="t",
        printed="",
        stated=2e15,
        unit="FLOP/s",
        formula="units * clock * flops",
        inputs={"units": 132.0, "clock": 1.83e9, "flops": 4096.0},
    )
    (ruling,) = judge(Ledger(origin="vendor", source="s", claims=(claim,)), [])
    assert (ruling.verdict, ruling.reason) == ("refuted", "units x clock x flops do not give it")


def test_a_record_of_which_nothing_is_claimed_is_told(
    capsys: pytest.CaptureFixture[str], record: Callable[..., Run]
) -> None:
    bare = replace(NODE, device=replace(NODE.device, peaks=(), memory_bytes_per_s=None))
    run = record(at_rate(product(), CPU_PEAK), hardware=bare)
    assert main(["claims", "--measured", "--records", str(run.path)]) == 0
    captured = capsys.readouterr()
    assert "nothing that it holds is claimed of toy-node" in captured.err
    assert "nothing that the records hold is claimed" in captured.out
    assert main(["claims", "--measured"]) == 2
    assert "--measured: nothing is measured without records; give --records FILE" in capsys.readouterr().err
