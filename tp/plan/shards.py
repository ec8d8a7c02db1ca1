"""What one rank holds of a block, and which tensor-parallel degrees fit; every divisibility rule lives here."""

from collections.abc import Iterator
from dataclasses import dataclass

from tp.case import Block, Case, Strategy
from tp.errors import PlanError
from tp.model import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShard:
    """The heads of one rank."""

    num_heads: int
    num_kv_heads: int
    """At least one: with fewer kv heads than ranks each is held by several ranks."""
    head_dim: int

    @property
    def width(self) -> int:
        """Columns of this rank's heads, a/n*d."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Rows of the weights of this rank's queries, keys and values."""
        return self.width, self.kv_width, self.kv_width

    @property
    def qkv_width(self) -> int:
        """Rows of the fused QKV weight of this rank."""
        return sum(self.qkv_widths)


def attention_shard(model: ModelShape, tp: int) -> AttentionShard:
    """The heads of one of `tp` ranks; `misfit` must have found nothing."""
    return AttentionShard(
        num_heads=model.num_heads // tp,
        num_kv_heads=max(1, model.num_kv_heads // tp),
        head_dim=model.head_dim,
    )


def misfit(model: ModelShape, block: Block, strategy: Strategy, tp: int) -> str | None:
    """Why the block cannot be split `tp` ways, or None when it can."""
    if tp < 1:
        return f"tp {tp} is not a positive number"
    return next(_misfits(model, block, strategy, tp), None)


def _misfits(model: ModelShape, block: Block, strategy: Strategy, tp: int) -> Iterator[str]:
    if block != "ffn" and model.num_heads % tp:
        yield f"num_heads {model.num_heads} is not divisible by tp {tp}"
    if block != "ffn" and model.num_kv_heads % tp and tp % model.num_kv_heads:
        yield f"num_kv_heads {model.num_kv_heads} neither divides tp {tp} nor is divided by it"
    if block != "attention" and model.ffn_width % tp:
        yield f"ffn_width {model.ffn_width} is not divisible by tp {tp}"
    if strategy == "columns" and model.hidden % tp:
        yield f"hidden {model.hidden} is not divisible by tp {tp}"


def degrees(model: ModelShape, block: Block, strategy: Strategy, *, world: int) -> tuple[int, ...]:
    """Every degree that divides `world` and fits the model."""
    return tuple(n for n in range(1, world + 1) if world % n == 0 and misfit(model, block, strategy, n) is None)


def require_fit(case: Case) -> None:
    """Raise PlanError, naming what fits, unless the case can be split as asked."""
    model, block, strategy = case.model, case.block, case.strategy
    reason = misfit(model, block, strategy, case.tp)
    if reason is not None:
        largest = model.ffn_width if block == "ffn" else model.num_heads
        fitting = [n for n in range(1, min(largest, 1024) + 1) if misfit(model, block, strategy, n) is None]
        raise PlanError(f"--tp {case.tp}: {reason} ({model.name}, {strategy}); use {', '.join(map(str, fitting))}")
    if case.recompute == "selective" and not case.has_attention:
        raise PlanError("--recompute selective: remakes the attention core and the FFN has none; use none or full")
    reason = token_misfit(case)
    if reason is not None:
        raise PlanError(reason)


def token_misfit(case: Case) -> str | None:
    """Why the case's tokens cannot be cut as its strategy needs, or None when they can."""
    if not case.splits_tokens:
        return None
    w, parts = case.workload, case.tp * case.chunks
    if w.tokens % parts == 0:
        return None
    cut = f"tp {case.tp}" if case.chunks == 1 else f"tp {case.tp} x {case.chunks} chunks"
    return (
        f"--batch {w.batch} --seq {w.seq}: {w.tokens} tokens are not divisible by {cut}, as strategy "
        f"{case.strategy} needs; make batch x seq a multiple of {parts}"
    )
