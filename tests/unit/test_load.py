"""Record files into runs and flat tables; what must not stand in one table is refused; and what a calibration takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.frames.parts import parts_frame
from analysis.load import load_run, load_runs
from analysis.measured.op import of_run
from bench.harness.record.files import RecordWriter
from bench.harness.record.parts import COLUMNS
from bench.harness.record.records import (
    AnyLine,
    CaseResult,
    Drift,
    End,
    Header,
    OpResult,
    PartTimes,
    Planned,
    Samples,
    Times,
)
from tp.case import Case, Workload
from tp.cost.curves.gemm import RooflineGemm
from tp.cost.known import load_calibration, open_calibration
from tp.cost.lookup import curve_sizes
from tp.cost.theory import Estimate, PartEstimate, TheoryName
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm, Op, sum_bytes

pytestmark = pytest.mark.unit

NOW = "2026-11-22T12:00:00.000+00:00"
HEADER = Header(
    created=NOW,
    command=("bench/attention.py",),
    world=2,
    num_nodes=1,
    backend="gloo",
    hardware=load_node("h100-sxm"),
    calibration=None,
    environment={},
    oversubscribed=None,
)
SAMPLES = Samples(task="full", warmup_s=(), times_s=((1.0, 3.0), (5.0, 2.0)), parts=(), stopped_by="target")


def planned(batch: int = 1) -> Planned:
    workload = Workload(phase="prefill", batch=batch, seq=64, context=64, dtype="bf16")
    case = Case(block="attention", model=load_model("llama2-7b"), strategy="allreduce", tp=2, workload=workload)
    names: tuple[TheoryName, ...] = ("article", "datasheet")
    return Planned(
        key=case.key,
        written=NOW,
        case=case,
        ops=build_plan(case, backend="gloo").ops,
        estimates=tuple(
            Estimate(
                theory=name,
                parts=(PartEstimate(part="total", seconds=2.0 + i, low_s=2.0, high_s=4.0, extrapolated=False),),
            )
            for i, name in enumerate(names)
        ),
    )


def result(line: Planned, status: str = "ok") -> CaseResult:
    return CaseResult(
        key=line.key,
        written=NOW,
        status=status,  # type: ignore[arg-type]
        reason=None if status == "ok" else "wrong",
        groups=1,
        checks=(),
        samples=(SAMPLES,) if status == "ok" else (),
    )


def op_result(op: Op, *times_s: tuple[float, ...]) -> OpResult:
    return OpResult(written=NOW, op=op, estimates={}, samples=replace(SAMPLES, task=op.op, times_s=times_s))


def write(path: Path, *lines: AnyLine) -> Path:
    with RecordWriter(path) as writer:
        for line in lines:
            writer.append(line)
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_runs(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_its_header_cases_and_ops(tmp_path: Path) -> None:
    one, two = planned(1), planned(2)
    run = load_run(write(tmp_path / "r.jsonl", HEADER, one, two, result(one)))
    assert run.headers == (HEADER,)
    assert [(case.planned, case.result.status) for case in run.cases] == [(one, "ok")]
    assert run.unfinished == (two.key,)
    assert run.ops == ()


def test_a_resumed_run_counts_the_last_end_of_each_case_under_its_own_header(tmp_path: Path) -> None:
    one, two = planned(1), planned(2)
    again = replace(HEADER, created="2026-11-23T00:00:00.000+00:00")
    lines = (HEADER, one, two, result(one), result(two, "failed"), again, two, result(two))
    run = load_run(write(tmp_path / "r.jsonl", *lines))
    assert {case.planned.key: (case.header, case.result.status) for case in run.cases} == {
        one.key: (HEADER, "ok"),
        two.key: (again, "ok"),
    }
    assert run.unfinished == ()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    one = planned()
    path = write(tmp_path / "empty.jsonl")
    assert refusal(path) == f"{path}: holds no record; is this a record file of bench/?"
    path = write(tmp_path / "headless.jsonl", one)
    assert refusal(path).startswith(f"{path}: holds no record (line 1: its header is missing or damaged")
    assert "cannot be read" in refusal(tmp_path / "absent.jsonl")


DONE = End(written=NOW, status="done", reason=None)


def test_a_case_needs_an_estimate_that_was_written_before_it(tmp_path: Path) -> None:
    one, two = planned(1), planned(2)
    path = write(tmp_path / "late.jsonl", HEADER, two, result(one), one, result(two), DONE)
    run = load_run(path)
    assert [case.planned for case in run.cases] == [two]
    assert run.unfinished == (one.key,)
    assert run.problems == (f"{path}: case {one.key} has lost the estimate written before it; left out",)


@pytest.mark.parametrize(
    ("times_s", "told"),
    [
        ((), "has times of full that are not one for every iteration and rank"),
        (((),), "has times of full that are not one for every iteration and rank"),
        (((1.0, 2.0), (1.0,)), "has times of full that are not one for every iteration and rank"),
        (((1.0, -2.0),), "has times of full below zero"),
    ],
)
def test_times_that_cannot_be_are_left_out(tmp_path: Path, times_s: Times, told: str) -> None:
    """Checksums find what changed; nothing else finds what an old file had changed in."""
    one = planned(1)
    bad = replace(SAMPLES, times_s=times_s)
    broken_op = replace(op_result(GEMM, (1.0,)), samples=bad)
    drift = Drift(key=one.key, written=NOW, before=SAMPLES, after=bad)
    lines = (HEADER, one, replace(result(one), samples=(bad,)), broken_op, drift, DONE)
    path = write(tmp_path / "r.jsonl", *lines)
    run = load_run(path)
    assert (run.cases, run.ops, run.drifts) == ((), (), ())
    assert run.problems == (
        f"{path}: case {one.key} {told}; left out",
        f"{path}: an op, gemm of {NOW}, {told}; left out",
        f"{path}: the drift of {NOW} {told}; left out",
    )


def test_well_formed_nonsense_is_left_out(tmp_path: Path) -> None:
    one = planned(1)
    nobody = replace(ALL_GATHER, num_ranks=0)
    part = PartTimes(part="all_reduce", direction="forward", times_s=SAMPLES.times_s)
    ungrouped = replace(result(one), groups=3, samples=(replace(SAMPLES, parts=(part,)),))
    for plan, end, told in (
        (replace(one, key="else"), replace(result(one), key="else"), f"is planned as another one, {one.key}"),
        (replace(one, ops=(nobody,)), result(one), "has a collective of no ranks"),
        (one, ungrouped, "has ranks that do not split into its 3 groups"),
    ):
        path = tmp_path / "r.jsonl"
        path.unlink(missing_ok=True)
        run = load_run(write(path, HEADER, plan, end, op_result(nobody, (1.0,)), DONE))
        assert (run.cases, run.ops) == ((), ())
        assert run.problems[0] == f"{path}: case {end.key} {told}; left out"
        assert run.problems[1].endswith("is a collective of no ranks; left out")


def test_a_run_without_an_end_is_told(tmp_path: Path) -> None:
    one, two = planned(1), planned(2)
    path = write(tmp_path / "r.jsonl", HEADER, one, two, result(one))
    told = f"{path}: the run of {NOW} has no end: it died"
    assert load_run(path).problems == (f"{told} or is still going on; 1 cases unfinished",)
    write(path, HEADER, two, result(two), DONE)
    assert load_run(path).problems == (f"{told}, and was resumed",)
    assert load_run(path).ends == (DONE,)
    found: list[str] = []
    load_runs([path, path], tell=found.append)
    assert found == [f"{told}, and was resumed"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("world", 4, "world is 4 but {first} has 2"),
        ("num_nodes", 2, "num_nodes is 2 but {first} has 1"),
        ("backend", "nccl", "backend is 'nccl' but {first} has 'gloo'"),
        ("oversubscribed", "4 ranks share 2 cores", "oversubscribed is '4 ranks share 2 cores' but {first} has None"),
    ],
)
def test_runs_that_differ_are_not_merged_unless_asked(tmp_path: Path, field: str, value: object, told: str) -> None:
    one = planned()
    first = write(tmp_path / "1.jsonl", HEADER, one, result(one))
    second = write(tmp_path / "2.jsonl", replace(HEADER, **{field: value}), one, result(one))  # type: ignore[arg-type]
    assert refusal(first, second) == f"{second}: {told.format(first=first)}; report them apart, or add --mixed"
    assert len(load_runs([first, second], mixed=True)) == 2
    assert len(load_runs([first, first])) == 2


def test_runs_of_different_machines_are_not_merged_unless_asked(tmp_path: Path) -> None:
    """The table has no column that would tell an A100's rows from an H100's."""
    one = planned()
    first = write(tmp_path / "1.jsonl", HEADER, one, result(one))
    second = write(tmp_path / "2.jsonl", replace(HEADER, hardware=load_node("a100-sxm-80gb")), one, result(one))
    assert "A100" in refusal(first, second)
    assert len(load_runs([first, second], mixed=True)) == 2


def test_the_flat_table(tmp_path: Path) -> None:
    one, two = planned(1), planned(2)
    runs = load_runs([write(tmp_path / "r.jsonl", HEADER, one, two, result(one), result(two, "failed"))])
    table = parts_frame(runs)
    assert list(table.columns)[: len(COLUMNS)] == list(COLUMNS)
    total = table[table["part"] == "total"].set_index("case")
    # The slower rank of each pass: 3 and 5.
    assert total.loc[one.key, "measured_s"] == 4.0
    assert (total.loc[one.key, "theory"], total.loc[one.key, "estimate_s"]) == ("datasheet", 3.0)
    assert total.loc[two.key, "status"] == "failed"
    assert table[table["case"] == two.key]["measured_s"].isna().all()
    article = parts_frame(runs, theory="article")
    assert article[article["part"] == "total"]["estimate_s"].tolist() == [2.0, 2.0]
    assert list(parts_frame([]).columns)[: len(COLUMNS)] == list(COLUMNS)


GEMM = Gemm(part="qkv", direction="forward", layout="nt", m=4, n=8, k=16, dtype="bf16")
CORE = AttentionCore(
    part="core",
    direction="forward",
    batch=2,
    seq=1,
    context=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    causal=False,
    dtype="bf16",
)
PASS = Elementwise(part="norm", direction="forward", kind="norm", read_bytes=100, written_bytes=50, dtype="bf16")
ALL_GATHER = Collective(
    kind="all_gather", direction="forward", num_ranks=2, size_bytes=1000, dtype="bf16", backend="gloo"
)


def test_ops_timed_alone(tmp_path: Path) -> None:
    times = ((1.0, 3.0), (5.0, 2.0), (4.0, 4.0))  # slowest 3, 5, 4
    path = write(tmp_path / "r.jsonl", HEADER, *(op_result(op, *times) for op in (GEMM, CORE, PASS, ALL_GATHER)))
    rows = [row for run in load_runs([path]) for row in of_run(run)]
    assert [(row.op, row.key, curve_sizes(row.op), row.seconds) for row in rows] == [
        (GEMM, "bf16/nt", (4, 8, 16), 4.0),
        (CORE, "bf16/decode", (8, 64, 16), 4.0),
        (PASS, "bf16/norm", (150.0,), 4.0),
        # The size of nccl-tests, not what a rank sends.
        (ALL_GATHER, "all_gather/2/bf16", (1000,), 4.0),
    ]
    assert [(row.op.flops, sum_bytes([row.op])) for row in rows] == [
        (1024.0, 448.0),  # 2*4*8*16; 2 * (64 + 128 + 32)
        (32768.0, 16896.0),  # 4*2*1*64*4*16; 2 * (2*2*1*4*16 + 2*2*64*2*16)
        (0.0, 150.0),
        (0.0, 500.0),  # (n - 1) / n
    ]
    assert [row.kind for row in rows] == ["gemm", "attention", "elementwise/norm", "all_gather/2"]
    assert {(row.group, row.source, row.nodes) for row in rows} == {
        ("NVIDIA H100 SXM5 80GB on an unnamed host", "NVIDIA H100 SXM5 80GB on an unnamed host", 1)
    }


def calibration_lines(header: Header = HEADER) -> list[Header | OpResult]:
    """Products at 1 TFLOP/s after 10 us, on two equal ranks."""
    lines: list[Header | OpResult] = [header]
    for m in (64, 128, 256, 512, 1024, 2048, 4096, 8192):
        seconds = 1e-5 + 2 * m * 1024 * 1024 / 1e12
        lines.append(op_result(replace(GEMM, m=m, n=1024, k=1024), *[(seconds, seconds)] * 3))
    return lines


def test_records_become_a_calibration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Of no class that has a tile model, as a CPU: the roofline.
    device = replace(HEADER.hardware.device, architecture=None)
    unclassed = replace(HEADER, hardware=replace(HEADER.hardware, device=device))
    path, out = write(tmp_path / "gemm.jsonl", *calibration_lines(unclassed)), tmp_path / "new" / "c.json"
    assert main(["calibrate", str(path), "--out", str(out)]) == 0
    assert "gemm bf16/nt" in capsys.readouterr().out
    found = load_calibration(out, device="NVIDIA H100 SXM5 80GB")
    assert [Path(name).name for name in found.sources] == ["gemm.jsonl"]
    assert (list(found.gemm), found.attention, found.elementwise, found.collectives) == (["bf16/nt"], {}, {}, {})
    curve = found.gemm["bf16/nt"]
    assert isinstance(curve, RooflineGemm)
    assert curve.flops_per_s == pytest.approx(1e12, rel=0.02)
    assert curve.fit.low == (64, 1024, 1024)
    assert curve.sources == ("NVIDIA H100 SXM5 80GB on an unnamed host",)
    assert main(["calibrate", str(path), "--out", str(tmp_path)]) == 2
    assert f"error: --out {tmp_path}: cannot be written (" in capsys.readouterr().err


def test_a_calibration_is_of_the_hardware_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "gemm.jsonl", *calibration_lines()), tmp_path / "c.json"
    assert main(["calibrate", str(path), "--out", str(out)]) == 0
    assert open_calibration(out).hardware == "NVIDIA H100 SXM5 80GB"
    assert main(["calibrate", str(path), "--hardware", "l40s", "--out", str(out)]) == 0
    assert open_calibration(out).hardware == load_node("l40s").device.name
    with pytest.raises(ConfigError, match="is of NVIDIA L40S, not of NVIDIA H100 SXM5 80GB"):
        load_calibration(out, device="NVIDIA H100 SXM5 80GB")
    capsys.readouterr()


def calibrate_refusal(capsys: pytest.CaptureFixture[str], *paths: Path) -> str:
    assert main(["calibrate", *map(str, paths), "--out", str(paths[0].with_suffix(".json"))]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    return error.removeprefix("error: ")


def test_a_calibration_needs_ops_of_one_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = planned()
    path = write(tmp_path / "attention.jsonl", HEADER, one, result(one))
    assert "no op timed alone; measure with bench/gemm.py" in calibrate_refusal(capsys, path)
    few = write(tmp_path / "few.jsonl", *calibration_lines()[:4])
    assert calibrate_refusal(capsys, few).startswith("gemm bf16/nt: 3 rows are too few to fit; measure at least 6")
    first = write(tmp_path / "1.jsonl", *calibration_lines())
    second = write(tmp_path / "2.jsonl", *calibration_lines(replace(HEADER, hardware=load_node("a100-sxm-80gb"))))
    told = calibrate_refusal(capsys, first, second)
    assert "records of different hardware" in told and "H100" in told and "A100" in told


def test_ranks_that_shared_cores_do_not_calibrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their times are marked as not comparable, so nothing may be predicted from them."""
    path = write(tmp_path / "r.jsonl", *calibration_lines(replace(HEADER, oversubscribed="2 ranks share 1 cores")))
    assert "2 ranks share 1 cores" in calibrate_refusal(capsys, path)
