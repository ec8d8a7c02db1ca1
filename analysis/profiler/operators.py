"""What an operator of a CPU's trace does, by its name.

Operators carry a namespace (`aten::mm`), as torch's dispatcher records them. Autograd's nodes (`AddmmBackward0`,
`autograd::engine::evaluate_function: ...`) do not: they are frames round operators, and what a Python node spends
outside of these may be waiting for a message, so that it is nobody's compute. Collectives are called as
`c10d::allreduce_` on the caller's thread and run as `gloo:all_reduce` on one of gloo's (torch/csrc/distributed/c10d/
Ops.cpp and ProcessGroupGloo.cpp); a reduce-scatter runs there as an all-reduce.
"""

import re
from functools import lru_cache
from typing import Final

from analysis.profiler.kernels import ComputeKind

CALL: Final = "c10d::"
_COMMUNICATION: Final = ("c10d::", "c10d_functional::", "_c10d_functional::", "gloo:", "nccl:", "record_param_comms")
_FRAMES: Final = ("autograd::", "torch::autograd::", "torch::")
# Inductor's kernels for CPUs have no namespace.
_COMPILED: Final = re.compile(r"cpp_fused")

_KINDS: Final[tuple[tuple[ComputeKind, re.Pattern[str]], ...]] = (
    ("attention", re.compile(r"attention|sdpa")),
    (
        "gemm",
        re.compile(r"::_?(add|ba?dd)?b?mm(_|$)|::(addmm|addbmm|baddbmm|mm|bmm|mv|addmv|dot|linear|matmul|einsum)\b"),
    ),
    ("gemm", re.compile(r"_scaled_mm|_addmm_activation|mkldnn\w*linear|linear_pointwise|convolution|conv\dd")),
    (
        "elementwise",
        re.compile(
            r"::_?(foreach_\w+|fused_\w+|add|sub|rsub|mul|div|neg|pow|sqrt|rsqrt|exp|log|sin|cos|sum|mean|var|std|max|min"
            r"|copy|fill|zero|clamp|where|gt|lt|eq|ne|abs|sigmoid|tanh|gelu|silu|relu|threshold|softmax|log_softmax"
            r"|native_layer_norm|fused_rms_norm|rms_norm|addcmul|addcdiv|lerp|cat|native_dropout|bernoulli|normal)"
            r"(_backward|_backward_data)?_?$|cpp_fused"
        ),
    ),
)


def is_collective_event(name: str) -> bool:
    """Whether gloo's thread says here what it sends."""
    return name.startswith("gloo:")


def is_communication(name: str) -> bool:
    """Whether the operator calls or awaits a collective; what it does within is no compute."""
    return name.startswith(_COMMUNICATION)


def is_operator(name: str) -> bool:
    """Whether the event computes, rather than being a frame round operators."""
    has_namespace = "::" in name and not name.startswith(_FRAMES)
    return (has_namespace and not is_communication(name)) or _COMPILED.search(name) is not None


@lru_cache(maxsize=4096)
def operator_kind(name: str) -> ComputeKind:
    """What the operator does; `other` where the table does not know it, such as views."""
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), "other")
