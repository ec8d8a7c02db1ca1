"""Which ops a calibration needs: sizes spread evenly over their logarithms, within what the machine can do.

The shapes come from a Sobol sequence (Sobol' 1967; scipy.stats.qmc), which leaves no gap and no cluster however many
are taken, and are the same on every machine.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import qmc

from bench.harness.world.launch import DeviceKind
from tp.plan.ops import (
    COLLECTIVE_KINDS,
    AttentionCore,
    Backend,
    Collective,
    CollectiveKind,
    Direction,
    Elementwise,
    Gemm,
    Layout,
    PassKind,
)
from tp.units import DTYPE_BYTES, KIB, MIB, Dtype

GEMM_LAYOUTS: Final[tuple[Layout, ...]] = ("nt", "nn", "tn")
HEAD_DIMS: Final = (64, 128)
SHARES: Final = (1, 4, 8)  # query heads to a kv head


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The sizes that are worth measuring on a kind of device."""

    tokens: tuple[int, int]
    width: tuple[int, int]
    max_gemm_flops: float
    sequence: tuple[int, int]
    context: tuple[int, int]
    heads: tuple[int, int]
    max_attention_flops: float
    elementwise_bytes: tuple[int, int]
    collective_bytes: tuple[int, int]


RANGES: Final[dict[DeviceKind, Ranges]] = {
    "cpu": Ranges(
        tokens=(1, 2048),
        width=(128, 12288),
        max_gemm_flops=14e9,
        sequence=(32, 1024),
        context=(64, 4096),
        heads=(2, 32),
        max_attention_flops=4e9,
        elementwise_bytes=(16 * KIB, 32 * MIB),
        collective_bytes=(KIB, 32 * MIB),
    ),
    "cuda": Ranges(
        tokens=(1, 16384),
        width=(256, 32768),
        max_gemm_flops=2e13,
        sequence=(128, 16384),
        context=(256, 131072),
        heads=(1, 64),
        max_attention_flops=2e13,
        elementwise_bytes=(256 * KIB, 1024 * MIB),
        collective_bytes=(KIB, 512 * MIB),
    ),
}


def gemm_ops(ranges: Ranges, dtype: Dtype, *, count: int) -> list[Gemm]:
    """`count` shapes in each of the three layouts, as a linear layer has them: tokens, inputs and outputs."""
    ops: list[Gemm] = []
    shapes = _spread(count, ranges.tokens, ranges.width, ranges.width)
    # In fp8 there is no backward, whose layouts it does not multiply.
    layouts: tuple[Layout, ...] = ("nt",) if dtype == "fp8" else GEMM_LAYOUTS
    for tokens, inputs, outputs in shapes:
        n, k = (_multiple(size, 64) for size in (outputs, inputs))
        tokens = min(tokens, max(1, int(ranges.max_gemm_flops / (2 * n * k))))
        sizes = {"nt": (tokens, n, k), "nn": (tokens, k, n), "tn": (n, k, tokens)}
        for layout in layouts:
            rows, columns, length = sizes[layout]
            direction: Direction = "forward" if layout == "nt" else "backward"
            ops.append(Gemm(part="qkv", direction=direction, layout=layout, m=rows, n=columns, k=length, dtype=dtype))
    return ops


def single_token_ops(ranges: Ranges, dtype: Dtype, *, count: int) -> list[Gemm]:
    """`count` forward products of one token, for which libraries have kernels of their own: what decode multiplies."""
    return [
        Gemm(
            part="qkv",
            direction="forward",
            layout="nt",
            m=1,
            n=_multiple(outputs, 64),
            k=_multiple(inputs, 64),
            dtype=dtype,
        )
        for inputs, outputs in _spread(count, ranges.width, ranges.width)
    ]


def attention_ops(ranges: Ranges, dtype: Dtype, *, count: int) -> list[AttentionCore]:
    """`count` causal cores, forward and backward, and half as many of decode."""
    ops: list[AttentionCore] = []
    for number, (seq, heads) in enumerate(_spread(count, ranges.sequence, ranges.heads)):
        batch, head_dim, share = 1 << number % 3, HEAD_DIMS[number // 3 % len(HEAD_DIMS)], SHARES[number % len(SHARES)]
        heads = _multiple(heads, share)
        # 2.5 times 2*b*s^2*a*d, the backward of a causal core, must stay under the cap.
        longest = math.sqrt(ranges.max_attention_flops / (5 * batch * heads * head_dim))
        seq = min(_multiple(seq, 32), max(32, int(longest)))
        for direction in ("forward", "backward"):
            ops.append(_core(direction, batch, seq, seq, heads, share, head_dim, dtype))
    for number, (context, heads) in enumerate(_spread(max(count // 2, 6), ranges.context, ranges.heads)):
        head_dim, share = HEAD_DIMS[number % len(HEAD_DIMS)], SHARES[number % len(SHARES)]
        ops.append(_core("forward", 2 ** (number % 5), 1, context, _multiple(heads, share), share, head_dim, dtype))
    return ops


def elementwise_ops(ranges: Ranges, dtype: Dtype, *, count: int, quantizes: bool = False) -> list[Elementwise]:
    """Every kind of pass over tensors of `count` sizes; bytes as a plan counts them."""
    ops = []
    for kind, (reads, writes) in PASSES.items():
        if kind == "quantize" and not quantizes:
            continue
        for even in np.geomspace(*ranges.elementwise_bytes, count):
            size = _multiple(round(even), 4096 * DTYPE_BYTES[dtype])
            direction: Direction = "backward" if kind.endswith(("_backward", "_grad")) else "forward"
            # What is quantised is written in fp8.
            written = writes * size * (DTYPE_BYTES["fp8"] if kind == "quantize" else DTYPE_BYTES[dtype])
            ops.append(
                Elementwise(
                    part="norm",
                    direction=direction,
                    kind=kind,
                    read_bytes=reads * size,
                    written_bytes=written // DTYPE_BYTES[dtype],
                    dtype=dtype,
                )
            )
    return ops


# Tensors read and written by each kind, as the plan of a block counts them.
PASSES: Final[dict[PassKind, tuple[int, int]]] = {
    "norm": (1, 1),
    "norm_backward": (2, 1),
    "rope": (1, 1),
    "residual": (2, 1),
    "concat": (1, 1),
    "bias_grad": (1, 0),
    "swiglu": (3, 2),
    "swiglu_backward": (7, 4),
    "gelu": (1, 1),
    "gelu_backward": (2, 1),
    "quantize": (2, 1),
}


def collective_ops(
    ranges: Ranges,
    dtype: Dtype,
    *,
    num_ranks: int,
    num_nodes: int = 1,
    backend: Backend,
    kinds: Sequence[CollectiveKind] = COLLECTIVE_KINDS,
) -> list[Collective]:
    """Every collective over sizes that double."""
    low, high = ranges.collective_bytes
    doublings = int(math.log2(high / low))
    return [
        Collective(
            kind=kind,
            direction="forward",
            num_ranks=num_ranks,
            num_nodes=num_nodes,
            size_bytes=low << i,
            dtype=dtype,
            backend=backend,
        )
        for kind in kinds
        for i in range(doublings + 1)
    ]


def _core(
    direction: Direction, batch: int, seq: int, context: int, heads: int, share: int, head_dim: int, dtype: Dtype
) -> AttentionCore:
    return AttentionCore(
        part="core",
        direction=direction,
        batch=batch,
        seq=seq,
        context=context,
        num_heads=heads,
        num_kv_heads=max(1, heads // share),
        head_dim=head_dim,
        causal=seq == context,
        dtype=dtype,
    )


def _spread(count: int, *ranges: tuple[int, int]) -> Iterator[tuple[int, ...]]:
    """Points spread over the logarithms of the ranges."""
    points = qmc.Sobol(d=len(ranges), scramble=False).random(_power_of_two(count + 1))[1 : count + 1]
    for point in points:
        yield tuple(round(low * (high / low) ** float(x)) for x, (low, high) in zip(point, ranges, strict=True))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _multiple(size: int, unit: int) -> int:
    """The nearest multiple of `unit`, at least one."""
    return max(1, round(size / unit)) * unit
