"""Reading record files: every line survives its file, and what is not as it was written is told and left out."""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.record.files import RecordWriter, finished_cases, finished_ops, read_lines, read_record
from bench.harness.record.records import AnyLine, CaseResult
from tests.unit.record_factory import FixedTheory, drift, observation, planned, result, telemetry
from tests.unit.record_lines import CHECK, HEADER, LINES, OP, PLANNED, RESULT, SAMPLES, write
from tp.errors import ConfigError
from tp.schema import to_json

pytestmark = pytest.mark.unit

PLANNED_TOY = planned(FixedTheory())


def test_every_kind_of_line_survives_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder" / "r.jsonl", *LINES)
    assert tuple(read_lines(path)) == LINES
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert [json.loads(line)["line"] for line in text.splitlines()] == ["header", "planned", "case", "op"]
    assert json.loads(text.splitlines()[0])["schema_version"] == 5


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
    path = write(tmp_path_factory.mktemp("drawn") / "r.jsonl", HEADER, line, line)
    assert list(read_lines(path)) == [HEADER, line, line]


def test_a_check_that_was_not_a_number_stays_a_failure(tmp_path: Path) -> None:
    wrong = replace(RESULT, status="failed", checks=(replace(CHECK, error=None, gain=None, passed=False),), samples=())
    _, read = read_lines(write(tmp_path / "r.jsonl", HEADER, wrong))
    assert isinstance(read, CaseResult)
    assert (read.checks[0].error, read.checks[0].gain, read.checks[0].passed) == (None, None, False)


def test_a_line_torn_inside_a_character_is_left_out_too(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, HEADER)
    umlaut = path.read_bytes().rindex("ß".encode())  # two bytes, the second of which is cut off
    path.write_bytes(path.read_bytes()[: umlaut + 1])
    assert [run.header for run in read_record(path).runs] == [HEADER]


def damage(path: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    """Change the line of that number, from 1."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_bytes(b"".join(lines))


def problems(path: Path) -> list[str]:
    """What the reader tells of the file, without its name."""
    return [problem.removeprefix(f"{path}: ") for problem in read_record(path).problems]


def test_one_changed_digit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    damage(path, 3, lambda line: line.replace(b"0.1", b"0.2", 1))
    assert problems(path) == ["line 3 is damaged (its checksum does not fit); left out"]
    assert read_record(path).runs[0].lines == (PLANNED, OP)
    with pytest.raises(ConfigError, match="line 3 is damaged"):
        list(read_lines(path))


def test_a_removed_and_a_repeated_line_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    damage(path, 2, lambda line: b"")
    assert problems(path) == ["line 2: a line of its run before it went missing; left out"]
    damage(path, 3, lambda line: line + line)
    assert problems(path)[1:] == ["line 4 repeats line 3; the repetition is left out"]
    assert read_record(path).runs[0].lines == (RESULT, OP)


def test_lines_that_changed_places_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *LINES)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[3], lines[2], lines[0], lines[1])))
    record = read_record(path)
    assert (record.runs[0].header, *record.runs[0].lines) == LINES
    assert [problem.split(" ", 1)[1] for problem in record.problems] == [
        "line 1 was written after line 2; read in the order of writing",
        "line 2 was written after line 4; read in the order of writing",
    ]


def test_a_line_belongs_to_the_header_of_its_run(tmp_path: Path) -> None:
    """Also where two runs wrote side by side, and where the header of one is gone."""
    other = replace(HEADER, created="2026-11-22T13:00:00.000+00:00", world=4)
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as first, RecordWriter(path) as second:
        for line in (HEADER, PLANNED, RESULT):
            first.append(line)
            second.append(other if line is HEADER else line)
    assert [(run.header, run.lines) for run in read_record(path).runs] == [
        (HEADER, (PLANNED, RESULT)),
        (other, (PLANNED, RESULT)),
    ]
    damage(path, 2, lambda line: b"{}\n")
    assert [run.header for run in read_record(path).runs] == [HEADER]
    assert "line 4: its header is missing or damaged; 2 lines of its run are left out" in problems(path)


def test_a_file_without_an_intact_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", PLANNED, RESULT)
    with pytest.raises(ConfigError, match=r"holds no record \(line 1: its header is missing or damaged; 2 lines"):
        read_record(path)


def sealed(text: str) -> bytes:
    """Well-formed lines that no writer of ours writes."""
    body = text[:-1].encode() + b',"run":"00000000","n":0'
    return body + b',"crc32":"%08x"}\n' % zlib.crc32(body)


@pytest.mark.parametrize(
    ("bad", "finding"),
    [
        (b"\n", "Invalid JSON"),
        (b"[[[[[[[\n", "Invalid JSON"),
        (b"\xff\xfe\n", "Invalid JSON"),
        (b'{"line":"footer"}\n', "'footer'"),
        (b'{"key":"x"}\n', "discriminator"),
        (b'{"line":"case","key":"x"}\n', "case.written: "),
        (b'{"line":"end","written":"","status":"done","reason":null}\n', "it has no checksum"),
        (sealed('{"line":"end","written":"","status":"done","reason":null}'), "a header comes first"),
        (sealed('{"line":"end","written":"","status":"done","reason":null,"extra":1}'), "end.extra: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes, finding: str) -> None:
    path = write(tmp_path / "r.jsonl", HEADER)
    with path.open("ab") as file:
        file.write(bad)
    with RecordWriter(path) as writer:
        assert writer.notes == read_record(path).problems
        writer.append(HEADER)
    (problem,) = problems(path)
    assert problem.startswith("line 2 is damaged (") and problem.endswith("); left out") and finding in problem
    assert "\n" not in problem


def write_old(path: Path, *lines: AnyLine) -> Path:
    """A file as versions 1 and 2 wrote them."""
    path.write_text("".join(f"{to_json(line)}\n" for line in lines), encoding="utf-8")
    return path


OLD = replace(HEADER, schema_version=2)
RESUMED = replace(OLD, created="2026-11-22T13:00:00.000+00:00")


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    path = write_old(tmp_path / "r.jsonl", OLD, PLANNED, RESULT, RESUMED, OP)
    write(path, HEADER, PLANNED)
    runs = read_record(path).runs
    assert [(run.header, run.lines) for run in runs] == [
        (OLD, (PLANNED, RESULT)),
        (RESUMED, (OP,)),
        (HEADER, (PLANNED,)),
    ]
    assert problems(path) == []


def test_what_can_be_found_wrong_with_an_old_file_is(tmp_path: Path) -> None:
    path = write_old(tmp_path / "r.jsonl", OLD, PLANNED, PLANNED, RESULT, RESUMED, RESULT)
    assert problems(path) == ["line 3 repeats line 2; the repetition is left out"]
    damage(path, 5, lambda line: line[:50] + b"\n")
    # What a damaged line may have been the header of is nobody's.
    assert problems(path)[1].startswith("line 5 is damaged (")
    assert problems(path)[2:] == ["line 6 is damaged (no header is above it); left out"]
    write_old(path, HEADER, PLANNED)
    with pytest.raises(ConfigError, match="it has no checksum"):
        read_record(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "null", '"1.0"', "true"])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, number: str) -> None:
    path = write_old(tmp_path / "r.jsonl", OLD, RESULT)
    damage(path, 2, lambda line: line.replace(b"[0.1,0.2]", b"[0.1,%s]" % number.encode()))
    (problem,) = problems(path)
    assert problem.startswith("line 2 is damaged (")
    infinite = write(tmp_path / "s.jsonl", HEADER, replace(RESULT, samples=(replace(SAMPLES, times_s=((math.inf,),)),)))
    assert problems(infinite)[0].startswith("line 2 is damaged (case.samples.0.times_s.0.0: ")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = write_old(tmp_path / "r.jsonl", OLD)
    damage(path, 1, lambda line: line.replace(b'"schema_version":2', b'"schema_version":9'))
    with pytest.raises(ConfigError, match=r"line 1 is damaged \(header\.schema_version: "):
        read_record(path)


def objects(value: object, data: Any) -> list[dict[str, Any]]:
    """The JSON objects of `data` that are dataclasses in `value`."""
    found = []
    if is_dataclass(value):
        found.append(data)
        for field in fields(value):
            found += objects(getattr(value, field.name), data[field.name])
    elif isinstance(value, tuple):
        for one, each in zip(value, data, strict=True):
            found += objects(one, each)
    elif isinstance(value, dict):
        for key, one in value.items():
            found += objects(one, data[key])
    return found


def test_an_unknown_key_is_refused_however_deep_it_lies(tmp_path: Path) -> None:
    count = 0
    observed = result(PLANNED_TOY, observed=observation(PLANNED_TOY))
    for line in (OLD, PLANNED, RESULT, OP, telemetry(PLANNED_TOY), drift(PLANNED_TOY), observed):
        for number in range(len(objects(line, json.loads(to_json(line))))):
            data = json.loads(to_json(line))
            objects(line, data)[number]["zzz"] = 1
            path = write_old(tmp_path / "r.jsonl", OLD)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(data) + "\n")
            assert len(read_record(path).runs) == 1
            assert any("zzz" in problem for problem in problems(path)), (line, number)
            count += 1
    assert count > 50


def test_finished_are_the_cases_that_are_ok_or_skipped(tmp_path: Path) -> None:
    lines = [replace(RESULT, key=status, status=status) for status in ("ok", "failed", "skipped")]
    path = write(tmp_path / "r.jsonl", HEADER, PLANNED, *lines, OP)
    assert finished_cases(path, world=2).keys() == frozenset()  # what was estimated of them is lost
    assert finished_ops(path, world=2) == {OP.op}
    assert finished_ops(tmp_path / "absent.jsonl", world=2) == frozenset()
    plans = [replace(PLANNED, key=line.key) for line in lines]
    write(path, HEADER, *plans, *lines)
    assert finished_cases(path, world=2).keys() == {"ok", "skipped"}
    assert finished_cases(tmp_path / "absent.jsonl", world=2).keys() == frozenset()


def test_a_file_to_resume_has_as_many_ranks(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", HEADER)
    with pytest.raises(ConfigError, match="is a run of 2 ranks, not of 4; resume with as many ranks"):
        finished_cases(path, world=4)
    path.write_text("something else\n")
    with pytest.raises(ConfigError, match="holds no record to resume"):
        finished_ops(path, world=4)
    path.write_text("")  # a disk that was full before the header
    assert finished_cases(path, world=4).keys() == frozenset()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b"\xff\xfe\n{}\n")
    for path in (tmp_path, tmp_path / "absent.jsonl", tmp_path / "r.jsonl"):
        with pytest.raises(ConfigError) as caught:
            list(read_lines(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
