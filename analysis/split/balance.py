"""The degree at which a layer's products take as long as what it sends: the article's question, asked of a plan."""

from math import fsum, inf
from typing import Final

from tp.case import Block, Case, Strategy, Workload
from tp.errors import ConfigError
from tp.model import ModelShape
from tp.plan.build import build_plan
from tp.plan.ops import Gemm, Plan
from tp.plan.shards import misfit

# The number does not matter: FLOPs and bytes are in proportion to it.
TOKENS: Final = 1024


def balance_degree(
    model: ModelShape,
    *,
    flops_per_s: float,
    bytes_per_s: float,
    strategy: Strategy = "allreduce",
    block: Block = "block",
) -> float:
    """The degree n at which the products of a forward pass take as long as sending over a ring, one way, in bf16.

    F/(n P) = A (n-1)/(n B), so n = 1 + F B/(P A): F the FLOPs of the undivided products, without the attention core, as
    the article counts parameters only; A (n-1)/n the bytes that a rank sends. Nothing is hidden, nothing has latency,
    and kv heads that several ranks hold are not counted twice. ConfigError where nothing can be split.
    """
    for name, rate in (("flops_per_s", flops_per_s), ("bytes_per_s", bytes_per_s)):
        if not 0 < rate < inf:
            raise ConfigError(f"{name} {rate:g}: is not a positive rate; give one")
    tp = _smallest_degree(model, strategy, block)
    products = (op for op in _plan(model, strategy, block, tp=1, tokens=tp * TOKENS).compute if isinstance(op, Gemm))
    whole_bytes = _plan(model, strategy, block, tp=tp, tokens=tp * TOKENS).sent_bytes * tp / (tp - 1)
    return 1 + fsum(op.flops for op in products) / whole_bytes * bytes_per_s / flops_per_s


def _smallest_degree(model: ModelShape, strategy: Strategy, block: Block) -> int:
    """The first degree above 1 that divides; the bytes at one degree tell those at all."""
    widest = max(model.num_heads, model.ffn_width)
    for tp in range(2, widest + 1):
        if misfit(model, block, strategy, tp) is None:
            return tp
    raise ConfigError(f"--model {model.name}: no degree above 1 divides its {block} under {strategy}; nothing to split")


def _plan(model: ModelShape, strategy: Strategy, block: Block, *, tp: int, tokens: int) -> Plan:
    workload = Workload(phase="prefill", batch=1, seq=tokens, context=tokens, dtype="bf16")
    return build_plan(Case(block=block, model=model, strategy=strategy, tp=tp, workload=workload), backend="nccl")
