"""Rates that a machine was seen to reach, from the records of its sweeps: products, memory, links, the host's bus.

A rate is the best over shapes and kinds, of the median of the slowest rank; one device's, of memory that all cores of a
CPU share their sum. Of many medians the best is a little too good by chance, far less than a verdict on a peak allows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from analysis.load import Run
from analysis.trial.finding import Finding
from bench.harness.record.interference import slowest
from bench.harness.record.records import OpResult
from tp.flags import choice
from tp.hardware import LinkKind
from tp.plan.ops import Collective, Elementwise, Gemm, StreamKind, bus_factor
from tp.units import DTYPES, format_bytes

AnyOp = TypeVar("AnyOp", Gemm, Elementwise, Collective)

MEMORY_KINDS: Final[tuple[StreamKind, ...]] = ("copy", "triad", "read")
MESHES: Final[tuple[LinkKind, ...]] = ("infinity-fabric",)
BOTH_WAYS: Final[StreamKind] = "both_ways"
HOST_KINDS: Final[tuple[StreamKind, ...]] = ("to_device", "to_host")


def flops_per_s(runs: Sequence[Run], dtype: str) -> Finding | None:
    """The best matrix product of a device in `dtype`."""
    wanted = choice(dtype, DTYPES, flag="dtype")
    return _best(
        _rate(result, op.flops, f"product {op.m} x {op.n} x {op.k}")
        for _, result, op in _ops(runs, Gemm)
        if op.dtype == wanted
    )


def memory_bytes_per_s(runs: Sequence[Run]) -> Finding | None:
    """The best of STREAM's passes over the largest arrays (McCalpin 1995): a GPU's, or all cores' of a host."""
    return _best(
        _together(_rate(result, op.moved_bytes, _stream(op)), _sharing(run))
        for run, result, op in _largest(runs, MEMORY_KINDS)
    )


def host_bytes_per_s(runs: Sequence[Run]) -> Finding | None:
    """The best copy between the host's pinned memory and a GPU, one way."""
    return _best(_rate(result, op.moved_bytes, _stream(op)) for _, result, op in _largest(runs, HOST_KINDS))


def host_bytes_both_ways_per_s(runs: Sequence[Run]) -> Finding | None:
    """The best of copies both ways at once, of any size: the largest swing from one to the next."""
    return _best(
        _rate(result, op.moved_bytes, _stream(op)) for _, result, op in _ops(runs, Elementwise) if op.kind == BOTH_WAYS
    )


def link_bytes_per_s(runs: Sequence[Run], kind: str) -> Finding | None:
    """The best bus bandwidth within a node over a link of `kind` (nccl-tests), one way.

    Not of all-reduces that a switch adds up, which send less than their bus bandwidth counts; over a mesh only of all
    devices, since fewer use fewer of its links.
    """
    return _best(
        _rate(result, op.size_bytes * bus_factor(op.kind, op.num_ranks), _collective(op))
        for run, result, op in _ops(runs, Collective)
        if run.headers[0].num_nodes == 1
        and run.headers[0].hardware.link().kind == kind
        and not (op.kind == "all_reduce" and run.headers[0].hardware.link().reduces_in_switch)
        and not (kind in MESHES and op.num_ranks < run.headers[0].hardware.num_devices)
    )


def _ops(runs: Sequence[Run], kind: type[AnyOp]) -> Iterator[tuple[Run, OpResult, AnyOp]]:
    """The ops of a kind, of runs whose ranks had a core each."""
    for run in runs:
        if run.headers[0].oversubscribed is None:
            yield from ((run, result, result.op) for result in run.ops if isinstance(result.op, kind))


def _largest(runs: Sequence[Run], kinds: Sequence[StreamKind]) -> Iterator[tuple[Run, OpResult, Elementwise]]:
    """Of each run and kind the pass over most bytes, which no cache holds."""
    for run in runs:
        for kind in kinds:
            found = [each for each in _ops([run], Elementwise) if each[2].kind == kind]
            if found:
                yield max(found, key=lambda each: each[2].moved_bytes)


def _rate(result: OpResult, amount: float, what: str) -> Finding:
    """`amount` over the slowest rank's median, and over the ends of its interval."""
    times = slowest(result.samples)
    return Finding(
        value=amount / times.median_s,
        low=amount / times.high_s,
        high=amount / times.low_s,
        text=f"{what}, median of {times.num_samples}",
    )


def _best(found: Iterator[Finding]) -> Finding | None:
    return max(found, key=lambda finding: finding.value, default=None)


def _sharing(run: Run) -> int:
    """Ranks whose memory is one: those of a host on CPUs."""
    header = run.headers[0]
    return max(1, header.world // header.num_nodes) if header.hardware.device.kind == "cpu-core" else 1


def _together(finding: Finding, ranks: int) -> Finding:
    return finding if ranks == 1 else finding.times(ranks, f"{finding.text}, {ranks} ranks together")


def _stream(op: Elementwise) -> str:
    return f"{op.kind}, {format_bytes(op.moved_bytes)} moved"


def _collective(op: Collective) -> str:
    return f"{op.kind} of {format_bytes(op.size_bytes)} over {op.num_ranks} ranks"


RATES: Final[dict[str, Callable[..., Finding | None]]] = {
    function.__name__: function
    for function in (
        *(flops_per_s, memory_bytes_per_s, link_bytes_per_s),
        *(host_bytes_per_s, host_bytes_both_ways_per_s),
    )
}
