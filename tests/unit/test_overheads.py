"""What a pass costs beside its ops: launch terms on the right parts, contention where things overlap, and their fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.fitting.overheads import fit_overheads
from analysis.load import Case, Run
from analysis.measured.op import of_run
from bench.harness.record.names import COMMUNICATION, COMPUTE, CONTENDED_COMMUNICATION, CONTENDED_COMPUTE, FULL, PARTS
from bench.harness.record.records import CaseResult, Header, OpResult, PartTimes, Planned, Samples
from bench.harness.run.launch_probe import probe_cases
from tp.cost.overheads import LAUNCH_SPREAD, NONE, Contention, Overheads
from tp.cost.schedule import schedule
from tp.cost.theory import OpEstimate, TheoryName, estimate_plan
from tp.hardware import load_node
from tp.plan.build import build_plan
from tp.plan.ops import Collective, Gemm, Op

pytestmark = pytest.mark.unit


class Flat:
    """Every op takes a millisecond, give or take a tenth."""

    name: TheoryName = "calibrated"
    bounds = False

    def __init__(self, overheads: Overheads = NONE) -> None:
        self.overheads = overheads

    def price(self, op: Op) -> OpEstimate | None:
        return OpEstimate(seconds=1e-3, low_s=0.9e-3, high_s=1.1e-3)


PREFILL, TRAIN, DECODE = (planned.case for planned in probe_cases("fp32"))


def test_the_probe_is_a_layer_in_every_phase_on_one_rank() -> None:
    assert [case.workload.phase for case in (PREFILL, TRAIN, DECODE)] == ["prefill", "train", "decode"]
    assert all(case.tp == 1 and case.block == "block" for case in (PREFILL, TRAIN, DECODE))


def test_a_launch_term_falls_on_its_part_phase_and_direction() -> None:
    plan = build_plan(TRAIN, backend="gloo")
    plain = estimate_plan(plan, Flat())
    late = estimate_plan(
        plan,
        Flat(Overheads(launch_s={"train/forward/norm": 5e-3, "train/backward/core": 7e-3, "prefill/forward/up": 1.0})),
    )
    added = {part.part: late.part(part.part).seconds - part.seconds for part in plain.parts}  # type: ignore[operator]
    assert {name for name, seconds in added.items() if seconds} == {"norm", "core", "compute", "serial", "total"}
    assert added["norm"] == pytest.approx(5e-3)
    assert added["core"] == pytest.approx(7e-3)
    assert (added["total"], added["serial"]) == pytest.approx((12e-3, 12e-3))
    norm, before = late.part("norm"), plain.part("norm")
    assert norm.low_s == pytest.approx(before.low_s + 5e-3 * (1 - LAUNCH_SPREAD))
    assert norm.high_s == pytest.approx(before.high_s + 5e-3 * (1 + LAUNCH_SPREAD))


def test_a_part_without_an_op_in_a_direction_has_its_term_too() -> None:
    """The backward of a residual without bias is no op, and autograd's start falls into it."""
    plan = build_plan(replace(TRAIN, block="attention"), backend="gloo")
    assert ("residual", "backward") not in {(op.part, op.direction) for op in plan.ops}
    late = estimate_plan(plan, Flat(Overheads(launch_s={"train/backward/residual": 3e-3})))
    assert late.part("residual").seconds == pytest.approx(1e-3 + 1.5e-3)  # one half of a layer


PRODUCT = Gemm(part="up", direction="forward", layout="nt", m=8, n=8, k=8, dtype="fp32")
NEEDS_NOTHING = replace(PRODUCT, needs=0)
SENT = Collective(
    kind="all_reduce", direction="forward", num_ranks=2, size_bytes=64, dtype="fp32", backend="gloo", overlaps=True
)


def test_what_overlaps_slows_each_other_down() -> None:
    ops: list[Op] = [SENT, NEEDS_NOTHING, PRODUCT]
    assert schedule(ops, [4.0, 3.0, 1.0]).total_s == 5.0  # 3 beside the transfer, 1 until it is here, then 1
    # Half as slow again beside it: 3 + 1.5; the transfer takes a third of the common 3 longer, 4 + 1.
    found = schedule(ops, [4.0, 3.0, 1.0], Overheads(contention=Contention(compute=0.5, communication=1 / 3)))
    assert found.total_s == pytest.approx(5.0 + 1.0)
    assert found.exposed_s["all_reduce"] == pytest.approx(0.5)
    # What is waited for at once has nothing beside it.
    alone: list[Op] = [replace(SENT, overlaps=False), PRODUCT]
    assert schedule(alone, [4.0, 3.0], Overheads(contention=Contention(compute=0.5, communication=0.5))).total_s == 7.0


def test_waiting_costs_something_though_all_is_here() -> None:
    ops: list[Op] = [SENT, NEEDS_NOTHING, PRODUCT]
    found = schedule(ops, [1.0, 3.0, 1.0], Overheads(wait_s=0.25))
    assert (found.total_s, found.exposed_s["all_reduce"]) == (4.25, 0.25)
    assert schedule(ops, [4.0, 3.0, 1.0], Overheads(wait_s=0.25)).total_s == 5.0  # a wait that is longer anyway
    assert schedule([replace(SENT, overlaps=False), PRODUCT], [4.0, 3.0], Overheads(wait_s=0.25)).total_s == 7.0


def samples(task: str, seconds: float, parts: tuple[PartTimes, ...] = ()) -> Samples:
    return Samples(
        task=task,
        warmup_s=(),
        times_s=((seconds, seconds / 2), (seconds, seconds / 2)),
        parts=parts,
        stopped_by="rounds",
    )


def header() -> Header:
    return Header(
        created="2026-11-23T00:00:00+00:00",
        command=("bench/gemm.py",),
        world=2,
        num_nodes=1,
        backend="gloo",
        hardware=load_node("h100-sxm"),
        calibration=None,
        environment={"ranks": [{"host": "one"}, {"host": "one"}]},
        oversubscribed=None,
    )


def measured(case_samples: tuple[Samples, ...], planned: Planned) -> Case:
    result = CaseResult(
        key=planned.key, written="", status="ok", reason=None, checks=(), samples=case_samples, groups=1
    )
    return Case(header=header(), planned=planned, result=result)


def probe(phase_case: object = TRAIN) -> Planned:
    plan = build_plan(TRAIN, backend="gloo")
    return Planned(key=TRAIN.key, written="", case=TRAIN, ops=plan.ops, estimates=())


def run(*cases: Case, ops: tuple[OpResult, ...] = ()) -> Run:
    return Run(path=Path("x"), headers=(header(),), cases=cases, ops=ops, unfinished=())


def test_launch_terms_are_what_the_probe_takes_beyond_its_ops() -> None:
    times = {("forward", "norm"): 9e-3, ("backward", "residual"): 4e-3, ("forward", "up"): 0.5e-3}
    parts = tuple(
        PartTimes(part=part, direction=direction, times_s=((seconds, 0.0),) * 2)  # type: ignore[arg-type]
        for (direction, part), seconds in times.items()
    )
    fitted = fit_overheads([run(measured((samples(PARTS, 1.0, parts),), probe()))], Flat())
    assert fitted.launch_s == pytest.approx(
        {
            "train/forward/norm": 9e-3 - 2e-3,  # two norms of a millisecond
            "train/backward/residual": 4e-3 - 1e-3,
            "train/forward/up": 0.0,  # never less than nothing
        }
    )
    assert fitted.contention == Contention()


def test_contention_is_the_median_slow_down_of_layers() -> None:
    planned = probe()
    real = replace(planned, case=replace(planned.case, model=replace(planned.case.model, name="real")))
    timed = {COMPUTE: 1.0, CONTENDED_COMPUTE: 1.3, COMMUNICATION: 2.0, CONTENDED_COMMUNICATION: 5.0, FULL: 3.0}
    case = measured(tuple(samples(task, seconds) for task, seconds in timed.items()), real)
    fitted = fit_overheads([run(case)], Flat())
    assert (fitted.contention.compute, fitted.contention.communication) == pytest.approx((0.3, 1.5))
    assert fitted.contention.rows == 1
    assert not fitted.launch_s


def test_an_op_is_what_it_takes_in_a_pass() -> None:
    in_pass = samples(
        "in a pass 0",
        9.0,
        (
            PartTimes(part="out", direction="forward", times_s=((8.0, 8.0),) * 3),
            PartTimes(part="all_reduce", direction="forward", times_s=((1.0, 0.7), (3.0, 0.9), (0.8, 2.0))),
        ),
    )
    alone = OpResult(written="", op=replace(SENT, overlaps=False), estimates={}, samples=samples("all_reduce", 0.5))
    both = replace(alone, in_pass=in_pass)
    # The fastest rank waited for nobody: 0.7, 0.9, 0.8.
    assert [row.seconds for row in of_run(run(ops=(alone, both)))] == [0.5, 0.8]
    product = PartTimes(part="up", direction="forward", times_s=((1.0, 0.7), (3.0, 0.9), (0.8, 2.0)))
    slowest = replace(both, op=PRODUCT, in_pass=replace(in_pass, parts=(in_pass.parts[0], product)))
    assert [row.seconds for row in of_run(run(ops=(slowest,)))] == [2.0]
