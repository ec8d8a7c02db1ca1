"""The plan of the attention block: which ops, in which order, and their FLOPs and bytes, counted by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan_factory import (
    LLAMA,
    MEGATRON,
    NORM_BACKWARD,
    by_word,
    plan_of,
    ring_both,
    ring_gather,
    ring_scatter,
    word,
    words,
)
from tp.case import STRATEGIES, Phase, Strategy
from tp.model import ModelShape, load_model
from tp.plan.ops import (
    AttentionCore,
    Collective,
    Direction,
    Elementwise,
    Gemm,
    Op,
    sum_bytes,
    sum_flops,
)

pytestmark = pytest.mark.unit

CORE = "core/rope core/attention"
FORWARD = {
    "columns": f"norm/norm qkv/nt {CORE} all_gather out/concat out/nt all_gather out/concat residual/residual",
    "allreduce": f"norm/norm qkv/nt {CORE} out/nt all_reduce residual/residual",
    "sequence": f"norm/norm all_gather qkv/nt {CORE} out/nt reduce_scatter residual/residual",
    # One chunk a rank goes round; sums of the output go round and are added to.
    "overlap": f"norm/norm {ring_gather('qkv/nt')} {CORE} {ring_scatter('out/nt', 'out/residual')} residual/residual",
    # A product stands behind the collective that it is fused with.
    "async-tp": f"norm/norm all_gather qkv/nt {CORE} reduce_scatter out/nt residual/residual",
    # A product a weight: of queries, keys and values.
    "dtensor": f"norm/norm qkv/nt qkv/nt qkv/nt {CORE} out/nt all_reduce residual/residual",
}
OUT_RING = ring_gather("out/nn'")
CORE_BACKWARD = "core/attention' core/rope' core/concat'"
WHOLE_BACKWARD = "qkv/nn' all_reduce' qkv/tn'"
EACH_BACKWARD = "qkv/nn' qkv/tn' qkv/nn' qkv/tn' qkv/nn' qkv/tn' qkv/residual' qkv/residual'"
BACKWARD = {
    # Own columns of the output's gradient need no sending; Z's gradient is summed back to its owners, X's to all.
    "columns": f"out/nn' out/tn' out/concat' reduce_scatter' {CORE_BACKWARD} {WHOLE_BACKWARD}",
    # The all-reduce of X's gradient is on its way while the weight's is computed (Megatron).
    "allreduce": f"out/nn' out/tn' {CORE_BACKWARD} {WHOLE_BACKWARD}",
    # Two all-gathers: of the output's gradient, and of the input again for the weight gradient.
    "sequence": f"all_gather' out/nn' out/tn' {CORE_BACKWARD} all_gather' qkv/nn' reduce_scatter' qkv/tn'",
    "overlap": f"out/concat' {OUT_RING} out/tn' {CORE_BACKWARD} {ring_both('qkv')}",
    "async-tp": f"all_gather' out/nn' out/tn' {CORE_BACKWARD} all_gather' qkv/tn' reduce_scatter' qkv/nn'",
    # Each weight gives an input gradient of its own, and each of the three a gradient of its own: no concatenation.
    "dtensor": f"out/nn' out/tn' core/attention' core/rope' {EACH_BACKWARD} all_reduce'",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ops_of_each_phase(strategy: Strategy) -> None:
    assert words(plan_of(LLAMA, strategy, 8)) == FORWARD[strategy]
    assert words(plan_of(LLAMA, strategy, 8, phase="train")) == (
        f"{FORWARD[strategy]} {BACKWARD[strategy]} {NORM_BACKWARD}"
    )
    decode = plan_of(LLAMA, strategy, 8, phase="decode", batch=8, seq=1, context=4096)
    # The newest key and value are written into the cache before they are attended to.
    assert words(decode) == FORWARD[strategy].replace("core/attention", "core/concat core/attention")


def overlapping(strategy: Strategy) -> list[tuple[str, int | None]]:
    """The collectives of a training pass that compute goes on beside, and what the op behind each needs."""
    ops = plan_of(LLAMA, strategy, 8, phase="train").ops
    pairs = zip(ops, ops[1:], strict=False)
    return [
        (word(op), getattr(then, "needs", None)) for op, then in pairs if isinstance(op, Collective) and op.overlaps
    ]


def test_what_overlaps_and_what_is_waited_for() -> None:
    # The products beside them need those before: 1 of the forward; for `columns` 2 and Z's gradient.
    assert overlapping("allreduce") == [("all_reduce'", 1)]
    assert overlapping("columns") == [("all_reduce'", 3)]
    # The weight gradient needs the input (the 4th) but not the sum that is under way.
    assert overlapping("sequence") == [("all_gather'", 3), ("reduce_scatter'", 4)]
    # The input for the weight gradient (the 4th) is not fused with anything.
    assert overlapping("async-tp") == [
        ("all_gather", 0),
        ("reduce_scatter", 1),
        ("all_gather'", 2),
        ("reduce_scatter'", 4),
    ]
    assert overlapping("dtensor") == []
    # Everything that goes round: 7 sends of each of QKV's input, the output's sums, and 3 times that in the backward.
    assert len(overlapping("overlap")) == 5 * 7


def test_biases_and_learned_positions_change_the_list() -> None:
    forward, backward = "norm/norm qkv/nt core/attention out/nt", "core/attention' core/concat'"
    train = plan_of(MEGATRON, "allreduce", 8, phase="train", seq=2048)
    assert words(train) == (
        f"{forward} all_reduce residual/residual residual/residual "
        f"residual/bias_grad' out/nn' out/tn' {backward} qkv/bias_grad' qkv/nn' all_reduce' qkv/tn' {NORM_BACKWARD}"
    )
    columns = words(plan_of(MEGATRON, "columns", 8, phase="train", seq=2048))
    # The output bias is split with its columns and added by the product itself.
    assert columns.count("residual/residual") == 1
    assert "out/tn' out/bias_grad' out/concat' reduce_scatter'" in columns


def test_llama_70b_on_8_ranks_by_hand() -> None:
    plan = plan_of(LLAMA, "allreduce", 8)
    # Per rank 8 heads and 1 kv head of 128: QKV has (8 + 2) * 128 = 1280 columns, Z has 1024. m = 4096, S = m*h*2.
    s_bytes = 67_108_864
    expected = {
        "norm/norm": (0.0, 2 * s_bytes),
        # 2 * 4096 * 8192 * 1280; 2 * (4096*8192 + 8192*1280 + 4096*1280)
        "qkv/nt": (85_899_345_920.0, 98_566_144),
        # queries and keys, 8 + 1 heads of 128, read and written: 4096 * 1152 * 2 * 2
        "core/rope": (0.0, 18_874_368),
        # 4 * 4096**2 * 1024 / 2; Q and Z of 4096*1024, K and V of 4096*128, two bytes each
        "core/attention": (34_359_738_368.0, 18_874_368),
        # 2 * 4096 * 1024 * 8192; 2 * (4096*1024 + 1024*8192 + 4096*8192)
        "out/nt": (68_719_476_736.0, 92_274_688),
        "residual/residual": (0.0, 3 * s_bytes),
    }
    assert {word(op): (op.flops, op.moved_bytes) for op in plan.compute} == expected
    (all_reduce,) = plan.collectives
    assert all_reduce.size_bytes == s_bytes
    assert all_reduce.sent_bytes == 117_440_512  # 2 * 7/8 * S
    assert plan.flops == sum(flops for flops, _ in expected.values()) == 188_978_561_024
    assert sum_bytes(plan.ops) == sum(size for _, size in expected.values()) + 117_440_512


def test_the_articles_384_flop_a_byte() -> None:
    # 2 * 3 * (8192 / 64) / 2: three projections of one head, against an input of 8192 elements of two bytes.
    (qkv,) = by_word(plan_of(LLAMA, "columns", 64), "qkv/nt")
    assert qkv.flops / (4096 * 8192 * 2) == 2 * 3 * (8192 / 64) / 2 == 384


def test_decode_reads_the_cache() -> None:
    plan = plan_of(LLAMA, "allreduce", 8, phase="decode", batch=8, seq=1, context=4096)
    (core,) = by_word(plan, "core/attention")
    assert isinstance(core, AttentionCore)
    assert not core.causal
    # 2*b*c*kv_n*d*e = 2 * 8 * 4096 * 1 * 128 * 2, and 8 tokens' Q and Z of 1024: 2 * 8 * 1024 * 2
    assert core.moved_bytes == 16_777_216 + 32_768
    assert core.flops == 4 * 8 * 4096 * 1024  # not halved: the one query sees the whole context
    (written,) = by_word(plan, "core/concat")
    assert written.moved_bytes == 2 * (8 * 2 * 128 * 2)  # 8 tokens' K and V, read and written
    assert plan.collectives[0].size_bytes == 8 * 8192 * 2


@pytest.mark.parametrize(
    ("tp", "qkv_width"),
    # (64/n + 2 * max(1, 8/n)) * 128: from 16 ranks on every kv head is held twice or more, and its product repeated.
    [(1, 10240), (2, 5120), (4, 2560), (8, 1280), (16, 768), (32, 512), (64, 384)],
)
def test_few_kv_heads_are_replicated(tp: int, qkv_width: int) -> None:
    (qkv,) = by_word(plan_of(LLAMA, "sequence", tp), "qkv/nt")
    assert isinstance(qkv, Gemm)
    assert (qkv.m, qkv.n, qkv.k) == (4096, qkv_width, 8192)
    (core,) = by_word(plan_of(LLAMA, "sequence", tp), "core/attention")
    assert isinstance(core, AttentionCore)
    assert core.num_kv_heads == max(1, 8 // tp)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_backward_costs_twice_the_products_and_two_and_a_half_cores(strategy: Strategy) -> None:
    plan = plan_of(LLAMA, strategy, 8, phase="train")

    def flops(kind: type[Op], part: str, direction: Direction) -> float:
        ops = [op for op in plan.compute if isinstance(op, kind) and op.part == part and op.direction == direction]
        return sum_flops(ops)

    for part in ("qkv", "out"):
        assert flops(Gemm, part, "backward") == 2 * flops(Gemm, part, "forward") > 0
    assert flops(AttentionCore, "core", "backward") == 2.5 * flops(AttentionCore, "core", "forward") > 0
    # 3 * (85.9 + 68.7) + 3.5 * 34.4 GFLOP
    assert plan.flops == 3 * (85_899_345_920 + 68_719_476_736) + 3.5 * 34_359_738_368


@pytest.mark.parametrize(
    ("strategy", "phase", "sent"),
    # In units of S * 7/8; here a*d = h, so Z is as large as the output.
    [
        ("columns", "prefill", 2),  # all-gather Z, all-gather the output
        ("allreduce", "prefill", 2),
        ("sequence", "prefill", 2),
        ("overlap", "prefill", 2),  # 7 chunks of S/8 each way
        ("async-tp", "prefill", 2),
        ("dtensor", "prefill", 2),
        ("columns", "train", 5),  # and back: reduce-scatter Z', all-reduce X'
        ("allreduce", "train", 4),
        ("sequence", "train", 5),  # and back: all-gather, all-gather again, reduce-scatter
        ("overlap", "train", 5),
        ("async-tp", "train", 5),
        ("dtensor", "train", 4),
    ],
)
def test_what_each_strategy_sends(strategy: Strategy, phase: Phase, sent: int) -> None:
    assert plan_of(LLAMA, strategy, 8, phase=phase).sent_bytes == sent * 67_108_864 * 7 / 8


def test_columns_gathers_z_by_its_own_width() -> None:
    model = load_model("qwen2.5-72b")
    wide = replace(model, head_dim=192)
    gathered = [op.size_bytes for op in plan_of(wide, "columns", 8, dtype="fp32").collectives]
    assert gathered == [4096 * 64 * 192 * 4, 4096 * 8192 * 4]  # b*s*a*d*e, then b*s*h*e


def test_sequence_splits_the_tokens_of_norm_and_residual_only() -> None:
    whole, split = plan_of(LLAMA, "allreduce", 8), plan_of(LLAMA, "sequence", 8)
    for name in ("norm/norm", "residual/residual"):
        assert 8 * by_word(split, name)[0].moved_bytes == by_word(whole, name)[0].moved_bytes
    for name in ("qkv/nt", "core/attention", "out/nt", "core/rope"):
        assert by_word(split, name) == by_word(whole, name)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelShape, int, dict[str, int]]:
    """A model whose kv heads divide among the ranks, a degree, and a batch and length that divide too."""
    tp = draw(st.sampled_from((1, 2, 3, 4, 8)))
    kv_heads = tp * draw(st.integers(1, 3))
    model = ModelShape(
        name="drawn",
        hidden=tp * draw(st.integers(1, 300)),
        num_heads=kv_heads * draw(st.integers(1, 8)),
        num_kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 128)),
        ffn_width=64,
        gated=True,
        num_layers=1,
        vocab_size=1,
        tied_embeddings=False,
        norm="rms",
        position=draw(st.sampled_from(("rope", "learned"))),
        max_positions=1,
        bias="none",
        source="drawn",
    )
    return model, tp, {"batch": draw(st.integers(1, 4)), "seq": tp * draw(st.integers(1, 99))}


@given(cases(), st.sampled_from(STRATEGIES), st.sampled_from(("prefill", "train")))
@settings(deadline=None)
def test_the_shards_products_make_up_the_unsharded(
    drawn: tuple[ModelShape, int, dict[str, int]], strategy: Strategy, phase: Phase
) -> None:
    model, tp, sizes = drawn
    shard = plan_of(model, strategy, tp, phase=phase, **sizes)
    whole = plan_of(model, "allreduce", 1, phase=phase, **sizes)
    for part in ("qkv", "core", "out"):
        of_shard = sum_flops(op for op in shard.ops if op.part == part)
        assert tp * of_shard == sum_flops(op for op in whole.ops if op.part == part) > 0


@given(cases(), st.sampled_from(("prefill", "train", "decode")))
@settings(deadline=None)
def test_one_rank_sends_nothing_whatever_the_strategy(
    drawn: tuple[ModelShape, int, dict[str, int]], phase: Phase
) -> None:
    model, _, sizes = drawn
    lengths = {"batch": sizes["batch"], "seq": 1, "context": sizes["seq"]} if phase == "decode" else sizes
    plans = [plan_of(model, strategy, 1, phase=phase, **lengths) for strategy in STRATEGIES]
    assert all(not plan.collectives and plan.sent_bytes == 0 for plan in plans)
    one_by_one = plans[STRATEGIES.index("dtensor")]
    assert all(plan.ops == plans[0].ops for plan in plans if plan is not one_by_one)
    # DTensor multiplies by the weights one by one there too, with as many FLOPs.
    assert len(gemms(one_by_one.ops)) > len(gemms(plans[0].ops))
    assert sum_flops(one_by_one.ops) == plans[0].flops


def gemms(ops: Sequence[Op]) -> list[Gemm]:
    return [op for op in ops if isinstance(op, Gemm)]


@pytest.mark.parametrize("strategy", ["allreduce", "sequence", "columns"])
def test_fp8_quantises_what_each_product_is_given(strategy: Strategy) -> None:
    plan, plain = plan_of(LLAMA, strategy, 8, dtype="fp8"), plan_of(LLAMA, strategy, 8)
    assert words(plan) == FORWARD[strategy].replace("qkv/nt", "qkv/quantize qkv/nt").replace(
        "out/nt", "out/quantize out/nt"
    )
    qkv, quantize = by_word(plan, "qkv/nt")[0], by_word(plan, "qkv/quantize")[0]
    # One byte an operand, two a result: 4096*8192 + 8192*1280 + 2 * 4096*1280
    assert qkv.moved_bytes == 33_554_432 + 10_485_760 + 10_485_760  # type: ignore[union-attr]
    assert isinstance(quantize, Elementwise)
    # Read in bf16 for the largest magnitude and again to scale, written in one byte.
    assert (quantize.read_bytes, quantize.written_bytes) == (4 * 4096 * 8192, 4096 * 8192)
    # Everything else, sends too, is as in bf16.
    rest = [op for op in plan.ops if not isinstance(op, Gemm) and word(op) not in ("qkv/quantize", "out/quantize")]
    assert rest == [op for op in plain.ops if not isinstance(op, Gemm)]


def test_parts_come_in_canonical_order_and_cover_the_ops() -> None:
    plan = plan_of(LLAMA, "sequence", 4, phase="train")
    assert plan.parts == ("norm", "qkv", "core", "out", "residual", "all_gather", "reduce_scatter")
    assert len(plan.ops) == len(plan.compute) + len(plan.collectives)
