"""What the bench of memory measures: sizes by STREAM's rule, bytes by its convention, and nothing of it elsewhere."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from rich.console import Console

from analysis.measured.read import read_inputs
from bench.harness.cases import streams
from bench.harness.cases.ops import op_tasks
from bench.harness.cases.streams import (
    STREAM,
    STREAM_TURN,
    TENSORS_OF_TURN,
    TRANSFERS,
    room_bytes,
    stream_call,
    stream_ops,
    wanted_bytes,
)
from bench.harness.cases.sweeps import PASSES, RANGES, elementwise_ops
from bench.harness.machine.reading import Facts, Reading
from bench.harness.record.records import OpResult, Samples
from bench.harness.run.console import memory_table
from bench.harness.run.op_sweeps import measure_memory
from bench.harness.timing.task import Task
from bench.harness.world.launch import DeviceKind
from tests.unit.record_factory import header, write_run
from tp.errors import ConfigError
from tp.layers.collectives import GroupCollectives
from tp.layers.mesh import Mesh
from tp.layers.wire import Unwatched
from tp.plan.ops import STREAM_KINDS, Elementwise, ElementwiseKind, PassKind, StreamKind, is_stream
from tp.units import GIB, KIB, MIB

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
ON_CPU: tuple[StreamKind, ...] = ("copy", "triad", "read")


class FakeHost:
    """A host with so much of cache and memory."""

    def __init__(self, caches: int | None, free: int, limit: int | str = "no limit") -> None:
        self._facts = Facts(values={"cgroup_memory_limit_bytes": limit}, unread={})
        if caches is not None:
            self._facts.values["last_level_caches_bytes"] = caches
        self._free = free

    def __call__(self) -> "FakeHost":
        return self

    def facts(self) -> Facts:
        return self._facts

    def read(self) -> Reading:
        return Reading(values={"memory_available_bytes": self._free}, unread={})


def host(monkeypatch: pytest.MonkeyPatch, caches: int | None, free: int = 64 * GIB, **limits: int) -> None:
    monkeypatch.setattr(streams, "Host", FakeHost(caches, free, **limits))


def test_kinds_are_kept_apart() -> None:
    assert set(STREAM) == set(STREAM_KINDS)
    assert set(PASSES) == set(get_args(PassKind))
    assert not set(PASSES) & set(STREAM)
    for kind in ("cpu", "cuda"):
        swept = elementwise_ops(RANGES[kind], "bf16", count=8, quantizes=True)  # type: ignore[index]
        assert not [op for op in swept if is_stream(op)]


@pytest.mark.parametrize(("device", "smallest"), [("cpu", 256 * KIB), ("cuda", MIB)])
def test_sizes_double_to_the_largest(device: DeviceKind, smallest: int) -> None:
    ops = stream_ops(device, largest=GIB)
    kinds = ON_CPU if device == "cpu" else STREAM_KINDS
    assert {op.kind for op in ops} == set(kinds)
    for kind in kinds:
        reads, writes = STREAM[kind]
        sizes = [int(op.moved_bytes) // (reads + writes) for op in ops if op.kind == kind]
        # Memory that is pinned is taken from everybody.
        largest = 256 * MIB if kind in TRANSFERS else GIB
        assert sizes[0] == smallest and sizes[-1] == largest
        assert all(after == 2 * before for before, after in zip(sizes, sizes[1:], strict=False))
    assert len(set(ops)) == len(ops)
    assert all(is_stream(op) and op.dtype == "fp32" for op in ops)


def test_bytes_are_those_of_stream() -> None:
    by_kind = {op.kind: op for op in stream_ops("cuda", largest=MIB)}
    counted = {kind: (op.read_bytes // MIB, op.written_bytes // MIB) for kind, op in by_kind.items()}
    assert counted == {
        "copy": (1, 1),
        "triad": (2, 1),
        "read": (1, 0),
        "to_device": (1, 0),
        "to_host": (1, 0),
        "both_ways": (2, 0),
    }


@pytest.mark.parametrize("kind", ON_CPU)
def test_a_pass_writes_what_is_counted(kind: StreamKind) -> None:
    (op,) = [op for op in stream_ops("cpu", largest=256 * KIB) if op.kind == kind]
    call = stream_call(kind, int(op.moved_bytes), CPU)
    written, again = call(), call()
    assert isinstance(written, torch.Tensor) and isinstance(again, torch.Tensor)
    assert written.data_ptr() == again.data_ptr()  # there before, and no memory is asked for
    assert written.numel() * 4 == (op.written_bytes or 4)
    per_element = {"copy": 0.5, "triad": 0.5 * (1 + streams.SCALE), "read": 0.5 * 64 * KIB}[kind]
    assert float(written.mean()) == pytest.approx(per_element, rel=0.05)


def test_they_are_timed_alone() -> None:
    collectives = GroupCollectives(Mesh(rank=0, size=1, device=CPU, group=None))
    for op in stream_ops("cpu", largest=256 * KIB):
        tasks: list[Task] = op_tasks(op, collectives, name="0")
        assert [task.name for task in tasks] == ["0"]
        assert not tasks[0].marks_parts
        tasks[0].run(Unwatched())


@pytest.mark.parametrize(
    ("caches", "ranks", "wanted"),
    [
        (260 * MIB, 2, GIB),  # 520 MiB a rank is the least
        (260 * MIB, 1, 2 * GIB),
        (512 * MIB, 64, 32 * MIB),
        (1 * MIB, 64, 256 * KIB),
        (None, 2, 512 * MIB),
    ],
)
def test_tensors_are_four_times_the_caches_together(
    monkeypatch: pytest.MonkeyPatch, caches: int | None, ranks: int, wanted: int
) -> None:
    host(monkeypatch, caches)
    assert wanted_bytes("cpu", local_ranks=ranks) == wanted
    assert caches is None or ranks * wanted >= 4 * caches
    assert wanted_bytes("cuda", local_ranks=ranks) == GIB


def test_tensors_fit_into_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, None, free=20 * GIB)
    assert room_bytes(CPU, local_ranks=2) == GIB
    assert room_bytes(CPU, local_ranks=4) == 512 * MIB
    host(monkeypatch, None, free=20 * GIB, limit=5 * GIB)
    assert room_bytes(CPU, local_ranks=2) == 256 * MIB
    # Any turn, whichever of the ops are left: the three largest are the worst.
    tensors = {kind: sum(STREAM[kind]) for kind in ON_CPU}
    assert sum(tensors.values()) == TENSORS_OF_TURN
    assert len(ON_CPU) == STREAM_TURN


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--largest-mib", "0"], "--largest-mib 0: not a positive whole number"),
        (["--largest-mib", "large"], "--largest-mib large: not a positive whole number"),
        (["--dtype", "bf16"], "--dtype bf16: bytes are moved alike in every dtype; leave it out"),
        (["--shapes", "8"], "--shapes"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], told: str
) -> None:
    out = tmp_path / "memory.jsonl"
    monkeypatch.setattr(sys, "argv", ["bench/memory.py", "--device", "cpu", "--out", str(out), *flags])
    with pytest.raises(ConfigError) as refused:
        measure_memory()
    assert told in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not out.exists()


def elementwise(kind: ElementwiseKind) -> Elementwise:
    return Elementwise(part="norm", direction="forward", kind=kind, read_bytes=MIB, written_bytes=MIB, dtype="fp32")


def op_line(kind: ElementwiseKind) -> OpResult:
    samples = Samples(task="elementwise", warmup_s=(), times_s=((1e-3, 2e-3),) * 8, parts=(), stopped_by="target")
    return OpResult(written="2026-11-22T16:00:02.000+00:00", op=elementwise(kind), estimates={}, samples=samples)


def test_they_are_left_out_of_calibrations_and_that_is_told(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r.jsonl", header(), op_line("copy"), op_line("norm"), op_line("read")).path
    told: list[str] = []
    inputs = read_inputs([path], select={}, tell=told.append)
    assert [row.kind for row in inputs.rows] == ["elementwise/norm"]
    assert [line for line in told if "memory" in line] == [
        f"{path}: 2 ops of bench/memory.py, which are part of no layer; left out"
    ]


def test_the_table_tells_a_rank_from_all_of_them() -> None:
    console = Console(file=io.StringIO(), width=140)
    small, large = elementwise("copy"), replace(elementwise("copy"), read_bytes=GIB, written_bytes=GIB)
    console.print(memory_table([(large, 0.2), (elementwise("read"), 1e-3), (small, 1e-3)], world=4))
    assert isinstance(console.file, io.StringIO)
    rows = console.file.getvalue().splitlines()
    assert rows[0].split("  ")[-1].strip() == "all 4 together"
    assert [row.split()[0] for row in rows[1:4]] == ["copy", "copy", "read"]
    assert rows[2].split() == ["copy", "2.15", "GB", "200", "ms", "10.7", "GB/s", "42.9", "GB/s"]
