"""Record files: every line survives its file, an interrupted run loses one line at most, and a bad file is named."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.records import (
    CaseResult,
    CheckResult,
    Header,
    OpResult,
    PartTimes,
    Planned,
    RecordWriter,
    Samples,
    finished_keys,
    read_lines,
)
from tp.case import Case, Workload
from tp.cost.theory import Estimate, OpEstimate, PartEstimate
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import Collective

pytestmark = pytest.mark.unit

NOW = "2026-11-22T12:00:00.000+00:00"
HEADER = Header(
    created=NOW,
    command=("bench/attention.py", "--out", "läufe/größe.jsonl"),
    world=2,
    num_nodes=1,
    backend="gloo",
    hardware=load_node("h100-sxm"),
    calibration=None,
    environment={"ranks": [{"torch": "2.13.0", "git": {"dirty": True}, "load": 0.25}, None]},
    oversubscribed="2 ranks share 1 cores",
)
CASE = Case(
    block="attention",
    model=load_model("llama2-70b"),
    strategy="sequence",
    tp=8,
    workload=Workload(phase="train", batch=1, seq=64, context=64, dtype="bf16"),
)
PLANNED = Planned(
    key=CASE.key,
    written=NOW,
    case=CASE,
    ops=build_plan(CASE, backend="nccl").ops,  # products, cores, passes and collectives
    estimates=(
        Estimate(
            theory="calibrated",
            parts=(
                PartEstimate(part="qkv", seconds=1e-3, low_s=9e-4, high_s=1.1e-3, extrapolated=True),
                PartEstimate(part="total", seconds=None, low_s=None, high_s=None, extrapolated=False),
            ),
        ),
    ),
)
SAMPLES = Samples(
    task="parts",
    warmup_s=((1.5, 0.5),),
    times_s=((0.1, 0.2), (0.3, 0.4)),
    parts=(PartTimes(part="all_gather", direction="backward", times_s=((0.01, 0.02), (0.03, 0.04))),),
    stopped_by="target",
)
CHECK = CheckResult(tensor="output", error=1e-3, error_limit=1e-2, gain=-1e-4, gain_limit=1e-3, passed=True)
RESULT = CaseResult(key=CASE.key, written=NOW, status="ok", reason=None, groups=1, checks=(CHECK,), samples=(SAMPLES,))
OP = OpResult(
    written=NOW,
    op=Collective(kind="all_reduce", direction="forward", num_ranks=2, size_bytes=1024, dtype="bf16", backend="gloo"),
    estimates={"datasheet": OpEstimate(seconds=1e-6, low_s=1e-6, high_s=1e-6)},
    samples=SAMPLES,
)
LINES = (HEADER, PLANNED, RESULT, OP)


def write(path: Path, *lines: Header | Planned | CaseResult | OpResult) -> Path:
    with RecordWriter(path) as writer:
        for line in lines:
            writer.append(line)
    return path


def test_every_kind_of_line_survives_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder" / "r.jsonl", *LINES)
    assert tuple(read_lines(path)) == LINES
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert [json.loads(line)["line"] for line in text.splitlines()] == ["header", "planned", "case", "op"]
    assert json.loads(text.splitlines()[0])["schema_version"] == 2


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(FINITE, FINITE), max_size=4),
    st.text(),
    st.sampled_from(("ok", "failed", "skipped")),
    st.none() | FINITE,
)
@settings(deadline=None, max_examples=50)
def test_what_is_drawn_survives(
    tmp_path_factory: pytest.TempPathFactory,
    times: list[tuple[float, float]],
    text: str,
    status: str,
    error: float | None,
) -> None:
    line = replace(
        RESULT,
        status=status,  # type: ignore[arg-type]
        reason=text,
        checks=(replace(CHECK, error=error, tensor=text),),
        samples=(replace(SAMPLES, times_s=tuple(times)),),
    )
    path = write(tmp_path_factory.mktemp("drawn") / "r.jsonl", line, line)
    assert list(read_lines(path)) == [line, line]


def test_a_check_that_was_not_a_number_stays_a_failure(tmp_path: Path) -> None:
    wrong = replace(RESULT, status="failed", checks=(replace(CHECK, error=None, gain=None, passed=False),), samples=())
    (read,) = read_lines(write(tmp_path / "r.jsonl", wrong))
    assert isinstance(read, CaseResult)
    assert (read.checks[0].error, read.checks[0].gain, read.checks[0].passed) == (None, None, False)


def test_a_line_is_on_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "r.jsonl") as writer:
        assert writer.path.exists()
        for count, line in enumerate(LINES, start=1):
            writer.append(line)
            assert len(writer.path.read_text(encoding="utf-8").splitlines()) == count


def test_the_other_ranks_write_nothing(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "folder" / "r.jsonl", active=False) as writer:
        writer.append(HEADER)
    assert not (tmp_path / "folder").exists()


def test_a_run_is_continued_not_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED)
    write(path, HEADER, RESULT)
    assert tuple(read_lines(path)) == (HEADER, PLANNED, HEADER, RESULT)


def tear(path: Path, count: int) -> bytes:
    """Cut `count` bytes off the file; returns what is left of its last line."""
    torn = path.read_bytes()[:-count]
    path.write_bytes(torn)
    return torn[torn.rfind(b"\n") + 1 :]


@pytest.mark.parametrize("count", [2, 100, 400])
def test_a_torn_last_line_is_left_out_and_set_aside(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "r.jsonl", *LINES, RESULT)
    left = tear(path, count)
    assert left
    assert tuple(read_lines(path)) == LINES
    write(path, OP)
    assert tuple(read_lines(path)) == (*LINES, OP)
    assert (tmp_path / "r.jsonl.torn").read_bytes() == left


def test_a_line_torn_inside_a_character_is_left_out_too(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", PLANNED, HEADER)
    umlaut = path.read_bytes().rindex("ß".encode())  # two bytes, the second of which is cut off
    path.write_bytes(path.read_bytes()[: umlaut + 1])
    assert list(read_lines(path)) == [PLANNED]


def test_what_is_set_aside_does_not_count_as_finished(tmp_path: Path) -> None:
    """`--resume` asks first and opens then: a case must not be taken for finished and then be moved out."""
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED, RESULT)
    tear(path, 1)  # all of the line but its end
    finished = finished_keys(path, world=2)
    write(path)
    kept = {line.key for line in read_lines(path) if isinstance(line, CaseResult)}
    assert finished == kept


def test_nothing_is_set_aside_of_a_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    before = path.read_bytes()
    write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("bad", "finding"),
    [
        ('{"line": "hea', "Invalid JSON"),
        ('{"line": "footer"}', "'footer'"),
        ('{"key": "x"}', "discriminator"),
        ('{"line": "case", "key": "x"}', "case.written: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, finding: str) -> None:
    path = write(tmp_path / "r.jsonl", HEADER)
    with path.open("a", encoding="utf-8") as file:
        file.write(bad + "\n")
    write(path, PLANNED)
    with pytest.raises(ConfigError) as caught:
        list(read_lines(path))
    assert str(caught.value).startswith(f"{path}: line 2 is not a record (")
    assert finding in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_last_line_that_is_not_torn_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"line": "footer"}\n')
    with pytest.raises(ConfigError, match="line 2 is not a record"):
        list(read_lines(path))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, number: float) -> None:
    path = write(tmp_path / "r.jsonl", replace(RESULT, samples=(replace(SAMPLES, times_s=((number,),)),)), HEADER)
    with pytest.raises(ConfigError, match=r"line 1 is not a record \(case\.samples\.0\.times_s\.0\.0: "):
        list(read_lines(path))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"schema_version":2', '"schema_version":3'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 1 is not a record \(header\.schema_version: "):
        list(read_lines(path))


def test_finished_are_the_cases_that_are_ok_or_skipped(tmp_path: Path) -> None:
    lines = [
        replace(RESULT, key=status, status=status)  # type: ignore[arg-type]
        for status in ("ok", "failed", "skipped")
    ]
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED, *lines, OP)
    assert finished_keys(path, world=2) == {"ok", "skipped"}
    assert finished_keys(tmp_path / "absent.jsonl", world=2) == frozenset()


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "r.jsonl"):
        with pytest.raises(ConfigError) as caught:
            RecordWriter(path)
        assert str(caught.value).startswith(f"--out {path}: cannot be written (")
        assert str(caught.value).endswith("; name another file")
        assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b"\xff\xfe\n{}\n")
    for path in (tmp_path, tmp_path / "absent.jsonl", tmp_path / "r.jsonl"):
        with pytest.raises(ConfigError) as caught:
            list(read_lines(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
