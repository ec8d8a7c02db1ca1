"""Rows of layer tables as ops: a shard's products and passes by the names that profilers give them.

A row of tensor parallelism holds one of `tp` shards on one GPU, so its sizes are those of a rank.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from analysis.measured.fields import dtype_of, whole
from tp.plan.ops import ComputePart, Elementwise, ElementwiseKind, Gemm, Op
from tp.units import DTYPE_BYTES

LAYER_COLUMNS: Final = (
    "hardware",
    "tp",
    "batch",
    "seq",
    "hidden",
    "heads",
    "kv_heads",
    "ffn",
    "dtype",
    "component",
    "time_us",
)
# Profilers' names of the parts of a layer; Vidur's first.
PRODUCTS: Final[dict[str, ComputePart]] = {
    "attn_pre_proj": "qkv",
    "attn_post_proj": "out",
    "mlp_up_proj": "up",
    "mlp_down_proj": "down",
}
# The kind of pass, and how often it moves which tensor: of the hidden width, the heads' or the FFN's.
Width = Literal["hidden", "queries and keys", "ffn"]
PASSES: Final[dict[str, tuple[ComputePart, ElementwiseKind, Width, int, int]]] = {
    "input_layernorm": ("norm", "norm", "hidden", 1, 1),
    "post_attention_layernorm": ("norm", "norm", "hidden", 1, 1),
    "add": ("residual", "residual", "hidden", 2, 1),
    # One kernel that reads gate and up and writes their product.
    "mlp_act": ("activation", "swiglu", "ffn", 2, 1),
    "attn_rope": ("core", "rope", "queries and keys", 1, 1),
}


def layer_op(row: Mapping[str, Any]) -> Op | None:
    """The op of a row; None for what is no single op, such as a whole layer. ValueError where it makes no sense."""
    if str(row.get("pass", "forward")) != "forward":
        return None
    component, tp = str(row["component"]), whole(row, "tp")
    if component not in PRODUCTS and component not in PASSES:
        return None
    dtype, tokens = dtype_of(row), whole(row, "batch") * whole(row, "seq")
    hidden, heads, kv_heads, ffn = (whole(row, column) for column in ("hidden", "heads", "kv_heads", "ffn"))
    if heads % tp or ffn % tp or (kv_heads % tp and tp % kv_heads) or hidden % heads:
        raise ValueError(f"tp {tp} does not divide heads {heads}, kv_heads {kv_heads}, ffn {ffn} of hidden {hidden}")
    head_dim, ffn = hidden // heads, ffn // tp
    queries, keys = heads // tp * head_dim, max(1, kv_heads // tp) * head_dim
    if component in PRODUCTS:
        # `mlp_up_proj` is gate and up in one.
        widths = {"qkv": (queries + 2 * keys, hidden), "out": (hidden, queries), "up": (2 * ffn, hidden)}
        n, k = (widths | {"down": (hidden, ffn)})[PRODUCTS[component]]
        part = PRODUCTS[component]
        return Gemm(part=part, direction="forward", layout="nt", m=tokens, n=n, k=k, dtype=dtype)
    part, kind, width, reads, writes = PASSES[component]
    element = DTYPE_BYTES[dtype] * tokens * {"hidden": hidden, "queries and keys": queries + keys, "ffn": ffn}[width]
    return Elementwise(
        part=part,
        direction="forward",
        kind=kind,
        read_bytes=reads * element,
        written_bytes=writes * element,
        dtype=dtype,
    )
