"""One op of a plan as something to time alone, on the kernels that the layers call."""

from collections.abc import Callable
from typing import Final, Literal, assert_never

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention

from bench.harness.cases.build import TORCH_DTYPES
from bench.harness.cases.streams import stream_call
from bench.harness.cases.sweeps import PASSES
from bench.harness.record.names import IN_PASS, OVERLAPPED
from bench.harness.timing.task import Task
from tp.layers.block import EPSILON
from tp.layers.collectives import GroupCollectives
from tp.layers.ffn import plain_gelu, swiglu
from tp.layers.fp8 import fp8_product, quantize
from tp.layers.rope import rope_table, rotate
from tp.layers.transfers import GATHER_TAG
from tp.layers.wire import Timeline
from tp.plan.ops import AttentionCore, Collective, Direction, Elementwise, Gemm, Op, Part, PassKind, is_stream
from tp.units import activation_dtype

Call = Callable[[], object]

# The row of an elementwise bench; wide enough that a row's overhead is that of a hidden size.
ELEMENTWISE_WIDTH = 2048
ROPE_HEAD_DIM = 64
# The product before an op in a pass: with weights of more than a core's own caches, a millisecond on a CPU core; 9 ms
# before a collective, in which ranks drift apart as in a layer. No sweep has an op of its part.
PRODUCT_WIDTH = 1536
PRODUCT_ROWS, PRODUCT_ROWS_OF_COLLECTIVES = 16, 256
PRODUCT_PART: Final[tuple[Part, Direction]] = ("out", "forward")


def compute_task(op: Gemm | AttentionCore | Elementwise, device: torch.device, *, name: str) -> Task:
    """The op alone, on random tensors of its own; a backward runs on a graph that is built before."""
    return _alone(_compute_call(op, device), _nothing, name=name)


def collective_task(op: Collective, collectives: GroupCollectives, *, name: str) -> Task:
    """The collective alone, on buffers of its own."""
    return _alone(*collective_call(op, collectives), name=name)


def _alone(call: Call, reset: Callable[[], None], *, name: str) -> Task:
    return Task(name=name, run=lambda timeline: _discard(call), reset=reset)


def op_tasks(op: Op, collectives: GroupCollectives, *, name: str) -> list[Task]:
    """The op alone, and in a pass after a product, on the same tensors; a backward's graph is built before.

    Layers call ops one after another. Alone, as the first thing after a wait, an op finds cold caches and takes longer,
    on CPUs 0.1 ms; a collective, called back to back, finds its peers on the dot and is faster: over gloo all-reduces
    of 1 MB took 0.8 ms in a loop and 1.2 ms in a layer. A send is also posted before the product and awaited after it.
    What only moves memory is no part of a layer, and is timed alone.
    """
    device = collectives.mesh.device
    if is_stream(op):
        assert isinstance(op, Elementwise)
        return [compute_task(op, device, name=name)]
    if isinstance(op, Collective):
        call, reset = collective_call(op, collectives)
    else:
        call, reset = _compute_call(op, device), _nothing
    product = _product(op, device)

    def in_pass(timeline: Timeline) -> None:
        timeline.enter(*PRODUCT_PART)
        product()
        timeline.enter(op.part, op.direction)
        call()

    tasks = [
        _alone(call, reset, name=name),
        Task(name=f"{IN_PASS}{name}", run=in_pass, reset=reset, marks_parts=True),
    ]
    if isinstance(op, Collective) and op.kind == "send_recv":
        tasks.append(_overlapped_send(op, collectives, product, name=name))
    return tasks


def _overlapped_send(op: Collective, collectives: GroupCollectives, product: Call, *, name: str) -> Task:
    """The send goes on while a product is computed; marked is the wait for it."""
    sent = _elements(op, collectives)
    received = torch.empty_like(sent)

    def overlapped(timeline: Timeline) -> None:
        timeline.enter(*PRODUCT_PART)
        wait = _start_send(collectives, sent, received)
        product()
        timeline.enter(op.kind, op.direction)
        wait()

    return Task(name=f"{OVERLAPPED}{name}", run=overlapped, reset=_nothing, marks_parts=True)


def _product(op: Op, device: torch.device) -> Call:
    rows = PRODUCT_ROWS_OF_COLLECTIVES if isinstance(op, Collective) else PRODUCT_ROWS
    dtype = TORCH_DTYPES[activation_dtype(op.dtype)]
    x = torch.randn(rows, PRODUCT_WIDTH, device=device, dtype=torch.float32).to(dtype)
    weight = torch.randn(PRODUCT_WIDTH, PRODUCT_WIDTH, device=device, dtype=torch.float32).to(dtype)
    return lambda: linear(x, weight)


def _nothing() -> None:
    pass


def _discard(call: Call) -> None:
    call()


def _compute_call(op: Gemm | AttentionCore | Elementwise, device: torch.device) -> Call:
    dtype = TORCH_DTYPES[activation_dtype(op.dtype)]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)

    match op:
        case Gemm():
            return _gemm(op, random)
        case AttentionCore():
            return _attention(op, random)
        case Elementwise():
            return _elementwise(op, random, dtype, device)
        case _:
            assert_never(op)


def _gemm(op: Gemm, random: Callable[..., Tensor]) -> Call:
    if op.dtype == "fp8":
        return _fp8_gemm(op, random)
    match op.layout:
        case "nt":
            x, weight = random(op.m, op.k), random(op.n, op.k)
            return lambda: linear(x, weight)
        case "nn":
            grad, weight = random(op.m, op.k), random(op.k, op.n)
            return lambda: grad @ weight
        case "tn":
            grad, x = random(op.k, op.m), random(op.k, op.n)
            return lambda: grad.t() @ x


def _fp8_gemm(op: Gemm, random: Callable[..., Tensor]) -> Call:
    """The product alone, of operands that are quantised before."""
    (x, x_scale), (weight, scale) = quantize(random(op.m, op.k)), quantize(random(op.n, op.k))
    return lambda: fp8_product(x, x_scale, weight, scale, bias=None, out_dtype=torch.bfloat16)


def _attention(op: AttentionCore, random: Callable[..., Tensor]) -> Call:
    # Heads beside each other in a token's row, as the QKV product leaves them.
    q = random(op.batch, op.seq, op.num_heads, op.head_dim).transpose(1, 2)
    k = random(op.batch, op.context, op.num_kv_heads, op.head_dim).transpose(1, 2)
    v = random(op.batch, op.context, op.num_kv_heads, op.head_dim).transpose(1, 2)

    def core() -> Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=op.causal, enable_gqa=op.num_heads != op.num_kv_heads)

    if op.direction == "forward":
        return core
    for leaf in (q, k, v):
        leaf.requires_grad_()
    z = core()
    grad = torch.randn_like(z)
    return lambda: torch.autograd.grad(z, (q, k, v), grad, retain_graph=True)


def _elementwise(op: Elementwise, random: Callable[..., Tensor], dtype: torch.dtype, device: torch.device) -> Call:
    match op.kind:
        case "copy" | "triad" | "read" | "to_device" | "to_host" | "both_ways":
            return stream_call(op.kind, int(op.moved_bytes), device)
        case kind:
            elements = op.read_bytes // dtype.itemsize // PASSES[kind][0]
            return _pass(kind, elements, random, dtype, device)


def _pass(
    kind: PassKind, elements: int, random: Callable[..., Tensor], dtype: torch.dtype, device: torch.device
) -> Call:
    width = min(ELEMENTWISE_WIDTH, elements)
    rows = elements // width
    x = random(rows, width)
    match kind:
        case "swiglu" | "gelu" | "swiglu_backward" | "gelu_backward":
            return _activation(kind, rows, width, random)
        case "norm":
            weight = random(width)
            return lambda: rms_norm(x, (width,), weight, EPSILON)
        case "norm_backward":
            weight = random(width).requires_grad_()
            return _backward(lambda x: rms_norm(x, (width,), weight, EPSILON), x, weight)
        case "rope":
            heads = x.view(1, x.shape[0], -1, ROPE_HEAD_DIM)
            table = rope_table(first=0, count=x.shape[0], head_dim=ROPE_HEAD_DIM, dtype=dtype, device=device)
            return lambda: rotate(heads, table)
        case "residual":
            other = random(*x.shape)
            return lambda: x + other
        case "concat":
            stacked = x.view(2, x.shape[0] // 2, width) if x.shape[0] > 1 else x.view(2, 1, -1)
            return lambda: stacked.transpose(0, 1).reshape(stacked.shape[1], -1)
        case "bias_grad":
            return lambda: x.sum(0)
        case "quantize":
            return lambda: quantize(x)
        case _:
            assert_never(kind)


def _activation(
    kind: Literal["swiglu", "gelu", "swiglu_backward", "gelu_backward"],
    rows: int,
    width: int,
    random: Callable[..., Tensor],
) -> Call:
    gated = kind.startswith("swiglu")
    x, function = random(rows, 2 * width if gated else width), swiglu if gated else plain_gelu
    return _backward(function, x) if kind.endswith("_backward") else lambda: function(x)


def _backward(function: Callable[[Tensor], Tensor], x: Tensor, *weights: Tensor) -> Call:
    """The backward of a function on a graph that is built before."""
    y = function(x.requires_grad_())
    grad = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, (x, *weights), grad, retain_graph=True)


def collective_call(op: Collective, collectives: GroupCollectives) -> tuple[Call, Callable[[], None]]:
    """One collective of the op's size on a buffer of its own, and what restores the buffer."""
    full = _elements(op, collectives)
    shard = full[: len(full) // collectives.mesh.size].clone()
    match op.kind:
        case "all_reduce":
            pristine = full.clone()
            # Refilled every time: a sum over itself would double until it overflows.
            return lambda: collectives.all_reduce(full), lambda: _refill(full, pristine)
        case "all_gather":
            return lambda: collectives.all_gather(shard), lambda: None
        case "reduce_scatter":
            return lambda: collectives.reduce_scatter(full), lambda: None
        case "send_recv":
            received = torch.empty_like(full)
            return lambda: _start_send(collectives, full, received)(), lambda: None
        case _:
            assert_never(op.kind)


def _start_send(collectives: GroupCollectives, sent: Tensor, received: Tensor) -> Callable[[], None]:
    """Begin one step of a ring; what waits until both tensors are through."""
    ring = collectives.ring([received], GATHER_TAG)
    ring.send(sent)

    def wait() -> None:
        ring.arrived(0)
        ring.finish()

    return wait


def _elements(op: Collective, collectives: GroupCollectives) -> Tensor:
    """[elements] of the collective's size, a multiple of the ranks."""
    mesh, dtype = collectives.mesh, TORCH_DTYPES[op.dtype]
    elements = max(op.size_bytes // dtype.itemsize // mesh.size, 1) * mesh.size
    return torch.randn(elements, device=mesh.device, dtype=torch.float32).to(dtype)


def _refill(buffer: Tensor, pristine: Tensor) -> None:
    buffer.copy_(pristine)
