"""What only a GPU shows: its clock, streams, graphs, NCCL and NVML. One is enough."""

import time
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from bench.harness.cases.ops import collective_task, compute_task
from bench.harness.cases.streams import STREAM, TRANSFERS, room_bytes, stream_call, stream_ops
from bench.harness.machine.probe import make_probe
from bench.harness.timing.clock import make_clock
from bench.harness.timing.contention import beside, repetitions
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.replay import replayed
from bench.harness.timing.task import Instruments, Task
from bench.harness.world.faults import Guard
from bench.harness.world.ranks import LoneRank
from tp.errors import MeasurementError
from tp.layers.collectives import GroupCollectives
from tp.layers.mesh import Mesh
from tp.plan.ops import Collective, Gemm
from tp.units import GIB, MIB

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

GEMM = Gemm(part="up", direction="forward", m=4096, n=8192, k=8192, dtype="bf16", layout="nt")


@pytest.fixture(scope="module")
def device():
    return torch.device("cuda", 0)


@pytest.fixture(scope="module")
def instruments(device):
    return Instruments(
        clock=make_clock(device, cold=True),
        ranks=LoneRank(),
        probe=make_probe(device),
        guard=Guard(None, LoneRank(), timeout_s=60, remedy=""),
    )


@pytest.fixture(scope="module")
def nccl():
    """A group of one rank over NCCL."""
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:29591", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_a_delay_is_seen_by_events_and_by_the_host(instruments):
    clock = instruments.clock
    # Long enough that the card's clock has gone up.
    for _ in range(5):
        tie = clock.brace(20e-3)
        start = clock.mark()
        clock.delay(5e-3)
        end = clock.mark()
        clock.settle()
    assert clock.seconds(start, end) == pytest.approx(5e-3, rel=0.1)
    by_host = clock.host_seconds(end, tie) - clock.host_seconds(start, tie)
    assert by_host == pytest.approx(clock.seconds(start, end), abs=1e-6)
    # A mark lies between the brace and now, on the host's clock.
    assert clock.host_seconds(end, tie) <= time.perf_counter()
    assert clock.host_seconds(start, tie) > time.perf_counter() - 1


def test_the_host_is_ahead_of_the_device(instruments, device):
    found = measure(
        [compute_task(GEMM, device, name="gemm")], instruments=instruments, policy=Policy(max_seconds=5)
    ).samples["gemm"]
    assert found.host_bound <= len(found.times_s) // 4
    # Under the bound of a H100's dense peak it would have timed launches.
    assert min(min(row) for row in found.times_s) > GEMM.flops / 2.5e15


def test_a_replayed_product_takes_no_longer_and_is_the_same(instruments, device):
    launched = compute_task(GEMM, device, name="launched")
    again = replayed(Task(name="replayed", run=launched.run, reset=launched.reset))
    found = measure([launched, again], instruments=instruments, policy=Policy(max_seconds=5)).samples
    medians = {name: sorted(row[0] for row in each.times_s)[len(each.times_s) // 2] for name, each in found.items()}
    assert medians["replayed"] == pytest.approx(medians["launched"], rel=0.1)


def test_a_replay_that_gives_something_else_is_refused(device):
    x = torch.ones(1024, device=device)
    calls = SimpleNamespace(count=0)

    def run(timeline: object) -> torch.Tensor:
        # Read by the host at capture: the graph keeps what it was then.
        calls.count += 1
        return x * calls.count

    with pytest.raises(MeasurementError, match="replayed differs"):
        replayed(Task(name="odd", run=run, reset=lambda: None))


def test_what_runs_beside_covers_what_is_timed(instruments, device):
    timed, other = compute_task(GEMM, device, name="alone"), compute_task(GEMM, device, name="other")
    running = beside(lambda: other.run(None), other.reset, times=repetitions(1.0, 1.0), fresh_every=1, device=device)
    both = Task(name="contended", run=timed.run, reset=timed.reset, beside=running, decides=False)
    found = measure([timed, both], instruments=instruments, policy=Policy(max_seconds=5)).samples
    # Which of two products that each fill the card goes first is the scheduler's; that both were there is what counts.
    assert found["contended"].uncovered <= len(found["contended"].times_s) // 4


def test_a_short_company_is_noticed(instruments, device):
    timed, other = compute_task(GEMM, device, name="alone"), torch.zeros(8, device=device)
    running = beside(lambda: other.add_(1), lambda: None, times=1, fresh_every=1, device=device)
    both = Task(name="contended", run=timed.run, reset=timed.reset, beside=running, decides=False)
    found = measure([both], instruments=instruments, policy=Policy(max_seconds=2)).samples["contended"]
    assert found.uncovered == len(found.times_s)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])  # NCCL leaves out an all-reduce of one rank
def test_collectives_over_nccl(instruments, device, nccl, kind):
    mesh = Mesh(rank=0, size=1, device=device, group=nccl)
    op = Collective(kind=kind, direction="forward", num_ranks=1, size_bytes=1 << 20, dtype="bf16", backend="nccl")
    task = collective_task(op, GroupCollectives(mesh), name=kind)
    again = replace(replayed(task), name="replayed")
    found = measure([task, again], instruments=instruments, policy=Policy(max_seconds=2)).samples
    assert min(row[0] for each in found.values() for row in each.times_s) > 0


def test_the_state_is_read(device):
    probe = make_probe(device)
    facts, reading = probe.facts(), probe.read()
    assert facts.values["gpu_name"] == torch.cuda.get_device_name(device)
    assert reading.values["power_w"] > 10
    assert 10 < reading.values["temperature_c"] < 100
    assert reading.values["sm_clock_mhz"] <= facts.values["sm_clock_max_mhz"]
    assert not set(reading.values) & set(reading.unread)


@pytest.mark.parametrize("graph", [False, True], ids=["launched", "replayed"])
def test_memory_is_faster_than_transfers_and_both_ways_than_one(device, graph):
    instruments = Instruments(
        clock=make_clock(device, cold=False),
        ranks=LoneRank(),
        probe=make_probe(device),
        guard=Guard(None, LoneRank(), timeout_s=60, remedy=""),
    )
    largest = {op.kind: op for op in stream_ops("cuda", largest=64 * MIB)}
    tasks = [compute_task(op, device, name=kind) for kind, op in largest.items()]
    tasks = [replayed(task) for task in tasks] if graph else tasks
    found = measure(tasks, instruments=instruments, policy=Policy(max_seconds=10)).samples
    rates = {kind: op.moved_bytes / median(row[0] for row in found[kind].times_s) for kind, op in largest.items()}
    print({kind: f"{rate / 1e9:.1f} GB/s" for kind, rate in rates.items()})
    assert set(rates) == set(STREAM)
    one_way = max(rates["to_device"], rates["to_host"])
    assert min(rate for kind, rate in rates.items() if kind not in TRANSFERS) > 2 * rates["both_ways"]
    assert 1.2 * one_way < rates["both_ways"] < 2.2 * one_way
    # No bus or memory is that fast yet.
    assert one_way < 0.5e12 and max(rates.values()) < 10e12


@pytest.mark.parametrize("kind", ["to_device", "to_host"])
def test_a_transfer_arrives(device, kind):
    arrived = stream_call(kind, 4 * MIB, device)()
    torch.cuda.synchronize(device)
    assert arrived.numel() * 4 == 4 * MIB
    assert arrived.is_cuda == (kind == "to_device") and arrived.is_pinned() == (kind == "to_host")
    assert float(arrived.mean()) == pytest.approx(0.5, rel=0.05)


def test_a_gibibyte_fits_where_there_is_room(device):
    room = room_bytes(device, local_ranks=1)
    assert 0 < room <= torch.cuda.mem_get_info(device)[0] / 6
    assert room.bit_count() == 1
    assert room >= GIB or torch.cuda.mem_get_info(device)[0] < 20 * GIB
