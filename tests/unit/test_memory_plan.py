"""What a rank holds of a layer: weights, gradients, saved activations, cache and workspace, counted by hand."""

from dataclasses import replace

import pytest

from tests.unit.plan_factory import GPT3, LLAMA, MEGATRON, case_of
from tp.case import BLOCKS, PHASES, STRATEGIES, TOKEN_STRATEGIES, Block, Case, Phase, Recompute, Strategy
from tp.model import ModelShape, load_model
from tp.plan.memory import HOLDING_KINDS, HoldingKind, held_bytes, plan_memory
from tp.plan.workspace import DeviceKind
from tp.units import Dtype

pytestmark = pytest.mark.unit

BF16: Dtype = "bf16"

# m = 4096 tokens, h 8192: the stream is S = 4096 * 8192 * 2 bytes. On 8 ranks 8 heads and 1 kv head of 128, f/n 3584.
S = 67_108_864
ROW = 16_384  # one fp32 number a token: 4096 * 4
QKV = 10_485_760  # 4096 * 1280 * 2
ROTATED = 9_437_184  # 4096 * (1024 + 128) * 2
LOGSUMEXP = 131_072  # 4096 * 8 * 4
Z = 8_388_608  # 4096 * 1024 * 2
HIDDEN = 29_360_128  # 4096 * 3584 * 2
RANDOM_STATE = 16  # seed and offset of CUDA's attention kernels, an int64 each


def held(
    strategy: Strategy,
    kind: HoldingKind,
    *,
    block: Block = "block",
    recompute: Recompute = "none",
    device: DeviceKind = "cuda",
    model: ModelShape = LLAMA,
    tp: int = 8,
) -> dict[str, int]:
    """The tensors of one kind that a training pass of 4096 tokens holds."""
    case = case_of(model, strategy, tp, block=block, phase="train", recompute=recompute)
    found = [each for each in plan_memory(case, device=device) if each.kind == kind]
    assert len({each.name for each in found}) == len(found)
    return {each.name: each.bytes for each in found}


def test_what_an_all_reduce_layer_saves() -> None:
    norm = {"x": S, "norm.rstd": ROW, "normed": S}
    expected = {f"{half}.{name}": size for half in ("attention", "ffn") for name, size in norm.items()}
    expected |= {"attention.qkv": QKV, "attention.rotated": ROTATED, "attention.logsumexp": LOGSUMEXP}
    expected |= {"attention.z": Z, "ffn.gate_and_up": 2 * HIDDEN, "ffn.active": HIDDEN}
    assert held("allreduce", "saved", device="cuda") == expected | {"attention.seed": 8, "attention.offset": 8}
    assert sum(expected.values()) == 384_991_232


def test_a_cpus_norm_keeps_its_input_and_the_scaled_input_in_fp32() -> None:
    on_cpu, on_gpu = held("allreduce", "saved", device="cpu"), held("allreduce", "saved")
    for half in ("attention", "ffn"):
        assert [on_cpu[f"{half}.{name}"] for name in ("x", "norm.rstd", "norm.scaled", "normed")] == [
            2 * S,
            ROW,
            2 * S,
            S,
        ]
    assert sum(on_cpu.values()) == 384_991_232 + 2 * 3 * S
    rest = {name for name in on_gpu if not name.endswith((".x", ".rstd", ".scaled", ".normed", ".seed", ".offset"))}
    assert {name: on_cpu[name] for name in rest} == {name: on_gpu[name] for name in rest}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("strategy", TOKEN_STRATEGIES)
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_token_strategies_cut_the_stream_and_nothing_else(
    strategy: Strategy, recompute: Recompute, device: DeviceKind
) -> None:
    cut = held(strategy, "saved", recompute=recompute, device=device)
    whole = held("allreduce", "saved", recompute=recompute, device=device)
    assert set(cut) == set(whole)
    for name, size in whole.items():
        stream = name.endswith(("x", ".rstd", ".scaled", ".normed"))
        assert cut[name] == (size // 8 if stream else size), name


def test_columns_keeps_what_it_gathers_whole() -> None:
    found, whole = held("columns", "saved"), held("allreduce", "saved")
    # [m, a*d] and [m, f], 28672 wide
    assert found["attention.z.gathered"] == S
    assert found["ffn.active"] == 4096 * 28672 * 2 == 8 * HIDDEN
    assert {n: s for n, s in found.items() if n not in ("attention.z.gathered", "ffn.active")} == {
        n: s for n, s in whole.items() if n != "ffn.active"
    }
    # One rank gathers nothing.
    assert held("columns", "saved", tp=1) == held("allreduce", "saved", tp=1)


def test_dtensor_keeps_a_storage_for_each_product() -> None:
    found = held("dtensor", "saved")
    assert [found[f"attention.{name}"] for name in "qkv"] == [4096 * 1024 * 2, 4096 * 128 * 2, 4096 * 128 * 2]
    assert [found[f"ffn.{name}"] for name in ("gate", "up", "silu", "active")] == [HIDDEN] * 4
    # Its rotated queries and keys take the place of the product's; the gate's SiLU is kept beside.
    assert sum(found.values()) == 384_991_232 - ROTATED + HIDDEN + RANDOM_STATE


@pytest.mark.parametrize(
    ("strategy", "dropped"),
    [
        ("allreduce", ROTATED + LOGSUMEXP),  # made again with the core from the product, which stays; so does Z
        ("sequence", ROTATED + LOGSUMEXP),
        ("columns", ROTATED + LOGSUMEXP + Z),  # the gathered Z stays
        ("dtensor", LOGSUMEXP),
    ],
)
def test_selective_drops_what_the_core_kept(strategy: Strategy, dropped: int) -> None:
    for device in ("cpu", "cuda"):
        kept = sum(held(strategy, "saved", device=device).values())
        remade = dropped + (RANDOM_STATE if device == "cuda" else 0)
        assert kept - sum(held(strategy, "saved", recompute="selective", device=device).values()) == remade


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_full_keeps_the_input_alone(strategy: Strategy, block: Block) -> None:
    own = S // 8 if strategy in TOKEN_STRATEGIES else S
    for device in ("cpu", "cuda"):
        assert held(strategy, "saved", block=block, recompute="full", device=device) == {"x": own}


def test_a_layer_norm_keeps_mean_and_deviation_and_a_plain_gelu_its_input() -> None:
    # m = 4096, h 12288, f/n 6144, 12 heads of 128; learned positions rotate nothing.
    stream, hidden = 4096 * 12288 * 2, 4096 * 6144 * 2
    norm = {"x": stream, "norm.mean": ROW, "norm.rstd": ROW, "normed": stream}
    expected = {f"{half}.{name}": size for half in ("attention", "ffn") for name, size in norm.items()}
    expected |= {"attention.qkv": 4096 * 4608 * 2, "attention.logsumexp": 4096 * 12 * 4}
    expected |= {"attention.z": 4096 * 1536 * 2, "ffn.up": hidden, "ffn.active": hidden}
    assert held("allreduce", "saved", model=GPT3) == expected | {"attention.seed": 8, "attention.offset": 8}
    # The CPU's kernel keeps both in the activations' dtype.
    assert held("allreduce", "saved", model=GPT3, device="cpu") == expected | {
        name: ROW // 2 for name in expected if name.endswith((".mean", ".rstd"))
    }


def test_weights_of_a_rank_by_hand() -> None:
    expected = {
        "attention.norm": 8192 * 2,
        "attention.qkv": 1280 * 8192 * 2,
        "attention.out": 1024 * 8192 * 2,
        "ffn.norm": 8192 * 2,
        "ffn.up": 2 * 3584 * 8192 * 2,
        "ffn.down": 3584 * 8192 * 2,
    }
    for strategy in STRATEGIES:
        assert held(strategy, "weights") == held(strategy, "gradients") == expected
    assert sum(expected.values()) == 213_942_272
    # On 16 ranks a kv head is held by two of them: (4 + 2) * 128 rows, not 640.
    assert held("allreduce", "weights", tp=16)["attention.qkv"] == 768 * 8192 * 2


def layer_parameters(model: ModelShape) -> int:
    """What one layer adds to the model."""
    return replace(model, num_layers=2).num_parameters - replace(model, num_layers=1).num_parameters


@pytest.mark.parametrize("name", ["llama2-70b", "gpt3-175b", "megatron-22b", "qwen2.5-72b", "llama3-8b"])
@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ranks_weights_are_the_layers_and_copies_of_what_is_not_cut(name: str, tp: int, strategy: Strategy) -> None:
    model = load_model(name)
    elements = sum(held(strategy, "weights", model=model, tp=tp).values()) // 2
    # Norms, and the biases of a half's output but under `columns`, are whole on every rank.
    copied = 2 * model.hidden * (2 if model.norm == "layer" else 1)
    if model.bias == "all" and strategy != "columns":
        copied += 2 * model.hidden
    assert tp * elements == layer_parameters(model) + (tp - 1) * copied


@pytest.mark.parametrize("block", BLOCKS)
def test_only_training_holds_gradients_and_activations_and_only_decode_a_cache(block: Block) -> None:
    for phase in PHASES:
        case = case_of(LLAMA, "allreduce", 8, block=block, phase=phase, batch=8, context=None)
        kinds = {each.kind for each in plan_memory(case, device="cuda")}
        more = {"gradients", "saved"} if phase == "train" else set[str]()
        cache = {"kv_cache"} if phase == "decode" and block != "ffn" else set[str]()
        assert kinds == {"weights", "workspace"} | more | cache
        assert kinds <= set(HOLDING_KINDS)


@pytest.mark.parametrize(("tp", "kv_heads"), [(1, 8), (2, 4), (8, 1), (16, 1), (64, 1)])
def test_the_cache_of_decode(tp: int, kv_heads: int) -> None:
    for strategy in STRATEGIES:
        case = case_of(LLAMA, strategy, tp, block="block", phase="decode", batch=64, seq=4096)
        found = {each.name: each.bytes for each in plan_memory(case, device="cuda") if each.kind == "kv_cache"}
        # b*c*kv_n*d*e each: keys and values of 64 sequences
        assert found == dict.fromkeys(("keys", "values"), 64 * 4096 * kv_heads * 128 * 2)


def workspace(case: Case) -> dict[str, int]:
    return {each.name: each.bytes for each in plan_memory(case, device="cuda") if each.kind == "workspace"}


def test_workspace_of_a_forward_by_hand() -> None:
    ffn = {"x": S, "normed": S, "gate_and_up": 2 * HIDDEN, "active": HIDDEN}
    # Gate and up are still in hand while the last product is made.
    assert workspace(case_of(LLAMA, "allreduce", 8, block="block")) == ffn | {"y": S}
    # A rank's own eighth of the stream; the product is whole until it is sent.
    own = {"x": S // 8, "normed": S // 8, "y": S // 8}
    assert workspace(case_of(LLAMA, "sequence", 8, block="block")) == ffn | own | {"partial": S}
    # Attention alone is given x; a sum of torch's own is made beside what it sums.
    attention = {"normed": S, "qkv": QKV, "z": Z}
    assert workspace(case_of(LLAMA, "allreduce", 8)) == attention | {"y": S}
    assert workspace(case_of(LLAMA, "dtensor", 8)) == attention | {"partial": S, "y": S}
    # `columns` gathers 28672 columns rank by rank, then puts them side by side.
    gathered = {"gathered": 8 * HIDDEN, "stacked": 8 * HIDDEN}
    assert workspace(case_of(LLAMA, "columns", 8, block="block")) == ffn | gathered


def test_workspace_of_a_backward_by_hand() -> None:
    expected = {"y": S, "grad.y": S, "grad.x": S, "grad.product": 2 * HIDDEN, "grad.between": 3 * HIDDEN}
    assert held("allreduce", "workspace") == expected
    own = {"y": S // 8, "grad.y": S // 8, "grad.own": S // 8, "gathered": S}
    assert held("sequence", "workspace") == expected | own
    assert held("allreduce", "workspace", device="cpu") == expected | {"grad.norm.fp32": 4 * 2 * S}


OURS: tuple[Strategy, ...] = ("columns", "allreduce", "sequence", "overlap", "async-tp")
FP8: tuple[Strategy, ...] = ("columns", "allreduce", "sequence")


@pytest.mark.parametrize(
    ("strategies", "phase", "dtype", "peak", "slack"),
    [
        (OURS, "prefill", "bf16", 2_617_278_464, 1.0),
        (("dtensor",), "prefill", "bf16", 2_785_050_624, 1.0),
        # Gradients are counted with all that is saved, of which the backward drops much before the last is made.
        (OURS, "train", "bf16", 4_943_070_720, 1.25),
        (OURS, "decode", "bf16", 1_729_224_192, 1.0),
        (FP8, "prefill", "fp8", 2_634_056_192, 1.0),
        (FP8, "decode", "fp8", 873_586_176, 1.0),
    ],
)
def test_a_planned_peak_is_no_less_than_an_h100s(
    strategies: tuple[Strategy, ...], phase: Phase, dtype: Dtype, peak: int, slack: float
) -> None:
    """A layer of Llama-2-70B, 4096 tokens; measured on an H100 SXM, torch 2.11, as its allocator's peak."""
    for strategy in strategies:
        case = case_of(LLAMA, strategy, 1, block="block", phase=phase, dtype=dtype)
        assert peak <= held_bytes(plan_memory(case, device="cuda")) <= slack * peak, strategy


def test_fp8_scales_and_cuts_a_products_input_in_fp32() -> None:
    scaled = {"scale": 512, "scaled": 2 * HIDDEN, "cut": 2 * HIDDEN}  # one block of the allocator; fp32 of the bf16
    expected = {"x": S, "normed": S, "gate_and_up": 2 * HIDDEN, "active": HIDDEN} | scaled
    # One rank's f is eight times as wide, and wider than its hidden size.
    widened = {name: size * (8 if size % HIDDEN == 0 else 1) for name, size in expected.items()}
    assert workspace(case_of(LLAMA, "allreduce", 1, block="block", dtype="fp8")) == widened


@pytest.mark.parametrize(("dtype", "matrix", "other"), [("fp32", 4, 4), ("fp16", 2, 2), ("fp8", 1, 2)])
def test_dtypes(dtype: Dtype, matrix: int, other: int) -> None:
    found, bf16 = (
        plan_memory(case_of(MEGATRON, "allreduce", 8, block="block", dtype=each), device="cuda")
        for each in (dtype, BF16)
    )
    if dtype == "fp8":  # its widest moment is another one
        found, bf16 = (tuple(each for each in plan if each.kind != "workspace") for plan in (found, bf16))
    for one, two in zip(found, bf16, strict=True):
        plain = one.kind != "weights" or one.name.endswith((".norm", ".bias"))
        assert one.bytes == two.bytes // 2 * (other if plain else matrix), one.name
    case = case_of(LLAMA, "allreduce", 8, block="block", phase="decode", batch=8, dtype=dtype)
    assert held_bytes(plan_memory(case, device="cuda"), "kv_cache") == 2 * 8 * 4096 * 128 * other


def test_sums_by_kind_and_of_all() -> None:
    found = plan_memory(case_of(LLAMA, "allreduce", 8, block="block", phase="train"), device="cuda")
    by_kind = {kind: held_bytes(found, kind) for kind in HOLDING_KINDS}
    assert by_kind == {
        "weights": 213_942_272,
        "gradients": 213_942_272,
        "saved": 384_991_232 + RANDOM_STATE,
        "kv_cache": 0,
        "workspace": 3 * S + 5 * HIDDEN,
    }
    assert held_bytes(found) == sum(by_kind.values())
