"""In how many chunks `overlap` sends: the least estimated time, of the counts that divide and are long enough."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan_factory import LLAMA, case_of
from tp.case import STRATEGIES, Strategy
from tp.cost.choose import CHUNK_COUNTS, MIN_CHUNK_TOKENS, choose_chunks
from tp.cost.datasheet import DatasheetTheory
from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, TheoryName, estimate_plan, point
from tp.hardware import load_node
from tp.plan.build import build_plan
from tp.plan.ops import Collective, Op

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Rates:
    """Start-up and rates; None: no price for a collective."""

    flops_per_s: float = 1e15
    bytes_per_s: float | None = 1e12
    startup_s: float = 0.0
    send_startup_s: float = 0.0
    name: TheoryName = "calibrated"
    bounds: bool = False
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        if not isinstance(op, Collective):
            return point(self.startup_s + op.flops / self.flops_per_s)
        return None if self.bytes_per_s is None else point(self.send_startup_s + op.sent_bytes / self.bytes_per_s)


# A send takes three times as long as the product beside it: only smaller pieces help.
SLOW_LINK = Rates(flops_per_s=1e15, bytes_per_s=1e10)


def chosen(theory: Rates | DatasheetTheory, *, seq: int, tp: int = 2, strategy: Strategy = "overlap") -> int:
    return choose_chunks(case_of(LLAMA, strategy, tp, seq=seq), [theory], backend="nccl")


def total_s(theory: Rates, chunks: int, *, seq: int, tp: int) -> float:
    plan = build_plan(case_of(LLAMA, "overlap", tp, seq=seq, chunks=chunks), backend="nccl")
    seconds = estimate_plan(plan, theory).part("total").seconds
    assert seconds is not None
    return seconds


@pytest.mark.parametrize(
    ("seq", "expected"),
    # On two ranks, at least 128 tokens a chunk: 2048 = 2 * 8 * 128.
    [(2048, 8), (2032, 4), (1024, 4), (1022, 1), (512, 2), (511, 1), (256, 1), (254, 1), (2052, 2), (2056, 4)],
)
def test_on_a_slow_link_as_many_as_divide_and_are_long_enough(seq: int, expected: int) -> None:
    assert (CHUNK_COUNTS, MIN_CHUNK_TOKENS) == ((1, 2, 4, 8), 128)
    assert chosen(SLOW_LINK, seq=seq) == expected


def test_start_up_times_speak_for_fewer() -> None:
    assert chosen(SLOW_LINK, seq=4096) == 8
    assert chosen(replace(SLOW_LINK, startup_s=1.0), seq=4096) == 1
    assert chosen(replace(SLOW_LINK, send_startup_s=1.0), seq=4096) == 1


def test_the_fewest_where_all_are_as_good() -> None:
    # Nothing to hide: compute is free, or sending is.
    assert chosen(Rates(flops_per_s=float("inf")), seq=4096) == 1
    assert chosen(Rates(bytes_per_s=float("inf")), seq=4096) == 1


RATE = st.floats(1e9, 1e15)
STARTUP = st.sampled_from((0.0, 1e-6, 1e-5, 1e-4))


@given(RATE, RATE, STARTUP, STARTUP, st.sampled_from((2, 4, 8)), st.integers(1, 64))
@settings(deadline=None, max_examples=60)
def test_none_of_those_allowed_is_faster(
    flops_per_s: float, bytes_per_s: float, startup_s: float, send_startup_s: float, tp: int, hundreds: int
) -> None:
    theory = Rates(flops_per_s, bytes_per_s, startup_s, send_startup_s)
    seq = tp * 100 * hundreds
    allowed = [c for c in (1, 2, 4, 8) if c == 1 or (seq % (tp * c) == 0 and seq / (tp * c) >= 128)]
    totals = {c: total_s(theory, c, seq=seq, tp=tp) for c in allowed}
    least = min(totals.values())
    assert chosen(theory, seq=seq, tp=tp) == min(c for c in allowed if math.isclose(totals[c], least))


def test_one_where_the_best_theory_has_no_price() -> None:
    case = case_of(LLAMA, "overlap", 2, seq=4096)
    unknown = replace(SLOW_LINK, bytes_per_s=None)
    assert choose_chunks(case, [unknown], backend="nccl") == 1
    # The last theory is asked and no other.
    assert choose_chunks(case, [SLOW_LINK, unknown], backend="nccl") == 1
    assert choose_chunks(case, [unknown, SLOW_LINK], backend="nccl") == 8


def test_one_where_nothing_goes_round() -> None:
    for strategy in STRATEGIES:
        assert chosen(SLOW_LINK, seq=4096, strategy=strategy) == (8 if strategy == "overlap" else 1)
    assert chosen(SLOW_LINK, seq=4096, tp=1) == 1
    assert chosen(SLOW_LINK, seq=4095) == 1  # which cannot run at all


def test_the_data_sheet_of_an_h100_has_an_opinion() -> None:
    node = load_node("h100-sxm")
    found = {seq: chosen(DatasheetTheory(node=node, link=node.link()), seq=seq, tp=8) for seq in (256, 4096, 65536)}
    assert found[256] == 1
    assert set(found.values()) <= set(CHUNK_COUNTS)
