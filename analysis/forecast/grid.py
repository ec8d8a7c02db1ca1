"""Predictions over a grid: for every family of cases a table of columns, one row a configuration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tp.case import Block, Case, Phase
from tp.cost.choose import CHUNK_COUNTS
from tp.cost.grid import GridEstimate, GridPricer
from tp.cost.theory import Theory, Whole
from tp.errors import ConfigError
from tp.hardware import Device
from tp.plan.footprint import fits, model_bytes, whole_layer
from tp.plan.grid import Points, make_points, over_grid, template_tokens
from tp.plan.memory import bytes_by_kind
from tp.plan.ops import PARTS, Backend, Part
from tp.plan.workspace import DeviceKind
from tp.suite import Defaults, Suite, families, lengths

WHOLES: Final[tuple[Whole, ...]] = ("compute", "communication", "total")
# In the order of the file; `--parts` adds `<part>_s` of every part.
GRID_COLUMNS: Final = (
    *("block", "model", "phase", "strategy", "tp", "batch", "seq", "context", "dtype", "chunks", "recompute"),
    *("compute_s", "communication_s", "total_s", "total_low_s", "total_high_s", "extrapolated", "tokens_per_s"),
    *("layer_bytes", "model_bytes", "fits", "status"),
)
OK: Final = "ok"
# Of one family, whose columns are in memory together: 2 GB of them at most.
MOST_POINTS: Final = 1_000_000

Columns = dict[str, Any]
"""By name a value that all rows share, or an array of one a row; what is absent is None, NaN or masked."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every family of cases of a suite over the suite's batches and lengths."""

    cases: tuple[Case, ...]
    """One for each family; what it says of its workload's sizes does not count."""
    points: Mapping[Phase, Points]
    """Prefill and training share theirs, and so their prices."""
    chooses_chunks: bool
    """Whether the estimate finds the chunks of `overlap`."""

    @cached_property
    def template(self) -> int:
        """Tokens that the plan of every family can be made for."""
        most = max(CHUNK_COUNTS) if self.chooses_chunks else 1
        return most * template_tokens(self.cases)

    def __len__(self) -> int:
        """Configurations."""
        return sum(len(self.points[case.workload.phase]) for case in self.cases)


def make_grid(suite: Suite, block: Block, *, chosen: Defaults) -> Grid:
    """The grid of a suite; PlanError where a degree cannot split a model."""
    cases = families(suite, block, chosen=chosen)
    most = max(len(suite.batch) * len(lengths(suite, phase, chosen)) for phase in suite.phase)
    if most > MOST_POINTS:
        raise ConfigError(
            f"--batch and --seq: {most:,} workloads a family, more than {MOST_POINTS:,}; take larger steps"
        )
    made = {
        decodes: make_points(suite.batch, lengths(suite, phase, chosen), decodes=decodes)
        for decodes, phase in {phase == "decode": phase for phase in suite.phase}.items()
    }
    return Grid(
        cases=tuple(cases),
        points={phase: made[phase == "decode"] for phase in suite.phase},
        chooses_chunks=suite.chunks is None,
    )


def estimates(
    grid: Grid, theory: Theory, wanted: Sequence[Part | Whole], *, backend: Backend
) -> Iterator[tuple[Case, Points, GridEstimate]]:
    """What the theory says of every family at its points."""
    pricers = {
        points.decodes: GridPricer(theory=theory, backend=backend, points=points, template=grid.template)
        for points in grid.points.values()
    }
    for case in grid.cases:
        pricer = pricers[case.workload.phase == "decode"]
        chooses = grid.chooses_chunks and case.strategy == "overlap" and case.tp > 1
        yield case, pricer.points, pricer.estimate(case, wanted, choose_chunks=chooses)


def column_names(*, with_parts: bool) -> tuple[str, ...]:
    """The columns of a grid's table, in order."""
    return (*GRID_COLUMNS, *(f"{part}_s" for part in PARTS if with_parts))


def grid_columns(
    grid: Grid, theory: Theory, *, backend: Backend, device: Device, with_parts: bool
) -> Iterator[tuple[Case, int, Columns]]:
    """Of every family its number of rows and the columns of `column_names`."""
    wanted = [*WHOLES, *(PARTS if with_parts else ())]
    for case, points, estimate in estimates(grid, theory, wanted, backend=backend):
        columns = _description(case, points, estimate) | _seconds(points, estimate)
        columns |= _memory(over_grid(case, points), device, estimate.divides)
        columns["status"] = _status(case, estimate)
        if with_parts:
            columns |= {f"{part}_s": _part_seconds(estimate, part) for part in PARTS}
        yield case, len(points), columns


def _description(case: Case, points: Points, estimate: GridEstimate) -> Columns:
    return {
        "block": case.block,
        "model": case.model.name,
        "phase": case.workload.phase,
        "strategy": case.strategy,
        "tp": case.tp,
        "batch": points.batch,
        "seq": points.seq,
        "context": points.context,
        "dtype": case.workload.dtype,
        "chunks": estimate.chunks,
        "recompute": case.recompute,
    }


def _seconds(points: Points, estimate: GridEstimate) -> Columns:
    total = estimate.parts["total"]
    found: Columns = {f"{name}_s": _part_seconds(estimate, name) for name in WHOLES}
    found["total_low_s"] = _where_divides(estimate, total.low_s)
    found["total_high_s"] = _where_divides(estimate, total.high_s)
    found["extrapolated"] = found["tokens_per_s"] = None
    if found["total_s"] is not None:
        flags = np.broadcast_to(total.extrapolated, len(points))
        found["extrapolated"] = np.ma.masked_array(flags, mask=~estimate.divides)
        found["tokens_per_s"] = points.batch * points.seq / found["total_s"]
    return found


def _part_seconds(estimate: GridEstimate, name: Part | Whole) -> NDArray[np.float64] | None:
    part = estimate.parts.get(name)
    return None if part is None else _where_divides(estimate, part.seconds)


def _where_divides(estimate: GridEstimate, seconds: float | None) -> NDArray[np.float64] | None:
    """Seconds at every point, NaN where the tokens cannot be cut; None where the theory has none."""
    if seconds is None:
        return None
    found: NDArray[np.float64] = np.where(estimate.divides, seconds, np.nan)
    return found


def _memory(case: Case, device: Device, divides: NDArray[np.bool_]) -> Columns:
    """Bytes of the block alone and of the whole model on one rank, and whether that fits."""

    def masked(values: Any) -> Any:
        return np.ma.masked_array(values, mask=~divides)

    kind: DeviceKind = "cuda" if device.kind == "gpu" else "cpu"
    block, layer = bytes_by_kind(case, device=kind), whole_layer(case)
    held = None
    if layer is not None:
        held = model_bytes(layer, block if layer.block == case.block else bytes_by_kind(layer, device=kind))
    fitting = None if held is None or device.memory_bytes is None else fits(held, device.memory_bytes, device=kind)
    return {
        "layer_bytes": masked(sum(block.values())),
        "model_bytes": None if held is None else masked(held),
        "fits": None if fitting is None else masked(fitting),
    }


def _status(case: Case, estimate: GridEstimate) -> str | NDArray[np.object_]:
    """`ok`, or why the configuration cannot run or be estimated."""
    total = estimate.parts["total"]
    known = OK if total.seconds is not None else "the theory leaves an op without a price"
    if estimate.divides.all():
        return known
    cut = f"tp {case.tp}" + (f" x {case.chunks} chunks" if case.chunks > 1 else "")
    found: NDArray[np.object_] = np.where(estimate.divides, known, f"tokens not divisible by {cut}").astype(object)
    return found
