"""The article's arithmetic, kept to be compared against: FLOPs at peak against bytes at line rate, nothing else.

Source: "Tensor Parallelism" (NADDOD), after Bojie Li, "Why isn't the 4090 used for training". It compares the QKV
products of multi-head attention with the input that a rank is sent, at one head a rank, and calls the degree at which
the two take the same time the largest useful one. It counts whole activations, not a ring's share of them.
"""

from dataclasses import dataclass, replace
from functools import cache

from tp.case import Case, Workload
from tp.claim import Claim, load_ledger
from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, TheoryName, point
from tp.errors import ConfigError
from tp.hardware import Link, Node
from tp.model import ModelShape
from tp.plan.build import build_plan
from tp.plan.ops import Collective, Gemm, Op
from tp.units import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleTheory:
    """Products at dense peak; a collective sends its whole size one way; everything else is free."""

    node: Node
    link: Link
    name: TheoryName = "article"
    bounds: bool = False
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        if isinstance(op, Collective):
            rate = self.link.one_way_bytes_per_s
            return None if rate is None else point(op.size_bytes / rate)
        if not isinstance(op, Gemm):
            return point(0.0)
        peak = self.node.device.dense_peak(op.dtype)
        return None if peak is None else point(op.flops / peak.flops_per_s)


def flops_per_byte(model: ModelShape, tp: int) -> float:
    """QKV FLOPs of a rank over the bytes of the input that it is sent: 2*3*(h/n)/2 with multi-head attention.

    Taken from the plan of the `columns` strategy in a 16-bit dtype.
    """
    dtype: Dtype = "bf16"
    workload = Workload(phase="prefill", batch=1, seq=4096, context=4096, dtype=dtype)
    case = Case(block="attention", model=model, strategy="columns", tp=tp, workload=workload)
    plan = build_plan(case, backend="nccl")
    qkv = next(op for op in plan.compute if op.part == "qkv")
    input_bytes = workload.tokens * model.hidden * workload.element_bytes
    return qkv.flops / input_bytes


def as_multi_head(model: ModelShape) -> ModelShape:
    """The model as the article sees it: a key and a value head for every query head."""
    return replace(model, num_kv_heads=model.num_heads)


def largest_degree(model: ModelShape, *, flops_per_s: float, bytes_per_s: float) -> float:
    """The degree at which computing and receiving take the same time; FLOPs a byte fall as 1/n."""
    at_one = flops_per_byte(model, 1)
    return at_one * bytes_per_s / flops_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticlePair:
    """A GPU and a link of the article, with its own numbers."""

    label: str
    hardware: str
    """The catalogue's name of what the article means."""
    link: str
    flops_per_s: float
    """The article's peak."""
    link_two_way_bytes_per_s: float
    """The article's link rate; it halves it for one direction."""
    threshold_flops_per_byte: float
    """The quotient of the two as the article rounds it."""
    largest_degree: float
    """The article's result, printed to one decimal."""
    note: str


@cache
def article_pairs() -> tuple[ArticlePair, ...]:
    """The article's four largest degrees: the claims of its ledger that name a GPU and the link that they are of."""
    return tuple(_pair(claim) for claim in load_ledger("article").claims if claim.link is not None)


def _pair(claim: Claim) -> ArticlePair:
    def number(name: str) -> float:
        value = claim.inputs[name]
        if isinstance(value, str):
            raise ConfigError(f"{claim.name}: input {name} is the article's own number, not {value!r}")
        return value

    if claim.hardware is None or claim.link is None or claim.stated is None or claim.right is None:
        raise ConfigError(f"{claim.name}: a claim with a link is a degree; give hardware, stated and right")
    return ArticlePair(
        label=claim.subject,
        hardware=claim.hardware,
        link=claim.link,
        flops_per_s=number("flops_per_s"),
        link_two_way_bytes_per_s=number("two_way"),
        threshold_flops_per_byte=number("threshold"),
        largest_degree=claim.stated,
        note=claim.right.why,
    )
