"""What `bench/memory.py` times, after STREAM (McCalpin, Memory Bandwidth and Machine Balance, 1995): moving memory.

Bytes are counted as STREAM counts them: what a pass reads and what it writes, each once. An ordinary store of a CPU
reads its line first, which is not counted; where nothing spares it that, the memory moves 3/2 of the bytes of a copy
and 4/3 of those of a triad. Transfers between a GPU and pinned memory of the host count what they carry once, as what
is read, though one side reads it and the other writes it; `both_ways` counts what both directions carry.

All ranks are busy at the same op at once, each in tensors of its own: what the machine reaches is the sum over ranks,
or less than its memory can do where too few cores ask for it.
"""

from collections.abc import Callable
from typing import Final, assert_never

import torch
from torch import Tensor

from bench.harness.machine.host import Host
from bench.harness.timing.contention import together
from bench.harness.world.launch import DeviceKind
from tp.plan.ops import Elementwise, StreamKind
from tp.units import DTYPE_BYTES, GIB, KIB, MIB, Dtype

# Tensors that a pass reads and writes, by what is counted.
STREAM: Final[dict[StreamKind, tuple[int, int]]] = {
    "copy": (1, 1),
    "triad": (2, 1),
    "read": (1, 0),
    "to_device": (1, 0),
    "to_host": (1, 0),
    "both_ways": (2, 0),
}
TRANSFERS: Final[tuple[StreamKind, ...]] = ("to_device", "to_host", "both_ways")
# Bytes are moved alike in every dtype, and a CPU adds in this one without converting.
STREAM_DTYPE: Final[Dtype] = "fp32"
SCALE: Final = 3.0
# Well inside a core's own caches, and inside a GPU's L2.
SMALLEST_BYTES: Final[dict[DeviceKind, int]] = {"cpu": 256 * KIB, "cuda": MIB}
# STREAM's rule: each tensor, over all ranks, at least so many times the last-level caches together.
CACHE_FACTOR: Final = 4
LARGEST_UNKNOWN_BYTES: Final = 512 * MIB
# Three of them are under 4 GiB, and each is eight times the largest L2 there is.
LARGEST_CUDA_BYTES: Final = GIB
# A transfer of that size takes milliseconds; pinned memory is taken from the whole host.
LARGEST_PINNED_BYTES: Final = 256 * MIB
# A turn has three ops, at worst a copy, a triad and a read of the largest size.
STREAM_TURN: Final = 3
TENSORS_OF_TURN: Final = 6
FREE_SHARE: Final = 2 / 3
# Random numbers are drawn so many times, then repeated: to draw a gibibyte takes a core seconds.
DRAWN: Final = 64 * KIB


def stream_ops(device: DeviceKind, *, largest: int) -> list[Elementwise]:
    """Every kind that the device has, over tensors that double up to `largest` bytes; sizes ascend, kinds take turns.

    So a turn, whose ops are far apart in the list, holds few large tensors.
    """
    ops = []
    size = SMALLEST_BYTES[device]
    while size <= largest:
        for kind, (reads, writes) in STREAM.items():
            if kind in TRANSFERS and (device == "cpu" or size > LARGEST_PINNED_BYTES):
                continue
            ops.append(
                Elementwise(
                    part="norm",
                    direction="forward",
                    kind=kind,
                    read_bytes=reads * size,
                    written_bytes=writes * size,
                    dtype=STREAM_DTYPE,
                )
            )
        size *= 2
    return ops


def wanted_bytes(device: DeviceKind, *, local_ranks: int) -> int:
    """The largest tensor that a rank should have: on a CPU a power of two by STREAM's rule, where caches are known."""
    if device == "cuda":
        return LARGEST_CUDA_BYTES
    caches = Host().facts().number("last_level_caches_bytes")
    if caches is None:
        return LARGEST_UNKNOWN_BYTES
    least = -(-CACHE_FACTOR * int(caches) // local_ranks)
    return max(1 << (least - 1).bit_length(), SMALLEST_BYTES[device])


def room_bytes(device: torch.device, *, local_ranks: int) -> int:
    """The largest tensor, a power of two, of which a turn's fit into what is free for this rank."""
    free = [_host_free_bytes() / local_ranks]
    if device.type == "cuda":
        free.append(torch.cuda.mem_get_info(device)[0])
    most = int(FREE_SHARE * min(free) / TENSORS_OF_TURN)
    return 1 << (max(most, 1).bit_length() - 1)


def _host_free_bytes() -> float:
    """What the host's processes may still take together; without end where nothing tells."""
    host = Host()
    available = host.read().values.get("memory_available_bytes")
    limit = host.facts().number("cgroup_memory_limit_bytes")
    return min(each for each in (available, limit, float("inf")) if each is not None)


def stream_call(kind: StreamKind, moved_bytes: int, device: torch.device) -> Callable[[], object]:
    """The pass on tensors that are there before; it gives back what it wrote."""
    elements = moved_bytes // sum(STREAM[kind]) // DTYPE_BYTES[STREAM_DTYPE]
    match kind:
        case "copy":
            a, b = torch.empty(elements, device=device), _filled(elements, device)
            return lambda: a.copy_(b)
        case "triad":
            a, b, c = torch.empty(elements, device=device), _filled(elements, device), _filled(elements, device)
            return lambda: torch.add(b, c, alpha=SCALE, out=a)
        case "read":
            # One sum over all: a CPU core adds several times faster than memory delivers, over columns it does not.
            x, total = _filled(elements, device), torch.empty((), device=device)
            return lambda: torch.sum(x, dim=0, out=total)
        case "to_device":
            return _to_device(elements, device)
        case "to_host":
            return _to_host(elements, device)
        case "both_ways":
            return together(_to_device(elements, device), _to_host(elements, device), device=device)
        case _:
            assert_never(kind)


def _to_device(elements: int, device: torch.device) -> Callable[[], Tensor]:
    there, here = torch.empty(elements, device=device), _filled(elements, torch.device("cpu")).pin_memory()
    return lambda: there.copy_(here, non_blocking=True)


def _to_host(elements: int, device: torch.device) -> Callable[[], Tensor]:
    there, here = _filled(elements, device), torch.empty(elements, pin_memory=True)
    return lambda: here.copy_(there, non_blocking=True)


def _filled(elements: int, device: torch.device) -> Tensor:
    """[elements] of random numbers; all alike might be held in less."""
    drawn = torch.rand(min(elements, DRAWN), device=device)
    return drawn.repeat(elements // len(drawn))
