"""Comparisons of two versions: what is called a change, what is not, and what cannot be told."""

import csv
import itertools
import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.__main__ import main
from analysis.comparison.compare import compare
from analysis.comparison.fields import ROW_COLUMNS, comparison_fields
from analysis.comparison.judgement import verdict_of
from analysis.comparison.rows import Comparison, Row
from analysis.comparison.series import case_series
from analysis.comparison.show import print_comparison, sentence
from analysis.load import Case, Run
from bench.harness.record.parts import part_rows
from bench.harness.record.records import BlockMark, CaseResult, FailedOp, Header, PartTimes, Planned, Samples, Times
from bench.harness.timing.recorder import Recorder
from tests.unit import record_factory as make
from tp.plan.ops import Part

pytestmark = pytest.mark.unit

RECORDS = Path(__file__).parents[1] / "records"
PLAN = make.planned(make.FixedTheory(), tp=2)
OTHER = make.planned(make.FixedTheory(), tp=2, strategy="sequence")
BASE_S = {"norm": 7e-4, "qkv": 4e-3, "core": 1e-3, "out": 3e-3, "residual": 2e-4, "all_reduce": 2e-3}
WHOLES = {"compute": 8.9e-3, "communication": 2e-3, "serial": 10.9e-3, "full": 10.9e-3, "parts": 10.9e-3}
ROUNDS = 80
Noise = Callable[[np.random.Generator], float]


def passes(random: np.random.Generator, base_s: float, speed: np.ndarray, spread: float) -> Times:
    """Iterations on two ranks: the machine's speed, a spread of each, and what disturbs and only lengthens."""
    shape = (len(speed), 2)
    disturbed = random.exponential(0.3, shape) * (random.random(shape) < 0.3)
    times = base_s * speed[:, None] * np.exp(random.normal(0, spread, shape)) * (1 + disturbed)
    return tuple(map(tuple, times.tolist()))


def simulated(
    random: np.random.Generator, plan: Planned = PLAN, *, slow: Mapping[str, float] | None = None, rounds: int = ROUNDS
) -> CaseResult:
    """A case on a machine whose speed differs by 3 % from run to run and wanders within."""
    slow = slow or {}
    wander = np.cumsum(random.normal(0, 0.002, rounds))
    speed = np.exp(random.normal(0, 0.03) + wander)
    added = {"compute": 0.0, "communication": 0.0}
    for part, share in slow.items():
        added["communication" if part == "all_reduce" else "compute"] += share * BASE_S[part]
    extra = {**added, **dict.fromkeys(("serial", "full", "parts"), sum(added.values()))}
    parts = tuple(
        PartTimes(
            part=op.part,
            direction="forward",
            times_s=passes(random, BASE_S.get(op.part, 1e-3) * (1 + slow.get(op.part, 0.0)), speed, 0.02),
        )
        for op in plan.ops
    )
    samples = tuple(
        Samples(
            task=task,
            warmup_s=(),
            times_s=passes(random, base_s + extra[task], speed, 0.02),
            parts=parts if task == "parts" else (),
            stopped_by="seconds",
        )
        for task, base_s in WHOLES.items()
    )
    return replace(make.result(plan), samples=samples)


def run_of(*cases: tuple[Planned, CaseResult], header: Header | None = None, name: str = "made") -> Run:
    header = header or make.header()
    made = tuple(Case(header=header, planned=plan, result=result) for plan, result in cases)
    return Run(path=Path(f"{name}.jsonl"), headers=(header,), cases=made, ops=(), unfinished=())


def runs(seed: int, count: int = 1, **changes: Any) -> list[Run]:
    random = np.random.default_rng(seed)
    return [run_of((PLAN, simulated(random, **changes))) for _ in range(count)]


def row(found: Comparison, part: str) -> Row:
    return next(each for each in found.rows if each.part == part)


def changed(found: Comparison) -> list[str]:
    return [each.part for each in found.rows if each.verdict in ("slower", "faster")]


def test_nothing_changes_between_runs_of_one_thing() -> None:
    """Forty pairs on a machine whose speed wanders: at most one verdict of change among all of their rows."""
    found = [compare(runs(seed), runs(seed + 1000), margin=0.03) for seed in range(40)]
    assert sum(len(changed(each)) for each in found) <= 1
    assert all(each.common.verdict == "not comparable" for each in found)
    assert sum(each.verdict == "same" for pair in found for each in pair.rows) > 300


@pytest.mark.parametrize("part", ["qkv", "residual", "all_reduce"])
def test_a_planted_slowdown_is_found_in_nine_of_ten(part: str) -> None:
    found = [
        compare(runs(seed, 3), runs(seed + 1000, 3, slow={part: 0.08}), margin=0.03) for seed in range(0, 1000, 100)
    ]
    assert sum(row(each, part).verdict == "slower" for each in found) >= 9
    assert all(set(changed(each)) <= {part, "compute", "communication", "serial", "total"} for each in found)
    assert all(0.02 < row(each, part).change.could_see_change < 0.15 for each in found)  # type: ignore[union-attr,operator]


def test_a_faster_part_is_called_so() -> None:
    found = compare(runs(1, 3), runs(2, 3, slow={"qkv": -0.2}), margin=0.03)
    assert row(found, "qkv").verdict == "faster"
    assert not found.regressed
    assert found.cases[0].verdict == "faster"


def test_a_change_of_all_parts_needs_several_runs_or_is_beyond_all_drift() -> None:
    slow = dict.fromkeys(BASE_S, 0.5)
    alone = compare(runs(1), runs(2, slow=dict.fromkeys(BASE_S, 0.1)), margin=0.03)
    assert alone.common.verdict == "not comparable"
    assert changed(alone) == []
    assert compare(runs(1), runs(2, slow=slow), margin=0.03).common.verdict == "slower"
    several = compare(runs(1, 5), runs(2, 5, slow=slow), margin=0.03)
    assert several.common.verdict == "slower"
    assert several.common.low is not None and several.common.low > 1.1
    assert several.regressed
    assert row(several, "qkv").verdict == "slower"
    assert row(several, "qkv").change.judged_by == "the clock"  # type: ignore[union-attr]
    assert "all parts alike slower" in sentence(several)


def test_one_run_a_side_says_that_it_cannot_tell_the_machine_from_a_change() -> None:
    found = compare(runs(1), runs(2), margin=0.03)
    assert found.common.verdict == "not comparable"
    assert "give folders" in found.common.reason


def test_a_record_beside_itself_is_the_same() -> None:
    from analysis.load import load_run

    run = load_run(RECORDS / "h100-block.jsonl")
    found = compare([run], [run], margin=0.03)
    assert {each.verdict for each in found.rows} == {case.verdict for case in found.cases} == {"same"}
    assert found.common.time_new_over_old == 1.0
    assert found.differences == ()
    assert all(each.change.could_see_change < 0.15 for each in found.rows)  # type: ignore[union-attr,operator]


def test_ops_are_matched_by_what_they_are() -> None:
    from analysis.load import load_run

    run = load_run(RECORDS / "h100-gemm.jsonl")
    slower = replace(run.ops[0].in_pass, parts=tuple(scaled(each, 1.5) for each in run.ops[0].in_pass.parts))  # type: ignore[union-attr,type-var]
    again = replace(run, ops=(replace(run.ops[0], in_pass=slower), *run.ops[1:]))
    found = compare([run], [again], margin=0.03)
    assert changed(found) == ["in a pass"]
    assert (
        next(each for each in found.rows if each.verdict == "slower").case == "gemm qkv forward nt 128 2880 2880 bf16"
    )


def scaled(part: PartTimes, factor: float) -> PartTimes:
    return replace(part, times_s=tuple(tuple(factor * time_s for time_s in each) for each in part.times_s))


def test_rows_are_the_parts_of_the_report() -> None:
    result = simulated(np.random.default_rng(0))
    medians = {each.part: each.measured_s for each in part_rows(make.header(), PLAN, result)}
    assert {part: float(np.median(times)) for part, times in case_series(result).items()} == pytest.approx(medians)


def test_a_change_of_the_slow_passes_alone_is_told() -> None:
    """Three of ten passes slower by half leave the shortest quarter as it was."""
    old, new = runs(1, 3), runs(2, 3)
    found = compare(old, [late(run, "qkv", every=3, factor=3.0) for run in new], margin=0.03)
    assert row(found, "qkv").verdict == "same"
    assert "slow passes" in row(found, "qkv").reason
    assert all(each.change.tail_time_new_over_old is None for each in found.rows if each.part != "qkv" and each.change)


def late(run: Run, part: str, *, every: int, factor: float) -> Run:
    def one(times: PartTimes) -> PartTimes:
        if times.part != part:
            return times
        return replace(
            times,
            times_s=tuple(
                tuple(time_s * (factor if i % every == 0 else 1.0) for time_s in each)
                for i, each in enumerate(times.times_s)
            ),
        )

    case = run.cases[0]
    samples = tuple(replace(each, parts=tuple(map(one, each.parts))) for each in case.result.samples)
    return replace(run, cases=(replace(case, result=replace(case.result, samples=samples)),))


def with_result(run: Run, **changes: Any) -> Run:
    case = run.cases[0]
    return replace(run, cases=(replace(case, result=replace(case.result, **changes)),))


def with_plan(run: Run, **changes: Any) -> Run:
    case = run.cases[0]
    return replace(run, cases=(replace(case, planned=replace(case.planned, **changes)),))


def marked(kind: Any, share: float) -> tuple[BlockMark, ...]:
    return (BlockMark(first_round=0, num_rounds=int(ROUNDS * share), rank=0, kind=kind, text="made up"),)


OLD, NEW = runs(1)[0], runs(2)[0]
WRONG = (replace(make.result(PLAN).checks[0], passed=False),)


@pytest.mark.parametrize(
    ("old", "new", "verdict", "reason"),
    [
        (OLD, with_result(NEW, status="failed", reason="out of memory", samples=()), "newly failing", "out of memory"),
        (OLD, with_result(NEW, checks=WRONG), "newly failing", "output is wrong"),
        (OLD, replace(NEW, cases=(), unfinished=(PLAN.key,)), "newly failing", "never ended"),
        (with_result(OLD, checks=WRONG), NEW, "not comparable", "in OLD, not in NEW: failed"),
        (with_result(OLD, checks=WRONG), with_result(NEW, checks=WRONG), "not comparable", "in both"),
        (OLD, replace(NEW, cases=()), "not comparable", "only in OLD"),
        (replace(OLD, cases=()), NEW, "not comparable", "only in NEW"),
        (OLD, with_result(NEW, status="skipped", reason="no kernel"), "not comparable", "in NEW skipped: no kernel"),
        (OLD, with_plan(NEW, emulated=True), "not comparable", "in NEW emulated"),
        (OLD, with_plan(NEW, ops=PLAN.ops[:-1]), "not comparable", "its ops are not the same"),
        (with_result(OLD, marks=marked("thermal", 0.6)), NEW, "not comparable", "in OLD throttled in 60%"),
        (OLD, with_result(NEW, marks=marked("steal", 0.8)), "not comparable", "in NEW disturbed (steal) in 64 of 80"),
        (OLD, with_result(NEW, marks=marked("steal", 0.5)), "same", ""),
    ],
)
def test_what_becomes_of_a_case(old: Run, new: Run, verdict: str, reason: str) -> None:
    found = compare([old], [new], margin=0.03)
    assert found.cases[0].verdict == verdict
    assert reason in found.cases[0].reason
    assert found.regressed == (verdict == "newly failing")


def test_oversubscribed_ranks_are_not_compared() -> None:
    header = make.header(oversubscribed="4 ranks share 2 cores")
    crowded = [run_of((PLAN, each.cases[0].result), header=header) for each in (OLD, NEW)]
    assert "4 ranks share" in compare(crowded[:1], crowded[1:], margin=0.03).cases[0].reason


def test_too_few_samples_and_too_much_noise_are_no_sameness() -> None:
    few = compare(runs(1, rounds=7), runs(2, rounds=7), margin=0.03)
    assert {each.verdict for each in few.rows} == {"not comparable"}
    assert "7 samples, under 8" in few.rows[0].reason
    assert "nothing could be compared" in sentence(few)
    noisy = compare([OLD], runs(2, rounds=8), margin=0.03)
    assert any(each.reason.startswith("too noisy: could only see") for each in noisy.rows)
    assert verdict_of(0.0, 0.2, float("nan"), 0.03) == "not comparable"


def test_one_that_was_disturbed_gives_way_to_the_other_runs_of_its_side() -> None:
    disturbed = with_result(NEW, marks=marked("others", 1.0))
    found = compare(runs(1, 2), [disturbed, *runs(3, 2)], margin=0.03)
    assert row(found, "qkv").new_runs == 2
    assert "disturbed (others) in 80 of 80 rounds; left out" in found.left_out[0]


def test_a_case_that_fails_in_one_of_several_runs_newly_fails() -> None:
    found = compare(runs(1, 2), [*runs(2, 2), with_result(NEW, status="failed", reason="NaN")], margin=0.03)
    assert (found.cases[0].verdict, found.cases[0].reason) == ("newly failing", "failed: NaN (in 1 of 3 runs)")


def test_an_op_that_fails_now() -> None:
    op = make.op_result(1024, 1e-3)
    old = replace(run_of(), ops=(op,))
    new = replace(run_of(), failed_ops=(FailedOp(written=make.LATER, op=op.op, reason="no link"),))
    found = compare([old], [new], margin=0.03)
    assert found.cases[0].verdict == "newly failing"
    assert found.cases[0].case == "collective all_reduce forward 2 1024 fp32 gloo False"


def test_a_case_of_one_strategy_leaves_the_other_alone() -> None:
    random = np.random.default_rng(5)

    def both(slow: float) -> Run:
        return run_of((PLAN, simulated(random)), (OTHER, simulated(random, OTHER, slow={"out": slow})))

    found = compare([both(0) for _ in range(3)], [both(0.3) for _ in range(3)], margin=0.03)
    assert [case.verdict for case in found.cases] == ["same", "slower"]
    assert "out" in found.cases[1].reason


def test_what_changed_between_the_two_is_told() -> None:
    def header(torch: str, **variables: str) -> Header:
        rank = {"host": "here", "libraries": {"torch": torch}, "variables": variables, "cpu": {"load_average": torch}}
        return make.header(environment={"ranks": [rank]})

    old = run_of((PLAN, OLD.cases[0].result), header=header("2.12"))
    new = run_of((PLAN, NEW.cases[0].result), header=header("2.13", NCCL_ALGO="Ring"))
    told = [(each.field, each.old, each.new) for each in compare([old], [new], margin=0.03).differences]
    assert told == [("libraries.torch", "2.12", "2.13"), ("variables.NCCL_ALGO", "not recorded", "Ring")]


# The command, on files.


def write(path: Path, *results: CaseResult, **header: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    make.write_run(path, make.header(**header), PLAN, *results)
    return str(path)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    """OLD, and a folder of two slower runs."""
    random = np.random.default_rng(7)
    for side, slow in (("old", 0.0), ("new", 0.3)):
        for number in range(2):
            write(tmp_path / side / f"{number}.jsonl", simulated(random, slow={"qkv": slow}))
    return str(tmp_path / "old"), str(tmp_path / "new")


def test_exit_codes(sides: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old, new = sides
    assert main(["compare", old, old]) == 0
    assert capsys.readouterr().out.startswith("nothing got slower; of 10 rows")
    assert main(["compare", old, new]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("slower: qkv of attention/toy/prefill")
    assert err.startswith("error: slower: qkv of attention/toy") and err.count("\n") == 1
    assert max(map(len, out.splitlines())) <= 160
    assert " norm " not in out
    assert main(["compare", old, new, "--margin", "90"]) == 0
    assert main(["compare", old, old, "--all"]) == 0
    assert "norm" in capsys.readouterr().out
    failing = write(tmp_path / "failing.jsonl", replace(simulated(np.random.default_rng(0)), status="failed"))
    assert main(["compare", old, failing]) == 1
    assert "newly failing: attention/toy" in capsys.readouterr().out


def test_json_and_csv_hold_everything(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "rows.csv"
    assert main(["compare", *sides, "--json", "--csv", str(table)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        *("sentence", "regressed", "old", "new", "margin_change", "common", "differences", "cases", "rows", "left_out")
    ]
    assert tuple(found["rows"][0]) == ROW_COLUMNS
    assert ROW_COLUMNS == (
        *("case", "part", "verdict", "reason", "old_median_s", "new_median_s", "old_runs", "new_runs"),
        *("old_samples", "new_samples", "time_new_over_old", "judged_by", "judged_time_new_over_old"),
        *("judged_low", "judged_high", "could_see_change", "tail_time_new_over_old"),
    )
    assert list(found["common"]) == ["verdict", "reason", "time_new_over_old", "low", "high", "could_see_change"]
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(each["part"], each["verdict"]) for each in rows] == [(r["part"], r["verdict"]) for r in found["rows"]]


REFUSALS: Sequence[tuple[dict[str, Any], str]] = (
    ({"world": 8}, "world is 8 but"),
    ({"num_nodes": 2}, "num_nodes is 2 but"),
    ({"backend": "nccl"}, "backend is 'nccl' but"),
    ({"oversubscribed": "4 ranks share 2 cores"}, "oversubscribed is"),
    ({"method": {"clock": "cuda events"}}, "method.clock is 'cuda events' but"),
    ({"method": {"flush_bytes": 1}}, "method.flush_bytes is 1 but"),
    ({"method": {"graph": True}}, "method.graph is True but"),
    (
        {"hardware": replace(make.NODE, device=replace(make.NODE.device, name="other core"))},
        "hardware is 'other core' but",
    ),
)


@pytest.mark.parametrize(("header", "told"), REFUSALS)
def test_unlike_runs_are_refused_in_one_line(
    header: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.jsonl", OLD.cases[0].result)
    new = write(tmp_path / "new.jsonl", OLD.cases[0].result, **header)
    assert main(["compare", old, new]) == 2
    err = capsys.readouterr().err
    assert told in err and "--mixed" in err and err.count("\n") == 1
    assert main(["compare", old, new, "--mixed"]) == 0
    assert told.split()[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{old}"], "1 given; give two"),
        (["{old}", "{old}", "{old}"], "3 given; give two"),
        (["{old}", "{empty}"], "a folder without record files"),
        (["{old}", "{empty}/no.jsonl"], "no.jsonl"),
        (["{old}", "{old}", "--margin", "-1"], "not a positive number"),
        (["{old}", "{old}", "--csv", "{old}/no/file.csv"], "cannot be written"),
        (["{old}", "{old}", "--marign", "1"], "did you mean --margin?"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.jsonl", OLD.cases[0].result)
    (tmp_path / "empty").mkdir()
    assert main(["compare", *(word.format(old=old, empty=tmp_path / "empty") for word in words)]) == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert told in error and all(line.startswith("note: OLD and NEW have a file in common") for line in notes)


def test_json_is_strict() -> None:
    """No NaN and no infinity, whatever could not be told."""
    found = compare(runs(1, rounds=8), runs(2, rounds=8), margin=0.03)
    json.dumps(comparison_fields(found), allow_nan=False)


def test_narrow_terminals_keep_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(runs(1, 3), runs(2, 3, slow={"qkv": 0.3}), margin=0.03)
    print_comparison(Console(width=72, highlight=False), found, everything=True)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 72
    assert "slower" in told and "could see" in told and "old median" not in told


def test_a_part_is_really_slowed(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """By the script that plants a change in a program; on a clock that goes on by 1 ms whenever it is read."""
    now = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(now) * 1e-3)
    for name in ("start", "enter", "stop"):
        monkeypatch.setattr(Recorder, name, getattr(Recorder, name))
    runpy.run_path(str(root / "scripts/slowed_part.py"))["slow_down"]("qkv", 0.5)
    ended = {}
    parts: tuple[Part, ...] = ("norm", "qkv")
    for part in parts:
        recorder = Recorder(MonotonicStub(), watching=True)  # type: ignore[arg-type]
        recorder.start(None, 0.0)
        recorder.enter(part, "forward")
        begun = next(now)
        for _ in range(100):
            next(now)
        recorder.enter("core", "forward")
        ended[part] = next(now) - begun
    assert ended["norm"] < 105
    assert 150 < ended["qkv"] < 160


class MonotonicStub:
    """A clock that nobody looks at."""

    def mark(self) -> float:
        return 0.0


COMPUTE = ("norm", "qkv", "core", "out", "residual")


def test_what_stood_still_is_seldom_called_faster_because_all_else_got_slower() -> None:
    """All compute 8 % slower: the collective is what it was, by the clock, and what all share is no plain "same".

    Where the machine happened to be faster by as much, nothing can tell.
    """
    faster = unsaid = 0
    for seed in range(8):
        found = compare(runs(seed, 4), runs(100 + seed, 4, slow=dict.fromkeys(COMPUTE, 0.08)), margin=0.03)
        ambiguous = found.common.verdict == "not comparable"
        faster += row(found, "all_reduce").verdict == "faster"
        unsaid += not (found.regressed or ambiguous)
    assert faster <= 2 and unsaid <= 2


@pytest.mark.parametrize("seed", range(4))
def test_one_precise_row_is_not_what_all_share(seed: int) -> None:
    """A product that hardly wanders got 30 % slower among parts that wander by 25 %: it alone did."""

    def noisy(run: Run, random: np.random.Generator) -> Run:
        result = run.cases[0].result
        quiet = np.exp(random.normal(0, 0.002, (ROUNDS, 2)))

        def times(part: PartTimes) -> PartTimes:
            shape = np.exp(random.normal(0, 0.25, (ROUNDS, 2)))
            base = BASE_S[part.part] * (quiet if part.part == "qkv" else shape)
            return replace(part, times_s=tuple(map(tuple, base.tolist())))

        samples = [replace(each, parts=tuple(map(times, each.parts))) for each in result.samples]
        return with_result(run, samples=tuple(samples))

    random = np.random.default_rng(seed)
    old = [noisy(run, random) for run in runs(seed, 3)]
    new = [noisy(run, random) for run in runs(50 + seed, 3)]
    slow = [
        with_result(
            run,
            samples=tuple(
                replace(each, parts=tuple(scaled(part, 1.3) if part.part == "qkv" else part for part in each.parts))
                for each in run.cases[0].result.samples
            ),
        )
        for run in new
    ]
    found = compare(old, slow, margin=0.03)
    assert found.common.verdict != "slower"
    assert [each.part for each in found.rows if each.verdict == "slower" and each.part in COMPUTE] in (["qkv"], [])


def test_a_folder_of_unlike_records_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They repeat nothing: what they differ by is no noise."""
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.jsonl", OLD.cases[0].result)
    op = make.op_result(1024, 1e-3)
    make.write_run(tmp_path / "folder" / "b.jsonl", make.header(), op)
    assert main(["compare", str(tmp_path / "folder"), str(tmp_path / "folder" / "a.jsonl")]) == 2
    assert "shares no case with" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "folder" / "a.jsonl"), str(tmp_path / "folder" / "b.jsonl")]) == 2
    assert "measure the same in both" in capsys.readouterr().err


def test_an_op_that_was_timed_on_the_second_try_did_not_fail(tmp_path: Path) -> None:
    op = make.op_result(1024, 1e-3)
    failed = FailedOp(written=make.LATER, op=op.op, reason="no link")
    run = make.write_run(tmp_path / "r.jsonl", make.header(), failed, op)
    assert run.failed_ops == () and not compare([run], [run], margin=0.03).regressed


def test_strict_fails_where_a_case_cannot_be_compared(sides: tuple[str, str], tmp_path: Path) -> None:
    few = write(tmp_path / "few.jsonl", simulated(np.random.default_rng(5), rounds=4))
    assert main(["compare", sides[0], few]) == 0
    assert main(["compare", sides[0], few, "--strict"]) == 1
