"""What is really sent: collectives counted where torch dispatches them, whoever asked for them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from tp.errors import MeasurementError
from tp.plan.ops import CollectiveKind, Count

# torch's dispatched operators: the collective, and the size that nccl-tests gives it (the buffer of an all-reduce, the
# output of an all-gather, the input of a reduce-scatter).
_DISPATCHED: Final[dict[str, tuple[CollectiveKind, Callable[[Sequence[Any]], int]]]] = {
    "c10d.allreduce_.default": ("all_reduce", lambda args: _size(args[0][0])),
    "c10d._allgather_base_.default": ("all_gather", lambda args: _size(args[0])),
    "c10d._reduce_scatter_base_.default": ("reduce_scatter", lambda args: _size(args[1])),
    "c10d.send.default": ("send_recv", lambda args: _size(args[0][0])),
    "_c10d_functional.all_reduce.default": ("all_reduce", lambda args: _size(args[0])),
    "symm_mem.fused_all_gather_matmul.default": (
        "all_gather",
        lambda args: _size(args[0]) * _group_size(args[3]),
    ),
    "symm_mem.fused_matmul_reduce_scatter.default": ("reduce_scatter", lambda args: _product_size(args[0], args[1])),
}
# The other half of a send, and what synchronises or wraps without data of ours.
_UNCOUNTED: Final = (
    "c10d.recv_.default",
    "c10d.barrier.default",
    "_c10d_functional.wait_tensor.default",
    "_c10d_functional._wrap_tensor_autograd.default",
)
_ACTIVE: Final[list["Census"]] = []
_WATCHED: Final = ("c10d.", "_c10d_functional.", "symm_mem.")


@dataclass
class Census(TorchDispatchMode):
    """While active, counts every collective of this thread; one that it does not know is an error, not a zero."""

    count: Count = field(default_factory=dict)
    _parts: list[int] | None = None
    """Bytes of sends that make up one collective, while one is made."""

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __enter__(self) -> "Census":
        _ACTIVE.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *problem: Any) -> None:
        _ACTIVE.remove(self)
        super().__exit__(*problem)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # torch unfolds it to local tensors and collectives, which come here again
        name = str(func)
        if name == "c10d.send.default" and self._parts is not None:
            self._parts.append(_size(args[0][0]))
        elif name in _DISPATCHED:
            kind, size_of = _DISPATCHED[name]
            self._add(kind, size_of(args))
        elif name.startswith(_WATCHED) and name not in _UNCOUNTED:
            raise NotImplementedError(f"the census does not know {name}; add it to tp/layers/census.py")
        return func(*args, **(kwargs or {}))

    def _add(self, kind: CollectiveKind, size_bytes: int) -> None:
        number, size = self.count.get(kind, (0, 0))
        self.count[kind] = (number + 1, size + size_bytes)

    @contextmanager
    def whole(self, kind: CollectiveKind, size_bytes: int) -> Iterator[None]:
        """What is sent meanwhile is one collective; its sends must be equal parts of the size, one to each other rank.

        MeasurementError when they are not.
        """
        parts: list[int] = []
        self._parts = parts
        try:
            yield
        finally:
            self._parts = None
        if sum(parts) * (len(parts) + 1) != size_bytes * len(parts):
            raise MeasurementError(f"{kind} of {size_bytes} bytes sent parts of {parts}; it should send equal ones")
        self._add(kind, size_bytes)


@contextmanager
def counted_as(kind: CollectiveKind, size_bytes: int) -> Iterator[None]:
    """What is sent meanwhile counts as one collective of that size, where anybody counts."""
    with ExitStack() as stack:
        for census in _ACTIVE:
            stack.enter_context(census.whole(kind, size_bytes))
        yield


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _group_size(name: str) -> int:
    return int(dist.distributed_c10d._get_group_size_by_name(name))  # type: ignore[arg-type]  # a NewType of str


def _product_size(left: Tensor, right: Tensor) -> int:
    """Of [m, k] x [k, n] in the dtype of the left."""
    return left.shape[0] * right.shape[1] * left.element_size()
