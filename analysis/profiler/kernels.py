"""What a device kernel does, by its name: the one table of names.

The first pattern that matches decides. Where the names come from:
- NCCL: `ncclDevKernel_AllReduce_Sum_bf16_RING_LL(...)` since 2.19 (src/device/generate.py), `ncclKernel_AllReduce_
  RING_LL_Sum_...` and `ncclAllReduceRingLLKernel_sum_f32` before, `ncclSymkDevKernel_AllGather_LL` with symmetric
  memory (src/device/symmetric/generate.py).
- RCCL: `ncclDevKernel_Generic_4`, `rcclGenericKernel<...>`, `mscclKernel_Sum_half_Simple_false` (ROCm/rccl): one kernel
  for all collectives; which one it was is in the event's args alone.
- torch's symmetric memory: torch/csrc/distributed/c10d/symm_mem/CUDASymmetricMemoryOps.cu; NVSHMEM's own.
- Servers: `cross_device_reduce_1stage` (vLLM and SGLang, custom_all_reduce.cuh), `allreduce_fusion_kernel_oneshot_
  lamport` (FlashInfer and TensorRT-LLM: all-reduce with the norm fused into it, counted as communication), DeepEP.
- Inductor names a kernel after the operators around it: `triton_poi_fused_add_all_reduce_4` is an addition beside an
  all-reduce, no collective; hence its patterns come first.
- Products: cuBLAS (`nvjet_`, `sm90_xmma_gemm`, `cutlass`, `splitKreduce`), Tensile's `Cijk_`, composable kernel.
- Attention: FlashAttention, cuDNN's `cudnn_generated_fort_native_sdpa`, AOTriton's `attn_fwd`, flex attention.
"""

import re
from functools import lru_cache
from typing import Final, Literal

Kind = Literal["communication", "copy", "gemm", "attention", "elementwise", "other"]
ComputeKind = Literal["gemm", "attention", "elementwise", "other"]
COMPUTE_KINDS: Final[tuple[ComputeKind, ...]] = ("gemm", "attention", "elementwise", "other")
"""Matrix products; attention cores; passes over memory (pointwise, reductions, norms, optimizers); what none names."""

_TABLE: Final[tuple[tuple[Kind, str], ...]] = (
    ("attention", r"^triton_\w*(flex_attention|sdpa)"),
    ("gemm", r"^triton_(mm|bmm|tem)_|^triton_\w*_(mm|bmm|addmm)_\w*tem"),
    ("elementwise", r"^triton_(poi|per|red|spl|for)_"),
    ("elementwise", r"^at::native::\w*(elementwise|reduce)_kernel"),
    ("communication", r"^(nccl|rccl|msccl)"),
    ("communication", r"(one|two)_?shot_\w*(all_?reduce|reduce|all_?gather)|^multimem_|::multimem_\w+_kernel"),
    ("communication", r"cross_device_reduce_|allreduce_fusion_kernel|(^|[^a-z])(custom_)?all_?reduce_kernel"),
    ("communication", r"nvshmem|deep_ep::|^(barrier|put_signal|wait_signal)_kernel"),
    ("copy", r"^mem(cpy|set)\b|^\[cuda mem|__amd_rocclr_(copy|fill)"),
    ("attention", r"flash|fmha|sdpa|attention|(^|_)attn_|bwd_kernel_(dk_dv|dq|fuse)|(^|[^a-z])mla_"),
    ("gemm", r"gemm|gemv|nvjet|cutlass|xmma|splitk|^cijk_|cublas|(^|_)matmul|marlin"),
    (
        "elementwise",
        r"elementwise|reduce_kernel|layer_?norm|rms_?norm|softmax|multi_tensor_apply|activation|_kernel_cuda",
    ),
    ("elementwise", r"silu|gelu|swiglu|rotary|dropout|catarraybatchedcopy|transpose"),
)
_KINDS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in _TABLE)

# "at::native::(anonymous namespace)::f<(int)4>(float*)": only the last bracket opens the arguments.
_BRACKETED: Final = re.compile(r"\((anonymous namespace)\)::|\((unsigned )?(int|long|bool|char)\)|<unnamed>::")

_COLLECTIVES: Final = (
    ("all_reduce", re.compile(r"all_?reduce|cross_device_reduce|shot_reduce")),
    ("all_gather", re.compile(r"all_?gather")),
    ("reduce_scatter", re.compile(r"reduce_?scatter")),
    ("all_to_all", re.compile(r"all_?to_?all|deep_ep::")),
    ("send_recv", re.compile(r"send|recv|point_?to_?point")),
    ("broadcast", re.compile(r"broadcast")),
    ("barrier", re.compile(r"barrier|signal")),
    ("scatter", re.compile(r"scatter")),
    ("gather", re.compile(r"gather")),
    ("reduce", re.compile(r"reduce")),
)
UNKNOWN_COLLECTIVE: Final = "unnamed"
"""A communication kernel that does not say which collective it runs."""

# What torch's c10::toString and type names call element types, in bytes.
ELEMENT_BYTES: Final = {
    **dict.fromkeys(("double", "long", "long int", "int64", "complexfloat", "c10::complex<float>"), 8),
    **dict.fromkeys(("float", "int", "int32"), 4),
    **dict.fromkeys(("half", "bfloat16", "short", "short int", "c10::half", "c10::bfloat16"), 2),
    **dict.fromkeys(("byte", "char", "bool", "unsigned char", "signed char"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("c10::float8_e4m3fn", "c10::float8_e5m2"), 1),
}


@lru_cache(maxsize=65536)
def kernel_kind(name: str) -> Kind:
    """What the kernel does; `other` where the table does not know it."""
    plain = bare(name)
    return next((kind for kind, pattern in _KINDS if pattern.search(plain)), "other")


def bare(name: str) -> str:
    """The name in lower case without its return type, its arguments and what a demangler puts into brackets."""
    plain = _BRACKETED.sub("", name.lower().removeprefix("void ").strip())
    return plain.partition("(")[0]


@lru_cache(maxsize=4096)
def collective_kind(name: str) -> str:
    """Which collective a kernel, an op of c10d or a trace's "Collective name" is."""
    plain = bare(name)
    return next((kind for kind, pattern in _COLLECTIVES if pattern.search(plain)), UNKNOWN_COLLECTIVE)


def element_bytes(dtype: object) -> int | None:
    """Bytes of an element; None of a type that is not known."""
    return ELEMENT_BYTES.get(str(dtype).lower())
