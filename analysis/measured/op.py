"""An op with the seconds that it took alone, and where they come from."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.load import Run
from bench.harness.record.grouping import by_group
from bench.harness.record.records import PLACED_SINCE, OpResult, PartTimes, Samples
from tp.cost.lookup import curve_key
from tp.hardware import Link
from tp.plan.ops import Collective, Elementwise, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One op and its time."""

    op: Op
    seconds: float
    source: str
    """Which measurement it comes from: rows of one source differ by noise, those of two by more."""
    group: str
    """What is fitted together: a source, or the layer rows of a table."""
    kind: str
    """What it is scored under."""
    network: Link | None = None
    """A port of what joins the nodes, where it is known."""

    @property
    def nodes(self) -> int:
        """Over how many nodes a collective went."""
        return self.op.num_nodes if isinstance(self.op, Collective) else 1

    @property
    def key(self) -> str:
        """The curve that prices it; of several nodes, and of each network between them, one of its own."""
        return curve_key(self.op, network="" if self.network is None else self.network.name)


def of_run(run: Run) -> list[Measured]:
    """The ops of a record, as parts of layers are read: the median of the slowest rank's times.

    Of a collective the fastest rank's of its group, which waited for nobody.
    """
    source, network = machine_of(run), run.headers[0].network
    return [
        Measured(
            op=placed(run, result.op),
            seconds=seconds_of(result),
            source=source,
            group=source,
            kind=kind_of(placed(run, result.op)),
            network=network,
        )
        for result in run.ops
    ]


def seconds_of(result: OpResult) -> float:
    """What the op takes: in a pass where it was timed so, else alone."""
    if result.in_pass is None:
        return float(np.median(np.array(result.samples.times_s).max(axis=1)))
    return marked_seconds(result, result.in_pass)


def marked_seconds(result: OpResult, samples: Samples) -> float:
    """The op's own part of passes: the slowest rank's, of a collective the fastest's of its group."""
    return float(np.median(part_times(result, next(part for part in samples.parts if is_of(result.op, part)))))


def is_of(op: Op, part: PartTimes) -> bool:
    """Whether the part of a pass is the op's."""
    return (part.part, part.direction) == (op.part, op.direction)


def part_times(result: OpResult, part: PartTimes) -> NDArray[np.float64]:
    """[iteration] seconds of the op's part: the slowest rank's, of a collective the fastest's of its group."""
    times = np.array(part.times_s)
    if isinstance(result.op, Collective):
        times = by_group(times, result.grouping).min(axis=2)
    slowest: NDArray[np.float64] = times.max(axis=1)
    return slowest


def placed(run: Run, op: Op) -> Op:
    """The op with the nodes that it went over, which records before version 5 do not say: ranks filled node by node."""
    header = run.headers[0]
    if not isinstance(op, Collective) or header.schema_version >= PLACED_SINCE:
        return op
    on_one = max(1, header.world // header.num_nodes)
    return replace(op, num_nodes=-(-op.num_ranks // on_one))


def machine_of(run: Run) -> str:
    """What makes two records of one source: the same devices on the same hosts."""
    header = run.headers[0]
    ranks = header.environment.get("ranks")
    hosts = {str(rank.get("host")) for rank in ranks if isinstance(rank, dict)} if isinstance(ranks, list) else set()
    return f"{header.hardware.device.name} on {', '.join(sorted(hosts)) or 'an unnamed host'}"


def kind_of(op: Op) -> str:
    """What an op timed alone is scored under."""
    if isinstance(op, Collective):
        return f"{op.kind}/{op.num_ranks}" + (f"/{op.num_nodes}nodes" if op.num_nodes > 1 else "")
    return f"elementwise/{op.kind}" if isinstance(op, Elementwise) else op.op
