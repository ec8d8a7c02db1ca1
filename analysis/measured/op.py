"""An op with the seconds that it took alone, and where they come from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.load import Run
from bench.harness.record.records import OpResult, PartTimes, Samples
from tp.cost.calibrated import curve_key
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
    nodes: int = 1

    @property
    def key(self) -> str:
        """The curve that prices it; of several nodes one of its own."""
        return curve_key(self.op, nodes=self.nodes)


def of_run(run: Run) -> list[Measured]:
    """The ops of a record, as parts of layers are read: the median of the slowest rank's times.

    Of a collective the fastest rank's of its group, which waited for nobody.
    """
    source = machine_of(run)
    return [
        Measured(
            op=result.op,
            seconds=seconds_of(result),
            source=source,
            group=source,
            kind=kind_of(result.op),
            nodes=nodes_of(run, result.op),
        )
        for result in run.ops
    ]


def seconds_of(result: OpResult) -> float:
    """What the op takes: in a pass where it was timed so, else alone."""
    op = result.op
    if result.in_pass is None:
        return float(np.median(np.array(result.samples.times_s).max(axis=1)))
    return marked_seconds(op, result.in_pass)


def marked_seconds(op: Op, samples: Samples) -> float:
    """The op's own part of passes: the slowest rank's, of a collective the fastest's of its group."""
    return float(np.median(part_times(op, next(part for part in samples.parts if is_of(op, part)))))


def is_of(op: Op, part: PartTimes) -> bool:
    """Whether the part of a pass is the op's."""
    return (part.part, part.direction) == (op.part, op.direction)


def part_times(op: Op, part: PartTimes) -> NDArray[np.float64]:
    """[iteration] seconds of the op's part: the slowest rank's, of a collective the fastest's of its group."""
    times = np.array(part.times_s)
    if isinstance(op, Collective):
        times = times.reshape(len(times), -1, op.num_ranks).min(axis=2)
    slowest: NDArray[np.float64] = times.max(axis=1)
    return slowest


def nodes_of(run: Run, op: Op) -> int:
    """Over how many nodes a collective went; ranks of a group are next to each other, a node's too."""
    header = run.headers[0]
    on_one = max(1, header.world // header.num_nodes)
    return -(-op.num_ranks // on_one) if isinstance(op, Collective) else 1


def machine_of(run: Run) -> str:
    """What makes two records of one source: the same devices on the same hosts."""
    header = run.headers[0]
    ranks = header.environment.get("ranks")
    hosts = {str(rank.get("host")) for rank in ranks if isinstance(rank, dict)} if isinstance(ranks, list) else set()
    return f"{header.hardware.device.name} on {', '.join(sorted(hosts)) or 'an unnamed host'}"


def kind_of(op: Op) -> str:
    """What an op timed alone is scored under."""
    if isinstance(op, Collective):
        return f"{op.kind}/{op.num_ranks}"
    return f"elementwise/{op.kind}" if isinstance(op, Elementwise) else op.op
