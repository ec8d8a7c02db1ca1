"""Traces of torch's profiler: interval arithmetic against a raster, small traces by hand, and broken ones."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.profiler import json_stream
from analysis.profiler.collectives import Sent, sent_collectives
from analysis.profiler.intervals import Split, both, length, make_busy, union
from analysis.profiler.kernels import collective_kind, kernel_kind
from analysis.profiler.load import Traces, load_traces
from analysis.profiler.operators import is_operator, operator_kind
from analysis.profiler.steps import StepTimes, kernel_times, outside, step_times
from tests.unit.trace_factory import collective, event, kernel, launched, step, trace, write
from tp.errors import ConfigError

pytestmark = pytest.mark.unit

GEMM = "nvjet_sm90_tst_128x256_64x4_1x2_h_bz_coopA_TNT"
SUM = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"

intervals = st.lists(st.tuples(st.integers(-5, 40), st.integers(-3, 15)).map(lambda x: (x[0], x[0] + x[1])), max_size=8)


def cells(found: list[tuple[int, int]]) -> set[int]:
    return {cell for start, end in found for cell in range(start, end)}


@given(intervals)
def test_a_union_covers_what_its_intervals_cover(given_: list[tuple[int, int]]) -> None:
    found = union(given_)
    assert cells(found) == cells(given_)
    assert length(found) == len(cells(given_))
    assert all(left[1] < right[0] for left, right in zip(found, found[1:], strict=False))


@given(intervals, intervals)
def test_both_is_what_two_unions_share(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    assert cells(both(union(left), union(right))) == cells(left) & cells(right)


@given(intervals, intervals, intervals, st.integers(-8, 40), st.integers(0, 50))
@settings(max_examples=150)
def test_a_window_splits_as_on_a_raster(
    compute: list[tuple[int, int]],
    sent: list[tuple[int, int]],
    copies: list[tuple[int, int]],
    start: int,
    span: int,
) -> None:
    window = set(range(start, start + span))
    computing, sending, copying = cells(compute) & window, cells(sent) & window, cells(copies) & window
    split = make_busy(compute=compute, communication=sent, copies=copies).split((start, start + span))
    assert split.compute_ns == len(computing)
    assert split.communication_ns == len(sending)
    assert split.overlapped_ns == len(computing & sending)
    assert split.exposed_ns == len(sending - computing)
    assert split.copy_alone_ns == len(copying - computing - sending)
    assert split.idle_ns == len(window - computing - sending - copying)
    assert split.compute_ns + split.exposed_ns + split.copy_alone_ns + split.idle_ns == span
    if computing and sending:
        together = len(computing | sending)
        imb = (len(sending) + len(computing) - together) / min(len(sending), len(computing))
        assert split.overlap_percent == pytest.approx(100 * max(0, min(1, imb)))
    else:
        assert split.overlap_percent is None


def test_overlap_and_hidden_share_differ_where_communication_is_longer() -> None:
    split = make_busy(compute=[(0, 20)], communication=[(10, 90)]).split((0, 100))
    # 10 of min(20, 80), and 10 of 80
    assert (split.overlap_percent, split.hidden_percent) == (50.0, 12.5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (SUM, "communication"),
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)", "communication"),
        ("ncclAllReduceRingLLKernel_sum_f32(ncclColl)", "communication"),
        ("ncclSymkDevKernel_AllReduce_RSxLDMC_AGxSTMC_sum_bf16(ncclSymkDevWorkArgs4K)", "communication"),
        ("ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "communication"),
        ("void rcclGenericKernel<1, false>(ncclDevKernelArgsStorage<4096ul>)", "communication"),
        ("mscclKernel_Sum_half_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)", "communication"),
        ("void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*)", "communication"),
        ("void (anonymous namespace)::one_shot_all_reduce_kernel<float, 16, 8>(float**)", "communication"),
        ("void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<c10::BFloat16, 16, 2>(x)", "communication"),
        ("void (anonymous namespace)::multimem_one_shot_reduce_kernel<c10::BFloat16, 16>(x)", "communication"),
        ("void (anonymous namespace)::barrier_kernel(unsigned int**, int, int, int)", "communication"),
        ("void vllm::cross_device_reduce_2stage<__nv_bfloat16, 8>(vllm::RankData*)", "communication"),
        ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<1>(x)", "communication"),
        ("triton_poi_fused_add_all_reduce_4", "elementwise"),
        ("triton_red_fused__to_copy_all_gather_mean_2", "elementwise"),
        ("triton_tem_fused_mm_3", "gemm"),
        (GEMM, "gemm"),
        ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn", "gemm"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128>(x::Params)", "gemm"),
        ("Cijk_Ailk_Bljk_BBS_BH_Bias_HAS_SAV_UserArgs_MT128x128x64_MI16x16x1", "gemm"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>(x)", "gemm"),
        ("void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>(Flash_fwd_params)", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::Params)", "attention"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl(x)>(int)", "elementwise"),
        ("void at::native::(anonymous namespace)::softmax_warp_forward<float, (int)4>(float*)", "elementwise"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<x>(y)", "elementwise"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float> >(x)", "elementwise"),
        ("my_own_kernel", "other"),
    ],
)
def test_kernels_by_their_names(name: str, kind: str) -> None:
    assert kernel_kind(name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (SUM, "all_reduce"),
        ("_allgather_base", "all_gather"),
        ("_reduce_scatter_base", "reduce_scatter"),
        ("alltoall_base", "all_to_all"),
        ("ncclDevKernel_SendRecv(x)", "send_recv"),
        ("ncclDevKernel_Reduce_Sum_f32_RING_LL(x)", "reduce"),
        ("gloo:barrier", "barrier"),
        ("c10d::gather_", "gather"),
        ("ncclDevKernel_Generic_4(x)", "unnamed"),
    ],
)
def test_collectives_by_their_names(name: str, kind: str) -> None:
    assert collective_kind(name) == kind


def test_operators_by_their_names() -> None:
    kinds = {
        "aten::addmm": "gemm",
        "aten::bmm": "gemm",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "aten::gelu_backward": "elementwise",
        "aten::add_": "elementwise",
        "aten::as_strided": "other",
        "mine::op": "other",
    }
    assert {name: operator_kind(name) for name in kinds} == kinds
    frames = ("AddmmBackward0", "autograd::engine::evaluate_function: MulBackward0", "c10d::allreduce_", "gloo:barrier")
    assert all(is_operator(name) for name in kinds)
    assert not any(is_operator(name) for name in frames)


def load(folder: Path, *contents: dict[str, Any]) -> Traces:
    return load_traces([write(folder, content, f"{number}.json") for number, content in enumerate(contents)])


def only_step(traces: Traces) -> StepTimes:
    (found,) = [each for one in traces.traces for each in step_times(one)]
    return found


def nanoseconds(split: Split) -> tuple[int, ...]:
    return split.span_ns, split.compute_ns, split.communication_ns, split.overlapped_ns, split.exposed_ns, split.idle_ns


def test_a_trace_without_steps_is_one(tmp_path: Path) -> None:
    """Compute 10..40 and, nested and beside it, 20..50; sent 45..70; a copy 65..80, of which 10 us alone; end at 80."""
    events = [
        kernel(GEMM, 10, 30),
        kernel("softmax", 20, 10),
        kernel("my_kernel", 30, 20, tid=8),
        kernel(SUM, 45, 25, tid=9),
        event("Memcpy DtoD (Device -> Device)", "gpu_memcpy", 65, 15, tid=9, device=0),
        event("Memset (Device)", "gpu_memset", 12, 0, tid=9, device=0),
    ]
    found = only_step(load(tmp_path, trace(events)))
    assert found.step is None
    assert nanoseconds(found.split) == (70_000, 40_000, 25_000, 5_000, 20_000, 0)
    assert found.split.copy_alone_ns == 10_000
    assert found.split.overlap_percent == pytest.approx(20.0)
    assert found.kind_ns == {"gemm": 30_000, "attention": 0, "elementwise": 10_000, "other": 20_000}


def stepped() -> list[dict[str, Any]]:
    """The host's steps are 0..50 and 50..100, and the device lags: 40..140 and 140..230."""
    return [
        step(1, 0, 50),
        step(2, 50, 50),
        *launched(GEMM, 5, 40, 60, 1),
        *launched(SUM, 10, 90, 30, 2, **collective("allreduce", (1000, 1000))),
        *launched(GEMM, 55, 140, 60, 3),
        *launched(SUM, 60, 200, 30, 4, **collective("allreduce", (1000, 1000))),
        *launched("before", -20, -15, 5, 5),
    ]


def test_a_kernel_is_of_the_step_that_launched_it(tmp_path: Path) -> None:
    (one,) = load(tmp_path, trace(stepped(), world=1)).traces
    first, second = step_times(one)
    assert (first.step, second.step) == (1, 2)
    assert nanoseconds(first.split) == (100_000, 60_000, 30_000, 10_000, 20_000, 20_000)
    assert nanoseconds(second.split) == (90_000, 60_000, 30_000, 0, 30_000, 0)
    assert outside(one) == "rank 0: 5.00 us of kernels and copies (1 of them) ran outside of all steps and are in none"
    assert [(kernel.name, kernel.calls, kernel.total_ns) for kernel in kernel_times([one])] == [(GEMM, 2, 120_000)]


def test_a_step_of_a_slow_host_ends_with_its_host(tmp_path: Path) -> None:
    events = [step(1, 0, 500), *launched(GEMM, 5, 10, 20, 1)]
    found = only_step(load(tmp_path, trace(events)))
    assert nanoseconds(found.split) == (500_000, 20_000, 0, 0, 0, 480_000)


def test_devices_of_one_trace_are_apart(tmp_path: Path) -> None:
    (one,) = load(tmp_path, trace([kernel(GEMM, 0, 10), kernel(GEMM, 0, 30, device=1)])).traces
    assert [(each.device, each.split.compute_ns) for each in step_times(one)] == [("0", 10_000), ("1", 30_000)]


def by_rank(sent: list[Sent]) -> dict[int, Sent]:
    assert len({each.rank for each in sent}) == len(sent)
    return {each.rank: each for each in sent}


def late(durations: tuple[float, ...], begin: float, *, kind: str = "allreduce") -> list[dict[str, Any]]:
    """So many all-reduces of 4096 bf16, 1 ms apart."""
    return [
        kernel(SUM, 1000 * number + begin, duration, **collective(kind, (4096, 4096)))
        for number, duration in enumerate(durations)
    ]


def test_waits_are_against_the_fastest_rank_one_by_one(tmp_path: Path) -> None:
    """Rank 1 comes 30 us late to the first, rank 0 20 us late to the second; the clocks are of one machine."""
    one = trace(late((50, 15), 0), rank=0, world=2, host_name="a", baseTimeNanoseconds=1_000_000)
    other = trace(late((20, 35), 30), rank=1, world=2, host_name="a", baseTimeNanoseconds=1_000_000)
    other["traceEvents"][1]["ts"] = 980
    sent, notes = sent_collectives(load(tmp_path, one, other))
    rows = by_rank(sent)
    assert notes == []
    assert [(rows[rank].count, rows[rank].total_ns, rows[rank].shortest_ns) for rank in (0, 1)] == [
        (2, 65_000, 20_000 + 15_000),
        (2, 55_000, 35_000),
    ]
    assert (rows[0].wait_ns, rows[1].wait_ns) == (30_000, 20_000)
    assert rows[0].skew_ns == rows[1].skew_ns == 50_000
    assert (rows[0].message.size_bytes, rows[0].message.group_size) == (8192, 2)


def test_collectives_are_matched_in_the_order_of_the_program(tmp_path: Path) -> None:
    """On rank 1 two streams begin them the other way round; called for first was the long one on both."""

    def of(rank: int, long: float, short: float, **args: Any) -> dict[str, Any]:
        sizes = collective("allreduce", (4, 4)), collective("allreduce", (8, 8))
        first = launched(SUM, 1, long, 40 + rank, 1, tid=5, **sizes[0])
        return trace([*first, *launched(SUM, 2, short, 3, 2, tid=6, **sizes[1])], rank=rank, world=2)

    sent, _ = sent_collectives(load(tmp_path, of(0, 10, 20), of(1, 15, 14)))
    assert [(each.rank, each.total_ns, each.wait_ns) for each in sent] == [
        *((0, 40_000, 0), (0, 3_000, 0)),
        *((1, 41_000, 1_000), (1, 3_000, 0)),
    ]


def test_skew_needs_one_clock(tmp_path: Path) -> None:
    hosts = [trace(late((50,), 0), rank=rank, world=2, host_name=f"node{rank}") for rank in (0, 1)]
    sent, _ = sent_collectives(load(tmp_path, *hosts))
    assert [(each.wait_ns, each.skew_ns) for each in sent] == [(0, None), (0, None)]


def test_groups_are_not_mixed_and_pairs_not_matched(tmp_path: Path) -> None:
    def of(rank: int, group: str, duration: float) -> dict[str, Any]:
        mine = collective("_allgather_base", (8, 16), dtype="Float", group=group)
        pair = collective("send", (8, 8), group="pairs")
        events = [kernel("ncclDevKernel_AllGather_RING_LL(x)", 0, duration, **mine), kernel(SUM, 99, duration, **pair)]
        return trace(events, rank=rank, world=4)

    durations = {0: ("left", 10.0), 1: ("left", 12.0), 2: ("right", 50.0), 3: ("right", 55.0)}
    sent, _ = sent_collectives(load(tmp_path, *(of(rank, *each) for rank, each in durations.items())))
    gathers = by_rank([each for each in sent if each.message.collective == "all_gather"])
    assert {rank: row.wait_ns for rank, row in gathers.items()} == {0: 0, 1: 2_000, 2: 0, 3: 5_000}
    assert gathers[0].message.size_bytes == 64
    assert {each.wait_ns for each in sent if each.message.collective == "send_recv"} == {None}


def test_what_does_not_come_equally_often_has_no_wait(tmp_path: Path) -> None:
    traces = load(tmp_path, trace(late((50, 40), 0), world=2), trace(late((20,), 0), rank=1, world=2))
    sent, notes = sent_collectives(traces)
    assert [each.wait_ns for each in sent] == [None, None]
    assert "not equally often" in notes[0]


def test_a_kernel_of_a_graph_has_neither_bytes_nor_group(tmp_path: Path) -> None:
    traces = load(tmp_path, *(trace([kernel(SUM, 0, 9 + rank)], rank=rank, world=2) for rank in (0, 1)))
    sent, notes = sent_collectives(traces)
    message = sent[0].message
    assert (message.collective, message.size_bytes, message.group_size, message.group) == ("all_reduce", None, None, "")
    assert "matched over all ranks" in notes[0]
    assert sent[1].wait_ns == 1_000


def test_an_unknown_kernel_with_a_collectives_name_is_communication(tmp_path: Path) -> None:
    found = only_step(load(tmp_path, trace([kernel("brand_new", 0, 9, **collective("allreduce", (4, 4)))])))
    assert found.split.communication_ns == 9_000


def test_collectives_that_no_kernel_shows_are_an_error(tmp_path: Path) -> None:
    record = event("record_param_comms", "cpu_op", 0, 1, **collective("allreduce", (4, 4)))
    with pytest.raises(ConfigError, match=r"1 collectives were called .*unknown ones: brand_new"):
        load(tmp_path, trace([record, kernel("brand_new", 0, 9)]))
    alone = event("record_param_comms", "cpu_op", 0, 1, **collective("allreduce", (4, 4), size=1))
    assert load(tmp_path, trace([alone, kernel("brand_new", 0, 9)]))


def on_cpu() -> list[dict[str, Any]]:
    """The caller multiplies 0..40 (of which a copy 10..15), calls 50..60, waits in autograd's frame 60..100."""
    dims, types = [[[8, 4]], [], []], ["TensorList", "", ""]
    scatter = {"Input Dims": [[4, 4], [8, 4], []], "Input type": ["float", "float", ""]}
    sums = {"Input Dims": [[8, 4]], "Input type": ["float"]}
    return [
        event("aten::addmm", "cpu_op", 0, 40, tid=1),
        event("aten::copy_", "cpu_op", 10, 5, tid=1),
        event("autograd::engine::evaluate_function: MyBackward", "cpu_op", 50, 50, tid=1),
        event("c10d::allreduce_", "cpu_op", 50, 10, tid=1, **{"Input Dims": dims, "Input type": types}),
        event("aten::chunk", "cpu_op", 52, 2, tid=1),
        event("c10d::_reduce_scatter_base_", "cpu_op", 61, 1, tid=1, **scatter),
        event("gloo:all_reduce", "user_annotation", 55, 20, tid=2, **sums),
        event("gloo:all_reduce", "user_annotation", 76, 14, tid=2, **sums),
        event("aten::mul", "cpu_op", 80, 5, tid=1),
        event("my::range", "user_annotation", 0, 100, tid=1),
    ]


def test_a_cpus_trace_counts_self_time_and_gloos_threads(tmp_path: Path) -> None:
    group = {"pg_config": [{"pg_name": "0", "pg_size": 2, "ranks": [0, 1]}]}
    content = trace(on_cpu(), backend="gloo", world=2)
    content["distributedInfo"] |= group
    traces = load(tmp_path, content)
    found = only_step(traces)
    assert traces.is_cpu
    assert "ranks 1 of 2 have no trace" in traces.notes[0]
    assert nanoseconds(found.split) == (90_000, 45_000, 34_000, 5_000, 29_000, 16_000)
    assert found.kind_ns == {"gemm": 35_000, "attention": 0, "elementwise": 10_000, "other": 0}
    sent, _ = sent_collectives(traces)
    # gloo runs a reduce-scatter as an all-reduce; the call says what it was
    rows = [(each.message.collective, each.message.size_bytes, each.count, each.total_ns) for each in sent]
    assert rows == [("all_reduce", 128, 1, 20_000), ("reduce_scatter", 128, 1, 14_000)]


def test_calls_that_gloo_does_not_tell_of_are_told(tmp_path: Path) -> None:
    events = [*on_cpu(), event("c10d::broadcast_", "cpu_op", 96, 1, tid=1)]
    content = trace(events, backend="gloo", world=1)
    assert load(tmp_path, content).notes == (
        "rank 0: 1 collectives were called whose times gloo does not tell: none is counted",
    )


def test_collectives_that_no_thread_of_gloo_shows_are_an_error(tmp_path: Path) -> None:
    events = [each for each in on_cpu() if not each["name"].startswith("gloo:")]
    with pytest.raises(ConfigError, match="2 collectives were called, yet no device"):
        load(tmp_path, trace(events, backend="cuda:nccl", world=2))


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    odd: list[Any] = [
        event("a", "kernel", 0, -4),
        event("b", "kernel", 0, None),
        event("c", "kernel", "soon", 5),
        event("d", "kernel", float("nan"), 5),
        {"ph": "B", "cat": "kernel", "name": "e", "ts": 1},
        {"ph": "i", "cat": "kernel", "name": "f", "ts": 1},
        {"ph": "M", "name": "process_name", "args": {"name": "python"}},
        event("python_frame", "python_function", 0, 500),
        event("nccl:all_reduce", "gpu_user_annotation", 0, 500),
        "nonsense",
        kernel(GEMM, 0, "7.5"),
        kernel(GEMM, 3, 0),
    ]
    traces = load(tmp_path, trace(odd))
    assert nanoseconds(only_step(traces).split)[:3] == (7_500, 7_500, 0)
    assert sorted(traces.notes) == [
        "0.json: 1 events left out, begin and end apart (ph B and E)",
        "0.json: 1 events left out, which are no objects",
        "0.json: 1 events left out, with a negative duration",
        "0.json: 3 events left out, without a time (ts) or a duration (dur)",
    ]


def test_old_categories_and_a_bare_array_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, [event(GEMM, "Kernel", 0, 5), event("Memcpy HtoD", "Memcpy", 5, 2)], "old.json.gz")
    traces = load_traces([path])
    assert only_step(traces).split.copy_alone_ns == 2_000
    assert "says no rank" in traces.notes[0]


@given(st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_pieces_of_any_length_read_the_same(piece: int) -> None:
    import io

    content = trace([kernel('a "quoted" \\ é', 1234567.125, 89.5), kernel(SUM, 3, 12345678)], rank=3, world=8)
    content["baseTimeNanoseconds"] = 1790857026000000000
    text = json.dumps(content, indent=1)
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "PIECE", piece)
        reader = json_stream._Reader(io.StringIO(text), Path("x"))
        beside = json_stream._object(reader, found.append, Path("x"))
    assert found == content.pop("traceEvents")
    assert beside == content


WHOLE = json.dumps(trace([kernel(GEMM, 0, 5), kernel(SUM, 1, 2)]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("hello", "begins with 'h'"),
        ("{}", "has no traceEvents"),
        ('{"traceEvents": 5}', "has no traceEvents"),
        ('{"traceEvents": []}', "holds no operator and no kernel"),
        (WHOLE[: len(WHOLE) // 2], f"ends too early, at line 1, character {len(WHOLE) // 2 + 1}"),
        (WHOLE[:-1], "ends too early"),
        (WHOLE + "{}", "more text after its end"),
        (
            '{"a": 1,\n "b": ,\n "traceEvents": []}' + " " * 99,
            "is broken at line 2, character 16 of the file: Expecting value",
        ),
        ('{"a" 1}' + " " * 99, "is broken at line 1, character 6 of the file: '1' where ':' belongs"),
        ('{"a": ' + "[" * 100_000, "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "is broken at line 1, character 7"),
    ],
)
def test_broken_text_is_one_line_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_traces([path])
    assert str(raised.value).startswith(f"{path}: ")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=60, deadline=None)
def test_no_beginning_of_a_trace_is_read_as_a_whole_one(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.json"
        path.write_text(WHOLE[:cut])
        with pytest.raises(ConfigError, match=r"ends too early|is empty"):
            load_traces([path])


def test_files_that_cannot_be_read_or_do_not_belong_together(tmp_path: Path) -> None:
    whole = write(tmp_path, trace([kernel(GEMM, 0, 5)], world=2), "a.json")
    packed = tmp_path / "cut.json.gz"
    packed.write_bytes(gzip.compress(WHOLE.encode())[:-20])
    again = write(tmp_path, trace([kernel(GEMM, 0, 5)], world=2), "b.json")
    wider = write(tmp_path, trace([kernel(GEMM, 0, 5)], rank=1, world=4), "c.json")
    nameless = write(tmp_path, trace([kernel(GEMM, 0, 5)], rank=None), "d.json")
    on_host = write(tmp_path, trace([event("aten::mm", "cpu_op", 0, 5)], rank=1, world=2), "e.json")
    for paths, problem in (
        ([], "TRACE: is missing"),
        ([tmp_path / "none.json"], "No such file"),
        ([tmp_path], "cannot be read"),
        ([packed], "cannot be unpacked"),
        ([whole, again], "is of rank 0, as "),
        ([whole, wider], "is of 4 ranks, "),
        ([whole, nameless], "says no rank"),
        ([whole, on_host], "holds no device's kernels"),
    ):
        with pytest.raises(ConfigError, match=problem):
            load_traces(paths)


def test_the_command_from_flags_to_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(write(tmp_path, trace(stepped(), rank=rank, world=2), f"{rank}.json")) for rank in (0, 1)]
    out, sent = tmp_path / "out" / "steps.csv", tmp_path / "sent.csv"
    words = ["import", "torch-profiler", *paths, "--out", str(out), "--collectives", str(sent)]
    sizes = ["--model", "llama2-7b", "--hardware", "h100-sxm", "--seq", "512", "--layers", "3"]
    assert main([*words, *sizes]) == 0
    shown, told = capsys.readouterr()
    assert shown.startswith("rank 0 exposes 25.0 us of 30.0 us communication a step; 63.2 % of the step computes")
    assert "3 layers of block/llama2-7b/train/allreduce/tp2/b1/s512/c512/bf16 on h100-sxm" in shown
    assert "the estimate is without embedding" in shown
    assert "note: rank 1: 5.00 us of kernels and copies (1 of them) ran outside" in told
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["step"], row["exposed_s"]) for row in rows[:2]] == [
        ("0", "1", "2e-05"),
        ("0", "2", "3e-05"),
    ]
    with sent.open() as file:
        first = next(csv.DictReader(file))
    assert (first["collective"], first["size_bytes"], first["count"], first["wait_s"]) == (
        "all_reduce",
        "2000",
        "1",
        "0.0",
    )

    assert main([*words[:4], "--json", *sizes]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["quantity"] for row in found["estimate"]] == ["compute", "communication", "exposed"]
    compute = found["estimate"][0]
    assert compute["measured_s"] == pytest.approx(60e-6)
    assert compute["predicted_over_measured"] == pytest.approx(compute["estimate_s"] / 60e-6)
    assert compute["low_s"] < compute["estimate_s"] < compute["high_s"]


def test_more_layers_take_as_much_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, trace(stepped())))
    totals = []
    for layers in ("1", "7"):
        flags = ("--model", "llama2-7b", "--hardware", "h100-sxm", "--tp", "4", "--layers", layers, "--json")
        assert main(["import", "torch-profiler", path, *flags]) == 0
        totals.append([row["estimate_s"] for row in json.loads(capsys.readouterr().out)["estimate"]])
    assert totals[1] == pytest.approx([7 * value for value in totals[0]])


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--tp", "2"), "--model: is missing"),
        (("--model", "llama2-7b"), "--hardware: is missing"),
        (("--model", "llama2-7b", "--hardware", "h100-sxm", "--tp", "3"), "tp 3"),
        (("--model", "llama2-7b", "--hardware", "h100-sxm", "--layers", "0"), "--layers 0"),
        (("--model", "nope", "--hardware", "h100-sxm"), "nope"),
        (("--out", "steps.txt"), "is no .csv file"),
        (
            ("--out", "a.csv", "--collectives", "a.csv"),
            "--collectives a.csv: is a file that is read or written already",
        ),
        (("--wrong", "1"), "--wrong: no such flag"),
    ],
)
def test_wrong_flags_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], problem: str
) -> None:
    path = str(write(tmp_path, trace(stepped())))
    assert main(["import", "torch-profiler", path, *flags]) == 2
    told = capsys.readouterr().err
    assert problem in told
    assert told.count("\n") == 1


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, trace([kernel("\x1b[31m at::key::f [bold]", 0, 5), kernel("\ud800", 5, 5)])))
    assert main(["import", "torch-profiler", path]) == 0
    shown = capsys.readouterr().out
    assert "?[31m at::key::f [bold]" in shown
    assert "\x1b" not in shown
