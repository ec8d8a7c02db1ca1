"""What a calibration measures: shapes that spread over their ranges, as the plans of a block have them."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from bench.harness.cases.sweeps import RANGES, attention_ops, collective_ops, elementwise_ops, gemm_ops
from bench.harness.run.runnable import FP8_STRATEGIES
from bench.harness.world.launch import DeviceKind
from tp.case import PHASES, STRATEGIES, Case, Phase, Strategy, Workload
from tp.cost.lookup import curve_key
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import COLLECTIVE_KINDS, Elementwise, ElementwiseKind, Plan
from tp.units import Dtype, activation_dtype

pytestmark = pytest.mark.unit

KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [8, 40])
def test_products_come_in_the_three_layouts_of_one_linear_layer(kind: DeviceKind, count: int) -> None:
    ops = gemm_ops(RANGES[kind], "bf16", count=count)
    assert len(ops) == 3 * count
    for i in range(0, len(ops), 3):
        forward, for_input, for_weight = ops[i : i + 3]
        assert (forward.layout, for_input.layout, for_weight.layout) == ("nt", "nn", "tn")
        tokens, outputs, inputs = forward.m, forward.n, forward.k
        assert (for_input.m, for_input.n, for_input.k) == (tokens, inputs, outputs)  # dX = dY W
        assert (for_weight.m, for_weight.n, for_weight.k) == (outputs, inputs, tokens)  # dW = dY^T X
        assert (forward.direction, for_input.direction, for_weight.direction) == ("forward", "backward", "backward")


@pytest.mark.parametrize("kind", KINDS)
def test_products_stay_in_their_ranges_and_under_the_cap(kind: DeviceKind) -> None:
    ranges = RANGES[kind]
    for op in gemm_ops(ranges, "bf16", count=64)[::3]:
        assert 1 <= op.m <= ranges.tokens[1]
        for width in (op.n, op.k):
            assert width % 64 == 0
            assert ranges.width[0] - 32 <= width <= ranges.width[1] + 32
        assert op.flops == 2 * op.m * op.n * op.k <= ranges.max_gemm_flops


@pytest.mark.parametrize("kind", KINDS)
def test_forty_products_leave_no_quarter_of_a_range_empty(kind: DeviceKind) -> None:
    ranges = RANGES[kind]
    ops = gemm_ops(ranges, "bf16", count=40)[::3]
    for values, (low, high) in (([op.n for op in ops], ranges.width), ([op.k for op in ops], ranges.width)):
        quarters = np.floor(4 * np.log(np.array(values) / low) / np.log(high / low)).clip(0, 3)
        counts = np.bincount(quarters.astype(int), minlength=4)
        assert counts.min() >= 8, counts  # of 10 on average
    shapes = {(op.m, op.n, op.k) for op in ops}
    assert len(shapes) == 40
    # One token a sequence, as decode has it, and whole batches.
    assert min(op.m for op in ops) <= 4
    assert max(op.m for op in ops) >= ranges.tokens[1] / 4


def test_the_same_shapes_every_time_and_more_of_them_when_asked() -> None:
    forty = gemm_ops(RANGES["cpu"], "fp32", count=40)
    assert forty == gemm_ops(RANGES["cpu"], "fp32", count=40)
    assert gemm_ops(RANGES["cpu"], "fp32", count=20) == forty[:60]


@pytest.mark.parametrize("kind", KINDS)
def test_attention_cores(kind: DeviceKind) -> None:
    ranges = RANGES[kind]
    ops = attention_ops(ranges, "bf16", count=20)
    decode = [op for op in ops if op.seq == 1]
    whole = [op for op in ops if op.seq > 1]
    assert (len(decode), len(whole)) == (10, 40)
    for forward, backward in zip(whole[::2], whole[1::2], strict=True):
        assert (forward.direction, backward.direction) == ("forward", "backward")
        assert forward.flops * 2.5 == backward.flops
        assert forward.causal
        assert forward.seq == forward.context
        # The cap is one sequence's: 4 * s**2 / 2 * a * d.
        assert 2 * forward.seq**2 * forward.num_heads * forward.head_dim <= ranges.max_attention_flops
    for op in decode:
        assert not op.causal
        assert ranges.context[0] <= op.context <= ranges.context[1]
    for op in ops:
        assert op.num_heads % op.num_kv_heads == 0
        assert op.num_heads // op.num_kv_heads in (1, 4, 8)
        assert op.head_dim in (64, 128)
    assert {op.num_heads // op.num_kv_heads for op in decode} == {op.num_heads // op.num_kv_heads for op in whole}


def plan_of_a_layer(model: str, strategy: Strategy, phase: Phase, *, dtype: Dtype = "bf16") -> Plan:
    workload = Workload(phase=phase, batch=8, seq=1 if phase == "decode" else 64, context=64, dtype=dtype)
    case = Case(block="block", model=load_model(model), strategy=strategy, tp=8, workload=workload)
    return build_plan(case, backend="nccl")


MODELS = ("llama2-70b", "megatron-22b")


def layers() -> Iterator[tuple[Strategy, Plan]]:
    for model, strategy, phase in itertools.product(MODELS, STRATEGIES, PHASES):
        yield strategy, plan_of_a_layer(model, strategy, phase)


def ratio(op: Elementwise) -> tuple[float, bool]:
    return (op.read_bytes / op.written_bytes, True) if op.written_bytes else (1.0, False)


def passes(plan: Plan) -> list[Elementwise]:
    return [op for op in plan.ops if isinstance(op, Elementwise)]


def swept_passes(*, quantizes: bool = False) -> dict[ElementwiseKind, set[tuple[float, bool]]]:
    swept: dict[ElementwiseKind, set[tuple[float, bool]]] = {}
    for op in elementwise_ops(RANGES["cpu"], "bf16", count=8, quantizes=quantizes):
        swept.setdefault(op.kind, set()).add(ratio(op))
    return swept


def test_passes_count_their_bytes_as_the_plans_do() -> None:
    swept, by_plans = swept_passes(), dict[ElementwiseKind, set[tuple[float, bool]]]()
    for strategy, plan in layers():
        for op in passes(plan):
            by_plans.setdefault(op.kind, set()).add(ratio(op))
            # Gate and up have a storage each: one copy less to read and one less to write.
            if strategy != "dtensor" or op.kind != "swiglu_backward":
                assert ratio(op) in swept[op.kind] or is_bias(op), op
    assert set(swept) == set(by_plans)
    for kind, ratios in swept.items():
        assert len(ratios) == 1, kind
        assert ratios <= by_plans[kind], kind


def is_bias(op: Elementwise) -> bool:
    """The bias of a row-split layer is added apart: one tensor read, where the residual reads two."""
    return op.kind == "residual" and op.read_bytes == op.written_bytes


def test_operands_are_quantised_for_fp8_alone() -> None:
    assert "quantize" not in swept_passes()
    assert set(swept_passes(quantizes=True)) - set(swept_passes()) == {"quantize"}
    assert {op.layout for op in gemm_ops(RANGES["cuda"], "fp8", count=8)} == {"nt"}
    assert len(gemm_ops(RANGES["cuda"], "fp8", count=8)) == 8


def test_quantising_counts_its_bytes_as_the_plans_do() -> None:
    plan = plan_of_a_layer("llama2-70b", "allreduce", "prefill", dtype="fp8")
    assert {ratio(op) for op in passes(plan) if op.kind == "quantize"} == swept_passes(quantizes=True)["quantize"]


@pytest.mark.parametrize("kind", KINDS)
def test_passes_cover_their_range(kind: DeviceKind) -> None:
    low, high = RANGES[kind].elementwise_bytes
    for dtype, element_bytes in (("fp32", 4), ("bf16", 2)):
        norms = [op for op in elementwise_ops(RANGES[kind], dtype, count=8) if op.kind == "norm"]  # type: ignore[arg-type]
        assert len(norms) == 8
        sizes = [op.written_bytes for op in norms]
        assert sizes == sorted(set(sizes))
        assert all(size % (4096 * element_bytes) == 0 for size in sizes)
        assert sizes[0] == pytest.approx(low, rel=0.01)
        assert sizes[-1] == pytest.approx(high, rel=0.01)


@pytest.mark.parametrize(("kind", "last"), [("cpu", 32 * 2**20), ("cuda", 512 * 2**20)])
def test_collectives_double_from_a_kibibyte(kind: DeviceKind, last: int) -> None:
    ops = collective_ops(RANGES[kind], "bf16", num_ranks=4, backend="gloo")
    for collective in COLLECTIVE_KINDS:
        sizes = [op.size_bytes for op in ops if op.kind == collective]
        assert sizes == [1024 * 2**i for i in range(int(math.log2(last)) - 10 + 1)]
        assert sizes[-1] == last
    assert {(op.num_ranks, op.backend, op.dtype) for op in ops} == {(4, "gloo", "bf16")}
    (only,) = {
        op.kind for op in collective_ops(RANGES[kind], "bf16", num_ranks=2, backend="nccl", kinds=["all_reduce"])
    }
    assert only == "all_reduce"


def swept_keys(dtype: Dtype) -> set[str]:
    """The curves of a calibration in `dtype`; in fp8 all but the products are in bf16."""
    ranges, activations = RANGES["cuda"], activation_dtype(dtype)
    ops = [
        *gemm_ops(ranges, dtype, count=8),
        *attention_ops(ranges, activations, count=8),
        *elementwise_ops(ranges, activations, count=8, quantizes=dtype == "fp8"),
        *collective_ops(ranges, activations, num_ranks=8, backend="nccl"),
    ]
    return {curve_key(op) for op in ops}


def test_a_calibration_knows_a_curve_for_every_op_of_a_plan() -> None:
    keys = swept_keys("bf16")
    for strategy, plan in layers():
        assert {curve_key(op) for op in plan.ops} <= keys, strategy
    # fp8 is measured forward only.
    for phase, strategy in itertools.product(("prefill", "decode"), FP8_STRATEGIES):
        plan = plan_of_a_layer("llama2-70b", strategy, phase, dtype="fp8")  # type: ignore[arg-type]
        assert {curve_key(op) for op in plan.ops} <= swept_keys("fp8"), (phase, strategy)
