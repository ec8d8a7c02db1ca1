"""The bound that the data sheets set: dense peak, memory bandwidth, one-way link rate. Nobody beats it.

A rate that no source states bounds nothing: the op's other bounds stand, and an op with none is left out.
"""

from dataclasses import dataclass, replace
from functools import reduce
from math import inf

from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, TheoryName, point
from tp.hardware import Link, Node
from tp.numbers import larger, lesser
from tp.plan.ops import Collective, Elementwise, Op, bus_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasheetTheory:
    """Roofline (Williams et al. 2009): the slower of arithmetic and memory; collectives at line rate, no latency."""

    node: Node
    link: Link
    network: Link | None = None
    """One port, of which each device has one; None: the link is taken to join all ranks."""
    name: TheoryName = "datasheet"
    bounds: bool = True
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        """Of a collective over as many nodes as it says, or more where they do not hold its ranks."""
        if isinstance(op, Collective):
            return self._collective(op, max(op.num_nodes, self.node.num_nodes(op.num_ranks)))
        bounds = []
        peak = self.node.device.dense_peak(op.dtype)
        if peak is not None and not isinstance(op, Elementwise):
            bounds.append(op.flops / peak.flops_per_s)
        if self.node.device.memory_bytes_per_s is not None:
            bounds.append(op.moved_bytes / self.node.device.memory_bytes_per_s)
        return point(reduce(larger, bounds)) if bounds else None

    def _collective(self, op: Collective, nodes: int) -> OpEstimate | None:
        """The slower of the link, within a node, and of the ports by which all ranks of a node send together."""
        link, port = self.link.one_way_bytes_per_s, None if self.network is None else self.network.one_way_bytes_per_s
        inside = op if self.network is None else replace(op, num_ranks=op.num_ranks // nodes)
        bounds = [] if link is None or inside.num_ranks == 1 else [self._least_sent(inside) / link]
        if nodes > 1 and self.network is not None and port is not None:
            # A switch that adds up (SHARP; Graham et al. 2016) spares an all-reduce over InfiniBand its second turn.
            once = op.kind == "all_reduce" and self.network.kind == "infiniband"
            crossing = op.size_bytes * (1.0 if once else bus_factor(op.kind, nodes))
            # Of sends along a ring of ranks only one leaves a node.
            crossing = larger(0.0, crossing - (self.network.burst_bytes or 0.0))
            ports = 1 if op.kind == "send_recv" else min(inside.num_ranks, self.network.ports_per_node or inf)
            bounds.append(crossing / (port * ports))
        return point(reduce(larger, bounds)) if bounds else None

    def _least_sent(self, op: Collective) -> float:
        """Bytes a rank must send: a ring's, or where the switch reduces (NVLS), S (n+1)/n of an all-reduce if less.

        The switch reads all S of a rank and hands back the rank's own share, S/n, which it sends once to all.
        """
        if op.kind == "all_reduce" and self.link.reduces_in_switch:
            return lesser(op.sent_bytes, op.size_bytes * (op.num_ranks + 1) / op.num_ranks)
        return op.sent_bytes
