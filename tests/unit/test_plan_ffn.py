"""The plan of the FFN and of a whole layer: which ops, in which order, and their FLOPs and bytes, counted by hand."""

import pytest

from tests.unit.plan_factory import (
    GPT3,
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
from tp.case import STRATEGIES, Block, Phase, Strategy
from tp.model import ModelShape
from tp.plan.ops import Elementwise, Gemm, Plan, sum_bytes, sum_flops

pytestmark = pytest.mark.unit

GATED = {
    "columns": "norm/norm up/nt activation/swiglu all_gather down/concat down/nt all_gather down/concat "
    "residual/residual",
    "allreduce": "norm/norm up/nt activation/swiglu down/nt all_reduce residual/residual",
    "sequence": "norm/norm all_gather up/nt activation/swiglu down/nt reduce_scatter residual/residual",
    "overlap": f"norm/norm {ring_gather('up/nt')} activation/swiglu {ring_scatter('down/nt', 'down/residual')} "
    "residual/residual",
    "async-tp": "norm/norm all_gather up/nt activation/swiglu reduce_scatter down/nt residual/residual",
    # The gate and up one by one.
    "dtensor": "norm/norm up/nt up/nt activation/swiglu down/nt all_reduce residual/residual",
}
DOWN_RING = ring_gather("down/nn'")
GATED_BACKWARD = {
    "columns": "down/nn' down/tn' down/concat' reduce_scatter' activation/swiglu_backward' up/nn' all_reduce' up/tn'",
    "allreduce": "down/nn' down/tn' activation/swiglu_backward' up/nn' all_reduce' up/tn'",
    "sequence": "all_gather' down/nn' down/tn' activation/swiglu_backward' all_gather' up/nn' reduce_scatter' up/tn'",
    "overlap": f"down/concat' {DOWN_RING} down/tn' activation/swiglu_backward' {ring_both('up')}",
    "async-tp": "all_gather' down/nn' down/tn' activation/swiglu_backward' all_gather' up/tn' reduce_scatter' up/nn'",
    "dtensor": "down/nn' down/tn' activation/swiglu_backward' up/nn' up/tn' up/nn' up/tn' up/residual' all_reduce'",
}


# Without a graph to build: own tokens through the first product while others' come, each of which leaves at once.
MADE = "up/nt activation/swiglu"
PIPELINE = (
    f"norm/norm send_recv {MADE} send_recv {MADE} down/nt send_recv "
    + f"send_recv {MADE} down/nt down/residual send_recv " * 5
    + f"{MADE} down/nt down/residual send_recv down/nt down/residual residual/residual"
)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ops_of_a_gated_ffn(strategy: Strategy) -> None:
    forward, backward = GATED[strategy], f"{GATED_BACKWARD[strategy]} {NORM_BACKWARD}"
    alone = PIPELINE if strategy == "overlap" else forward
    assert words(plan_of(LLAMA, strategy, 8, block="ffn")) == alone
    assert words(plan_of(LLAMA, strategy, 8, block="ffn", phase="train")) == f"{forward} {backward}"
    # It keeps no cache: a pass of decode is one of few tokens.
    assert words(plan_of(LLAMA, strategy, 8, block="ffn", phase="decode", batch=8)) == alone


def test_a_pipeline_multiplies_and_sends_what_two_layers_do() -> None:
    for tp, chunks in ((2, 1), (2, 4), (4, 2)):
        whole = plan_of(LLAMA, "overlap", tp, block="ffn", seq=1024, chunks=chunks)
        apart = plan_of(LLAMA, "sequence", tp, block="ffn", seq=1024)
        assert whole.flops == apart.flops
        assert whole.sent_bytes == apart.sent_bytes
        needs = [op.needs for op in whole.compute if op.needs is not None]
        assert max(needs) == len(whole.collectives) == 2 * (tp - 1) * chunks


@pytest.mark.parametrize("model", [MEGATRON, GPT3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_biases_and_a_plain_gelu_change_the_list(strategy: Strategy, model: ModelShape) -> None:
    found = words(plan_of(model, strategy, 8, block="ffn", phase="train"))
    forward, backward = GATED[strategy].replace("swiglu", "gelu"), GATED_BACKWARD[strategy].replace("swiglu", "gelu")
    if strategy == "dtensor":  # one weight on the way in, one product
        forward = forward.replace("up/nt up/nt", "up/nt")
        backward = backward.replace("up/nn' up/tn' up/nn' up/tn' up/residual'", "up/nn' up/tn'")
    # The bias of up adds up its gradient; its addition is the product's own.
    backward = backward.replace("gelu_backward'", "gelu_backward' up/bias_grad'")
    if strategy == "columns":  # the bias of down is split with its columns
        backward = backward.replace("down/tn'", "down/tn' down/bias_grad'")
    else:
        forward = forward.replace("residual/residual", "residual/residual residual/residual")
        backward = f"residual/bias_grad' {backward}"
    assert found == f"{forward} {backward} {NORM_BACKWARD}"


@pytest.mark.parametrize("phase", ["prefill", "train", "decode"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_layer_is_attention_then_ffn_and_back(strategy: Strategy, phase: Phase) -> None:
    attention, ffn, layer = (
        plan_of(LLAMA, strategy, 8, block=block, phase=phase, batch=8) for block in ("attention", "ffn", "block")
    )

    def directions(plan: Plan) -> tuple[str, str]:
        forward = " ".join(word(op) for op in plan.ops if op.direction == "forward")
        return forward, " ".join(word(op) for op in plan.ops if op.direction == "backward")

    (a, a_back), (f, f_back) = directions(attention), directions(ffn)
    # Behind another half the gradient that skipped the FFN is added on the time of that one's residual.
    f_back = f_back.removesuffix("norm/residual'") + "residual/residual'" if f_back else ""
    assert words(layer) == " ".join(filter(None, (a, f, f_back, a_back)))
    assert layer.flops == attention.flops + ffn.flops
    assert sum_bytes(layer.ops) == sum_bytes(attention.ops) + sum_bytes(ffn.ops)
    assert layer.parts == tuple(part for part in CANONICAL if part in attention.parts + ffn.parts)


CANONICAL = (
    *("norm", "qkv", "core", "out", "up", "activation", "down", "residual"),
    *("all_gather", "reduce_scatter", "all_reduce", "send_recv"),
)


def test_llama_70b_on_8_ranks_by_hand() -> None:
    plan = plan_of(LLAMA, "allreduce", 8, block="ffn")
    # m = 4096, f/n = 3584 columns each of gate and up; S = m*h*2; one [m, f/n] is 4096 * 3584 * 2 = 29,360,128 bytes.
    s_bytes, hidden_bytes = 67_108_864, 29_360_128
    expected = {
        "norm/norm": (0.0, 2 * s_bytes),
        # 2 * 4096 * 8192 * 7168; 2 * (4096*8192 + 8192*7168 + 4096*7168)
        "up/nt": (481_036_337_152.0, 243_269_632),
        # silu(gate) reads one and writes one; times up reads two and writes one.
        "activation/swiglu": (0.0, 5 * hidden_bytes),
        # 2 * 4096 * 3584 * 8192; 2 * (4096*3584 + 3584*8192 + 4096*8192)
        "down/nt": (240_518_168_576.0, 155_189_248),
        "residual/residual": (0.0, 3 * s_bytes),
    }
    assert {word(op): (op.flops, op.moved_bytes) for op in plan.compute} == expected
    (all_reduce,) = plan.collectives
    assert (all_reduce.size_bytes, all_reduce.sent_bytes) == (s_bytes, 117_440_512)  # 2 * 7/8 * S
    (backward,) = by_word(plan_of(LLAMA, "allreduce", 8, block="ffn", phase="train"), "activation/swiglu_backward'")
    assert isinstance(backward, Elementwise)
    assert (backward.read_bytes, backward.written_bytes) == (7 * hidden_bytes, 4 * hidden_bytes)


def test_gpt3_on_8_ranks_by_hand() -> None:
    plan = plan_of(GPT3, "sequence", 8, block="ffn", phase="train", seq=2048)
    # m = 2048 of which a rank holds 256 between blocks; h 12288, f/n 6144.
    s_bytes, own_bytes, hidden_bytes = 2048 * 12288 * 2, 256 * 12288 * 2, 2048 * 6144 * 2
    flops = 309_237_645_312.0  # 2 * 2048 * 12288 * 6144, of every product: up is no wider than down
    assert [op.flops for op in plan.compute if isinstance(op, Gemm)] == [flops] * 6
    moved = {
        "norm/norm": [2 * own_bytes],
        "activation/gelu": [2 * hidden_bytes],
        "residual/residual": [2 * own_bytes, 3 * own_bytes],  # the bias of down, then what skipped the block
        "residual/bias_grad'": [own_bytes],
        "activation/gelu_backward'": [3 * hidden_bytes],
        "up/bias_grad'": [hidden_bytes],
        "norm/norm_backward'": [3 * own_bytes],
        "norm/residual'": [3 * own_bytes],
    }
    assert {name: [op.moved_bytes for op in by_word(plan, name)] for name in moved} == moved  # type: ignore[union-attr]
    assert {op.size_bytes for op in plan.collectives} == {s_bytes}
    assert len(plan.collectives) == 5


def test_columns_gathers_the_whole_hidden_activation() -> None:
    # The article's split: [m, f] comes to every rank, 28672 / 8192 = 3.5 times the stream; b*s*f*e, then b*s*h*e.
    plan = plan_of(LLAMA, "columns", 8, block="ffn", batch=2, seq=1024)
    assert [op.size_bytes for op in plan.collectives] == [2 * 1024 * 28672 * 2, 2 * 1024 * 8192 * 2]
    (down,) = by_word(plan, "down/nt")
    assert isinstance(down, Gemm)
    assert (down.m, down.n, down.k) == (2048, 1024, 28672)
    train = plan_of(LLAMA, "columns", 8, block="ffn", phase="train", batch=2, seq=1024)
    back = [(op.kind, op.size_bytes) for op in train.collectives if op.direction == "backward"]
    assert back == [("reduce_scatter", 2048 * 28672 * 2), ("all_reduce", 2048 * 8192 * 2)]


def matrix_parameters(model: ModelShape, block: Block, tp: int) -> int:
    """Weights of a rank's matrices, its copies of kv heads included."""
    kv_heads = max(model.num_kv_heads // tp, 1)
    attention = model.hidden * model.head_dim * (2 * model.num_heads // tp + 2 * kv_heads)
    ffn = model.hidden * model.ffn_width // tp * (3 if model.gated else 2)
    return (attention if block != "ffn" else 0) + (ffn if block != "attention" else 0)


@pytest.mark.parametrize("block", ["attention", "ffn", "block"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", [LLAMA, MEGATRON, GPT3])
def test_products_take_two_flops_a_weight_and_token_and_six_in_training(
    model: ModelShape, strategy: Strategy, block: Block
) -> None:
    for tp in (1, 2, 8, 16, 32):  # from 16 on Llama's 8 kv heads are held twice and more
        for phase, factor in (("prefill", 2), ("decode", 2), ("train", 6)):
            plan = plan_of(model, strategy, tp, block=block, phase=phase, batch=32, seq=64)  # type: ignore[arg-type]
            products = sum_flops(op for op in plan.ops if isinstance(op, Gemm))
            assert products == factor * plan.case.workload.tokens * matrix_parameters(model, block, tp)


def test_the_weights_by_hand() -> None:
    # 8192 * (8192 + 2 * 1024 + 8192) and 3 * 8192 * 28672; on 8 ranks an eighth, on 16 two kv heads of 128 remain.
    assert matrix_parameters(LLAMA, "attention", 1) == 150_994_944
    assert matrix_parameters(LLAMA, "ffn", 1) == 704_643_072
    assert matrix_parameters(LLAMA, "block", 8) == (150_994_944 + 704_643_072) // 8
    assert matrix_parameters(LLAMA, "attention", 16) == 8192 * (512 + 128 + 128 + 512)


@pytest.mark.parametrize(
    ("strategy", "prefill", "train"),
    # In units of S * 7/8, forward and with the backward; Llama's f is 3.5 h.
    [
        ("columns", 3.5 + 1, 4.5 + 3.5 + 2),
        ("allreduce", 2, 4),
        ("sequence", 2, 5),
        ("overlap", 2, 5),
        ("async-tp", 2, 5),
        ("dtensor", 2, 4),
    ],
)
def test_what_each_strategy_sends(strategy: Strategy, prefill: float, train: float) -> None:
    for phase, units in (("prefill", prefill), ("train", train)):
        assert plan_of(LLAMA, strategy, 8, block="ffn", phase=phase).sent_bytes == units * 67_108_864 * 7 / 8  # type: ignore[arg-type]
