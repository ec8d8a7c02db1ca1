"""What layers, the output layer, sends and sums take under a theory, each asked for once."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np

from analysis.planner.layout import NOTHING, Span
from analysis.planner.memory import layer_case
from analysis.planner.request import Request
from tp.case import Case, Phase, Recompute, Strategy
from tp.cost.choose import CHUNK_COUNTS
from tp.cost.grid import GridEstimate, GridPricer
from tp.cost.theory import PartEstimate, Whole
from tp.plan.footprint import ADAM_BYTES, local_vocabulary
from tp.plan.grid import make_points, template_tokens
from tp.plan.ops import Backend, Collective, CollectiveKind, Elementwise, Gemm, Op
from tp.units import activation_dtype

BACKEND: Final[Backend] = "nccl"
SUMS: Final[dict[str, tuple[CollectiveKind, ...]]] = {
    "sharded": ("reduce_scatter", "all_gather"),
    "replicated": ("all_reduce",),
}
# Of a sum of a few hundred ops, in doubles.
ROUNDING: Final = 1e-12

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Seconds of a layer or of a stage for one micro-batch, in training forward and backward."""

    compute: Span
    """Without what is made again."""
    sending: Span
    """Collectives, hidden or not, without what is made again."""
    recompute_s: float
    """What recomputation adds, its collectives too."""
    whole: Span

    @property
    def communication_s(self) -> float:
        """What compute does not hide; less than rounding leaves is nothing."""
        exposed = self.whole.seconds - self.compute.seconds - self.recompute_s
        return exposed if exposed > ROUNDING * self.whole.seconds else 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            compute=self.compute + other.compute,
            sending=self.sending + other.sending,
            recompute_s=self.recompute_s + other.recompute_s,
            whole=self.whole + other.whole,
        )

    def times(self, count: float) -> "Work":
        return Work(
            compute=self.compute.times(count),
            sending=self.sending.times(count),
            recompute_s=self.recompute_s * count,
            whole=self.whole.times(count),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """Prices of one request."""

    request: Request
    sizes: dict[Phase, tuple[int, ...]]
    """The batches that a pass of each phase may have, in sequences."""
    degrees: tuple[int, ...]
    """The TP degrees that may be asked for."""
    _known: dict[Hashable, Any] = field(default_factory=dict)

    def layer(
        self, strategy: Strategy, tp: int, phase: Phase, batch: int, recompute: Recompute = "none"
    ) -> Work | None:
        """One layer; None where the theory lacks a price."""
        return self._once(
            ("layer", strategy, tp, phase, batch, recompute), lambda: self._work(strategy, tp, phase, batch, recompute)
        )

    def output_layer(self, strategy: Strategy, tp: int, phase: Phase, batch: int) -> Work | None:
        """The logits, h x V/tp for each token, in serving for one token a sequence.

        Training adds the products of both gradients, and the sum over the ranks of the input's, priced as an
        all-reduce. The loss itself is left out.
        """
        return self._once(
            ("output", strategy, tp, phase, batch), lambda: self._output_layer(strategy, tp, phase, batch)
        )

    def send(self, strategy: Strategy, tp: int, phase: Phase, batch: int, *, crosses: bool) -> Span | None:
        """What a stage hands to the next: b*s*h, of which a rank has 1/tp where tokens are cut."""
        case = self._case(strategy, tp, phase, batch)
        op = self._collective("send_recv", 2, case.local_tokens * case.model.hidden * case.workload.element_bytes)
        return self._sum([replace(op, num_nodes=2 if crosses else 1)])

    def gradient_sum(self, elements: int, dp: int, *, nodes: int) -> Span | None:
        """Gradients summed over the replicas: a reduce-scatter and an all-gather of weights, or an all-reduce."""
        if dp == 1:
            return NOTHING
        size = elements * self._element_bytes
        kinds = SUMS[self.request.optimizer]
        return self._sum([replace(self._collective(kind, dp, size), num_nodes=nodes) for kind in kinds])

    def optimizer(self, elements: int) -> Span | None:
        """Adam of so many weights, bound by memory: states and gradient read, states and weight written."""
        e = self._element_bytes
        states = ADAM_BYTES[e]
        own = e if states < ADAM_BYTES[2] else 0  # in fp32 the weight itself is the one that is read
        op = Elementwise(
            part="residual",
            direction="backward",
            kind="residual",
            read_bytes=elements * (states + e + own),
            written_bytes=elements * (states + e),
            dtype=self.request.dtype,
        )
        return self._sum([op])

    def _work(self, strategy: Strategy, tp: int, phase: Phase, batch: int, recompute: Recompute) -> Work | None:
        plain, whole = (self._estimate(strategy, tp, phase, each) for each in ("none", recompute))
        where = self.sizes[phase].index(batch)
        compute, without = _span(plain.parts["compute"], where), _span(plain.parts["total"], where)
        total, sending = _span(whole.parts["total"], where), _span(plain.parts["communication"], where)
        if compute is None or without is None or total is None:
            return None
        again_s = total.seconds - without.seconds
        return Work(compute=compute, sending=sending or NOTHING, recompute_s=again_s, whole=total)

    def _estimate(self, strategy: Strategy, tp: int, phase: Phase, recompute: Recompute) -> GridEstimate:
        case = self._case(strategy, tp, phase, 1, recompute)
        wanted: tuple[Whole, ...] = ("compute", "communication", "total")
        return self._once(case, lambda: self._pricer(phase).estimate(case, wanted, choose_chunks=self._chooses(case)))

    def _chooses(self, case: Case) -> bool:
        """Whether the estimate finds the chunks of `overlap`; rings over nodes send in one, as their plans are long."""
        return case.strategy == "overlap" and 1 < case.tp <= self.request.node.num_devices

    def _pricer(self, phase: Phase) -> GridPricer:
        def make() -> GridPricer:
            points = make_points(self.sizes[phase], [self._length(phase)], decodes=phase == "decode")
            template = template_tokens(self._case("sequence", tp, phase, 1) for tp in self.degrees)
            return GridPricer(
                theory=self.request.theory, backend=BACKEND, points=points, template=max(CHUNK_COUNTS) * template
            )

        return self._once(("pricer", phase), make)

    def _output_layer(self, strategy: Strategy, tp: int, phase: Phase, batch: int) -> Work | None:
        case = self._case(strategy, tp, phase, batch)
        h, words, trains = case.model.hidden, local_vocabulary(case), phase == "train"
        m = case.workload.tokens if trains else batch
        products: list[Op] = [self._product("nt", m, words, h)]
        sums: list[Op] = []
        if trains:
            products += [self._product("nn", m, h, words), self._product("tn", words, h, m)]
            if tp > 1:
                summed = self._collective("all_reduce", tp, m * h * self._element_bytes)
                sums = [replace(summed, num_nodes=self.request.node.num_nodes(tp))]
        compute, sent = self._sum(products), self._sum(sums)
        if compute is None or sent is None:
            return None
        return Work(compute=compute, sending=sent, recompute_s=0.0, whole=compute + sent)

    def _product(self, layout: str, m: int, n: int, k: int) -> Gemm:
        direction = "forward" if layout == "nt" else "backward"
        dtype = activation_dtype(self.request.dtype)  # in fp8 too the logits are made in 16 bits
        return Gemm(part="out", direction=direction, layout=layout, m=m, n=n, k=k, dtype=dtype)  # type: ignore[arg-type]

    def _collective(self, kind: CollectiveKind, num_ranks: int, size: int) -> Collective:
        return Collective(
            kind=kind,
            direction="forward",
            num_ranks=num_ranks,
            size_bytes=size,
            dtype=activation_dtype(self.request.dtype),
            backend=BACKEND,
        )

    def _sum(self, ops: Iterable[Op]) -> Span | None:
        """One after the other; of a bound what has a price, of any other theory None unless all have one."""
        found = NOTHING
        for op in ops:
            price = self._once(op, lambda op=op: _price(self.request, op))  # type: ignore[misc]
            if price is None and not self.request.theory.bounds:
                return None
            found = found + (price or NOTHING)
        return found

    def _case(self, strategy: Strategy, tp: int, phase: Phase, batch: int, recompute: Recompute = "none") -> Case:
        return layer_case(
            self.request.model,
            strategy,
            tp,
            phase=phase,
            batch=batch,
            length=self._length(phase),
            dtype=self.request.dtype,
            recompute=recompute,
        )

    def _length(self, phase: Phase) -> int:
        """Tokens of a pass; in decode the context half-way through."""
        return self.request.seq + (self.request.new_tokens // 2 if phase == "decode" else 0)

    @property
    def _element_bytes(self) -> int:
        return self._case("allreduce", 1, "prefill", 1).workload.element_bytes

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found


def _price(request: Request, op: Op) -> Span | None:
    price = request.theory.price(op)
    return None if price is None else Span(price.seconds, price.low_s, price.high_s)


def _span(part: PartEstimate, where: int) -> Span | None:
    if part.seconds is None or part.low_s is None or part.high_s is None:
        return None

    def at(value: Any) -> float:
        return float(value[where]) if isinstance(value, np.ndarray) and value.ndim else float(value)

    return Span(at(part.seconds), at(part.low_s), at(part.high_s))
