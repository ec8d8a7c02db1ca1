"""The traces of a run, one a rank: read, told apart, and checked to belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.profiler.activity import Device, gpu_devices, host_steps
from analysis.profiler.host import cpu_device
from analysis.profiler.read import RawTrace, read_trace
from tp.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A rank's trace, with what ran on its devices."""

    path: Path
    rank: int
    host: str
    base_ns: int
    """What a time of 0 is on the host's clock."""
    is_cpu: bool
    """Whether no device but the CPU was traced."""
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The traces of a run by rank, and what must be known of them."""

    traces: tuple[Trace, ...]
    world_size: int
    notes: tuple[str, ...]

    @property
    def is_cpu(self) -> bool:
        return self.traces[0].is_cpu


def load_traces(paths: Sequence[Path]) -> Traces:
    """Read one file a rank; ConfigError for what is broken, given twice or of different runs."""
    if not paths:
        raise ConfigError("TRACE: is missing; name the files of torch.profiler, one a rank")
    traces: list[Trace] = []
    notes: list[str] = []
    worlds: dict[int, Path] = {}
    # One at a time: what a file holds beside what is needed of it goes before the next is read.
    for path in paths:
        raw = read_trace(path)
        if raw.world_size is not None:
            worlds.setdefault(raw.world_size, path)
        traces.append(_made(raw, is_alone=len(paths) == 1))
        told = [f"rank {traces[-1].rank}: {each}" for device in traces[-1].devices for each in device.notes]
        notes += [*raw.notes, *_empty_steps(raw, traces[-1]), *told]
        if raw.rank is None:
            notes.append(f"{path.name} says no rank (distributedInfo); taken for rank 0 of a single process")
    _require_one_run(traces, worlds)
    traces.sort(key=lambda trace: trace.rank)
    world = next(iter(worlds), len(traces))
    notes += _missing(traces, world)
    return Traces(traces=tuple(traces), world_size=world, notes=tuple(notes))


def _made(raw: RawTrace, *, is_alone: bool) -> Trace:
    if raw.rank is None and not is_alone:
        raise ConfigError(
            f"{raw.path}: says no rank (distributedInfo); begin the trace after init_process_group, or read it alone"
        )
    is_cpu = not any(event.category in ("kernel", "copy") for event in raw.events)
    return Trace(
        path=raw.path,
        rank=raw.rank or 0,
        host=raw.host,
        base_ns=raw.base_ns,
        is_cpu=is_cpu,
        devices=(cpu_device(raw),) if is_cpu else tuple(gpu_devices(raw)),
    )


def _empty_steps(raw: RawTrace, trace: Trace) -> list[str]:
    ran = {window.step for device in trace.devices for window in device.windows}
    empty = [str(step) for step in host_steps(raw) if step not in ran]
    return [f"rank {trace.rank}: steps {', '.join(empty)} launched no kernel and are left out"] if empty else []


def _require_one_run(traces: Sequence[Trace], worlds: dict[int, Path]) -> None:
    seen: dict[int, Path] = {}
    for trace in traces:
        if trace.rank in seen:
            raise ConfigError(f"{trace.path}: is of rank {trace.rank}, as {seen[trace.rank]} is; give one file a rank")
        seen[trace.rank] = trace.path
    if len(worlds) > 1:
        (one, first), (other, second) = list(worlds.items())[:2]
        raise ConfigError(f"{second}: is of {other} ranks, {first} of {one}; give the traces of one run")
    if len({trace.is_cpu for trace in traces}) > 1:
        odd = next(trace for trace in traces if trace.is_cpu)
        raise ConfigError(f"{odd.path}: holds no device's kernels, others do; trace all ranks with the same activities")


def _missing(traces: Sequence[Trace], world: int) -> list[str]:
    missing = sorted(set(range(world)) - {trace.rank for trace in traces})
    if not missing:
        return []
    named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    return [f"ranks {named} of {world} have no trace here: their part in waits is not known"]
