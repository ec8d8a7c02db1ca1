"""What a case really sends, keeps and runs: one pass of the very layers that are timed, watched at torch's dispatch.

Not in a timed pass, which watching would slow down, but in the same process, on the same block and wire.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.harness.cases.build import BuiltCase, collectives_of
from bench.harness.cases.held import held_after, saved_by_autograd
from bench.harness.record.records import Observation, Sent
from tp.errors import MeasurementError
from tp.layers.census import Census
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


def observe(built: BuiltCase) -> Observation:
    """Watch one pass on this rank."""
    built.forget()
    census, kernel = Census(), _KernelWatch()
    wire = Wire(collectives=collectives_of(built.case, built.mesh), timeline=Unwatched())
    before = _allocated(built.mesh.device)
    with saved_by_autograd(built) as saved, census, kernel:
        built.run(wire)
    rise = _peak(built.mesh.device, before)
    held = held_after(built, saved)
    seen = Observation(
        sent=_sent(census.count),
        weight_bytes=held.weight_bytes,
        gradient_bytes=held.gradient_bytes,
        saved_bytes=held.saved_bytes,
        kv_cache_bytes=held.kv_cache_bytes,
        peak_bytes=None if rise is None else held.weight_bytes + held.kv_cache_bytes + rise,
        attention_kernel=kernel.name,
    )
    built.forget()
    return seen


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


def most_of(observations: Sequence[Observation]) -> Observation:
    """What the rank that holds most holds; MeasurementError when the ranks do not send the same."""
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
