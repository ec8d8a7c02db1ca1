"""The kernels that Megatron ran in 2022 for the ops of a plan: attention that is not fused, with dropout.

For holding plans against the times that Korthikanti et al. 2022 (arXiv:2205.05198) print. The products with weights,
the collectives and the order stay the plan's own; its attention core becomes batched products, a softmax and a
dropout, its residual a fused bias, dropout and add, its activation takes the bias along, and weight gradients are
added to fp32 main gradients. Layers of this project run none of these, so no calibration holds them.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from tp.case import Case
from tp.errors import PlanError
from tp.plan.build import build_plan
from tp.plan.ops import AttentionCore, Backend, Collective, Elementwise, Gemm, Op
from tp.units import DTYPE_BYTES, Dtype

PassKind = Literal[
    "norm",
    "norm_backward",
    "heads",
    "softmax",
    "softmax_backward",
    "dropout",
    "dropout_backward",
    "bias_gelu",
    "bias_gelu_backward",
    "bias_dropout_add",
    "bias_grad",
    "gradient_add",
    "accumulate",
]

# Tensors read and written by a pass, in units of its main one; a dropout mask of one byte is half a 16-bit tensor.
TENSORS: Final[dict[PassKind, float]] = {
    "norm": 2.5,  # in and out; the second read, for the result, half from cache
    "norm_backward": 4.0,  # gradient and input in, gradient out; a read more for the weights' gradients
    "heads": 2.0,  # a copy that lays heads together, or apart again
    "softmax": 2.0,  # scaled and masked on the way
    "softmax_backward": 3.0,
    "dropout": 2.5,
    "dropout_backward": 2.5,
    "bias_gelu": 2.0,
    "bias_gelu_backward": 3.0,
    "bias_dropout_add": 3.5,  # update and residual in, sum and mask out
    "bias_grad": 1.0,
    "gradient_add": 3.0,  # the gradient that skipped the block joins
    "accumulate": 2.0,  # the fp32 main gradient, read and written
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchedGemm:
    """`count` products of their own operands, each [m, n] over k; 2*count*m*n*k FLOPs."""

    count: int
    m: int
    n: int
    k: int
    dtype: Dtype

    @property
    def flops(self) -> float:
        return 2.0 * self.count * self.m * self.n * self.k

    @property
    def moved_bytes(self) -> float:
        """Both operands read and the result written once."""
        return float(DTYPE_BYTES[self.dtype] * self.count * (self.m * self.k + self.k * self.n + self.m * self.n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over tensors of `tensor_bytes`, bound by memory."""

    kind: PassKind
    tensor_bytes: int

    @property
    def moved_bytes(self) -> float:
        return TENSORS[self.kind] * self.tensor_bytes


Kernel = Gemm | Collective | BatchedGemm | Pass


def forward_ops(case: Case, *, backend: Backend) -> tuple[Op, ...]:
    """The plan's forward pass; its ops hide nothing that comes after it."""
    ops = _plain_ops(case, backend)
    return ops[: _first_backward(ops)]


def backward_ops(case: Case, *, backend: Backend) -> tuple[Op, ...]:
    """The plan's backward pass with what it remakes, as if it began with everything sent.

    Full recompute runs the whole forward again, its last product and collective too, as Megatron's CheckpointFunction
    does; torch.utils.checkpoint, and with it our plan, stops as soon as it has what the backward needs.
    """
    if case.recompute == "full":
        return _plain_ops(case, backend)
    ops = build_plan(case, backend=backend).ops
    start = _first_backward(ops)
    sent = sum(isinstance(op, Collective) for op in ops[:start])
    return tuple(
        op if isinstance(op, Collective) or op.needs is None else replace(op, needs=op.needs - sent)
        for op in ops[start:]
    )


def kernels(op: Op) -> tuple[Kernel, ...]:
    """What Megatron ran for one op of a plan; PlanError for an op that its GPT has not."""
    match op:
        case Collective():
            return (op,)
        case Gemm():
            return _gemm_kernels(op)
        case AttentionCore():
            return _core_kernels(op)
        case Elementwise():
            return _elementwise_kernels(op)


def _plain_ops(case: Case, backend: Backend) -> tuple[Op, ...]:
    return build_plan(replace(case, recompute="none"), backend=backend).ops


def _first_backward(ops: tuple[Op, ...]) -> int:
    return next(number for number, op in enumerate(ops) if op.direction == "backward")


def _gemm_kernels(op: Gemm) -> tuple[Kernel, ...]:
    if op.layout == "tn":
        return op, Pass(kind="accumulate", tensor_bytes=op.m * op.n * DTYPE_BYTES["fp32"])
    if op.part == "qkv" and op.direction == "forward":
        return op, Pass(kind="heads", tensor_bytes=op.m * op.n * DTYPE_BYTES[op.dtype])
    return (op,)


def _core_kernels(op: AttentionCore) -> tuple[Kernel, ...]:
    """Two batched products forward and four backward over whole [s, c] scores: the causal half is only masked."""
    heads, size = op.batch * op.num_heads, DTYPE_BYTES[op.dtype]
    scores, context = heads * op.seq * op.context * size, heads * op.seq * op.head_dim * size

    def product(m: int, n: int, k: int) -> BatchedGemm:
        return BatchedGemm(count=heads, m=m, n=n, k=k, dtype=op.dtype)

    if op.num_kv_heads != op.num_heads:
        raise PlanError(f"{op.num_heads} heads share {op.num_kv_heads} kv heads; Megatron's kernels of 2022 share none")
    to_scores, to_context = (op.seq, op.context, op.head_dim), (op.seq, op.head_dim, op.context)
    if op.direction == "forward":
        return (
            product(*to_scores),  # S = Q K^T
            Pass(kind="softmax", tensor_bytes=scores),
            Pass(kind="dropout", tensor_bytes=scores),
            product(*to_context),  # Z = P V
            Pass(kind="heads", tensor_bytes=context),
        )
    to_keys = (op.context, op.head_dim, op.seq)
    return (
        Pass(kind="heads", tensor_bytes=context),
        product(*to_scores),  # dP = dZ V^T
        product(*to_keys),  # dV = P^T dZ
        Pass(kind="dropout_backward", tensor_bytes=scores),
        Pass(kind="softmax_backward", tensor_bytes=scores),
        product(*to_context),  # dQ = dS K
        product(*to_keys),  # dK = dS^T Q
    )


def _elementwise_kernels(op: Elementwise) -> tuple[Kernel, ...]:
    match op.kind, op.direction:
        case "norm", _:
            return (Pass(kind="norm", tensor_bytes=op.written_bytes),)
        case "norm_backward", _:
            return (Pass(kind="norm_backward", tensor_bytes=op.written_bytes),)
        case "gelu", _:
            return (Pass(kind="bias_gelu", tensor_bytes=op.written_bytes),)
        case "gelu_backward", _:
            return (Pass(kind="bias_gelu_backward", tensor_bytes=op.written_bytes),)
        case "concat", "backward":  # dQ | dK | dV
            return (Pass(kind="heads", tensor_bytes=op.written_bytes),)
        case "residual", "forward":
            # The plan adds the bias in a pass of its own; here one kernel adds both.
            adds_bias = op.read_bytes == op.written_bytes
            return () if adds_bias else (Pass(kind="bias_dropout_add", tensor_bytes=op.written_bytes),)
        case "residual", "backward":
            return (Pass(kind="gradient_add", tensor_bytes=op.written_bytes),)
        case "bias_grad", _:
            gradient = Pass(kind="bias_grad", tensor_bytes=op.read_bytes)
            if op.part != "residual":
                return (gradient,)
            return Pass(kind="dropout_backward", tensor_bytes=op.read_bytes), gradient
    raise PlanError(f"{op.kind} {op.direction}: Megatron's GPT of 2022 has no such pass; use megatron-22b")
