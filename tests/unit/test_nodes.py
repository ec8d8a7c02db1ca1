"""Several nodes: which ranks form a group, how its times are read, and what a link of another rate costs."""

import math
import socket
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.record.arrivals import arrivals
from bench.harness.record.grouping import by_group, num_groups, rank_at
from bench.harness.run.lines import oversubscribed
from bench.harness.world.interfaces import interfaces, require_interfaces
from bench.harness.world.launch import Launch, members_of
from bench.harness.world.ranks import Place
from tests.unit.test_cost import CALIBRATION, LINES
from tp.case import Case, Workload
from tp.cost.calibrated import CalibratedTheory
from tp.cost.datasheet import DatasheetTheory
from tp.cost.lookup import curve_key
from tp.cost.networks import AtRate, at_other_rate, sustained
from tp.cost.overheads import Contention, Overheads
from tp.cost.schedule import schedule
from tp.cost.theory import OpEstimate
from tp.errors import ConfigError, PlanError
from tp.hardware import Link, load_node
from tp.model import load_model
from tp.placement import groups, spreads
from tp.plan.build import build_plan
from tp.plan.ops import Collective, Gemm
from tp.suite import Suite, defaults, expand

pytestmark = pytest.mark.unit

SENT = Collective(
    kind="all_reduce",
    direction="forward",
    num_ranks=2,
    size_bytes=10**7,
    dtype="bf16",
    backend="gloo",
    num_nodes=2,
)


def network(name: str, rate: float | None, *, ports: int | None = None) -> Link:
    return Link(name=name, kind="ethernet", bytes_per_s=rate, direction="one-way", source="test", ports_per_node=ports)


@given(
    size=st.sampled_from([2, 4, 8]),
    num_nodes=st.sampled_from([1, 2, 3, 4]),
    on_node=st.sampled_from([1, 2, 4, 6, 8]),
)
def test_every_rank_is_in_one_group_and_as_many_of_it_on_each_node(size: int, num_nodes: int, on_node: int) -> None:
    world = num_nodes * on_node
    for nodes in spreads(size, world=world, on_node=on_node):
        found = groups(size, world=world, on_node=on_node, nodes=nodes)
        assert sorted(rank for group in found for rank in group) == list(range(world))
        for group in found:
            shares = [sum(rank // on_node == node for rank in group) for node in {rank // on_node for rank in group}]
            assert shares == [size // nodes] * nodes


def test_inside_across_and_both() -> None:
    assert spreads(2, world=4, on_node=2) == (1, 2)
    assert groups(2, world=4, on_node=2, nodes=1) == [[0, 1], [2, 3]]
    assert groups(2, world=4, on_node=2, nodes=2) == [[0, 2], [1, 3]]
    assert spreads(4, world=4, on_node=2) == (2,)
    # Three ranks a node do not make groups of two, but over the two nodes.
    assert spreads(2, world=6, on_node=3) == (2,)


def test_a_suite_takes_the_fewest_nodes_or_those_it_is_told() -> None:
    def placed(suite: Suite) -> list[tuple[int, int]]:
        found = expand(
            suite, "ffn", world=4, chosen=defaults("cpu", ("fp32",)), choose_chunks=lambda case: 1, on_node=2
        )
        return list(dict.fromkeys((planned.case.tp, planned.case.nodes) for planned in found))

    suite = Suite(name="x", strategy=("allreduce",), phase=("prefill",))
    assert placed(suite) == [(1, 1), (2, 1), (4, 2)]
    assert placed(replace(suite, tp=(2, 4), nodes=(1, 2))) == [(2, 1), (2, 2), (4, 2)]
    # A rank alone is what the others are compared with.
    assert placed(replace(suite, nodes=(2,))) == [(1, 1), (2, 2), (4, 2)]
    with pytest.raises(ConfigError, match="--nodes 4: no group of this world lies on so many"):
        placed(replace(suite, tp=(2,), nodes=(4,)))


def test_a_case_says_where_it_is_and_so_do_its_collectives() -> None:
    workload = Workload(phase="prefill", batch=1, seq=8, context=8, dtype="fp32")
    case = Case(block="ffn", model=load_model("tinyllama-1.1b"), strategy="allreduce", tp=4, workload=workload, nodes=2)
    assert "/tp4x2nodes/" in case.key and "nodes" not in replace(case, nodes=1).key
    assert {op.num_nodes for op in build_plan(case, backend="gloo").collectives} == {2}
    with pytest.raises(PlanError, match="--nodes 3: 4 ranks do not lie evenly"):
        replace(case, nodes=3)


def test_ranks_of_a_group_are_found_wherever_they_are() -> None:
    launch = Launch(rank=0, world=4, local_rank=0, local_world=2)
    across = members_of(2, 2, launch)
    assert across == ((0, 2), (1, 3))
    assert members_of(2, 1, launch) == members_of(4, 2, launch) == ()
    values = np.array([[0.0, 1.0, 2.0, 3.0]])
    assert by_group(values, across).tolist() == [[[0.0, 2.0], [1.0, 3.0]]]
    assert by_group(values, 2).tolist() == [[[0.0, 1.0], [2.0, 3.0]]]
    assert (num_groups(across), num_groups(2)) == (2, 2)
    assert [rank_at(at, across) for at in range(4)] == [0, 2, 1, 3]
    # Rank 1 is late in its group with rank 3; next to each other it would be late for rank 0.
    late = arrivals("x", np.array([[0.0, 5.0, 0.0, 0.0]] * 4), np.ones((4, 4)), groups=across)
    assert (late.skew.median_s, late.last_rank) == (5.0, 1)


def test_nodes_of_one_machine_share_its_cores() -> None:
    places = [Place(node=f"host{i // 2}", host=f"host{i // 2} b", machine="b", pid=i) for i in range(4)]
    assert oversubscribed("cpu", places, 2) == "4 ranks share 2 cores"
    assert oversubscribed("cpu", places[:2], 2) is None
    apart = [replace(place, machine=place.node) for place in places]
    assert oversubscribed("cpu", apart, 2) is None and oversubscribed("cuda", places, 2) is None


def line(host_s: float, port_bytes: float, rate: float) -> AtRate:
    """A collective whose time is host_s + size * port_bytes / rate."""
    slope, fit = (port_bytes / rate, port_bytes / rate), replace(LINES.fit, low=(1e3,), high=(2e7,))
    curve = replace(LINES, latency_s=(host_s, host_s), seconds_per_byte=slope, fit=fit)
    return AtRate(bytes_per_s=rate, curve=curve, log_error=0.0)


def test_what_a_byte_costs_its_hosts_is_charged_by_the_byte() -> None:
    """Between nodes alone, and no more of it the faster the port is said to be."""
    contention = Contention(compute=0.05, communication=0.0, rows=4, compute_s_per_byte=2e-9)
    sent = replace(SENT, kind="send_recv", overlaps=True)
    assert contention.beside(sent, 0.1) == pytest.approx(2e-9 * 10**7 / 0.1)
    assert contention.beside(replace(sent, num_nodes=1), 0.1) == 0.05
    product = Gemm(part="up", direction="forward", layout="nt", m=1, n=1, k=1, dtype="bf16", needs=0)
    overheads = Overheads(contention=contention)
    # 10 MB cost 20 ms of compute, whether they take 0.1 s or 0.05 s of the 0.2 s.
    for sending in (0.1, 0.05):
        assert schedule((sent, product), (sending, 0.2), overheads).total_s == pytest.approx(0.22)
    inside = schedule((replace(sent, num_nodes=1), product), (0.1, 0.2), overheads)
    assert inside.total_s == pytest.approx(0.205)


def test_only_a_send_after_a_pause_begins_with_a_burst() -> None:
    over = replace(network("lab", 1e8), burst_bytes=1e6)
    price = OpEstimate(seconds=0.09, low_s=0.08, high_s=0.1)
    sent = replace(SENT, kind="send_recv", overlaps=True)
    found = sustained(sent, price, over)
    assert found is not None
    assert (found.seconds, found.low_s, found.high_s) == pytest.approx((0.1, 0.09, 0.11))
    small = sustained(replace(sent, size_bytes=10**5), price, over)
    assert small is not None and small.seconds == pytest.approx(0.091)
    for other in (replace(sent, overlaps=False), replace(sent, num_nodes=1), replace(SENT, overlaps=True)):
        assert sustained(other, price, over) is price
    assert sustained(sent, price, replace(over, burst_bytes=None)) is sustained(sent, price, None) is price


@given(rate=st.floats(1e6, 1e9), host_s=st.floats(1e-5, 1e-3))
@settings(max_examples=50)
def test_two_rates_tell_every_other_where_hosts_and_port_add(rate: float, host_s: float) -> None:
    measured = [line(host_s, 1.0, 3e7), line(host_s, 1.0, 1.2e8)]
    found = at_other_rate(SENT, rate, measured)
    assert found.seconds == pytest.approx(host_s + 10**7 / rate)
    if not any(rate == pytest.approx(edge) for edge in (3e7 / 1.25, 1.2e8 * 1.25)):
        assert found.extrapolated == (not 3e7 / 1.25 < rate < 1.2e8 * 1.25)
    assert found.low_s < found.seconds < found.high_s
    # A size that was not measured is marked, whatever the rate.
    assert at_other_rate(replace(SENT, size_bytes=10**9), 6e7, measured).extrapolated


def test_no_time_falls_below_nothing() -> None:
    # Faster at the lower rate: disturbed. Then the rate says nothing, and the nearer one holds.
    odd = [line(2e-3, 0.1, 3e7), line(9e-2, 0.1, 1.2e8)]
    found = [at_other_rate(SENT, rate, odd).seconds for rate in (1e7, 3e7, 1.2e8, 1e9)]
    assert found[0] == found[1] < found[2] == found[3]
    # Slower by more than the ratio of the rates: at most all of it is the port's.
    steep = [line(0.5, 1.0, 3e7), line(0.0, 1.0, 1.2e8)]
    assert at_other_rate(SENT, 1e12, steep).seconds > 0


def test_one_rate_alone_is_scaled_with_a_wide_interval() -> None:
    (only,) = [line(1e-4, 1.0, 1e8)]
    same, half = (at_other_rate(SENT, rate, [only]) for rate in (1e8, 5e7))
    assert same.seconds == pytest.approx(1e-4 + 0.1) and half.seconds == pytest.approx(1e-4 + 0.2, rel=1e-3)
    assert half.high_s / half.seconds > math.sqrt(2) * 0.99 > same.high_s / same.seconds


def test_a_calibration_keeps_networks_apart() -> None:
    slow, fast = (
        replace(LINES, latency_s=(1e-4, 1e-4), seconds_per_byte=(1 / rate, 1 / rate)) for rate in (3e7, 1.2e8)
    )
    keys = {f"all_reduce/2x2@{name}/bf16": curve for name, curve in (("slow", slow), ("fast", fast))}
    calibration = replace(CALIBRATION, collectives=keys, networks={"slow": 3e7, "fast": 1.2e8})
    assert curve_key(SENT, network="slow") in keys

    def priced(over: Link | None) -> float | None:
        found = CalibratedTheory(calibration=calibration, network=over).price(SENT)
        return None if found is None else found.seconds

    assert priced(network("slow", 3e7)) == pytest.approx(1e-4 + 1e7 / 3e7)
    assert priced(network("other", 6e7)) == pytest.approx(1e-4 + 1e7 / 6e7)
    assert priced(None) is priced(network("other", None)) is None
    with pytest.raises(ValueError, match="networks does not say how fast that is"):
        replace(calibration, networks={"slow": 3e7})


def test_stage_by_stage_where_no_network_was_measured() -> None:
    inside = replace(LINES, latency_s=(1e-5, 1e-5), seconds_per_byte=(1e-10, 1e-10))
    calibration = replace(CALIBRATION, collectives={"all_reduce/2/bf16": inside})
    op = replace(SENT, num_ranks=4)

    def seconds(rate: float, ports: int | None) -> float:
        theory = CalibratedTheory(calibration=calibration, network=network("net", rate, ports=ports))
        found = theory.price(op)
        assert found is not None and found.extrapolated
        return found.seconds

    # The port decides; two of them share what one must carry; a port as fast as memory leaves the node's own stage.
    assert seconds(1e8, 1) == pytest.approx(2 * seconds(1e8, None), rel=1e-2)
    assert seconds(1e8, 1) == pytest.approx(1.5e7 / (0.96 * 1e8), rel=1e-2)
    assert seconds(1e15, 1) < 3e-3


def test_the_bound_counts_the_ports_of_a_node() -> None:
    node = load_node("h100-sxm")
    op = replace(SENT, num_ranks=16, size_bytes=10**9, backend="nccl")
    bounds = {}
    for ports in (1, 8, None):
        over = network("net", 50e9, ports=ports)
        price = DatasheetTheory(node=node, link=node.link(), network=over).price(op)
        assert price is not None
        bounds[ports] = price.seconds
    assert bounds[1] == pytest.approx(1e9 / 50e9)
    assert bounds[8] == bounds[None] < bounds[1]


def test_variables_that_name_no_interface_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    here = interfaces()
    assert here["lo"] == "127.0.0.1"
    require_interfaces({"GLOO_SOCKET_IFNAME": "lo"}, several_nodes=True, over_nccl=False)
    with pytest.raises(ConfigError, match="GLOO_SOCKET_IFNAME=nope0: no interface 'nope0' is here; use one of|give an"):
        require_interfaces({"GLOO_SOCKET_IFNAME": "nope0"}, several_nodes=False, over_nccl=False)
    for text in ("nope", "=l", "nope,mlx"):
        with pytest.raises(ConfigError, match="NCCL_SOCKET_IFNAME=.*: no interface of that name here, which has lo"):
            require_interfaces(
                {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": text}, several_nodes=True, over_nccl=True
            )
    for text in ("l", "=lo", "^docker", "x,lo"):
        require_interfaces({"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": text}, several_nodes=True, over_nccl=True)
    with pytest.raises(ConfigError, match="NCCL_IB_HCA=mlx5_0:1: no adapter of that name here, which has none"):
        require_interfaces({"GLOO_SOCKET_IFNAME": "lo", "NCCL_IB_HCA": "mlx5_0:1"}, several_nodes=True, over_nccl=True)
    # A host that is called by its own loopback: ranks of other nodes would look for it at home.
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    with pytest.raises(ConfigError, match="GLOO_SOCKET_IFNAME: is not set, and the host's name .* itself alone"):
        require_interfaces({}, several_nodes=True, over_nccl=False)
    require_interfaces({}, several_nodes=False, over_nccl=False)
