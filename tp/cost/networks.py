"""Collectives between nodes: from curves measured at other link rates, else from the stage in a node and the port.

At one size a time is a share that the hosts need and one that the port needs, t = a + b / rate: two measured rates tell
both. A port that was not measured at all is priced stage by stage, as NCCL turns its rings (`between_nodes`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tp.cost.collective import NODES_LOG_ERROR_90, between_nodes, prior_seconds, ring_share
from tp.cost.curves.array import Array
from tp.cost.curves.size import SizeCurve, regime_seconds
from tp.cost.curves.trust import EXTRAPOLATION_WIDENING, RANGE_SLACK, interval
from tp.cost.theory import OpEstimate
from tp.hardware import Link
from tp.numbers import lesser
from tp.plan.ops import Collective


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRate:
    """The curve of a collective between nodes, measured at one rate of the port."""

    bytes_per_s: float
    curve: SizeCurve
    log_error: float
    """What stands between its rows and the op, another dtype or source."""


def at_other_rate(op: Collective, rate: float, measured: Sequence[AtRate]) -> OpEstimate:
    """The op at a port of `rate` bytes a second, from the nearest measured rates."""
    around = _nearest(rate, measured)
    # From several rates it is known how a time follows the rate; from one only that it lies between both ways to err.
    errors = [np.hypot(each.curve.fit.log_error_at(op.size_bytes), each.log_error) for each in around]
    own = np.maximum(errors[0], errors[-1])
    rates = [each.bytes_per_s for each in measured]
    beyond = not min(rates) / RANGE_SLACK <= rate <= max(rates) * RANGE_SLACK
    outside = around[0].curve.fit.outside((op.size_bytes,)) | around[-1].curve.fit.outside((op.size_bytes,)) | beyond
    if len(around) == 1:
        error = np.hypot(own, abs(np.log(rate / around[0].bytes_per_s)) / 2)
    else:
        # As far beyond the rates, in logarithms, as they are apart: twice as wide, and so on.
        far = max(np.log(min(rates) / rate), np.log(rate / max(rates)), 0.0) / np.log(max(rates) / min(rates))
        error = own * np.where(outside, EXTRAPOLATION_WIDENING + far, 1.0)
    return interval(seconds_at(op, rate, around), error, extrapolated=outside)


def seconds_at(op: Collective, rate: float, around: Sequence[AtRate]) -> Array:
    """Along 1 / rate through one or two measured rates; what the hosts need is never less than nothing."""
    if len(around) == 1:
        (only,) = around
        hosts = np.minimum(only.curve.at(np.asarray(1.0)), only.curve.seconds(op))
        return np.asarray(hosts + (only.curve.seconds(op) - hosts) * only.bytes_per_s / rate)
    slow, fast = around
    times = slow.curve.seconds(op), fast.curve.seconds(op)
    slope = (times[0] - times[1]) / (1 / slow.bytes_per_s - 1 / fast.bytes_per_s)
    # The most that the port can need: then it is all that there is at the faster rate.
    slope = np.clip(slope, 0.0, times[1] * fast.bytes_per_s)
    nearer = 0 if rate < np.sqrt(slow.bytes_per_s * fast.bytes_per_s) else 1
    return np.asarray(times[nearer] + slope * (1 / rate - 1 / around[nearer].bytes_per_s))


def sustained(op: Collective, price: OpEstimate | None, network: Link | None) -> OpEstimate | None:
    """The price of a send that follows others at once, where one after a pause begins with a burst."""
    rate = None if network is None else network.one_way_bytes_per_s
    if price is None or network is None or rate is None or not network.burst_bytes:
        return price
    if not op.overlaps or op.num_nodes == 1 or op.kind != "send_recv":
        return price
    later = lesser(network.burst_bytes, op.size_bytes) / rate
    return replace(price, seconds=price.seconds + later, low_s=price.low_s + later, high_s=price.high_s + later)


def over_nodes(op: Collective, link: Link | None, network: Link, in_node: SizeCurve | None) -> OpEstimate | None:
    """Stage by stage: in a node as measured there (`in_node`) or as the link's constants have it, then over the ports.

    None where nothing says what the stage in a node takes, or the ranks do not divide.
    """
    nodes, ranks = op.num_nodes, op.num_ranks
    if ranks % nodes or network.one_way_bytes_per_s is None:
        return None
    if in_node is None and ranks > nodes:
        if link is None:
            return None
        seconds = prior_seconds(
            op.kind, op.size_bytes, ranks, link=link, num_nodes=nodes, network=network,
            nics_per_node=network.ports_per_node,
        )  # fmt: skip
        return interval(seconds, NODES_LOG_ERROR_90, extrapolated=True)
    size = np.asarray(op.size_bytes, dtype=np.float64)
    latency, transfer = np.zeros(()), np.zeros(())
    if in_node is not None:
        latency = np.minimum(
            regime_seconds(np.asarray(1.0), in_node.latency_s, in_node.seconds_per_byte), in_node.at(size)
        )
        # The ring turns over the ranks of all nodes.
        transfer = (in_node.at(size) - latency) * ring_share(op.kind, ranks) / ring_share(op.kind, ranks // nodes)
    # A backend that sends more than a ring does so over the port, too.
    size = size * (op.sent_bytes / (op.size_bytes * ring_share(op.kind, ranks)))
    start, moving = between_nodes(
        op.kind, size, ranks, latency, transfer, num_nodes=nodes, network=network, nics_per_node=network.ports_per_node
    )
    return interval(start + moving, NODES_LOG_ERROR_90, extrapolated=True)


def _nearest(rate: float, measured: Sequence[AtRate]) -> Sequence[AtRate]:
    """The two rates around `rate`, or the two at the end that it is beyond; ascending."""
    # Of two networks of one rate the first stands for both.
    by_rate = {each.bytes_per_s: each for each in reversed(measured)}
    ordered = [by_rate[each] for each in sorted(by_rate)]
    pairs = list(itertools.pairwise(ordered))
    return next((pair for pair in pairs if rate <= pair[1].bytes_per_s), pairs[-1] if pairs else tuple(ordered))
