"""Chunks that go round the ring: how many, how large, and what of them has to be here before each product."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan_factory import LLAMA, MEGATRON, by_word, plan_of, word, words
from tp.case import BLOCKS, Block, Phase
from tp.cost.schedule import schedule
from tp.plan.ops import Collective, Elementwise, Gemm, Plan, sum_bytes

pytestmark = pytest.mark.unit

RANKS, CHUNKS, PER_CHUNK = st.sampled_from((2, 4, 8)), st.integers(1, 5), st.integers(1, 9)


def overlap(tp: int, chunks: int, per_chunk: int = 3, *, block: Block = "attention", phase: Phase = "prefill") -> Plan:
    """So many tokens a chunk, each a sequence of one in decode."""
    tokens = tp * chunks * per_chunk
    sizes = {"batch": tokens, "seq": 64} if phase == "decode" else {"seq": tokens}
    return plan_of(LLAMA, "overlap", tp, block=block, phase=phase, chunks=chunks, **sizes)


def test_two_ranks_and_two_chunks_by_hand() -> None:
    plan = overlap(2, 2, 3)
    # Own chunks 1 and 2 leave, then are multiplied; 3 and 4 once the neighbour's are here.
    gather = "send_recv send_recv qkv/nt qkv/nt qkv/nt qkv/nt"
    # The sums of the neighbour's chunks leave first; those of the own, 3 and 4, are added to what comes.
    scatter = "out/nt send_recv out/nt send_recv out/nt out/nt out/residual out/residual"
    assert words(plan) == f"norm/norm {gather} core/rope core/attention {scatter} residual/residual"
    needs = [op.needs for op in plan.compute]
    assert needs == [None, 0, 0, 1, 2, None, None, 2, 2, 2, 3, 3, 4, None]
    # 3 tokens of [h] in bf16; the same of the output's sums.
    assert [op.size_bytes for op in plan.collectives] == [3 * 8192 * 2] * 4
    assert {(op.m, op.n, op.k) for op in by_word(plan, "qkv/nt") if isinstance(op, Gemm)} == {(3, 5120, 8192)}
    assert {(op.m, op.n, op.k) for op in by_word(plan, "out/nt") if isinstance(op, Gemm)} == {(3, 8192, 4096)}


def test_the_backward_of_two_ranks_by_hand() -> None:
    ops = plan_of(LLAMA, "overlap", 2, block="ffn", phase="train", seq=4).ops
    ring = [op for op in ops if op.direction == "backward"]
    found = [(word(op), getattr(op, "needs", None)) for op in ring]
    # Of the forward two sends: one round of up's input, one of down's sums.
    assert found == [
        ("down/concat'", None),  # this rank's share of what is kept for the weight gradient
        ("send_recv'", None),  # the 3rd
        ("down/nn'", 2),
        ("down/nn'", 3),
        ("down/tn'", None),
        ("activation/swiglu_backward'", None),
        ("up/concat'", None),
        ("send_recv'", None),  # the 4th: the input again
        ("up/nn'", 3),
        ("send_recv'", None),  # the 5th: the neighbour's share of the gradient
        ("up/nn'", 3),  # of its own tokens, and so waits for nothing
        ("up/tn'", 4),  # hides the last send
        ("up/residual'", 5),
        ("norm/norm_backward'", None),
        ("norm/residual'", None),
    ]


@given(RANKS, CHUNKS, PER_CHUNK)
@settings(deadline=None, max_examples=40)
def test_counts_and_bytes_of_the_forward(tp: int, chunks: int, per_chunk: int) -> None:
    plan = overlap(tp, chunks, per_chunk)
    tokens = tp * chunks * per_chunk
    s_bytes = tokens * 8192 * 2
    sends = plan.collectives
    assert {(op.kind, op.overlaps, op.num_ranks) for op in sends} == {("send_recv", True, tp)}
    assert [op.size_bytes for op in sends] == [tokens // (tp * chunks) * 8192 * 2] * (2 * (tp - 1) * chunks)
    # (n-1)/n * S each way, as a ring's all-gather and reduce-scatter send.
    assert plan.sent_bytes * tp == 2 * (tp - 1) * s_bytes
    assert len(by_word(plan, "qkv/nt")) == len(by_word(plan, "out/nt")) == tp * chunks
    # Each sum that comes is added to once.
    adds = by_word(plan, "out/residual")
    assert len(adds) == (tp - 1) * chunks
    assert sum_bytes(adds) == 3 * (tp - 1) * s_bytes // tp


@given(RANKS, CHUNKS, PER_CHUNK, st.sampled_from(BLOCKS))
@settings(deadline=None, max_examples=40)
def test_a_training_pass_sends_as_much_as_under_sequence(tp: int, chunks: int, per_chunk: int, block: Block) -> None:
    plan = overlap(tp, chunks, per_chunk, block=block, phase="train")
    tokens = plan.case.workload.tokens
    halves = 2 if block == "block" else 1
    assert len(plan.collectives) == 5 * halves * (tp - 1) * chunks
    assert plan.sent_bytes == plan_of(LLAMA, "sequence", tp, block=block, phase="train", seq=tokens).sent_bytes
    # A rank's own tokens are laid beside those that come, once for each weight gradient on either side.
    copies = [op for op in plan.compute if isinstance(op, Elementwise) and word(op) in COPIES]
    assert [op.moved_bytes for op in copies] == [2 * tokens // tp * 8192 * 2] * (2 * halves)


COPIES = ("out/concat'", "qkv/concat'", "down/concat'", "up/concat'")


@given(RANKS, CHUNKS, st.sampled_from(BLOCKS), st.sampled_from(("prefill", "train", "decode")))
@settings(deadline=None, max_examples=60)
def test_a_product_needs_what_has_been_sent_and_never_less_than_the_one_before(
    tp: int, chunks: int, block: Block, phase: Phase
) -> None:
    listed = 0
    rings: dict[str, list[int]] = {}
    for op in overlap(tp, chunks, block=block, phase=phase).ops:
        if isinstance(op, Collective):
            listed += 1
        elif op.needs is not None:
            assert 0 <= op.needs <= listed
            rings.setdefault(word(op), []).append(op.needs)
    assert rings
    for name, needs in rings.items():
        assert all(one <= other for one, other in pairwise(needs)), name


@given(RANKS, CHUNKS)
@settings(deadline=None, max_examples=20)
def test_a_chunk_is_multiplied_once_it_is_here_and_a_sum_goes_on_once_it_is_complete(tp: int, chunks: int) -> None:
    """Each position of the ring has the data of so many chunks before it: what the products need is just that."""
    plan = overlap(tp, chunks)
    gathers = [op.needs for op in plan.compute if word(op) == "qkv/nt"]
    # The own chunks need nothing, chunk i of those that come the i-th send.
    assert gathers == [0] * chunks + list(range(1, (tp - 1) * chunks + 1))
    forward = (tp - 1) * chunks
    adds = [op.needs for op in plan.compute if word(op) == "out/residual"]
    assert adds == [forward + i for i in range(1, forward + 1)]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("phase", ["prefill", "train", "decode"])
@pytest.mark.parametrize("chunks", [1, 3])
def test_with_free_links_only_compute_counts_and_with_free_compute_only_links(
    block: Block, phase: Phase, chunks: int
) -> None:
    ops = overlap(4, chunks, block=block, phase=phase).ops
    wires = [3.0 if isinstance(op, Collective) else 0.0 for op in ops]
    computes = [0.0 if isinstance(op, Collective) else 2.0 for op in ops]
    assert schedule(ops, computes).total_s == sum(computes)
    assert not any(schedule(ops, computes).exposed_s.values())
    assert schedule(ops, wires).total_s == sum(wires) > 0
    assert schedule(ops, wires).exposed_s == {"send_recv": sum(wires)}


def test_one_rank_has_no_ring() -> None:
    plan = plan_of(MEGATRON, "overlap", 1, block="block", phase="train", seq=64)
    assert not plan.collectives
    assert plan.ops == plan_of(MEGATRON, "allreduce", 1, block="block", phase="train", seq=64).ops
