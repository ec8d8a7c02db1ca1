"""The bound that the data sheets set: dense peak, memory bandwidth, one-way link rate. Nobody beats it.

A rate that no source states bounds nothing: the op's other bounds stand, and an op with none is left out.
"""

from dataclasses import dataclass
from functools import reduce

from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, TheoryName, point
from tp.hardware import Link, Node
from tp.numbers import larger, lesser
from tp.plan.ops import Collective, Elementwise, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasheetTheory:
    """Roofline (Williams et al. 2009): the slower of arithmetic and memory; collectives at line rate, no latency."""

    node: Node
    link: Link
    name: TheoryName = "datasheet"
    bounds: bool = True
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        if isinstance(op, Collective):
            rate = self.link.one_way_bytes_per_s
            return None if rate is None else point(self._least_sent(op) / rate)
        bounds = []
        peak = self.node.device.dense_peak(op.dtype)
        if peak is not None and not isinstance(op, Elementwise):
            bounds.append(op.flops / peak.flops_per_s)
        if self.node.device.memory_bytes_per_s is not None:
            bounds.append(op.moved_bytes / self.node.device.memory_bytes_per_s)
        return point(reduce(larger, bounds)) if bounds else None

    def _least_sent(self, op: Collective) -> float:
        """Bytes a rank must send: a ring's, or where the switch reduces (NVLS), S (n+1)/n of an all-reduce if less.

        The switch reads all S of a rank and hands back the rank's own share, S/n, which it sends once to all.
        """
        if op.kind == "all_reduce" and self.link.reduces_in_switch:
            return lesser(op.sent_bytes, op.size_bytes * (op.num_ranks + 1) / op.num_ranks)
        return op.sent_bytes
