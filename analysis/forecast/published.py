"""A layer that others measured and printed, held against a theory: every cell of the table with its error.

The theory prices the plan's products with weights and its collectives; the kernels that our layers do not run are
priced by the rules that stand beside the cells (`tp/plan/unfused.py` says which these are).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import with_config

from tp import catalogue, schema
from tp.case import Case, Recompute, Strategy, Workload
from tp.cost.schedule import schedule
from tp.cost.theory import OpEstimate, Theory, point
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import load_model
from tp.plan.ops import Collective, Gemm, Op
from tp.plan.unfused import BatchedGemm, Kernel, backward_ops, forward_ops, kernels
from tp.schema import STRICT
from tp.units import Dtype

CellDirection = Literal["forward", "backward", "combined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRules:
    """Prices of kernels that nobody's table holds: start-up, and the share of the device's rates that they reach."""

    startup_s: float
    memory_share: float
    product_startup_s: float
    """Of a batched product; its bytes move at `memory_share` too."""
    product_compute_share: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCell:
    """One measured time with its qualifiers."""

    strategy: Strategy
    recompute: Recompute
    direction: CellDirection
    measured_s: float
    peer_s: float | None = None
    """What the peer predicts."""

    @property
    def peer_over_measured(self) -> float | None:
        return None if self.peer_s is None else self.peer_s / self.measured_s


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class PublishedLayer:
    """A table of one transformer layer on one machine."""

    model: str
    hardware: str
    """Names of the catalogue."""
    tp: int
    batch: int
    seq: int
    dtype: Dtype
    source: str
    peer: str
    peer_source: str
    kernels: KernelRules
    cells: tuple[PublishedCell, ...]

    def case(self, cell: PublishedCell) -> Case:
        """The training step that a cell is of."""
        return Case(
            block="block",
            model=load_model(self.model),
            strategy=cell.strategy,
            tp=self.tp,
            workload=Workload(phase="train", batch=self.batch, seq=self.seq, context=self.seq, dtype=self.dtype),
            recompute=cell.recompute,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellScore:
    """A cell and what a theory makes of it; the estimate hides collectives as the plan lays them out."""

    cell: PublishedCell
    hidden_s: float
    """The estimate, and the lower bound: collectives beside products cost what sticks out, nothing slows down."""
    serial_s: float
    """The upper bound: nothing hidden. In a forward without overlap the same as `hidden_s`."""
    low_s: float
    """Of the estimate's interval, as far as the theory gives its prices one."""
    high_s: float
    extrapolated: bool

    @property
    def estimate_over_measured(self) -> float:
        return self.hidden_s / self.cell.measured_s

    @property
    def serial_over_measured(self) -> float:
        return self.serial_s / self.cell.measured_s

    @property
    def inside_bounds(self) -> bool | None:
        """Whether the measured time lies between both bounds; None where they are one figure."""
        if math.isclose(self.hidden_s, self.serial_s):
            return None
        return self.hidden_s <= self.cell.measured_s <= self.serial_s


def published_layer() -> PublishedLayer:
    """Megatron's 22B layer, from configs/published/megatron-22b-layer.toml."""
    return schema.load_toml(catalogue.CONFIGS / "published" / "megatron-22b-layer.toml", PublishedLayer)


def score_published(layer: PublishedLayer, theory: Theory) -> tuple[CellScore, ...]:
    """Every cell under a theory; ConfigError when that leaves a product or a collective without a price."""
    price = _pricer(layer, theory)
    return tuple(_score(layer.case(cell), cell, price) for cell in layer.cells)


def _score(case: Case, cell: PublishedCell, price: Callable[[Kernel], OpEstimate]) -> CellScore:
    passes: list[Sequence[Op]] = []
    if cell.direction != "backward":
        passes.append(forward_ops(case, backend="nccl"))
    if cell.direction != "forward":
        passes.append(backward_ops(case, backend="nccl"))
    priced = [[(op, [price(kernel) for kernel in kernels(op)]) for op in ops] for ops in passes]

    def hidden(read: Callable[[OpEstimate], float]) -> float:
        """Passes follow one another, and neither hides anything of the other."""
        return math.fsum(_hidden_s(each, read) for each in priced)

    every = [estimate for each in priced for _, estimates in each for estimate in estimates]
    return CellScore(
        cell=cell,
        hidden_s=hidden(lambda estimate: estimate.seconds),
        serial_s=math.fsum(estimate.seconds for estimate in every),
        low_s=hidden(lambda estimate: estimate.low_s),
        high_s=hidden(lambda estimate: estimate.high_s),
        extrapolated=any(estimate.extrapolated for estimate in every),
    )


def _hidden_s(priced: Sequence[tuple[Op, Sequence[OpEstimate]]], read: Callable[[OpEstimate], float]) -> float:
    """Seconds of a pass as the plan lays it out, an op taking as long as its kernels together."""
    ops = [op for op, _ in priced]
    return schedule(ops, [math.fsum(read(estimate) for estimate in estimates) for _, estimates in priced]).total_s


def _pricer(layer: PublishedLayer, theory: Theory) -> Callable[[Kernel], OpEstimate]:
    """Seconds of a kernel: by the theory, or by the table's rules on the data sheet's rates of its device."""
    device, rules = load_node(layer.hardware).device, layer.kernels
    peak, memory = device.dense_peak(layer.dtype), device.memory_bytes_per_s
    if peak is None or memory is None:
        raise ConfigError(f"{layer.hardware}: has no dense {layer.dtype} peak or no memory bandwidth; add them")
    flops_per_s, bytes_per_s = rules.product_compute_share * peak.flops_per_s, rules.memory_share * memory

    def price(kernel: Kernel) -> OpEstimate:
        if isinstance(kernel, Gemm | Collective):
            return _price_by_theory(kernel, theory)
        moving_s = kernel.moved_bytes / bytes_per_s
        if isinstance(kernel, BatchedGemm):
            return point(rules.product_startup_s + max(kernel.flops / flops_per_s, moving_s))
        return point(rules.startup_s + moving_s)

    return price


def _price_by_theory(op: Gemm | Collective, theory: Theory) -> OpEstimate:
    price = theory.price(op)
    if price is not None:
        return price
    what = f"{op.layout} products" if isinstance(op, Gemm) else f"{op.kind} over {op.num_ranks} ranks"
    raise ConfigError(
        f"--published: theory {theory.name} has no price for {what} in {op.dtype}; calibrate products and collectives "
        f"on tables of that GPU"
    )
