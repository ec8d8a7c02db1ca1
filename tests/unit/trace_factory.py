"""Small traces of torch's profiler, written by hand: times are microseconds."""

import gzip
import json
from pathlib import Path
from typing import Any

Events = list[dict[str, Any]]


def event(name: str, cat: str, ts: Any, dur: Any, *, tid: int | str = 7, pid: int = 0, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


def kernel(name: str, ts: float, dur: float, *, tid: int = 7, device: int = 0, **args: Any) -> dict[str, Any]:
    return event(name, "kernel", ts, dur, tid=tid, pid=device, device=device, stream=tid, **args)


def launched(name: str, at: float, ts: float, dur: float, number: int, **args: Any) -> Events:
    """A kernel and the call on the host that launched it."""
    call = event("cudaLaunchKernel", "cuda_runtime", at, 1, tid=100, pid=99, correlation=number)
    return [call, kernel(name, ts, dur, correlation=number, **args)]


def collective(
    kind: str, elements: tuple[int, int], *, dtype: str = "BFloat16", size: int = 2, group: str = "0"
) -> dict[str, Any]:
    """What libkineto adds to a kernel of NCCL."""
    return {
        "Collective name": kind,
        "In msg nelems": elements[0],
        "Out msg nelems": elements[1],
        "Group size": size,
        "dtype": dtype,
        "Process Group Name": group,
        "Process Group Ranks": str(list(range(size))),
    }


def step(number: int, ts: float, dur: float) -> dict[str, Any]:
    return event(f"ProfilerStep#{number}", "user_annotation", ts, dur, tid=100, pid=99)


def trace(
    events: Events, *, rank: int | None = 0, world: int = 1, backend: str = "nccl", **more: Any
) -> dict[str, Any]:
    info = {} if rank is None else {"distributedInfo": {"backend": backend, "rank": rank, "world_size": world}}
    return {"schemaVersion": 1, **info, "displayTimeUnit": "ms", **more, "traceEvents": events, "traceName": "made"}


def write(folder: Path, content: dict[str, Any] | list[Any], name: str = "trace.json") -> Path:
    path = folder / name
    text = json.dumps(content)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path
