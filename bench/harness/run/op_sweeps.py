"""What `bench/gemm.py`, `bench/collectives.py` and `bench/memory.py` measure: their flags, and the ops these mean."""

from dataclasses import dataclass, replace

from bench.harness.cases.streams import STREAM_DTYPE, STREAM_TURN, room_bytes, stream_ops, wanted_bytes
from bench.harness.cases.sweeps import (
    RANGES,
    attention_ops,
    collective_ops,
    elementwise_ops,
    gemm_ops,
    single_token_ops,
)
from bench.harness.run.cli import RunFlags, RunSettings, resolve_run
from bench.harness.run.op_runner import Bench, run_ops
from bench.harness.run.runnable import require_runnable
from bench.harness.run.session import Session
from tp.errors import ConfigError
from tp.flags import choice, parse_flags, positive_int
from tp.placement import spreads
from tp.plan.ops import Op
from tp.probe import native_dtypes
from tp.suite import defaults
from tp.units import DTYPES, MIB, Dtype, activation_dtype, format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFlags(RunFlags):
    """How many sizes to measure."""

    shapes: str = "40"
    """Matrix shapes, each in three layouts; half as many attention cores, a quarter as many elementwise sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveFlags(RunFlags):
    """How large the messages become."""

    largest_mib: str = ""
    """MiB of the largest message (default: 512 on GPUs, 32 on a CPU; less over a slow link)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFlags(RunFlags):
    """How large the tensors become."""

    largest_mib: str = ""
    """MiB of the largest tensor of a rank (default: over all ranks 4 times the last-level caches; on GPUs 1024)."""


def measure_compute() -> None:
    """`bench/gemm.py`: matrix products, attention cores and elementwise passes."""
    flags = parse_flags(OpFlags, prog="bench/gemm.py", description="Measure the compute ops that a calibration needs.")
    run = resolve_run(flags, name="gemm")
    dtype = _dtype(flags, run)
    shapes, ranges = positive_int(flags.shapes, flag="--shapes"), RANGES[run.device]
    if shapes < 8:
        raise ConfigError(f"--shapes {shapes}: too few to fit anything; use at least 8")
    require_runnable((), (), dtype, device=run.device, dry_run=False)
    activations = activation_dtype(dtype)
    ops: list[Op] = [
        *gemm_ops(ranges, dtype, count=shapes),
        *single_token_ops(ranges, dtype, count=max(shapes // 5, 6)),
        *attention_ops(ranges, activations, count=max(shapes // 2, 8)),
        *elementwise_ops(ranges, activations, count=max(shapes // 4, 8), quantizes=dtype == "fp8"),
    ]
    run_ops(Bench(title="compute", sweeps=lambda opened: [(1, ops)], launches=dtype), run, seconds=flags.seconds)


def measure_collectives() -> None:
    """`bench/collectives.py`: every collective over sizes that double, for every degree, within nodes and across."""
    flags = parse_flags(
        CollectiveFlags,
        prog="bench/collectives.py",
        description="Measure all-reduce, all-gather, reduce-scatter, send/recv.",
    )
    run = resolve_run(flags, name="collectives")
    dtype = activation_dtype(_dtype(flags, run))
    world, backend = run.launch.world, run.backend
    if world == 1:
        raise ConfigError("bench/collectives.py: one rank says nothing to itself; use torchrun --nproc-per-node 2")
    placements = [
        (size, nodes)
        for size in range(2, world + 1)
        if world % size == 0
        for nodes in spreads(size, world=world, on_node=run.launch.local_world)
    ]
    ranges = RANGES[run.device]
    if flags.largest_mib:
        largest = positive_int(flags.largest_mib, flag="--largest-mib") * MIB
        ranges = replace(ranges, collective_bytes=(ranges.collective_bytes[0], largest))
    sweeps = [
        (n, list[Op](collective_ops(ranges, dtype, num_ranks=n, num_nodes=nodes, backend=backend)))
        for n, nodes in placements
    ]
    run_ops(Bench(title="collectives", sweeps=lambda opened: sweeps), run, seconds=flags.seconds)


def measure_memory() -> None:
    """`bench/memory.py`: passes that only move memory, and on GPUs transfers to and from the host."""
    flags = parse_flags(
        MemoryFlags, prog="bench/memory.py", description="Measure copy, triad and read, on GPUs transfers to the host."
    )
    run = resolve_run(flags, name="memory")
    if flags.dtype not in ("", STREAM_DTYPE):
        raise ConfigError(f"--dtype {flags.dtype}: bytes are moved alike in every dtype; leave it out")
    asked = positive_int(flags.largest_mib, flag="--largest-mib") * MIB if flags.largest_mib else None
    # What is larger than the caches needs no flush, and a flush's own lines would be written back meanwhile.
    run = replace(run, method=replace(run.method, cold=False))
    bench = Bench(
        title="memory", sweeps=lambda opened: [(1, _streams(asked, run, opened))], turn=STREAM_TURN, calibrates=False
    )
    run_ops(bench, run, seconds=flags.seconds)


def _streams(asked: int | None, run: RunSettings, opened: Session) -> list[Op]:
    """The ops over tensors as large as was asked for, or as caches make it, where every rank can hold them."""
    local = run.launch.local_world
    wanted = asked or wanted_bytes(run.device, local_ranks=local)
    everyone = opened.ranks.gather_objects((wanted, room_bytes(opened.device, local_ranks=local)))
    most, room = max(wanted for wanted, _ in everyone), min(room for _, room in everyone)
    if room < most:
        told = f"note: tensors of at most {format_bytes(room)}, since no more memory is free; not {format_bytes(most)}"
        opened.console.print(told, markup=False)
    return list(stream_ops(run.device, largest=min(most, room)))


def _dtype(flags: RunFlags, run: RunSettings) -> Dtype:
    if flags.dtype:
        return choice(flags.dtype, DTYPES, flag="--dtype")
    return defaults(run.device, native_dtypes()).dtype
