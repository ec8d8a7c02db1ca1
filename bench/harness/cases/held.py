"""What a pass leaves a rank with: weights, gradients, KV cache, and what autograd kept for the backward.

Of real tensors and of fake ones alike: storages are told apart by themselves, not by addresses, which fake ones lack.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from bench.harness.cases.build import BuiltCase
from tp.layers.dtensor import local


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes of one rank."""

    weight_bytes: int
    gradient_bytes: int
    saved_bytes: int
    kv_cache_bytes: int


@dataclass(slots=True, kw_only=True)
class Saved:
    """Storages that autograd was given to keep."""

    resident: frozenset[StorageWeakRef]
    # Held weakly: the peak must fall as the backward lets go. No later storage can be taken for an earlier one all the
    # same, because a weak reference keeps the storage's record, though not its data.
    kept: dict[StorageWeakRef, int] = field(default_factory=dict)

    def pack(self, tensor: Tensor) -> Tensor:
        storage = local(tensor).untyped_storage()
        reference = StorageWeakRef(storage)
        if reference not in self.resident:
            self.kept.setdefault(reference, storage.nbytes())
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.kept.values())


@contextmanager
def saved_by_autograd(built: BuiltCase) -> Iterator[Saved]:
    """What is saved meanwhile, without weights and tables, which are there anyway."""
    resident = _parameters(built)
    resident += [] if built.positions is None else built.positions.tensors
    saved = Saved(resident=frozenset(StorageWeakRef(tensor.untyped_storage()) for tensor in resident))
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        yield saved


def held_after(built: BuiltCase, saved: Saved) -> Held:
    """What the case holds after one pass, its gradients still there."""
    gradients = [local(p.grad) for p in built.block.parameters() if p.grad is not None]
    cache = [] if built.positions is None or built.positions.cache is None else built.positions.cache.tensors
    return Held(
        weight_bytes=_bytes(_parameters(built)),
        gradient_bytes=_bytes(gradients),
        saved_bytes=saved.bytes,
        kv_cache_bytes=_bytes(cache),
    )


def _parameters(built: BuiltCase) -> list[Tensor]:
    with torch.no_grad():  # autograd would look for the stream of a device that is only pretended
        return [local(parameter) for parameter in built.block.parameters()]


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
