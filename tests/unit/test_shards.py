"""Which degrees fit a model: refusals name the rule and what to use instead."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp.case import BLOCKS, STRATEGIES, Block, Case, Recompute, Strategy, Workload
from tp.errors import PlanError
from tp.model import ModelShape, load_model
from tp.plan.shards import attention_shard, degrees, misfit, require_fit

pytestmark = pytest.mark.unit

LLAMA = load_model("llama2-70b")  # 64 heads, 8 kv heads, hidden 8192, ffn 28672 = 2^12 * 7


def case(
    model: ModelShape,
    strategy: Strategy,
    tp: int,
    *,
    block: Block = "attention",
    batch: int = 1,
    seq: int = 64,
    decode: bool = False,
    chunks: int = 1,
) -> Case:
    workload = (
        Workload(phase="decode", batch=batch, seq=1, context=seq, dtype="bf16")
        if decode
        else Workload(phase="prefill", batch=batch, seq=seq, context=seq, dtype="bf16")
    )
    return Case(block=block, model=model, strategy=strategy, tp=tp, workload=workload, chunks=chunks)


def refusal(case: Case) -> str:
    with pytest.raises(PlanError) as caught:
        require_fit(case)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_heads_must_divide() -> None:
    assert refusal(case(LLAMA, "allreduce", 3)) == (
        "--tp 3: num_heads 64 is not divisible by tp 3 (llama2-70b, allreduce); use 1, 2, 4, 8, 16, 32, 64"
    )


def test_the_ffns_width_must_divide() -> None:
    # 28672 = 4096 * 7: 7 ranks split the FFN and no heads, 3 neither.
    assert refusal(case(LLAMA, "allreduce", 3, block="ffn")).startswith(
        "--tp 3: ffn_width 28672 is not divisible by tp 3 (llama2-70b, allreduce); use 1, 2, 4, 7, 8, 14, 16, 28, 32, "
    )
    require_fit(case(LLAMA, "allreduce", 7, block="ffn"))
    assert "num_heads 64 is not divisible by tp 7" in refusal(case(LLAMA, "allreduce", 7))
    assert "num_heads 64 is not divisible by tp 7" in refusal(case(LLAMA, "allreduce", 7, block="block"))


def test_a_layer_needs_both_halves_to_divide() -> None:
    model = replace(LLAMA, name="odd", ffn_width=100)
    require_fit(case(model, "allreduce", 8))
    assert refusal(case(model, "allreduce", 8, block="block")) == (
        "--tp 8: ffn_width 100 is not divisible by tp 8 (odd, allreduce); use 1, 2, 4"
    )
    assert refusal(case(model, "allreduce", 8, block="ffn")) == (
        "--tp 8: ffn_width 100 is not divisible by tp 8 (odd, allreduce); use 1, 2, 4, 5, 10, 20, 25, 50, 100"
    )


def test_more_ranks_than_heads() -> None:
    assert "use 1, 2, 4, 8, 16, 32, 64" in refusal(case(LLAMA, "sequence", 128, seq=128))


def test_kv_heads_must_divide_or_be_divided() -> None:
    model = replace(LLAMA, name="odd", num_heads=12, num_kv_heads=4)
    # 3 and 6 divide 12 heads but would cut 4 kv heads unevenly; 12 holds each of the 4 three times.
    assert refusal(case(model, "allreduce", 6, seq=66)) == (
        "--tp 6: num_kv_heads 4 neither divides tp 6 nor is divided by it (odd, allreduce); use 1, 2, 4, 12"
    )


def test_only_columns_splits_the_hidden_size() -> None:
    model = replace(LLAMA, name="odd", hidden=100, num_heads=8, num_kv_heads=8)
    assert refusal(case(model, "columns", 8)) == (
        "--tp 8: hidden 100 is not divisible by tp 8 (odd, columns); use 1, 2, 4"
    )
    for strategy in STRATEGIES:
        if strategy != "columns":
            require_fit(case(model, strategy, 8))


@pytest.mark.parametrize("strategy", ["sequence", "overlap", "async-tp"])
def test_token_strategies_split_the_tokens(strategy: Strategy) -> None:
    assert refusal(case(LLAMA, strategy, 8, batch=3, seq=5)) == (
        f"--batch 3 --seq 5: 15 tokens are not divisible by tp 8, as strategy {strategy} needs; "
        "make batch x seq a multiple of 8"
    )
    require_fit(case(LLAMA, strategy, 8, batch=8, seq=5))
    require_fit(case(LLAMA, strategy, 1, batch=3, seq=5))


@pytest.mark.parametrize("strategy", ["columns", "allreduce", "dtensor"])
def test_other_strategies_leave_the_tokens_whole(strategy: Strategy) -> None:
    require_fit(case(LLAMA, strategy, 8, batch=3, seq=5))


def test_chunks_split_a_ranks_tokens_further() -> None:
    assert refusal(case(LLAMA, "overlap", 8, seq=72, chunks=2)) == (
        "--batch 1 --seq 72: 72 tokens are not divisible by tp 8 x 2 chunks, as strategy overlap needs; "
        "make batch x seq a multiple of 16"
    )
    require_fit(case(LLAMA, "overlap", 8, seq=72, chunks=3))


def made_again(block: Block, recompute: Recompute) -> Case:
    return replace(
        case(LLAMA, "allreduce", 8, block=block),
        recompute=recompute,
        workload=Workload(phase="train", batch=1, seq=64, context=64, dtype="bf16"),
    )


def test_the_ffn_has_no_core_to_make_again() -> None:
    assert refusal(made_again("ffn", "selective")) == (
        "--recompute selective: remakes the attention core and the FFN has none; use none or full"
    )
    for block in BLOCKS:
        require_fit(made_again(block, "full"))
    require_fit(made_again("attention", "selective"))
    require_fit(made_again("block", "selective"))


def test_decode_has_a_token_a_sequence() -> None:
    require_fit(case(LLAMA, "sequence", 8, batch=8, seq=4096, decode=True))
    assert refusal(case(LLAMA, "sequence", 8, batch=4, seq=4096, decode=True)).startswith("--batch 4 --seq 1: 4 tokens")


@pytest.mark.parametrize("tp", [0, -2])
def test_a_degree_is_positive(tp: int) -> None:
    assert misfit(LLAMA, "attention", "allreduce", tp) == f"tp {tp} is not a positive number"


@pytest.mark.parametrize(
    ("tp", "heads", "kv_heads", "qkv_width"),
    # width = (a/n + 2 kv_n) * 128
    [(1, 64, 8, 10240), (4, 16, 2, 2560), (8, 8, 1, 1280), (32, 2, 1, 512)],
)
def test_a_ranks_heads(tp: int, heads: int, kv_heads: int, qkv_width: int) -> None:
    shard = attention_shard(LLAMA, tp)
    assert (shard.num_heads, shard.num_kv_heads, shard.head_dim) == (heads, kv_heads, 128)
    assert (shard.width, shard.kv_width, shard.qkv_width) == (heads * 128, kv_heads * 128, qkv_width)


MODELS = st.builds(
    lambda kv, share, hidden, ffn: replace(LLAMA, num_heads=kv * share, num_kv_heads=kv, hidden=hidden, ffn_width=ffn),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 200),
    st.integers(1, 200),
)


@given(MODELS, st.sampled_from(BLOCKS), st.sampled_from(STRATEGIES), st.integers(1, 64))
@settings(deadline=None)
def test_degrees_are_those_that_fit_and_divide_the_world(
    model: ModelShape, block: Block, strategy: Strategy, world: int
) -> None:
    fitting = set(degrees(model, block, strategy, world=world))
    assert 1 in fitting
    for n in range(1, world + 1):
        even_heads = model.num_heads // n * n == model.num_heads
        even_kv = any(model.num_kv_heads * i == n or n * i == model.num_kv_heads for i in range(1, 65))
        even_width = model.ffn_width // n * n == model.ffn_width
        even_hidden = strategy != "columns" or model.hidden // n * n == model.hidden
        attention, ffn = block == "ffn" or even_heads and even_kv, block == "attention" or even_width
        assert (n in fitting) == (world // n * n == world and attention and ffn and even_hidden)


@given(MODELS, st.sampled_from(BLOCKS), st.sampled_from(STRATEGIES), st.integers(1, 64))
@settings(deadline=None)
def test_a_refusal_names_degrees_that_fit(model: ModelShape, block: Block, strategy: Strategy, tp: int) -> None:
    point = case(model, strategy, tp, seq=tp, block=block)
    if misfit(model, block, strategy, tp) is None:
        require_fit(point)
        return
    named = refusal(point).split("; use ")[1].split(", ")
    assert named
    for n in map(int, named):
        require_fit(case(model, strategy, n, seq=n, block=block))


@given(MODELS, st.integers(1, 64))
@settings(deadline=None)
def test_every_query_head_finds_its_keys_on_its_rank(model: ModelShape, tp: int) -> None:
    """A rank's query heads are shared evenly by its kv heads, or it has one: no rank needs another's keys."""
    if misfit(model, "attention", "allreduce", tp) is not None:
        return
    shard = attention_shard(model, tp)
    assert shard.num_heads * tp == model.num_heads
    assert shard.num_kv_heads * tp >= model.num_kv_heads
    assert shard.num_heads % shard.num_kv_heads == 0
    share = model.num_heads // model.num_kv_heads
    for rank in range(tp):
        first, last = rank * shard.num_heads, (rank + 1) * shard.num_heads - 1
        assert last // share - first // share + 1 <= shard.num_kv_heads
