"""What training makes again in the backward: all that the backward needs under `full`, the core under `selective`."""

import pytest

from tests.unit.plan_factory import GPT3, LLAMA, plan_of, ring_scatter, word, words
from tp.case import BLOCKS, STRATEGIES, Block, Case, Phase, Recompute, Strategy, Workload
from tp.errors import PlanError
from tp.plan.ops import Collective, Gemm, Op, Plan

pytestmark = pytest.mark.unit

LAST_PRODUCT = {"attention": "out/nt", "ffn": "down/nt", "block": "down/nt"}
# These save the operands of the last product with its result, so it is made again with what it sends.
SAVES_LAST: tuple[Strategy, ...] = ("overlap", "async-tp")


def train(strategy: Strategy, block: Block, recompute: Recompute, *, tp: int = 8, chunks: int = 1) -> Plan:
    return plan_of(LLAMA, strategy, tp, block=block, phase="train", chunks=chunks, recompute=recompute)


def remade(strategy: Strategy, block: Block, *, tp: int = 8, chunks: int = 1) -> list[Op]:
    """What a pass under `full` has between the forward and the backward."""
    kept, full = (train(strategy, block, recompute, tp=tp, chunks=chunks).ops for recompute in ("none", "full"))
    forward = tuple(op for op in kept if op.direction == "forward")
    backward = [op for op in kept if op.direction == "backward"]
    # A prefill's forward, but that of an FFN under `overlap`, which is one pipeline where there is nothing to keep.
    if strategy != "overlap" or block == "attention":
        assert forward == plan_of(LLAMA, strategy, tp, block=block, chunks=chunks).ops
    assert full[: len(forward)] == forward == kept[: len(forward)]
    assert [word(op) for op in full[-len(backward) :]] == [word(op) for op in backward]
    return list(full[len(forward) : len(full) - len(backward)])


REMADE_OUT = {
    "columns": "all_gather out/concat",  # the whole of Z is an operand of the product
    "allreduce": "",
    "sequence": "",
    "overlap": ring_scatter("out/nt", "out/residual"),
    "async-tp": "reduce_scatter out/nt",
    "dtensor": "",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_full_makes_the_forward_again_up_to_the_last_product(strategy: Strategy) -> None:
    found = [word(op) for op in remade(strategy, "attention")]
    forward = words(plan_of(LLAMA, strategy, 8)).split()
    until_core = forward[: forward.index("core/attention") + 1]
    assert found == until_core + REMADE_OUT[strategy].split()
    assert ("out/nt" in found) == (strategy in SAVES_LAST)
    assert "residual/residual" not in found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_a_layer_full_makes_the_attention_whole_and_the_ffn_as_it_does_alone(strategy: Strategy) -> None:
    attention = words(plan_of(LLAMA, strategy, 8)).split()
    ffn = [word(op) for op in remade(strategy, "ffn")]
    # The FFN's input is what the attention's residual gives.
    assert [word(op) for op in remade(strategy, "block")] == attention + ffn


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tp", [1, 4])
def test_full_adds_one_forward_without_the_last_product(strategy: Strategy, block: Block, tp: int) -> None:
    forward = plan_of(LLAMA, strategy, tp, block=block)
    last = sum(op.flops for op in forward.ops if word(op) == LAST_PRODUCT[block])
    saves_last = strategy in SAVES_LAST and tp > 1
    added = train(strategy, block, "full", tp=tp).flops - train(strategy, block, "none", tp=tp).flops
    assert added == forward.flops - (0 if saves_last else last)


def test_full_by_hand() -> None:
    # 8 ranks, 4096 tokens: forward qkv 85.9, core 34.4, out 68.7, up 481.0, down 240.5 GFLOP; three times the products
    # and 3.5 times the core, and once more all but down.
    qkv, core, out, up, down = 85_899_345_920, 34_359_738_368, 68_719_476_736, 481_036_337_152, 240_518_168_576
    none = 3 * (qkv + out + up + down) + 3.5 * core
    assert train("allreduce", "block", "none").flops == none
    assert train("allreduce", "block", "full").flops == none + qkv + core + out + up
    assert train("overlap", "block", "full").flops == none + qkv + core + out + up + down
    assert train("allreduce", "block", "selective").flops == none + core


@pytest.mark.parametrize(
    ("strategy", "block", "sends"),
    # Units of S * 7/8 that `full` adds; Llama's Z is as wide as the stream and its f is 3.5 times that.
    [
        ("columns", "attention", 1),  # Z again
        ("columns", "block", 2 + 3.5),  # Z and the output again, the hidden activation again
        ("allreduce", "attention", 0),
        ("allreduce", "block", 2),  # attention's all-reduce
        ("dtensor", "block", 2),
        ("sequence", "attention", 1),
        ("sequence", "block", 3),
        ("overlap", "attention", 2),
        ("overlap", "block", 4),
        ("async-tp", "block", 4),
    ],
)
def test_what_full_sends_again(strategy: Strategy, block: Block, sends: float) -> None:
    added = train(strategy, block, "full").sent_bytes - train(strategy, block, "none").sent_bytes
    assert added == sends * 67_108_864 * 7 / 8


@pytest.mark.parametrize("block", ["attention", "block"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_selective_makes_the_core_again_and_nothing_else(strategy: Strategy, block: Block) -> None:
    none, selective = words(train(strategy, block, "none")), words(train(strategy, block, "selective"))
    # Just before it is differentiated: the rotation, and the kernel that keeps its log-sum-exp.
    assert selective == none.replace("core/attention'", "core/rope core/attention core/attention'")
    assert train(strategy, block, "selective").flops == train(strategy, block, "none").flops + 34_359_738_368
    assert train(strategy, block, "selective").sent_bytes == train(strategy, block, "none").sent_bytes


def test_without_rotation_selective_makes_the_kernel_alone_again() -> None:
    plan = plan_of(GPT3, "allreduce", 8, phase="train", seq=2048, recompute="selective")
    assert words(plan).count("core/attention core/attention'") == 1
    assert "rope" not in words(plan)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("chunks", [1, 4])
def test_what_is_made_again_needs_its_own_sends(strategy: Strategy, chunks: int) -> None:
    chunks = chunks if strategy == "overlap" else 1
    kept, full = (train(strategy, "block", name, chunks=chunks).ops for name in ("none", "full"))
    extra = sum(isinstance(op, Collective) for op in full) - sum(isinstance(op, Collective) for op in kept)

    def needs(ops: tuple[Op, ...]) -> list[int | None]:
        return [op.needs for op in ops if not isinstance(op, Collective) and op.direction == "backward"]

    # The backward counts from behind the sends that are made again.
    assert needs(full) == [None if n is None else n + extra for n in needs(kept)]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_only_training_keeps_activations(phase: Phase, recompute: Recompute) -> None:
    seq = 1 if phase == "decode" else 64
    workload = Workload(phase=phase, batch=8, seq=seq, context=64, dtype="bf16")
    with pytest.raises(PlanError) as caught:
        Case(block="block", model=LLAMA, strategy="allreduce", tp=8, workload=workload, recompute=recompute)
    assert str(caught.value) == f"--recompute {recompute}: {phase} keeps no activations; use train"


def test_the_ffn_alone_has_no_core_to_make_again() -> None:
    with pytest.raises(
        PlanError, match=r"^--recompute selective: remakes the attention core and the FFN has none; use"
    ):
        train("allreduce", "ffn", "selective")
    assert [op for op in train("allreduce", "ffn", "full").ops if isinstance(op, Gemm)]
