"""Does the harness time what a plain loop times? The same collective and product both ways, taking turns.

    torchrun --nproc-per-node 2 scripts/plain_loop.py [--rounds N]

The plain loop knows nothing of the harness: a barrier, the clock, the operation, the clock; the maximum over ranks;
the median. It prints both medians and their ratio for all-reduces of 1 KiB, 1 MiB and 16 MiB and for a product.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist

from bench.harness.cases.ops import collective_task, compute_task
from bench.harness.machine.probe import make_probe
from bench.harness.timing.clock import make_clock
from bench.harness.timing.measure import Policy, measure
from bench.harness.timing.task import Instruments, Task
from bench.harness.world.faults import Guard
from bench.harness.world.launch import joined, pick_device, read_launch
from tp.layers.collectives import GroupCollectives
from tp.layers.mesh import split_world
from tp.plan.ops import Collective, Gemm
from tp.units import format_seconds, format_signed_percent

KIB = 1024
SIZES = {"all_reduce 1 KiB": KIB, "all_reduce 1 MiB": KIB**2, "all_reduce 16 MiB": 16 * KIB**2}
M, N, K = 512, 2048, 2048
# Iterations of one way before the other has its turn.
TURN = 16


def plain(operation: Callable[[], object], restore: Callable[[], object], device: torch.device) -> list[float]:
    """One turn of the plain loop: the slowest rank's seconds of each iteration."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    mine = []
    for _ in range(TURN):
        restore()
        wait()
        dist.barrier()
        wait()
        start = time.perf_counter()
        operation()
        wait()
        mine.append(time.perf_counter() - start)
    slowest = torch.tensor(mine, dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return [float(value) for value in slowest.tolist()]


def operations(device: torch.device) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """The plain loop's own buffers: what it times, and what restores them."""
    made: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name, size in SIZES.items():
        buffer = torch.randn(size // 4, device=device)
        kept = buffer.clone()
        made[name] = (
            lambda buffer=buffer: dist.all_reduce(buffer),  # type: ignore[misc]
            lambda buffer=buffer, kept=kept: buffer.copy_(kept),  # type: ignore[misc]
        )
    a, b = torch.randn(M, K, device=device), torch.randn(N, K, device=device)
    made[f"gemm {M} x {N} x {K}"] = (lambda: torch.nn.functional.linear(a, b), lambda: None)
    return made


def harness_tasks(instruments: Instruments, device: torch.device) -> dict[str, Task]:
    """The same through the harness."""
    world = instruments.ranks.size
    collectives = GroupCollectives(split_world(world, device=device))
    tasks = {
        name: collective_task(
            Collective(
                direction="forward",
                kind="all_reduce",
                size_bytes=size,
                num_ranks=world,
                dtype="fp32",
                backend="nccl" if device.type == "cuda" else "gloo",
            ),
            collectives,
            name=name,
        )
        for name, size in SIZES.items()
    }
    product = Gemm(part="up", direction="forward", m=M, n=N, k=K, dtype="fp32", layout="nt")
    name = f"gemm {M} x {N} x {K}"
    return tasks | {name: compute_task(product, device, name=name)}


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24, help="turns of each way")
    rounds = parser.parse_args().rounds
    launch = read_launch(os.environ)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    with joined(launch, kind, timeout_s=120) as (ranks, store):
        device = pick_device(kind, launch)
        guard = Guard(store, ranks, timeout_s=120, remedy="")
        instruments = Instruments(
            clock=make_clock(device, cold=False), ranks=ranks, probe=make_probe(device), guard=guard
        )
        tasks, loops = harness_tasks(instruments, device), operations(device)
        policy = Policy(min_rounds=TURN, max_rounds=TURN, max_seconds=60)
        for name in tasks:
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(rounds):
                times = measure([tasks[name]], instruments=instruments, policy=policy).samples[name].times_s
                ours += np.array(times).max(axis=1).tolist()
                theirs += plain(*loops[name], device)
            if launch.leads:
                mine, other = statistics.median(ours), statistics.median(theirs[TURN:])
                print(
                    f"{name}: harness {format_seconds(mine)} ({len(ours)} samples), plain loop {format_seconds(other)} "
                    f"({len(theirs) - TURN}), {format_signed_percent(mine / other - 1)}"
                )


if __name__ == "__main__":
    main()
