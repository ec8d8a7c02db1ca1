"""What a calibration measures: shapes that spread over their ranges, as the plans of a block have them."""

import math
from typing import Any

import numpy as np
import pytest

from bench.harness.launch import DeviceKind
from bench.harness.op_sweeps import RANGES, attention_ops, collective_ops, elementwise_ops, gemm_ops
from tp.case import PHASES, STRATEGIES, Case, Workload
from tp.cost.calibrated import curve_key
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import COLLECTIVE_KINDS, Elementwise, ElementwiseKind

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


def plans_passes() -> dict[ElementwiseKind, set[tuple[float, bool]]]:
    """Reads to writes of every kind of pass that any plan holds."""
    found: dict[ElementwiseKind, set[tuple[float, bool]]] = {}
    for model in ("llama2-70b", "megatron-22b"):
        for strategy in STRATEGIES:
            for phase in PHASES:
                seq = 1 if phase == "decode" else 64
                workload = Workload(phase=phase, batch=8, seq=seq, context=64, dtype="bf16")
                case = Case(block="attention", model=load_model(model), strategy=strategy, tp=8, workload=workload)
                for op in build_plan(case, backend="nccl").ops:
                    if isinstance(op, Elementwise):
                        found.setdefault(op.kind, set()).add(ratio(op))
    return found


def ratio(op: Elementwise) -> tuple[float, bool]:
    return (op.read_bytes / op.written_bytes, True) if op.written_bytes else (1.0, False)


def test_passes_count_their_bytes_as_the_plans_do() -> None:
    by_plans = plans_passes()
    swept: dict[ElementwiseKind, set[tuple[float, bool]]] = {}
    for op in elementwise_ops(RANGES["cpu"], "fp32", count=8):
        swept.setdefault(op.kind, set()).add(ratio(op))
    assert set(swept) == set(by_plans)
    for kind, ratios in swept.items():
        assert len(ratios) == 1, kind
        # The bias of a row-split projection is added apart: one tensor read, where the residual reads two.
        assert ratios <= by_plans[kind], kind
        assert by_plans[kind] - ratios <= ({(1.0, True)} if kind == "residual" else set()), kind


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


def swept_keys(dtype: Any) -> set[str]:
    ranges = RANGES["cuda"]
    ops = [
        *gemm_ops(ranges, dtype, count=8),
        *attention_ops(ranges, dtype, count=8),
        *elementwise_ops(ranges, dtype, count=8),
        *collective_ops(ranges, dtype, num_ranks=8, backend="nccl"),
    ]
    return {curve_key(op) for op in ops}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_calibration_knows_a_curve_for_every_op_of_a_plan(strategy: Any, phase: Any) -> None:
    keys = swept_keys("bf16")
    for model in ("llama2-70b", "megatron-22b"):
        seq = 1 if phase == "decode" else 64
        workload = Workload(phase=phase, batch=8, seq=seq, context=64, dtype="bf16")
        case = Case(block="attention", model=load_model(model), strategy=strategy, tp=8, workload=workload)
        assert {curve_key(op) for op in build_plan(case, backend="nccl").ops} <= keys
