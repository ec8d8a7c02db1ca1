"""A damaged record file: what is read of it is as it was measured, and what is not read is told."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.frames.parts import parts_frame
from analysis.load import Run, load_run
from analysis.measured.op import of_run
from bench.harness.record.files import RecordWriter, read_record
from bench.harness.record.records import AnyLine, End
from tests.unit.record_factory import (
    LATER,
    FixedTheory,
    drift,
    header,
    observation,
    op_result,
    planned,
    result,
    telemetry,
    write_run,
)
from tp.cost.lookup import curve_sizes
from tp.errors import ConfigError
from tp.plan.ops import sum_bytes
from tp.schema import to_json

pytestmark = pytest.mark.unit

NUM_DAMAGED: Final = 108  # 12 of each kind
NUM_REPORTS: Final = 9  # one of each
TIMES: Final = ("measured_s", "low_s", "high_s", "estimate_s", "estimate_low_s", "estimate_high_s")
FIGURES: Final = (*TIMES, "samples", "bytes", "flops", "world", "nodes", "tp")

Damage = Callable[[random.Random, bytes], bytes]


def realistic() -> list[AnyLine]:
    """A run that was interrupted and resumed."""
    plans = [planned(FixedTheory(seconds=1e-3 * tp), tp=tp) for tp in (1, 2, 4)]
    plans += [planned(FixedTheory(), tp=2, strategy="sequence", phase="train")]
    results = [
        result(plan, total_s=(7 + number) * 1e-3, observed=observation(plan)) for number, plan in enumerate(plans)
    ]
    return [
        header(),
        *plans,
        telemetry(*plans[:2]),
        *results[:2],
        result(plans[2], status="failed", reason="boom", timed=False),
        End(written=LATER, status="interrupted", reason="SIGINT"),
        header(created="2026-11-22T18:00:00.000+00:00"),
        *plans[2:],
        telemetry(*plans[2:]),
        *results[2:],
        *(op_result(1000 * size, size * 1e-5) for size in range(1, 8)),
        drift(plans[0]),
        End(written=LATER, status="done", reason=None),
    ]


def flip(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ rng.randrange(1, 256)]) + content[at + 1 :]


def retype(rng: random.Random, content: bytes) -> bytes:
    """Another digit in the place of a digit: still well-formed."""
    at = rng.choice([at for at, byte in enumerate(content) if 48 <= byte < 58])
    return content[:at] + bytes([48 + (content[at] - 48 + rng.randrange(1, 10)) % 10]) + content[at + 1 :]


def delete(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.choice((1, 7, 500)) :]


def insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.choice((b"\n", b"0", b"\r", b'"', rng.randbytes(9))) + content[at:]


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def repeat(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.sample(range(len(content)), 2))
    return content[:last] + content[first:]


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def remove_lines(rng: random.Random, content: bytes) -> bytes:
    """Some of them, but not all of a run: that would be another file, as whole as this one."""
    lines = lines_of(content)
    at = rng.randrange(1, len(lines))
    return b"".join(lines[:at] + lines[at + rng.randrange(1, 5) :])


def repeat_lines(rng: random.Random, content: bytes) -> bytes:
    lines = lines_of(content)
    first, last = sorted(rng.sample(range(len(lines) + 1), 2))
    at = rng.randrange(len(lines) + 1)
    return b"".join(lines[:at] + lines[first:last] + lines[at:])


def swap_lines(rng: random.Random, content: bytes) -> bytes:
    lines = lines_of(content)
    a, b = rng.sample(range(len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


DAMAGES: Final[tuple[Damage, ...]] = (
    flip,
    retype,
    delete,
    insert,
    truncate,
    repeat,
    remove_lines,
    repeat_lines,
    swap_lines,
)


def damaged(content: bytes) -> list[bytes]:
    rng = random.Random(20261122)
    return [DAMAGES[number % len(DAMAGES)](rng, content) for number in range(NUM_DAMAGED)]


def figures(run: Run) -> pd.DataFrame:
    """Every number of the flat tables, by case and part or by op; no samples are no number."""
    parts = parts_frame([run]).set_index(["case", "part"])[list(FIGURES)].astype(float)
    parts["samples"] = parts["samples"].replace(0.0, float("nan"))
    ops = of_run(run)
    if not ops:
        return parts
    sizes = pd.MultiIndex.from_tuples([(row.op.op, str(curve_sizes(row.op))) for row in ops], names=["case", "part"])
    numbers = {"bytes": [sum_bytes([row.op]) for row in ops], "flops": [row.op.flops for row in ops]}
    return pd.concat([parts, pd.DataFrame(numbers | {"time_s": [row.seconds for row in ops]}, index=sizes)])


def differing(found: pd.DataFrame, right: pd.DataFrame) -> list[object]:
    """Rows with a number that is not the right one; an empty cell is none."""
    found = found.reindex(columns=right.columns)
    wanted = right.reindex(index=found.index)
    return list(found.index[((found != wanted) & found.notna()).any(axis=1)])


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("pristine") / "r.jsonl", *realistic())


def test_the_file_before_it_is_damaged(pristine: Run) -> None:
    assert (len(pristine.headers), len(pristine.cases), len(pristine.ops)) == (2, 4, 7)
    assert (len(pristine.telemetry), len(pristine.drifts), len(pristine.ends)) == (2, 1, 2)
    assert (pristine.problems, pristine.unfinished) == ((), ())
    assert figures(pristine).index.is_unique


def test_no_damage_gives_a_wrong_number_or_goes_unsaid(pristine: Run, tmp_path: Path) -> None:
    right, path, refused = figures(pristine), tmp_path / "r.jsonl", 0
    for number, content in enumerate(damaged(pristine.path.read_bytes())):
        path.write_bytes(content)
        try:
            run = load_run(path)
        except ConfigError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        found = figures(run)
        assert differing(found, right) == [], number
        whole = content == pristine.path.read_bytes()
        assert whole or run.problems, number
        assert all(problem.startswith(f"{path}: ") and "\n" not in problem for problem in run.problems)
    assert refused < NUM_DAMAGED / 10


def test_a_wrong_number_would_be_found(pristine: Run) -> None:
    right = figures(pristine)
    wrong = right.copy()
    wrong.iloc[3, 0] = 1.0
    assert differing(wrong, right) == [right.index[3]]
    assert differing(right.iloc[:5], right) == []


def test_a_damaged_file_can_be_resumed(pristine: Run, tmp_path: Path) -> None:
    """What is written after the damage is whole, and the damage is told first."""
    again = realistic()[10:]
    for number, content in enumerate(damaged(pristine.path.read_bytes())[::8]):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        with RecordWriter(path) as writer:
            for line in again:
                writer.append(line)
        assert writer.notes or content == b"" or content.endswith(b"\n")
        last = read_record(path).runs[-1]
        assert (last.header, *last.lines) == tuple(again)


def bare(lines: Sequence[AnyLine]) -> bytes:
    """As version 2 wrote them: no checksum, no end."""
    kept = [line for line in lines if line.line in ("header", "planned", "case", "op")]
    texts = [to_json(line).replace('"schema_version":5', '"schema_version":2') for line in kept]
    return "".join(f"{text}\n" for text in texts).encode()


def test_an_old_file_is_read_refused_or_partly_left_out(tmp_path: Path) -> None:
    """Without checksums a number may change unseen; nothing may fail."""
    path = tmp_path / "r.jsonl"
    for content in damaged(bare(realistic())):
        path.write_bytes(content)
        try:
            figures(load_run(path))
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_report_of_a_damaged_file_ends_in_one_line_or_a_page(
    pristine: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = damaged(pristine.path.read_bytes())
    for number in range(NUM_REPORTS):
        if number == 2:  # two were drawn as well, which takes seconds each
            monkeypatch.setattr("analysis.report.write.charts", lambda *frames: [])
        path, out = tmp_path / f"{number}.jsonl", tmp_path / f"{number}"
        path.write_bytes(contents[number * (NUM_DAMAGED // NUM_REPORTS + 1) % NUM_DAMAGED])
        code = main(["report", str(path), "--out", str(out)])
        told = capsys.readouterr().err.splitlines()
        assert code in (0, 2) and told
        assert all(line.startswith("error: " if code else "note: ") for line in told)
        assert len(set(told)) == len(told)
        if code == 0:
            page = (out / "report.html").read_text(encoding="utf-8")
            assert all(text in page for text in (line[len("note: ") :][:40] for line in told))


def test_a_calibration_of_a_damaged_file_tells_what_it_leaves_out(
    pristine: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    lines = lines_of(pristine.path.read_bytes())
    path.write_bytes(b"".join([*lines[:-4], lines[-4].replace(b"1", b"2"), *lines[-3:]]))
    assert main(["calibrate", str(path), "--out", str(tmp_path / "c.json")]) == 0
    assert f"note: {path}: line {len(lines) - 3} is damaged (its checksum does not fit)" in capsys.readouterr().err


def test_a_file_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.report.write.charts", lambda *frames: [])
    path = tmp_path / "r.jsonl"
    path.write_bytes(bare(realistic()) + b'{"line":"planned","key\\u001b[2J[red]":1}\n')
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "note: " in told and "\x1b" not in told
