"""Which curve of a calibration prices an op: by what it is, then by where its times come from."""

import itertools
from collections.abc import Mapping
from typing import Final, TypeVar

from numpy.typing import ArrayLike

from tp.cost.curves.attention import AttentionCurve
from tp.cost.curves.gemm import GemmCurve
from tp.cost.curves.size import SizeCurve
from tp.plan.ops import COLLECTIVE_KINDS, AttentionCore, Collective, Elementwise, Gemm, Op
from tp.units import DTYPE_BYTES

C = TypeVar("C", GemmCurve, AttentionCurve, SizeCurve)

# The source whose curves price layers where there is one: its products ran as those of a layer do, one after another.
LAYERS: Final = "layers"
# Log errors that stand between the rows of a curve and an op that is not of their sort, added to the curve's own.
# Rows of another source: 35 to 46 % of them were inside of intervals that held 90 % of their own source's; half-widths
# of 25 and 32 % would have held 90 % (A100 and H100, tables of aiconfigurator against Vidur's).
FOREIGN_LOG_ERROR: Final = 0.28
OTHER_DTYPE_LOG_ERROR: Final = 0.05
OTHER_LAYOUT_LOG_ERROR: Final = 0.20


def curve_key(op: Op, *, network: str = "") -> str:
    """Which curve of its kind prices an op; collectives over several nodes have curves of their own, by network."""
    match op:
        case Gemm():
            return f"{op.dtype}/{op.layout}"
        case AttentionCore():
            forward = "forward" if op.causal else "decode"
            return f"{op.dtype}/{forward if op.direction == 'forward' else 'backward'}"
        case Elementwise():
            return f"{op.dtype}/{op.kind}"
        case Collective():
            nodes = f"x{op.num_nodes}" + (f"@{network}" if network else "") if op.num_nodes > 1 else ""
            return f"{op.kind}/{op.num_ranks}{nodes}/{op.dtype}"


def curve_sizes(op: Op) -> tuple[ArrayLike, ...]:
    """The sizes of an op whose range a fit remembers."""
    match op:
        case Gemm():
            return op.m, op.n, op.k
        case AttentionCore():
            return op.batch * op.num_heads, op.context, op.head_dim
        case Elementwise():
            return (op.moved_bytes,)
        case Collective():
            return (op.size_bytes,)


def find(curves: Mapping[str, C], op: Op, source: str | None, *, network: str = "") -> tuple[C, float] | None:
    """The curve that prices an op, and the log error that stands between its rows and the op.

    Of a known source its own curve; else the layers' for ops of no source, then the main one; each also of a sibling
    dtype, and at last of another layout of products.
    """
    same, straight = _keys(curve_key(op, network=network))
    if source is not None:
        for at, (name, curve) in itertools.product(same, curves.items()):
            if name.split("#")[0] == at and source in curve.sources:
                return curve, 0.0 if at == same[0] else OTHER_DTYPE_LOG_ERROR
    order = ("#" + LAYERS, "") if source is None else ("", "#" + LAYERS)
    for distance, keys in ((0.0, same), (OTHER_LAYOUT_LOG_ERROR, straight)):
        for ending, at in itertools.product(order, keys):
            if at + ending in curves:
                curve = curves[at + ending]
                foreign = FOREIGN_LOG_ERROR if source and source not in curve.sources else 0.0
                return curve, max(distance, foreign, 0.0 if at == keys[0] else OTHER_DTYPE_LOG_ERROR)
    return None


def _keys(key: str) -> tuple[list[str], list[str]]:
    """Keys of curves that say as much of an op, and of those that say nearly as much; its own dtype first in both."""
    return [key, *sibling_dtypes(key)], _straight(key)


def sibling_dtypes(key: str) -> list[str]:
    """The key with the other dtypes of the same width, which memory and matrix units treat alike; links all of them."""
    words = key.split("/")
    if words[0] in COLLECTIVE_KINDS:
        return ["/".join([*words[:-1], dtype]) for dtype in DTYPE_BYTES if dtype != words[-1]]
    own = next((word for word in words if word in DTYPE_BYTES), None)
    return [
        "/".join(dtype if word == own else word for word in words)
        for dtype, size in DTYPE_BYTES.items()
        if own is not None and dtype != own and size == DTYPE_BYTES[own]
    ]


def _straight(key: str) -> list[str]:
    """Of a backward's product the forward's layout, in the same dtypes."""
    dtype, _, layout = key.partition("/")
    if layout not in ("nn", "tn"):
        return []
    forward = f"{dtype}/nt"
    return [forward, *sibling_dtypes(forward)]
