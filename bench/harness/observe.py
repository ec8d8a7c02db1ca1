"""What a case really sends, keeps and runs: one pass of the very layers that are timed, watched at torch's dispatch.

Not in a timed pass, which watching would slow down, but in the same process, on the same block and wire.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.harness.cases import BuiltCase, collectives_of
from bench.harness.ranks import Ranks
from bench.harness.records import Observation, Sent
from tp.errors import MeasurementError
from tp.layers.census import Census
from tp.layers.dtensor import local
from tp.layers.wire import Unwatched, Wire
from tp.plan.ops import Count

# torch's attention kernels by the operator that runs them.
_KERNELS: Final[dict[str, str]] = {
    "_scaled_dot_product_flash_attention_for_cpu": "flash (CPU)",
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_scaled_dot_product_attention_math": "math",
    "_scaled_dot_product_attention_math_for_mps": "math",
}


def observe(built: BuiltCase, ranks: Ranks) -> Observation:
    """Watch one pass; what is held is the most of any rank, what is sent must be the same on all."""
    built.forget()
    census, kernel = Census(), _KernelWatch()
    wire = Wire(collectives=collectives_of(built.case, built.mesh), timeline=Unwatched())
    before = _allocated(built.mesh.device)
    with _saved_by_autograd(built) as saved, census, kernel:
        built.run(wire)
    rise = _peak(built.mesh.device, before)
    parameters = [local(parameter) for parameter in built.block.parameters()]
    gradients = [local(p.grad) for p in built.block.parameters() if p.grad is not None]
    cache = [] if built.positions is None or built.positions.cache is None else built.positions.cache.tensors
    mine = Observation(
        sent=_sent(census.count),
        weight_bytes=_bytes(parameters),
        gradient_bytes=_bytes(gradients),
        saved_bytes=saved.bytes,
        kv_cache_bytes=_bytes(cache),
        peak_bytes=None if rise is None else _bytes(parameters) + _bytes(cache) + rise,
        attention_kernel=kernel.name,
    )
    built.forget()
    return _most_of(ranks.gather_objects(mine))


@dataclass
class _Saved:
    """Storages that autograd was given to keep."""

    excluded: frozenset[int]
    kept: dict[int, Tensor] = field(default_factory=dict)

    def pack(self, tensor: Tensor) -> Tensor:
        plain = local(tensor)
        address = plain.untyped_storage().data_ptr()
        if address not in self.excluded:
            # Held, so that no later storage gets the same address.
            self.kept.setdefault(address, plain)
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values())


@contextmanager
def _saved_by_autograd(built: BuiltCase) -> Iterator[_Saved]:
    """What is saved meanwhile, without weights and tables, which are there anyway."""
    resident = [local(parameter) for parameter in built.block.parameters()]
    resident += [] if built.positions is None else built.positions.tensors
    saved = _Saved(excluded=frozenset(tensor.untyped_storage().data_ptr() for tensor in resident))
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        yield saved


class _KernelWatch(TorchDispatchMode):
    """Notes which attention kernel runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        packet = func.overloadpacket
        if packet is torch.ops.aten.scaled_dot_product_attention:
            # Arrives whole in inference mode; taken apart here, as torch would below.
            with self:
                return func.decompose(*args, **(kwargs or {}))
        self.name = _KERNELS.get(packet.__name__, self.name)
        return func(*args, **(kwargs or {}))


def _sent(count: Count) -> tuple[Sent, ...]:
    return tuple(Sent(kind=kind, count=number, size_bytes=size) for kind, (number, size) in sorted(count.items()))


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _allocated(device: torch.device) -> int | None:
    """Bytes of CUDA's allocator now, its peak counted from here; nothing counts on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device, before: int | None) -> int | None:
    """How far the allocator rose above `before`."""
    if before is None:
        return None
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _most_of(observations: Sequence[Observation]) -> Observation:
    first = observations[0]
    peaks = [each.peak_bytes for each in observations if each.peak_bytes is not None]
    for each in observations:
        if each.sent != first.sent:
            raise MeasurementError(f"ranks send differently: {each.sent} and {first.sent}; one of them is broken")
    return Observation(
        sent=first.sent,
        weight_bytes=max(each.weight_bytes for each in observations),
        gradient_bytes=max(each.gradient_bytes for each in observations),
        saved_bytes=max(each.saved_bytes for each in observations),
        kv_cache_bytes=max(each.kv_cache_bytes for each in observations),
        peak_bytes=max(peaks, default=None),
        attention_kernel=first.attention_kernel,
    )
