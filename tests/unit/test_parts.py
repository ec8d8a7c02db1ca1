"""From samples to rows: whose time a row holds, what it is held against, and the columns that stay."""

from dataclasses import replace

import pytest

from bench.harness.machine.judge import MarkKind
from bench.harness.record.parts import COLUMNS, PartRow, marked_rounds, part_rows
from bench.harness.record.records import BlockMark, CaseResult, Header, PartTimes, Planned, Samples, Times
from tp.case import Case, Workload
from tp.cost.theory import Estimate, PartEstimate, TheoryName, Whole
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.ops import Collective, CollectiveKind, Direction, Gemm, Op, Part

pytestmark = pytest.mark.unit

HEADER = Header(
    created="2026-11-22T00:00:00+00:00",
    command=("bench/attention.py",),
    world=2,
    num_nodes=1,
    backend="gloo",
    hardware=load_node("h100-sxm"),
    calibration=None,
    environment={},
    oversubscribed=None,
)
CASE = Case(
    block="attention",
    model=load_model("llama2-7b"),
    strategy="sequence",
    tp=2,
    workload=Workload(phase="train", batch=3, seq=64, context=64, dtype="fp32"),
)


def gemm(direction: Direction) -> Gemm:
    # 2 * 4 * 8 * 16 = 1024 FLOP; 4 * (4*16 + 16*8 + 4*8) = 896 bytes
    return Gemm(part="qkv", direction=direction, layout="nt", m=4, n=8, k=16, dtype="fp32")


def collective(kind: CollectiveKind, direction: Direction) -> Collective:
    return Collective(kind=kind, direction=direction, num_ranks=2, size_bytes=1000, dtype="fp32", backend="gloo")


OPS: tuple[Op, ...] = (
    collective("all_gather", "forward"),  # half of 1000 bytes leave each rank
    gemm("forward"),
    collective("reduce_scatter", "forward"),  # all 1000 on gloo, as of an all-reduce
    gemm("backward"),
    collective("all_gather", "backward"),
)


def estimate(theory: TheoryName, **parts: float) -> Estimate:
    names: dict[str, Part | Whole] = {"qkv": "qkv", "all_gather": "all_gather", "compute": "compute", "total": "total"}
    return Estimate(
        theory=theory,
        parts=tuple(
            PartEstimate(part=names[name], seconds=s, low_s=0.9 * s, high_s=1.1 * s, extrapolated=name == "qkv")
            for name, s in parts.items()
        ),
    )


def planned(*estimates: Estimate, ops: tuple[Op, ...] = OPS) -> Planned:
    return Planned(key=CASE.key, written="2026-11-22T00:00:00+00:00", case=CASE, ops=ops, estimates=estimates)


def samples(task: str, times_s: Times, parts: dict[tuple[Part, Direction], Times] | None = None) -> Samples:
    return Samples(
        task=task,
        warmup_s=((1e9, 1e9),),  # would be seen in any figure
        times_s=times_s,
        parts=tuple(PartTimes(part=p, direction=d, times_s=t) for (p, d), t in (parts or {}).items()),
        stopped_by="target",
    )


def result(*taken: Samples) -> CaseResult:
    return CaseResult(
        key=CASE.key,
        written="2026-11-22T00:00:01+00:00",
        status="ok",
        reason=None,
        groups=1,
        checks=(),
        samples=taken,
    )


def rows(*taken: Samples, plan: Planned | None = None, header: Header = HEADER) -> dict[str, PartRow]:
    found = part_rows(header, plan or planned(), result(*taken))
    assert len({row.part for row in found}) == len(found)
    return {row.part: row for row in found}


def test_the_columns_are_those_of_the_design() -> None:
    assert ", ".join(COLUMNS) == (
        "case, model, phase, strategy, tp, world, nodes, batch, seq, context, dtype, part, measured_s, low_s, high_s, "
        "samples, estimate_s, estimate_low_s, estimate_high_s, theory, extrapolated, bytes, flops, status, comparable"
    )


def test_a_row_says_which_case_it_is_of() -> None:
    row = rows()["qkv"]
    assert (row.case, row.model, row.phase, row.strategy) == (CASE.key, "llama2-7b", "train", "sequence")
    assert (row.tp, row.world, row.nodes) == (2, 2, 1)
    assert (row.batch, row.seq, row.context, row.dtype) == (3, 64, 64, "fp32")
    assert (row.status, row.comparable) == ("ok", True)


def test_parts_then_wholes() -> None:
    assert list(rows()) == ["all_gather", "qkv", "reduce_scatter", "compute", "communication", "serial", "total"]
    # Without a collective there is no communication to report as zero.
    assert list(rows(plan=planned(ops=(gemm("forward"),)))) == ["qkv", "compute", "serial", "total"]


def test_bytes_and_flops_by_hand() -> None:
    found = {part: (row.bytes, row.flops) for part, row in rows().items()}
    assert found == {
        "all_gather": (1000.0, 0.0),
        "qkv": (1792.0, 2048.0),
        "reduce_scatter": (1000.0, 0.0),
        "compute": (1792.0, 2048.0),
        "communication": (2000.0, 0.0),
        "serial": (3792.0, 2048.0),
        "total": (3792.0, 2048.0),
    }


def test_a_whole_is_the_slowest_rank_of_each_iteration() -> None:
    # Maxima 5, 6, 9: the median is 6, where the ranks' own medians are 4 and 6.
    found = rows(samples("full", ((5.0, 1.0), (4.0, 6.0), (2.0, 9.0))), samples("compute", ((1.0, 2.0),)))
    assert (found["total"].measured_s, found["total"].low_s, found["total"].high_s) == (6.0, 5.0, 9.0)
    assert found["total"].samples == 3
    assert (found["compute"].measured_s, found["compute"].samples) == (2.0, 1)
    assert (found["serial"].measured_s, found["serial"].samples) == (None, 0)


def parts_of(parts: dict[tuple[Part, Direction], Times]) -> dict[str, PartRow]:
    return rows(samples("parts", ((1e6, 1e6),), parts))


def test_a_compute_part_is_the_slowest_rank_with_its_directions_added() -> None:
    found = parts_of({("qkv", "forward"): ((1.0, 2.0),), ("qkv", "backward"): ((10.0, 5.0),)})
    # Rank 0 takes 11, rank 1 takes 7; nobody takes 2 + 10.
    assert found["qkv"].measured_s == 11.0


def test_a_collective_is_the_fastest_rank_as_the_others_waited() -> None:
    found = parts_of({("all_gather", "forward"): ((3.0, 1.0),), ("all_gather", "backward"): ((9.0, 4.0),)})
    assert found["all_gather"].measured_s == 1.0 + 4.0


def test_the_fastest_and_the_slowest_are_chosen_iteration_by_iteration() -> None:
    found = parts_of(
        {
            ("all_gather", "forward"): ((3.0, 1.0), (1.0, 3.0), (2.0, 8.0)),
            ("qkv", "forward"): ((3.0, 1.0), (1.0, 3.0), (2.0, 8.0)),
        }
    )
    assert found["all_gather"].measured_s == 1.0  # of 1, 1, 2
    assert found["qkv"].measured_s == 3.0  # of 3, 3, 8
    assert (found["qkv"].low_s, found["qkv"].high_s) == (3.0, 8.0)


def test_of_groups_side_by_side_the_slowest_groups_transfer_counts() -> None:
    """Four ranks in groups of two: nobody in the slow group waited for anybody in the fast one."""
    parts: dict[tuple[Part, Direction], Times] = {
        ("all_gather", "forward"): ((5.0, 4.0, 9.0, 8.0),),
        ("qkv", "forward"): ((1.0, 1.0, 2.0, 3.0),),
    }
    two_groups = replace(result(samples("parts", ((1e6,) * 4,), parts)), groups=2)
    found = {row.part: row.measured_s for row in part_rows(replace(HEADER, world=4), planned(), two_groups)}
    assert found["qkv"] == 3.0
    assert found["all_gather"] == 8.0


def test_an_estimate_stands_beside_its_part() -> None:
    found = rows(samples("full", ((4.0, 5.0),)), plan=planned(estimate("datasheet", qkv=2.0, compute=3.0, total=4.0)))
    qkv = found["qkv"]
    assert (qkv.estimate_s, qkv.estimate_low_s, qkv.estimate_high_s) == pytest.approx((2.0, 1.8, 2.2))
    assert (qkv.theory, qkv.extrapolated, found["total"].extrapolated) == ("datasheet", True, False)
    assert found["compute"].estimate_s == 3.0
    assert found["total"].estimate_s == found["serial"].estimate_s == 4.0
    assert found["total"].predicted_over_measured == pytest.approx(4 / 5)
    assert found["serial"].predicted_over_measured is None  # not measured
    assert (found["all_gather"].estimate_s, found["all_gather"].extrapolated) == (None, False)


def test_the_best_theory_that_was_written_down() -> None:
    article, sheet = estimate("article", qkv=1.0), estimate("datasheet", qkv=2.0)
    mine = estimate("calibrated", qkv=3.0)

    def choose(*given: Estimate, theory: TheoryName | None = None) -> tuple[str, float | None]:
        row = next(row for row in part_rows(HEADER, planned(*given), result(), theory=theory) if row.part == "qkv")
        return row.theory, row.estimate_s

    assert choose(article, sheet, mine) == ("calibrated", 3.0)
    assert choose(article, sheet) == ("datasheet", 2.0)
    assert choose(article, sheet, mine, theory="article") == ("article", 1.0)
    assert choose(article, theory="calibrated") == ("", None)
    assert choose() == ("", None)


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_case_that_did_not_pass_has_no_speed(status: str) -> None:
    without = replace(result(), status=status, reason="wrong")  # type: ignore[arg-type]
    for row in part_rows(HEADER, planned(estimate("datasheet", qkv=2.0)), without):
        assert (row.status, row.measured_s, row.low_s, row.high_s, row.samples) == (status, None, None, None, 0)
        assert row.predicted_over_measured is None


def test_a_case_that_was_held_back_for_more_than_half_of_its_rounds_is_not_comparable() -> None:
    timed = result(samples("full", ((4.0, 5.0),) * 4), samples("compute", ((1.0, 1.0),) * 2))

    def marked(*rounds: tuple[int, int, MarkKind]) -> CaseResult:
        marks = [BlockMark(first_round=f, num_rounds=n, rank=f % 2, kind=k, text="") for f, n, k in rounds]
        return replace(timed, marks=tuple(marks))

    def comparable(case: CaseResult) -> set[bool]:
        return {row.comparable for row in part_rows(HEADER, planned(), case)}

    # Two ranks that mark the same round count once, and what was not timed does not count.
    half = marked((0, 2, "quota"), (1, 1, "errors"), (4, 10**12, "thermal"))
    assert marked_rounds(half) == {"quota": {0, 1}, "errors": {1}}
    assert comparable(half) == {True}
    assert comparable(marked((0, 2, "quota"), (2, 1, "thermal"))) == {False}
    # A low clock by itself is throttling; at the power limit it is what the limit does.
    assert comparable(marked((0, 3, "clock"))) == {False}
    assert comparable(marked((0, 4, "power"), (0, 4, "clock"))) == {True}
    assert comparable(marked((0, 4, "steal"), (0, 4, "others"))) == {True}


def test_oversubscribed_ranks_are_not_comparable() -> None:
    found = rows(samples("full", ((4.0, 5.0),)), header=replace(HEADER, oversubscribed="2 ranks share 1 cores"))
    assert not any(row.comparable for row in found.values())
    assert found["total"].measured_s == 5.0
