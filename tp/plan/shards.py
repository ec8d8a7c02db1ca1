"""What one rank holds of a block, and which tensor-parallel degrees fit; every divisibility rule lives here."""

from dataclasses import dataclass

from tp.case import Case, Strategy, Workload
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
    def qkv_width(self) -> int:
        """Rows of the fused QKV weight of this rank."""
        return self.width + 2 * self.kv_width


def attention_shard(model: ModelShape, tp: int) -> AttentionShard:
    """The heads of one of `tp` ranks; `misfit` must have found nothing."""
    return AttentionShard(
        num_heads=model.num_heads // tp,
        num_kv_heads=max(1, model.num_kv_heads // tp),
        head_dim=model.head_dim,
    )


def misfit(model: ModelShape, strategy: Strategy, tp: int) -> str | None:
    """Why the block cannot be split `tp` ways, or None when it can."""
    if tp < 1:
        return f"tp {tp} is not a positive number"
    if model.num_heads % tp:
        return f"num_heads {model.num_heads} is not divisible by tp {tp}"
    if model.num_kv_heads % tp and tp % model.num_kv_heads:
        return f"num_kv_heads {model.num_kv_heads} neither divides tp {tp} nor is divided by it"
    if strategy == "columns" and model.hidden % tp:
        return f"hidden {model.hidden} is not divisible by tp {tp}"
    return None


def degrees(model: ModelShape, strategy: Strategy, *, world: int) -> tuple[int, ...]:
    """Every degree that divides `world` and fits the model."""
    return tuple(n for n in range(1, world + 1) if world % n == 0 and misfit(model, strategy, n) is None)


def require_fit(case: Case) -> None:
    """Raise PlanError, naming the degrees that fit, unless the case can be split as asked."""
    reason = misfit(case.model, case.strategy, case.tp)
    if reason is not None:
        fitting = [n for n in range(1, case.model.num_heads + 1) if misfit(case.model, case.strategy, n) is None]
        raise PlanError(
            f"--tp {case.tp}: {reason} ({case.model.name}, {case.strategy}); use {', '.join(map(str, fitting))}"
        )
    _require_tokens(case.strategy, case.tp, case.workload)


def _require_tokens(strategy: Strategy, tp: int, workload: Workload) -> None:
    if strategy == "sequence" and workload.tokens % tp:
        raise PlanError(
            f"--batch {workload.batch} --seq {workload.seq}: {workload.tokens} tokens are not divisible by "
            f"tp {tp}, as strategy sequence needs; make batch x seq a multiple of {tp}"
        )
