"""bench/attention.py as a user starts it: real torchrun, real gloo, a tiny model."""

import json
from itertools import pairwise

import pytest

from analysis.frames.parts import parts_frame
from analysis.load import load_run
from bench.harness.record.files import read_lines
from bench.harness.record.records import CaseResult, Drift, End, Header, Planned, Telemetry

pytestmark = pytest.mark.dist

ON_CPU = ("columns", "allreduce", "sequence", "overlap", "dtensor")
# Degrees, strategies, phases.
NUM_CASES = 2 * 5 * 2
SENDING = {"communication", "contended compute", "contended communication"}
VARIANTS = {"compute", "serial", "full", "parts", *SENDING}


@pytest.fixture(scope="module")
def two_ranks(tiny, torchrun, tmp_path_factory):
    """One run of two ranks; its standard output and its record file."""
    out = tmp_path_factory.mktemp("records") / "a.jsonl"
    done = torchrun(2, "bench/attention.py", "--model", str(tiny), "--seq", "32", "--seconds", "0.2", "--out", str(out))
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout, out


def test_default_run_measures_every_degree_strategy_and_variant(two_ranks):
    _, out = two_ranks
    run = load_run(out)
    cases = {(c.planned.case.tp, c.planned.case.strategy, c.planned.case.workload.phase) for c in run.cases}
    assert cases == {(tp, strategy, phase) for tp in (1, 2) for strategy in ON_CPU for phase in ("prefill", "train")}
    for case in run.cases:
        assert case.result.status == "ok"
        wanted = VARIANTS - (SENDING if case.planned.case.tp == 1 else set())
        wanted -= {"serial"} if case.planned.case.strategy == "dtensor" else set()
        assert {sample.task for sample in case.result.samples} == wanted
        assert all(check.passed for check in case.result.checks)
        assert case.result.groups == 2 // case.planned.case.tp


def test_raw_samples_of_every_rank_are_kept(two_ranks):
    _, out = two_ranks
    for case in load_run(out).cases:
        for sample in case.result.samples:
            assert len(sample.warmup_s) >= 2
            assert len(sample.times_s) >= 4
            assert {len(row) for row in (*sample.warmup_s, *sample.times_s)} == {2}
            assert min(min(row) for row in sample.times_s) > 0


def test_parts_of_a_pass_sum_to_the_whole(two_ranks):
    _, out = two_ranks
    for case in load_run(out).cases:
        (sample,) = [s for s in case.result.samples if s.task == "parts"]
        for iteration, row in enumerate(sample.times_s):
            for rank, total in enumerate(row):
                parts = sum(part.times_s[iteration][rank] for part in sample.parts)
                assert parts == pytest.approx(total, abs=1e-7)


def test_every_estimate_is_on_disk_before_the_first_sample(two_ranks):
    _, out = two_ranks
    lines = list(read_lines(out))
    assert isinstance(lines[0], Header)
    kinds = [type(line) for line in lines[1:]]
    assert set(kinds[:NUM_CASES]) == {Planned}
    assert set(kinds[NUM_CASES:-2]) == {CaseResult, Telemetry}
    assert kinds[-2:] == [Drift, End]
    planned = {line.key: line for line in lines if isinstance(line, Planned)}
    for line in lines:
        if isinstance(line, CaseResult):
            assert planned[line.key].written < line.written
            assert {e.theory for e in planned[line.key].estimates} == {"article", "datasheet"}


def test_table_shows_every_part_with_its_interval(two_ranks):
    stdout, _ = two_ranks
    for word in ("norm", "qkv", "core", "out", "all_gather", "reduce_scatter", "all_reduce", "residual", "total"):
        assert word in stdout
    assert "95 % interval" in stdout
    assert "tiny <b>&" in stdout


def test_parts_table_is_complete(two_ranks):
    _, out = two_ranks
    table = parts_frame([load_run(out)])
    # DTensor sends from within its layers, where nothing can be marked or told to wait at once.
    inside = (table["strategy"] == "dtensor") & table["part"].isin(["all_reduce", "serial"])
    assert inside.sum() == 6
    assert (table["measured_s"].notna() == ~inside).all()
    table = table[~inside]
    assert table["comparable"].all()
    assert (table["low_s"] <= table["measured_s"]).all()
    assert (table["measured_s"] <= table["high_s"]).all()


def test_resume_measures_only_what_is_missing(two_ranks, tiny, torchrun, tmp_path):
    _, full = two_ranks
    out = tmp_path / "cut.jsonl"
    lines = full.read_text().splitlines(keepends=True)
    # What came after the last finished case is lost, and the file ends in the middle of that case's line.
    (*_, last) = (number for number, line in enumerate(lines) if '"line":"case"' in line)
    torn = lines[last][:100]
    lines = lines[: last + 1]
    out.write_text("".join(lines[:-1]) + torn)
    flags = ("--model", str(tiny), "--seq", "32", "--seconds", "0.2", "--out", str(out), "--resume")
    done = torchrun(2, "bench/attention.py", *flags)
    assert done.returncode == 0, done.stderr[-4000:]
    assert out.read_text().startswith("".join(lines[:-1]))
    after = [json.loads(line) for line in out.read_text().splitlines()][len(lines) - 1 :]
    assert [line["line"] for line in after] == ["header", "planned", "telemetry", "case", "drift", "end"]
    assert len(load_run(out).cases) == NUM_CASES
    assert out.with_name("cut.jsonl.torn").read_text() == torn
    assert "torn" in done.stdout


def test_four_ranks_on_fewer_cores_are_not_comparable(tiny, torchrun, tmp_path):
    out = tmp_path / "four.jsonl"
    flags = ("--model", str(tiny), "--seq", "32", "--seconds", "0.1", "--tp", "2,4", "--strategy", "allreduce")
    done = torchrun(4, "bench/attention.py", *flags, "--phase", "prefill", "--out", str(out))
    assert done.returncode == 0, done.stderr[-4000:]
    header = load_run(out).headers[0]
    cores = header.hardware.num_devices
    table = parts_frame([load_run(out)])
    assert (header.oversubscribed is not None) == (cores < 4)
    assert table["comparable"].eq(cores >= 4).all()
    assert ("not comparable" in done.stdout) == (cores < 4)
    assert set(table["tp"]) == {2, 4}


def test_one_rank_measures_tp_1_and_says_how_to_use_the_rest(tiny, torchrun, tmp_path):
    out = tmp_path / "one.jsonl"
    flags = ("--model", str(tiny), "--seq", "32", "--seconds", "0.1", "--phase", "prefill,decode")
    done = torchrun(1, "bench/attention.py", *flags, "--out", str(out))
    assert done.returncode == 0, done.stderr[-4000:]
    run = load_run(out)
    assert {case.planned.case.tp for case in run.cases} == {1}
    if run.headers[0].hardware.num_devices > 1:
        assert "torchrun --nproc-per-node" in done.stdout


def test_samples_of_the_variants_interleave(two_ranks):
    """Case after case of a group ends at the same time, since their variants took turns."""
    _, out = two_ranks
    results = [line for line in read_lines(out) if isinstance(line, CaseResult)]
    groups = [results[i : i + len(ON_CPU)] for i in range(0, len(results), len(ON_CPU))]
    for group in groups:
        assert {result.key.split("/")[3] for result in group} == set(ON_CPU)
    assert all(before[0].written <= after[0].written for before, after in pairwise(groups))


def test_the_state_of_the_machine_is_read_on_every_rank(two_ranks):
    _, out = two_ranks
    run = load_run(out)
    keys = {key for telemetry in run.telemetry for key in telemetry.keys}
    assert keys == {case.result.key for case in run.cases}
    for telemetry in run.telemetry:
        assert telemetry.moments[0].rounds == 0
        assert len(telemetry.moments) >= 2
        for moment in telemetry.moments:
            assert len(moment.ranks) == 2
            for reading in moment.ranks:
                assert reading.values["process_cpu_s"] > 0
                # Known or not, with the reason; never both, never neither.
                assert not set(reading.values) & set(reading.unread)
                assert all(reading.unread.values())
        assert telemetry.clock_offsets_s == telemetry.clock_uncertainty_s == (0.0, 0.0)
    timed = len(run.cases[0].result.samples[0].times_s)
    assert run.telemetry[0].moments[-1].rounds == timed


def test_starts_and_arrivals_are_on_one_clock(two_ranks):
    _, out = two_ranks
    for case in load_run(out).cases:
        for sample in case.result.samples:
            assert len(sample.starts_s) == len(sample.times_s)
            assert all(min(row) == 0 for row in sample.starts_s)
            for part in sample.parts:
                sends = part.part in ("all_reduce", "all_gather", "reduce_scatter", "send_recv")
                assert bool(part.arrivals_s) == sends


def test_counters_of_the_loopback_device_agree_with_the_plan(two_ranks):
    stdout, out = two_ranks
    seen = [case.result.traffic for case in load_run(out).cases if case.result.traffic is not None]
    assert len(seen) == NUM_CASES // 2
    for traffic in seen:
        (host,) = traffic.hosts
        passed = traffic.passes * host.num_ranks
        assert traffic.planned_bytes > 0
        # Headers, acknowledgements, two barriers, and whatever else the host sends.
        assert traffic.planned_bytes <= host.sent_bytes["lo"] / passed < 2 * traffic.planned_bytes + 100_000
    assert "on the wire" in stdout
    assert "contention: compute" in stdout
    assert "drift: " in stdout
