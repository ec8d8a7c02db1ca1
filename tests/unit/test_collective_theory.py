"""Collectives that were not measured: laws recover the truth, priors keep their limits and meet published values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting.collective import fit_rank_law
from tp.cost.collective import (
    BORDER_LOG_ERROR_90,
    LAW_LOG_ERROR_90,
    LL,
    NODES_LOG_ERROR_90,
    PRIOR_LOG_ERROR_90,
    PRIOR_PCIE_LOG_ERROR_90,
    RankLaw,
    between_nodes,
    bus_rate,
    prior_log_error_90,
    prior_seconds,
    ring_share,
    ring_steps,
    scaled_log_error_90,
    scaled_seconds,
)
from tp.cost.datasheet import DatasheetTheory
from tp.errors import ConfigError
from tp.hardware import Link, LinkKind, load_node
from tp.plan.ops import COLLECTIVE_KINDS, Collective, CollectiveKind, bus_factor

pytestmark = pytest.mark.unit

LAW = RankLaw(
    kind="all_reduce",
    latency_s=5e-6,
    latency_per_step_s=1.5e-6,
    per_root_byte=4e-9,
    per_root_byte_step=2e-9,
    per_byte=2.5e-12,
    per_byte_own=1.5e-12,
    num_ranks=(2, 4),
    rows=24,
    held_out_log_error_90=None,
)
SIZES = np.logspace(3, 9, 12)
KINDS = st.sampled_from(COLLECTIVE_KINDS)
BYTES = st.floats(1, 1e12)
RANKS = st.sampled_from([2, 4, 8])


def link(kind: LinkKind, rate: float | None, *, reduces_in_switch: bool = False) -> Link:
    return Link(
        name=kind, kind=kind, bytes_per_s=rate, direction="one-way", source="test", reduces_in_switch=reduces_in_switch
    )


NVLINK3 = link("nvlink", 300e9)
NVLINK4 = link("nvlink", 450e9, reduces_in_switch=True)
PCIE4, PCIE5 = link("pcie", 31.5e9), link("pcie", 63e9)
NIC = link("infiniband", 25e9)
LINKS = st.sampled_from([NVLINK3, NVLINK4, PCIE4])


def rows_of(law: RankLaw, *counts: int) -> np.ndarray:
    return np.array([[size, n, float(law.seconds(size, n))] for n in counts for size in SIZES])


def test_a_law_by_hand() -> None:
    # 5 + 3 x 1.5 us; sqrt(1e8) = 1e4: 40 us + 20 us x sqrt(3); 1.5e8 bytes sent at 2.5 + 1.5/4 ps
    assert float(LAW.seconds(1e8, 4)) == pytest.approx(9.5e-6 + 40e-6 + 20e-6 * math.sqrt(3) + 1.5e8 * 2.875e-12)
    assert float(LAW.latency(4)) == pytest.approx(9.5e-6)
    assert LAW.seconds(SIZES[:, None], [2, 4, 8]).shape == (12, 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_law_is_recovered_at_a_count_not_seen(seed: int) -> None:
    rows = rows_of(LAW, 2, 4)
    found = fit_rank_law(rows, kind="all_reduce", name="x")
    assert (found.num_ranks, found.rows, found.held_out_log_error_90) == ((2, 4), 24, None)
    assert found.seconds(SIZES, 8) == pytest.approx(LAW.seconds(SIZES, 8), rel=0.01)
    rows[:, 2] *= np.exp(np.random.default_rng(seed).normal(0, 0.02, len(rows)))
    rows[3, 2] *= 3  # one disturbed row
    noisy = fit_rank_law(rows, kind="all_reduce", name="x")
    assert noisy.seconds(SIZES, 8) == pytest.approx(LAW.seconds(SIZES, 8), rel=0.15)


def test_three_counts_tell_the_law_s_own_error() -> None:
    rows = rows_of(LAW, 2, 4, 8)
    exact = fit_rank_law(rows, kind="all_reduce", name="x")
    assert exact.held_out_log_error_90 is not None and exact.held_out_log_error_90 < 0.02
    rows[rows[:, 1] == 8, 2] *= 10  # a border that 2 and 4 do not know of
    broken = fit_rank_law(rows, kind="all_reduce", name="x")
    assert broken.held_out_log_error_90 is not None and broken.held_out_log_error_90 > 1
    assert broken.log_error_90(16, NVLINK3) == broken.held_out_log_error_90


@given(size=BYTES, growth=st.floats(1, 100), num_ranks=st.integers(2, 64))
@settings(deadline=None)
def test_a_fitted_law_is_never_negative_and_grows_with_the_size(size: float, growth: float, num_ranks: int) -> None:
    assert 0 < LAW.seconds(size, num_ranks) <= LAW.seconds(size * growth, num_ranks)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.empty((0, 3)), "x: no rows of size, rank count and seconds"),
        (rows_of(LAW, 4), "x: all rows are of 4 ranks, of which no law follows; measure another count"),
        (np.vstack([rows_of(LAW, 2), rows_of(LAW, 4)[:3]]), "x: 3 sizes of 4 ranks are too few; measure at least 4"),
        (rows_of(LAW, 2, 4) * [1, 1, -1], "x: a size or a time that is not a positive number"),
        (rows_of(LAW, 2, 4) * [1, 1, math.nan], "x: a size or a time that is not a positive number"),
        (rows_of(LAW, 2, 4) * [1, 0.5, 1], "x: a rank count that is not a whole number from 2 on"),
    ],
)
def test_rows_that_allow_no_law_are_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        fit_rank_law(rows, kind="all_reduce", name="x")
    assert "\n" not in str(refusal.value)


def test_the_limits_of_a_prior() -> None:
    # LL: 6.6 us and two steps of 0.6 us, by the 1.13 of small all-reduces
    assert float(prior_seconds("all_reduce", 8, 2, link=NVLINK3)) == pytest.approx(1.13 * 7.8e-6, rel=1e-4)
    # Simple: 300 GB/s x 0.8 / (1 + 0.4/2), of which a ring of two sends all once
    assert float(prior_seconds("all_reduce", 1e12, 2, link=NVLINK3)) == pytest.approx(1e12 / 200e9, rel=1e-4)
    # The switch: S (1 + 1/8) at 450 GB/s x 0.8 x 0.85 x 15/16
    in_switch = 1e12 * 1.125 / (450e9 * 0.8 * 0.85 * 15 / 16)
    assert float(prior_seconds("all_reduce", 1e12, 8, link=NVLINK4)) == pytest.approx(in_switch, rel=1e-4)
    # PCIe: 20 GB/s with peer-to-peer, a share of the way through host memory without
    assert float(bus_rate("all_reduce", 8, PCIE4)) == pytest.approx(20e9)
    assert float(bus_rate("all_reduce", 8, PCIE4, peer_to_peer=False)) == pytest.approx(15.3e9 / 8)


@pytest.mark.parametrize("kind", COLLECTIVE_KINDS)
@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_shares_are_those_of_the_plan(kind: CollectiveKind, num_ranks: int) -> None:
    assert float(ring_share(kind, num_ranks)) == pytest.approx(bus_factor(kind, num_ranks))


def test_arrays_are_broadcast() -> None:
    found = prior_seconds("all_gather", SIZES[:, None], [2, 4, 8], link=NVLINK4)
    assert found.shape == (12, 3)
    assert found[5, 2] == prior_seconds("all_gather", SIZES[5], 8, link=NVLINK4)


@given(kind=KINDS, size=BYTES, growth=st.floats(1, 100), num_ranks=RANKS, of=LINKS, num_nodes=st.sampled_from([1, 2]))
@settings(deadline=None)
def test_a_prior_grows_with_the_size_and_without_the_wires(
    kind: CollectiveKind, size: float, growth: float, num_ranks: int, of: Link, num_nodes: int
) -> None:
    def prior(size: float, *, num_nodes: int = num_nodes, peer_to_peer: bool = True) -> float:
        return float(
            prior_seconds(kind, size, num_ranks, link=of, num_nodes=num_nodes, network=NIC, peer_to_peer=peer_to_peer)
        )

    assert 0 < prior(size) <= prior(size * growth)
    assert prior(size) <= prior(size, peer_to_peer=False)


@given(kind=KINDS, size=st.integers(1, 2**40), num_ranks=RANKS, name=st.sampled_from(["h100-sxm", "a100-sxm-80gb"]))
@settings(deadline=None)
def test_a_prior_never_beats_the_data_sheet(kind: CollectiveKind, size: int, num_ranks: int, name: str) -> None:
    node = load_node(name)
    op = Collective(kind=kind, direction="forward", num_ranks=num_ranks, size_bytes=size, dtype="bf16", backend="nccl")
    bound = DatasheetTheory(node=node, link=node.link()).price(op)
    assert bound is not None
    assert prior_seconds(kind, size, num_ranks, link=node.link()) > bound.seconds


def test_nodes_add_latencies_and_take_the_slower_transfer() -> None:
    # One step of 14 us each way; 1.5e9 bytes of w(4) S over two NICs of 24 GB/s: slower than the node's 10 ms
    latency, transfer = between_nodes("all_reduce", 1e9, 4, 20e-6, 10e-3, num_nodes=2, network=NIC)
    assert (float(latency), float(transfer)) == pytest.approx((48e-6, 1.5e9 / 48e9))
    fast = link("infiniband", 1e12)
    assert float(between_nodes("all_reduce", 1e9, 4, 0, 10e-3, num_nodes=2, network=fast)[1]) == 10e-3
    one = between_nodes("all_reduce", 1e9, 16, 0, 0, num_nodes=2, network=NIC, nics_per_node=1)[1]
    assert float(one) == pytest.approx(1.875e9 / 24e9)
    send = between_nodes("send_recv", 1e9, 16, 0, 0, num_nodes=2, network=NIC)[1]
    assert float(send) == pytest.approx(1e9 / 24e9)  # one of a ring of sends crosses
    # Of the prior: LL's 6.6 us and 2 steps in the node, 2 between nodes
    small = prior_seconds("all_reduce", 8, 4, link=NVLINK3, num_nodes=2, network=NIC)
    assert float(small) == pytest.approx(1.13 * 7.8e-6 + 2 * LL.hop_s["network"], rel=1e-4)
    assert ring_steps("all_reduce", 1) == 0


def test_a_measured_count_keeps_its_level() -> None:
    prior = prior_seconds("all_gather", SIZES, 4, link=NVLINK4)
    carried = scaled_seconds(2 * prior, "all_gather", SIZES, 8, measured_ranks=4, link=NVLINK4)
    assert carried == pytest.approx(2 * prior_seconds("all_gather", SIZES, 8, link=NVLINK4))


# aiconfigurator's tables of nccl-tests, all-reduce: (link, ranks, us of the smallest, busbw in GB/s at 512 MiB).
PUBLISHED = [
    (NVLINK3, 2, 10.0, 193),  # A100 SXM
    (NVLINK3, 4, None, 217),
    (NVLINK3, 8, 21.3, 222),
    (NVLINK4, 2, 5.8, 318),  # H100 SXM
    (NVLINK4, 4, None, 350),
    (NVLINK4, 8, 15.6, 445),
    (PCIE5, 2, None, 38.6),  # RTX PRO 6000, which no constant was made from
    (PCIE5, 8, None, 24.7),
]


@pytest.mark.parametrize(("of", "num_ranks", "latency_us", "busbw"), PUBLISHED)
def test_priors_meet_published_values(of: Link, num_ranks: int, latency_us: float | None, busbw: float) -> None:
    size = 2**29
    found = size * bus_factor("all_reduce", num_ranks) / float(prior_seconds("all_reduce", size, num_ranks, link=of))
    # 9 % over NVLink; over PCIe beyond a socket the prior does not know.
    assert abs(math.log(found / (busbw * 1e9))) < (0.09 if of.kind == "nvlink" else PRIOR_PCIE_LOG_ERROR_90)
    if latency_us is not None:
        smallest = float(prior_seconds("all_reduce", 512, num_ranks, link=of)) * 1e6
        assert abs(math.log(smallest / latency_us)) < PRIOR_LOG_ERROR_90


def test_intervals_widen_with_what_is_not_known() -> None:
    assert LAW.log_error_90(8, NVLINK4) == LAW_LOG_ERROR_90
    assert LAW.log_error_90(8, PCIE4) == BORDER_LOG_ERROR_90
    assert LAW.log_error_90(8, NVLINK4) < scaled_log_error_90(NVLINK4) < prior_log_error_90(NVLINK4)
    assert prior_log_error_90(PCIE4, peer_to_peer=True) < prior_log_error_90(PCIE4) == scaled_log_error_90(PCIE4)
    assert prior_log_error_90(PCIE4, num_nodes=2) == BORDER_LOG_ERROR_90
    assert prior_log_error_90(NVLINK4, num_nodes=2) == NODES_LOG_ERROR_90 > prior_log_error_90(NVLINK4)


@pytest.mark.parametrize(
    ("num_ranks", "of", "num_nodes", "network", "message"),
    [
        (1, NVLINK3, 1, None, "num_ranks 1: a collective needs at least 2"),
        (6, NVLINK3, 4, NIC, "num_nodes 4: does not divide the number of ranks; give equal nodes"),
        (4, NVLINK3, 2, None, "num_nodes 2: nothing joins the nodes; name the network"),
        (4, link("host-memory", None), 1, None, "link host-memory: nobody states its rate"),
        (4, NVLINK3, 2, link("ethernet", None), "link ethernet: nobody states its rate"),
    ],
)
def test_what_has_no_prior_is_refused(
    num_ranks: int, of: Link, num_nodes: int, network: Link | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prior_seconds("all_reduce", 1e6, num_ranks, link=of, num_nodes=num_nodes, network=network)


def test_few_ranks_of_a_mesh_have_few_links() -> None:
    link = load_node("mi300x").link()
    rates = bus_rate("send_recv", np.array([2, 4, 8]), link)
    # 64 GB/s a link and way, of which NCCL counts on 80 %.
    assert rates == pytest.approx([0.8 * 64e9, 0.8 * 3 * 64e9, 0.8 * 448e9])
