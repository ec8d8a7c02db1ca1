"""The plan of the attention block: which ops, in which order, and their FLOPs and bytes, counted by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp.case import STRATEGIES, Case, Phase, Strategy, Workload
from tp.model import ModelShape, load_model
from tp.plan.build import build_plan
from tp.plan.ops import (
    AttentionCore,
    Backend,
    Collective,
    CollectiveKind,
    Direction,
    Elementwise,
    Gemm,
    Op,
    Plan,
    bus_factor,
    sum_bytes,
    sum_flops,
)
from tp.units import Dtype

pytestmark = pytest.mark.unit


def plan_of(
    model: ModelShape,
    strategy: Strategy,
    tp: int,
    *,
    phase: Phase = "prefill",
    batch: int = 1,
    seq: int = 4096,
    context: int | None = None,
    dtype: Dtype = "bf16",
    backend: Backend = "nccl",
) -> Plan:
    workload = Workload(phase=phase, batch=batch, seq=seq, context=context or seq, dtype=dtype)
    return build_plan(
        Case(block="attention", model=model, strategy=strategy, tp=tp, workload=workload), backend=backend
    )


LLAMA = load_model("llama2-70b")  # h 8192, a 64, a_kv 8, d 128, rope, no bias
MEGATRON = load_model("megatron-22b")  # h 6144, a 64, a_kv 64, d 96, learned positions, a bias everywhere


def word(op: Op) -> str:
    """An op as part/kind, with a stroke in the backward."""
    match op:
        case Gemm():
            text = f"{op.part}/{op.layout}"
        case AttentionCore():
            text = f"{op.part}/attention"
        case Elementwise():
            text = f"{op.part}/{op.kind}"
        case Collective():
            text = op.kind
    return text + ("'" if op.direction == "backward" else "")


def words(plan: Plan) -> str:
    return " ".join(word(op) for op in plan.ops)


FORWARD = {
    "columns": "norm/norm qkv/nt core/rope core/attention all_gather out/concat out/nt all_gather out/concat "
    "residual/residual",
    "allreduce": "norm/norm qkv/nt core/rope core/attention out/nt all_reduce residual/residual",
    "sequence": "norm/norm all_gather qkv/nt core/rope core/attention out/nt reduce_scatter residual/residual",
}
CORE_BACKWARD = "core/attention' core/rope' core/concat' qkv/nn'"
NORM_BACKWARD = "norm/norm_backward' norm/residual'"
BACKWARD = {
    # Own columns of the output's gradient need no sending; Z's gradient is summed back to its owners, X's to all.
    "columns": f"out/nn' out/tn' out/concat' reduce_scatter' {CORE_BACKWARD} qkv/tn' all_reduce' {NORM_BACKWARD}",
    "allreduce": f"out/nn' out/tn' {CORE_BACKWARD} qkv/tn' all_reduce' {NORM_BACKWARD}",
    # Two all-gathers: of the output's gradient, and of the input again for the weight gradient.
    "sequence": f"all_gather' out/nn' out/tn' {CORE_BACKWARD} all_gather' qkv/tn' reduce_scatter' {NORM_BACKWARD}",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ops_of_each_phase(strategy: Strategy) -> None:
    assert words(plan_of(LLAMA, strategy, 8)) == FORWARD[strategy]
    assert words(plan_of(LLAMA, strategy, 8, phase="train")) == f"{FORWARD[strategy]} {BACKWARD[strategy]}"
    decode = plan_of(LLAMA, strategy, 8, phase="decode", batch=8, seq=1, context=4096)
    # The newest key and value are written into the cache before they are attended to.
    assert words(decode) == FORWARD[strategy].replace("core/attention", "core/concat core/attention")


def test_biases_and_learned_positions_change_the_list() -> None:
    forward, backward = "norm/norm qkv/nt core/attention out/nt", "core/attention' core/concat' qkv/nn' qkv/tn'"
    train = plan_of(MEGATRON, "allreduce", 8, phase="train", seq=2048)
    assert words(train) == (
        f"{forward} all_reduce residual/residual residual/residual "
        f"residual/bias_grad' out/nn' out/tn' {backward} qkv/bias_grad' all_reduce' {NORM_BACKWARD}"
    )
    columns = words(plan_of(MEGATRON, "columns", 8, phase="train", seq=2048))
    # The output bias is split with its columns and added by the product itself.
    assert columns.count("residual/residual") == 1
    assert "out/tn' out/bias_grad' out/concat' reduce_scatter'" in columns


def by_word(plan: Plan, name: str) -> list[Op]:
    found = [op for op in plan.ops if word(op) == name]
    assert found, f"no {name} in {words(plan)}"
    return found


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
        ("columns", "train", 5),  # and back: reduce-scatter Z', all-reduce X'
        ("allreduce", "train", 4),
        ("sequence", "train", 5),  # and back: all-gather, all-gather again, reduce-scatter
    ],
)
def test_what_each_strategy_sends(strategy: Strategy, phase: Phase, sent: int) -> None:
    assert plan_of(LLAMA, strategy, 8, phase=phase).sent_bytes == sent * 67_108_864 * 7 / 8


def test_columns_gathers_z_by_its_own_width() -> None:
    model = load_model("qwen2.5-72b")
    wide = ModelShape(**{name: getattr(model, name) for name in model.__dataclass_fields__} | {"head_dim": 192})
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
    assert plans[0].ops == plans[1].ops == plans[2].ops


def sent(kind: CollectiveKind, num_ranks: int, size_bytes: int, backend: Backend) -> float:
    return Collective(
        kind=kind, direction="forward", num_ranks=num_ranks, size_bytes=size_bytes, dtype="bf16", backend=backend
    ).sent_bytes


@given(st.integers(2, 128), st.integers(1, 2**40))
@settings(deadline=None)
def test_an_all_reduce_sends_what_its_halves_send(num_ranks: int, size_bytes: int) -> None:
    whole = sent("all_reduce", num_ranks, size_bytes, "nccl")
    halves = sent("reduce_scatter", num_ranks, size_bytes, "nccl") + sent("all_gather", num_ranks, size_bytes, "nccl")
    assert math.isclose(whole, halves, rel_tol=1e-12)
    assert math.isclose(whole, 2 * size_bytes * (num_ranks - 1) / num_ranks, rel_tol=1e-12)
    # gloo has no reduce-scatter of its own and runs an all-reduce.
    assert sent("reduce_scatter", num_ranks, size_bytes, "gloo") == sent("all_reduce", num_ranks, size_bytes, "gloo")
    assert sent("all_gather", num_ranks, size_bytes, "gloo") == sent("all_gather", num_ranks, size_bytes, "nccl")
    assert sent("send_recv", num_ranks, size_bytes, "nccl") == size_bytes


def test_bus_factors_are_those_of_nccl_tests() -> None:
    # https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md, at 8 ranks.
    kinds: tuple[CollectiveKind, ...] = ("all_reduce", "all_gather", "reduce_scatter", "send_recv")
    assert [bus_factor(kind, 8) for kind in kinds] == [1.75, 0.875, 0.875, 1.0]


def test_parts_come_in_canonical_order_and_cover_the_ops() -> None:
    plan = plan_of(LLAMA, "sequence", 4, phase="train")
    assert plan.parts == ("norm", "qkv", "core", "out", "residual", "all_gather", "reduce_scatter")
    assert len(plan.ops) == len(plan.compute) + len(plan.collectives)
