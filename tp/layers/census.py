"""What is really sent: collectives counted where torch dispatches them, whoever asked for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tp.plan.ops import Collective, CollectiveKind


def _first_of_list(args: Sequence[Any]) -> Tensor:
    return args[0][0]  # type: ignore[no-any-return]


def _first(args: Sequence[Any]) -> Tensor:
    return args[0]  # type: ignore[no-any-return]


def _second(args: Sequence[Any]) -> Tensor:
    return args[1]  # type: ignore[no-any-return]


# torch's dispatched operators: the collective, and which argument has the size that nccl-tests gives it (the buffer
# of an all-reduce, the output of an all-gather, the input of a reduce-scatter).
_DISPATCHED: Final[dict[str, tuple[CollectiveKind, Callable[[Sequence[Any]], Tensor]]]] = {
    "c10d.allreduce_.default": ("all_reduce", _first_of_list),
    "c10d._allgather_base_.default": ("all_gather", _first),
    "c10d._reduce_scatter_base_.default": ("reduce_scatter", _second),
    "c10d.send.default": ("send_recv", _first_of_list),
}
# The other half of a send, and what synchronises without data of ours.
_UNCOUNTED: Final = ("c10d.recv_.default", "c10d.barrier.default")

Count = dict[CollectiveKind, tuple[int, int]]
"""Collectives of a kind and their bytes together."""


@dataclass
class Census(TorchDispatchMode):
    """While active, counts every collective of this thread; one that it does not know is an error, not a zero."""

    count: Count = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if name in _DISPATCHED:
            kind, sized = _DISPATCHED[name]
            tensor = sized(args)
            number, size = self.count.get(kind, (0, 0))
            self.count[kind] = (number + 1, size + tensor.numel() * tensor.element_size())
        elif name.startswith("c10d.") and name not in _UNCOUNTED:
            raise NotImplementedError(f"the census does not know {name}; add it to tp/layers/census.py")
        return func(*args, **(kwargs or {}))


def planned_count(ops: Sequence[Collective]) -> Count:
    """What a census of a plan's collectives must find."""
    count: Count = {}
    for op in ops:
        number, size = count.get(op.kind, (0, 0))
        count[op.kind] = (number + 1, size + op.size_bytes)
    return count
