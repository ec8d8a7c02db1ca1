"""Runs over two hosts on a link of known rate: what they measure, what is on the wire, and how they end cut off."""

import pytest

from analysis.load import load_run
from bench.harness.record.files import read_record
from bench.harness.record.interference import sent_over_planned
from bench.harness.record.records import End
from tp.plan.ops import bus_factor, sent_factor

RATE_BITS_PER_S = 400e6
# Ethernet, IP and TCP headers and acknowledgements on packets of 9000 bytes.
PAYLOAD = 0.989


def of_kind(run, kind):
    return sorted((result for result in run.ops if result.op.kind == kind), key=lambda result: result.op.size_bytes)


@pytest.mark.dist
def test_large_collectives_reach_the_links_rate(netlab, tmp_path):
    """By the bytes that the backend sends: no more than the link carries, and not much less."""
    out = tmp_path / "c.jsonl"
    done = netlab(
        *("--rate", f"{RATE_BITS_PER_S / 1e6:g}mbit", "--", "torchrun", "bench/collectives.py"),
        *("--largest-mib", "4", "--seconds", "9", "--out", out),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = load_run(out)
    (header,) = run.headers
    assert (header.world, header.num_nodes, header.oversubscribed) == (2, 2, None)
    assert [rank["node"] for rank in header.environment["ranks"]] == ["host0", "host1"]
    assert header.network.one_way_bytes_per_s == RATE_BITS_PER_S / 8 and header.network.ports_per_node == 1
    assert {result.op.num_nodes for result in run.ops} == {2}
    for kind in ("all_reduce", "all_gather", "reduce_scatter", "send_recv"):
        for result in of_kind(run, kind)[-2:]:
            op = result.op
            sent = op.size_bytes * sent_factor(kind, 2, "gloo")
            # The best of few, since a busy machine slows some; what lay in the bucket after a pause went at once.
            best_s = min(max(row) for row in result.samples.times_s)
            share = (sent - header.network.burst_bytes) / best_s / (RATE_BITS_PER_S / 8)
            assert 0.85 < share < 1.0, (kind, op.size_bytes, share)
    assert bus_factor("reduce_scatter", 2) < sent_factor("reduce_scatter", 2, "gloo")


@pytest.mark.dist
@pytest.mark.solo
def test_groups_inside_across_and_both(netlab, tmp_path, tiny):
    """Two hosts of two ranks: the link between decides, and the plan is on the wire."""
    out = tmp_path / "b.jsonl"
    done = netlab(
        *("--rate", "100mbit", "--", "torchrun", "--nproc-per-node", "2", "bench/ffn.py", "--model", tiny),
        *("--tp", "2,4", "--nodes", "1,2", "--strategy", "allreduce", "--phase", "prefill", "--seq", "256"),
        *("--dtype", "fp32", "--seconds", "1", "--out", out),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = load_run(out)
    cases = {(case.planned.case.tp, case.planned.case.nodes, case.planned.case.strategy): case for case in run.cases}
    assert [place for place, case in cases.items() if case.result.status != "ok"] == []
    assert {place[:2] for place in cases} == {(2, 1), (2, 2), (4, 2)}
    assert cases[2, 2, "allreduce"].result.members == ((0, 2), (1, 3))
    assert cases[2, 1, "allreduce"].result.members == cases[4, 2, "allreduce"].result.members == ()
    assert run.headers[0].oversubscribed == "4 ranks share 2 cores" or run.headers[0].hardware.num_devices > 2
    seconds = {place: _row(case, "communication").measured_s for place, case in cases.items()}
    # A quarter of a megabyte from each of two ranks through one port of 12.5 MB/s: 42 ms.
    assert seconds[2, 1, "allreduce"] < seconds[2, 2, "allreduce"] / 2
    across = cases[2, 2, "allreduce"].result.traffic
    sent = sum(host.sent_bytes["eth0"] for host in across.hosts)
    assert sent == pytest.approx(4 * across.passes * across.planned_bytes / PAYLOAD, rel=0.05)
    inside = cases[2, 1, "allreduce"].result.traffic
    assert sent_over_planned(inside) == pytest.approx(1.0, rel=0.05)
    assert max(host.sent_bytes.get("eth0", 0) for host in inside.hosts) < 0.05 * sent


def _row(case, part):
    return next(row for row in case.rows if row.part == part)


@pytest.mark.dist
@pytest.mark.solo
def test_a_link_that_goes_down_ends_the_run_on_both_sides(netlab, tmp_path, tiny):
    out = tmp_path / "down.jsonl"
    done = netlab(
        # Late enough for ranks that start beside others to have met; a pass takes half a second.
        *("--rate", "10mbit", "--down", "1:30", "--grace", "40", "--", "torchrun", "bench/ffn.py", "--model", tiny),
        *("--tp", "2", "--strategy", "allreduce", "--phase", "prefill", "--seq", "256", "--seconds", "60"),
        *("--timeout", "5", "--out", out),
    )
    assert done.returncode == 1
    for side, other in (("", "rank 1 on host1"), ("host1: ", "rank 0 on host0")):
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{side}error: ")]
        assert f"{other} no longer answers, killed or hanging or cut off from the network; the run was at ffn/" in line
        assert "add --resume to go on" in line
    kept = load_run(out)
    assert len(kept.cases) + len(kept.unfinished) == 1
    (end,) = [line for line in read_record(out).runs[0].lines if isinstance(line, End)]
    assert end.status == "failed" and "no longer answers" in str(end.reason)


@pytest.mark.dist
@pytest.mark.solo
def test_ranks_that_cannot_meet_say_where_each_waits(netlab, tmp_path, tiny):
    done = netlab(
        *("--grace", "30", "--", "torchrun", "bench/ffn.py", "--model", tiny, "--timeout", "4"),
        *("--out", tmp_path / "never.jsonl"),
        GLOO_SOCKET_IFNAME="lo",
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the ranks did not meet within 4 s (--timeout)" in line
    for rank in (0, 1):
        assert f"rank {rank} on host{rank} waits at 127.0.0.1 (GLOO_SOCKET_IFNAME=lo)" in line
    assert "name interfaces that reach each other by GLOO_SOCKET_IFNAME" in line
