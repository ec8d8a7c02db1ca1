"""Compute beside communication: hand-made lists with known ends, and what holds of every plan at any prices."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan_factory import LLAMA, MEGATRON, plan_of
from tp.case import BLOCKS, PHASES, STRATEGIES, Block, Phase, Recompute, Strategy
from tp.cost.overheads import NONE, Overheads
from tp.cost.schedule import schedule
from tp.cost.theory import OpEstimate, TheoryName, estimate_plan, point
from tp.plan.ops import Collective, CollectiveKind, Elementwise, Op, Plan

pytestmark = pytest.mark.unit


def compute(needs: int | None = None) -> Elementwise:
    return Elementwise(
        part="norm", direction="forward", kind="norm", read_bytes=1, written_bytes=1, dtype="bf16", needs=needs
    )


def send(kind: CollectiveKind = "send_recv", *, overlaps: bool = True) -> Collective:
    return Collective(
        kind=kind, direction="forward", num_ranks=2, size_bytes=1, dtype="bf16", backend="nccl", overlaps=overlaps
    )


def waits(kind: CollectiveKind = "all_reduce") -> Collective:
    return send(kind, overlaps=False)


LISTS: dict[str, tuple[list[tuple[Op, float]], float, dict[str, float]]] = {
    "nothing": ([], 0.0, {}),
    "compute alone": ([(compute(), 2), (compute(), 3)], 5.0, {}),
    "one waits for the other": ([(compute(), 2), (waits(), 5), (compute(), 3)], 10.0, {"all_reduce": 5}),
    # 0-5 on the link, 0-4 on the device, which goes on at 5.
    "partly hidden": ([(send(), 5), (compute(0), 4), (compute(1), 3)], 8.0, {"send_recv": 1}),
    "hidden": ([(send(), 3), (compute(0), 4), (compute(1), 3)], 7.0, {}),
    # Nothing is said of what the second needs: all of it.
    "needed by default": ([(send(), 5), (compute(0), 1), (compute(), 3)], 8.0, {"send_recv": 4}),
    # One link: 0-3 and 3-7. Compute 0-1, stands until 3, 3-4, stands until 7, 7-8.
    "two in flight": (
        [(send(), 3), (send(), 4), (compute(0), 1), (compute(1), 1), (compute(2), 1)],
        8.0,
        {"send_recv": 5},
    ),
    # Compute 0-1, then stands until 7: 2 for the first and 4 for the second.
    "two in flight, waited for at once": (
        [(send("all_gather"), 3), (send("reduce_scatter"), 4), (compute(0), 1), (compute(2), 1)],
        8.0,
        {"all_gather": 2, "reduce_scatter": 4},
    ),
    # 0-3 and 3-7; compute 0-5 hides the first and half of the second.
    "the first of two hidden": (
        [(send("all_gather"), 3), (send("reduce_scatter"), 4), (compute(0), 5), (compute(2), 1)],
        8.0,
        {"reduce_scatter": 2},
    ),
    # A gap: 0-2, and from 5, when it is listed, 5-9.
    "a link that stood idle": (
        [(send(), 2), (compute(0), 5), (send("all_gather"), 4), (compute(1), 1), (compute(2), 1)],
        10.0,
        {"all_gather": 3},
    ),
    # The first takes the link until 5, so the second, which is waited for, takes 5-8.
    "one that is waited for behind one that is not": (
        [(send("all_gather"), 5), (compute(0), 2), (waits(), 3), (compute(), 1)],
        9.0,
        {"all_gather": 3, "all_reduce": 3},
    ),
    # Nothing waits for the last, but the pass is not over before it is here.
    "the last is under way at the end": ([(compute(), 2), (send(), 5), (compute(0), 1)], 7.0, {"send_recv": 4}),
    # Needing fewer than are here costs nothing: the third send is still under way.
    "an older one": ([(send(), 1), (compute(1), 2), (send(), 6), (compute(1), 6)], 9.0, {"send_recv": 1}),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_by_hand(name: str) -> None:
    steps, total_s, exposed_s = LISTS[name]
    found = schedule([op for op, _ in steps], [seconds for _, seconds in steps])
    assert found.total_s == total_s
    assert {kind: seconds for kind, seconds in found.exposed_s.items() if seconds} == exposed_s


def test_a_list_and_its_times_are_as_long_as_each_other() -> None:
    with pytest.raises(ValueError, match="shorter"):
        schedule([compute(), compute()], [1.0])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    strategy, phase, tp = draw(st.sampled_from(STRATEGIES)), draw(st.sampled_from(PHASES)), draw(RANKS)
    chunks = draw(st.integers(1, 4)) if strategy == "overlap" else 1
    block = draw(st.sampled_from(BLOCKS))
    kept: list[Recompute] = ["none", "full"] if block == "ffn" else ["none", "selective", "full"]
    return plan_of(
        draw(st.sampled_from((LLAMA, MEGATRON))),
        strategy,
        tp,
        block=block,
        phase=phase,
        batch=tp * chunks,
        chunks=chunks,
        recompute=draw(st.sampled_from(kept)) if phase == "train" else "none",
    )


RANKS = st.sampled_from((1, 2, 4, 8))
PRICES = st.one_of(st.just(0.0), st.floats(1e-9, 1e3))


def sums(ops: Sequence[Op], seconds: Sequence[float]) -> tuple[float, float]:
    """Of compute and of communication."""
    priced = list(zip(ops, seconds, strict=True))
    on_link = fsum(s for op, s in priced if isinstance(op, Collective))
    return fsum(s for op, s in priced if not isinstance(op, Collective)), on_link


@given(plans(), st.data())
@settings(deadline=None, max_examples=150)
def test_a_pass_lasts_between_the_longer_of_both_and_both(plan: Plan, data: st.DataObject) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    scale = data.draw(st.sampled_from((1e-3, 1.0, 1e3)))  # of the links, from far faster to far slower
    seconds = [random.random() * (scale if isinstance(op, Collective) else 1.0) for op in plan.ops]
    found = schedule(plan.ops, seconds)
    computing, sending = sums(plan.ops, seconds)
    slack = 1e-9 * (computing + sending)
    assert max(computing, sending) - slack <= found.total_s <= computing + sending + slack
    assert isclose(fsum(found.exposed_s.values()), found.total_s - computing, abs_tol=slack)
    assert all(waited >= 0 for waited in found.exposed_s.values())
    if not any(op.overlaps for op in plan.collectives):
        assert isclose(found.total_s, computing + sending)


@given(plans(), st.data())
@settings(deadline=None, max_examples=60)
def test_free_links_or_free_compute_leave_the_other(plan: Plan, data: st.DataObject) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    seconds = [random.random() for _ in plan.ops]
    on_device = [0.0 if isinstance(op, Collective) else s for op, s in zip(plan.ops, seconds, strict=True)]
    on_link = [s if isinstance(op, Collective) else 0.0 for op, s in zip(plan.ops, seconds, strict=True)]
    assert isclose(schedule(plan.ops, on_device).total_s, fsum(on_device), rel_tol=1e-9)
    assert isclose(schedule(plan.ops, on_link).total_s, fsum(on_link), rel_tol=1e-9)


@given(plans(), PRICES, PRICES)
@settings(deadline=None, max_examples=60)
def test_what_is_needed_was_listed_before(plan: Plan, one: float, other: float) -> None:
    listed = 0
    for op in plan.ops:
        if isinstance(op, Collective):
            listed += 1
        else:
            assert op.needs is None or 0 <= op.needs <= listed
    # A dearer pass never ends earlier.
    low, high = sorted((one, other))
    assert schedule(plan.ops, [low] * len(plan.ops)).total_s <= schedule(plan.ops, [high] * len(plan.ops)).total_s


@pytest.mark.parametrize("block", BLOCKS)
def test_which_passes_overlap_nothing(block: Block) -> None:
    def overlaps(strategy: Strategy, phase: Phase) -> bool:
        return any(op.overlaps for op in plan_of(LLAMA, strategy, 8, block=block, phase=phase, batch=8).collectives)

    forward = {strategy for strategy in STRATEGIES if overlaps(strategy, "prefill")}
    assert forward == {strategy for strategy in STRATEGIES if overlaps(strategy, "decode")} == {"overlap", "async-tp"}
    # In training the input's gradient is on its way beside the weight's product; DTensor sends it last.
    assert {strategy for strategy in STRATEGIES if overlaps(strategy, "train")} == set(STRATEGIES) - {"dtensor"}


@dataclass(frozen=True)
class Fixed:
    """So many seconds a compute op and a collective, give or take half of it."""

    compute_s: float
    send_s: float
    name: TheoryName = "calibrated"
    bounds: bool = False
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate:
        seconds = self.send_s if isinstance(op, Collective) else self.compute_s
        return OpEstimate(seconds=seconds, low_s=seconds / 2, high_s=seconds * 1.5)


def test_an_estimate_charges_what_compute_waits_for() -> None:
    # norm, qkv, rope, core, out, residual forward; out nn and tn, core, rope, concat, qkv nn, tn, two of the norm back.
    found = estimate_plan(plan_of(LLAMA, "allreduce", 8, phase="train"), Fixed(compute_s=2.0, send_s=5.0))
    wholes = ("compute", "communication", "serial", "total", "all_reduce")
    # Of the second all-reduce the weight gradient hides 2.
    assert [found.part(name).seconds for name in wholes] == [30.0, 10.0, 40.0, 38.0, 8.0]  # type: ignore[arg-type]
    assert [found.part(name).low_s for name in wholes] == [15.0, 5.0, 20.0, 19.0, 4.0]  # type: ignore[arg-type]
    assert [found.part(name).high_s for name in wholes] == [45.0, 15.0, 60.0, 57.0, 12.0]  # type: ignore[arg-type]
    parts = [part.seconds or 0.0 for part in found.parts if part.part not in wholes[:4]]
    assert sum(parts) == found.part("total").seconds


def test_a_fused_product_and_its_collective_take_the_longer_of_both() -> None:
    plan = plan_of(LLAMA, "async-tp", 8, block="ffn")
    # norm 2, gather beside up 5, activation 2, down beside the scatter 5, residual 2
    assert estimate_plan(plan, Fixed(compute_s=2.0, send_s=5.0)).part("total").seconds == 16.0
    assert estimate_plan(plan, Fixed(compute_s=5.0, send_s=2.0)).part("total").seconds == 25.0


def test_an_op_without_a_price_leaves_the_total_without_one_unless_it_is_bounded() -> None:
    class Silent(Fixed):
        def price(self, op: Op) -> OpEstimate | None:  # type: ignore[override]
            return None if isinstance(op, Collective) else point(1.0)

    plan = plan_of(LLAMA, "overlap", 4, chunks=2)
    found = estimate_plan(plan, Silent(1.0, 1.0))
    assert (found.part("total").seconds, found.part("serial").seconds) == (None, None)
    assert found.part("compute").seconds == len(plan.compute)
    bound = estimate_plan(plan, Silent(1.0, 1.0, bounds=True))
    assert bound.part("total").seconds == bound.part("compute").seconds == len(plan.compute)
