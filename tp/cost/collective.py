"""Theory of collectives where none, or only other rank counts, were measured.

Two sources, from better to worse: a law over size and rank count fitted to the rank counts that were measured
(`RankLaw`), and a prior from the data sheet with the constants by which NCCL itself chooses protocols
(`prior_seconds`), alone or scaled to one measured rank count (`scaled_seconds`). Sizes follow nccl-tests. Left out:
trees, NVLS over several nodes, and the kernels of inference frameworks, which are not NCCL's.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from tp.cost.curves.array import Array
from tp.errors import ConfigError
from tp.hardware import Link
from tp.plan.ops import CollectiveKind

Path = Literal["nvlink", "pcie", "network"]
"""What a hop passes over, as the tuner of NCCL tells them apart."""
PATHS: Final[dict[str, Path]] = {
    "nvlink": "nvlink",
    "infinity-fabric": "nvlink",
    "pcie": "pcie",
    "host-memory": "pcie",
    "ethernet": "network",
    "infiniband": "network",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How NCCL sends; constants of its tuner, in version 2.28 and long before (NCCL, src/graph/tuning.cc)."""

    base_s: float
    """Latency of a ring before its first hop."""
    hop_s: dict[Path, float]
    """Latency of one step of a ring."""
    rate_share: float
    """Payload among what is sent: LL carries a flag with each word, LL128 120 bytes of 128 (there as 0.92)."""


LL: Final = Protocol(base_s=6.6e-6, hop_s={"nvlink": 0.6e-6, "pcie": 1.0e-6, "network": 2.7e-6}, rate_share=0.5)
LL128: Final = Protocol(base_s=14e-6, hop_s={"nvlink": 1.9e-6, "pcie": 2.5e-6, "network": 4.0e-6}, rate_share=0.92)
SIMPLE: Final = Protocol(base_s=8.4e-6, hop_s={"nvlink": 3.4e-6, "pcie": 5.7e-6, "network": 14e-6}, rate_share=1.0)

# NVLS, the sum in the switch: 25 us, 85 % of the rate on Hopper (Blackwell 74 %), a 16th channel less (tuning.cc).
SWITCH_S: Final = 25e-6
SWITCH_SHARE: Final = 0.85 * 15 / 16
SWITCH_SHARE_BLACKWELL: Final = 0.74 * 15 / 16
NVLINK_5_LANE_BYTES_PER_S: Final = 50e9
# What NCCL counts on of a line rate (src/graph/topo.h): 20.0 of 25 GB/s a link of NVLink 3, 20.6 of NVLink 4, 40.1 of
# 50 of NVLink 5; 24 of 31.5 GB/s of PCIe 4 x16, a sixth less between GPUs on Intel hosts (INTEL_P2P_OVERHEAD); 12.0
# of 12.5 GB/s of a NIC.
LINE_SHARE: Final[dict[Path, float]] = {"nvlink": 0.8, "pcie": 24 / 31.5 / 1.2, "network": 0.96}
# Few ranks reach less over NVLink: one's own part is copied besides. With 1 + c/n on the time, the busbw of the largest
# sizes in aiconfigurator's tables (A100, H100; 2 to 8 ranks) gives c from 0.6 to 1.4, mean 1.0, of all-gathers and
# reduce-scatters, and from 0.1 to 0.7, mean 0.4, of all-reduces that the switch does not add up.
COPY: Final[dict[CollectiveKind, float]] = {
    "all_reduce": 0.4,
    "all_gather": 1.0,
    "reduce_scatter": 1.0,
    "send_recv": 0.0,
}
# Smallest all-reduces take longer over NVLink than the tuner says: geometric mean of 12 published ratios (0.74 to
# 1.67; A100, H100, H200, B200 at 2, 4, 8 ranks; aiconfigurator's tables of nccl-tests). Over PCIe they do not.
LATENCY_OVER_TUNER: Final[dict[Path, float]] = {"nvlink": 1.13, "pcie": 1.0, "network": 1.0}
# Without peer-to-peer all ranks share the way through host memory: bus rate x ranks is 20.8 GB/s at 4 and 11.2 at 8
# on a node of L40S over two sockets (aiconfigurator's tables, all-reduce at 512 MiB); geometric mean.
HOST_PATH_BYTES_PER_S: Final = 15.3e9

# 90 % intervals as half-widths of the logarithm, on 530 published rows of NCCL within a node (aiconfigurator's tables
# of nccl-tests on A100, H100, L40S; Vidur's all-reduces on A100, H100 DGX; NVIDIA dgxc-benchmarking): 90 % of the
# rows are within these of the forms below. Kernels of inference frameworks are not NCCL's: all-reduces of theirs are
# within 1.3 of the prior only, three in four of them faster.
# The prior over NVLink, 429 rows (323 of nccl-tests alone: 0.32; Vidur's below 200 kB, whose 30 to 60 us seem to
# hold a wait for the slower rank, are outside).
PRIOR_LOG_ERROR_90: Final = 0.43
# The prior over PCIe where it is known whether peer-to-peer works. L40S 0.39, which the constants above saw; RTX PRO
# 6000, which they did not: 24.7 GB/s published at 8 ranks where the prior says 40, 0.48.
PRIOR_PCIE_LOG_ERROR_90: Final = 0.5
# A law fitted to two of 2, 4, 8 ranks on NVLink at the third, 387 rows (281 of nccl-tests alone: 0.14).
LAW_LOG_ERROR_90: Final = 0.21
# One rank count of 2, 4, 8 scaled to another on NVLink (nccl-tests alone: 0.28).
SCALED_LOG_ERROR_90: Final = 0.34
# Where a border may lie between: L40S, a law of 2 and 4 ranks at 8, over the sockets (2.50), and the prior that
# counts on peer-to-peer there (2.48). Nothing at 2 or 4 ranks told of it, so it holds for all PCIe.
BORDER_LOG_ERROR_90: Final = 2.5
# Two nodes of 2, 4, 8 GPUs by a NIC's rate found with 1 (Vidur's A100 DGX, NICs not stated): NVLink's prior and
# `between_nodes`, 50 rows, one NIC a rank.
NODES_LOG_ERROR_90: Final = 1.63


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLaw:
    """Time of one kind over size S and rank count n of one link domain, fitted to the rank counts measured.

    t = a0 + a1 (n-1) + sqrt(S) (c0 + c1 sqrt(n-1)) + w(n) S (b0 + b1/n), w(n) the bytes that a ring sends of each.
    The root stands for the protocols between the shortest and the fastest, b1 for the copy of one's own part. It
    knows nothing of the border of a domain: a second socket, a second node.
    """

    kind: CollectiveKind
    latency_s: float
    latency_per_step_s: float
    per_root_byte: float
    """c0, seconds a square root of a byte."""
    per_root_byte_step: float
    per_byte: float
    per_byte_own: float
    num_ranks: tuple[int, ...]
    """The rank counts fitted, ascending."""
    rows: int
    held_out_log_error_90: float | None
    """90 % of the rows of a rank count left out are within this; None with under three, where nothing can tell."""

    def seconds(self, size_bytes: ArrayLike, num_ranks: ArrayLike) -> Array:
        terms = law_terms(self.kind, size_bytes, num_ranks)
        return np.asarray(sum(c * term for c, term in zip(self.coefficients, terms, strict=True)), dtype=np.float64)

    def latency(self, num_ranks: ArrayLike) -> Array:
        """The part that does not grow with the size, seconds."""
        return np.asarray(self.latency_s + self.latency_per_step_s * (_ranks(num_ranks) - 1), dtype=np.float64)

    def log_error_90(self, num_ranks: int, link: Link) -> float:
        """Half-width of its 90 % interval at a rank count that was not measured, of the same link domain."""
        found = self.held_out_log_error_90
        if link.kind == "nvlink":
            return LAW_LOG_ERROR_90 if found is None else found
        inside = self.num_ranks[0] < num_ranks < self.num_ranks[-1]
        return found if found is not None and inside else max(BORDER_LOG_ERROR_90, found or 0.0)

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In the order of `law_terms`."""
        roots = (self.per_root_byte, self.per_root_byte_step)
        return (self.latency_s, self.latency_per_step_s, *roots, self.per_byte, self.per_byte_own)


def law_terms(kind: CollectiveKind, size_bytes: ArrayLike, num_ranks: ArrayLike) -> tuple[Array, ...]:
    """What the coefficients of a `RankLaw` multiply, each of the common shape of sizes and rank counts."""
    size, ranks = np.broadcast_arrays(np.asarray(size_bytes, dtype=np.float64), _ranks(num_ranks))
    root, sent = np.sqrt(size), size * ring_share(kind, ranks)
    return np.ones_like(size), ranks - 1, root, root * np.sqrt(ranks - 1), sent, sent / ranks


def prior_seconds(
    kind: CollectiveKind,
    size_bytes: ArrayLike,
    num_ranks: ArrayLike,
    *,
    link: Link,
    num_nodes: int = 1,
    network: Link | None = None,
    nics_per_node: int | None = None,
    peer_to_peer: bool = True,
) -> Array:
    """What the data sheet and NCCL's tuner make of it: the fastest of the protocols, and of NVLS where it exists.

    `num_ranks` are all of them, evenly over the nodes. `network` is one NIC, by default one for each rank of a node.
    Without `peer_to_peer` PCIe devices meet in host memory, whatever the line rate says.
    """
    size, ranks = np.broadcast_arrays(np.asarray(size_bytes, dtype=np.float64), _ranks(num_ranks))
    _require_layout(ranks, num_nodes, network)
    bus = bus_rate(kind, ranks, link, peer_to_peer=peer_to_peer)
    path, local = PATHS[link.kind], ranks / num_nodes
    times = []
    for protocol in (LL, LL128, SIMPLE):
        # LL128 counts on stores of 128 bytes that arrive whole, as over NVLink only (tuning.cc: up to PATH_NVB).
        if protocol is LL128 and path != "nvlink":
            continue
        start = LATENCY_OVER_TUNER[path] * (protocol.base_s + ring_steps(kind, local) * protocol.hop_s[path])
        transfer = size * ring_share(kind, ranks) / (bus * protocol.rate_share)
        if network is not None and num_nodes > 1:
            start, transfer = between_nodes(
                kind, size, ranks, start, transfer, num_nodes=num_nodes, network=network, nics_per_node=nics_per_node,
                protocol=protocol,
            )  # fmt: skip
        times.append(start + transfer)
    if kind == "all_reduce" and link.reduces_in_switch and num_nodes == 1:
        times.append(LATENCY_OVER_TUNER[path] * SWITCH_S + size / switch_rate(ranks, link))
    return np.asarray(np.min(times, axis=0), dtype=np.float64)


def between_nodes(
    kind: CollectiveKind,
    size_bytes: ArrayLike,
    num_ranks: ArrayLike,
    node_latency_s: ArrayLike,
    node_transfer_s: ArrayLike,
    *,
    num_nodes: int,
    network: Link,
    nics_per_node: int | None = None,
    protocol: Protocol = SIMPLE,
) -> tuple[Array, Array]:
    """Latency and transfer over several nodes, seconds: both latencies, and the slower of the two transfers.

    `node_latency_s` and `node_transfer_s` are of the stage in the node, priced or measured. NCCL turns one ring for
    each NIC over all ranks, so that the NICs in use share w(n) S, n all ranks: of Vidur's two-node rows 4, 8 and 16
    GPUs are 32, 39 and 53 % off with it, 51, 62 and 70 % if only sums of nodes, w(nodes) S, passed (4 NICs a node).
    """
    size, ranks = np.broadcast_arrays(np.asarray(size_bytes, dtype=np.float64), _ranks(num_ranks))
    # Of sends along a ring of ranks only one crosses from a node to the next.
    local = np.ones_like(ranks) if kind == "send_recv" else ranks / num_nodes
    nics = local if nics_per_node is None else np.minimum(local, nics_per_node)
    rate = nics * _line_rate(network) * LINE_SHARE["network"] * protocol.rate_share
    latency = np.asarray(node_latency_s) + ring_steps(kind, num_nodes) * protocol.hop_s["network"]
    transfer = np.maximum(np.asarray(node_transfer_s), size * ring_share(kind, ranks) / rate)
    return np.asarray(latency, dtype=np.float64), np.asarray(transfer, dtype=np.float64)


def scaled_seconds(
    measured_s: ArrayLike,
    kind: CollectiveKind,
    size_bytes: ArrayLike,
    num_ranks: ArrayLike,
    *,
    measured_ranks: int,
    link: Link,
    peer_to_peer: bool = True,
) -> Array:
    """A time at one rank count carried to another in the ratio of the priors, which keeps the machine's own level."""
    priors = [
        prior_seconds(kind, size_bytes, n, link=link, peer_to_peer=peer_to_peer) for n in (num_ranks, measured_ranks)
    ]
    return np.asarray(np.asarray(measured_s) * priors[0] / priors[1], dtype=np.float64)


def prior_log_error_90(link: Link, *, num_nodes: int = 1, peer_to_peer: bool | None = None) -> float:
    """Half-width of the 90 % interval of `prior_seconds`; `peer_to_peer` None where nobody looked."""
    # Of RCCL over a mesh no published row says how sure it is.
    if link.kind == "infinity-fabric" or (PATHS[link.kind] == "pcie" and peer_to_peer is None):
        return BORDER_LOG_ERROR_90
    if num_nodes > 1 or PATHS[link.kind] == "network":
        return NODES_LOG_ERROR_90
    return PRIOR_LOG_ERROR_90 if PATHS[link.kind] == "nvlink" else PRIOR_PCIE_LOG_ERROR_90


def scaled_log_error_90(link: Link) -> float:
    """Half-width of the 90 % interval of `scaled_seconds`."""
    return SCALED_LOG_ERROR_90 if link.kind == "nvlink" else BORDER_LOG_ERROR_90


def ring_share(kind: CollectiveKind, num_ranks: ArrayLike) -> Array:
    """Bytes that a ring sends from each rank, of the size: `bus_factor` for arrays."""
    ring = 1 - 1 / _ranks(num_ranks)
    return np.asarray({"all_reduce": 2 * ring, "send_recv": np.ones_like(ring)}.get(kind, ring))


def ring_steps(kind: CollectiveKind, num_ranks: ArrayLike) -> Array:
    """Hops one after another: n - 1 a turn of the ring, two turns for an all-reduce, one hop for a send."""
    hops = _ranks(num_ranks) - 1
    return np.asarray({"all_reduce": 2 * hops, "send_recv": np.minimum(hops, 1)}.get(kind, hops))


def bus_rate(kind: CollectiveKind, num_ranks: ArrayLike, link: Link, *, peer_to_peer: bool = True) -> Array:
    """Bytes a second that a ring of the Simple protocol sends from each rank (busbw of nccl-tests)."""
    ranks, path = _ranks(num_ranks), PATHS[link.kind]
    rate = np.full_like(ranks, _line_rate(link) * LINE_SHARE[path])
    if link.kind == "infinity-fabric" and link.lane_bytes_per_s is not None:
        # A mesh: each rank has one link to each other one.
        rate = np.minimum(rate, (ranks - 1) * link.lane_bytes_per_s * LINE_SHARE[path])
    if path == "nvlink":
        return np.asarray(rate / (1 + COPY[kind] / ranks))
    if link.kind == "host-memory" or (path == "pcie" and not peer_to_peer):
        return np.minimum(rate, HOST_PATH_BYTES_PER_S / ranks)
    return rate


def switch_rate(num_ranks: ArrayLike, link: Link) -> Array:
    """Bytes of the buffer a second where the switch adds up: each rank sends S and its own sum, S/n, once more."""
    is_blackwell = link.lane_bytes_per_s is not None and link.lane_bytes_per_s >= NVLINK_5_LANE_BYTES_PER_S
    share = SWITCH_SHARE_BLACKWELL if is_blackwell else SWITCH_SHARE
    line = _line_rate(link) * LINE_SHARE[PATHS[link.kind]] * share
    return np.asarray(line / (1 + 1 / _ranks(num_ranks)))


def _ranks(num_ranks: ArrayLike) -> Array:
    return np.asarray(num_ranks, dtype=np.float64)


def _line_rate(link: Link) -> float:
    if link.one_way_bytes_per_s is None:
        raise ConfigError(f"link {link.name}: nobody states its rate, so nothing prices it; measure, or give one")
    return link.one_way_bytes_per_s


def _require_layout(ranks: Array, num_nodes: int, network: Link | None) -> None:
    if np.any(ranks < 2):
        raise ConfigError(f"num_ranks {ranks.min():g}: a collective needs at least 2")
    if num_nodes < 1 or np.any(ranks % num_nodes):
        raise ConfigError(f"num_nodes {num_nodes}: does not divide the number of ranks; give equal nodes")
    if num_nodes > 1 and network is None:
        raise ConfigError(f"num_nodes {num_nodes}: nothing joins the nodes; name the network")
