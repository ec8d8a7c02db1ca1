"""What a layer is given at every call: the collectives that carry its data, and the timeline that watches it.

A timeline is told which part begins; the time until the next one begins belongs to it, so the parts of a pass
sum to the whole. `cut` is where one part ends and the next begins, in the forward and, mirrored, in the backward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tp.layers.collectives import Collectives
from tp.plan.ops import CollectiveKind, ComputePart, Direction, Part


@runtime_checkable  # for the checks of annotations under test
class Timeline(Protocol):
    """Told which part of a pass begins now."""

    @property
    def watching(self) -> bool:
        """Whether anybody does; if not, layers add no node to the graph for it."""
        ...

    @property
    def now(self) -> tuple[Part, Direction]:
        """The part that is running."""
        ...

    def enter(self, part: Part, direction: Direction) -> None:
        """`part` begins, and the one that was running ends."""
        ...


class Unwatched:
    """The timeline of a pass that is timed as a whole, or not at all."""

    watching = False
    now: tuple[Part, Direction] = ("norm", "forward")

    def enter(self, part: Part, direction: Direction) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How one call of a layer talks and who listens in."""

    collectives: Collectives
    timeline: Timeline

    @property
    def num_ranks(self) -> int:
        return self.collectives.mesh.size

    @contextmanager
    def sending(self, kind: CollectiveKind, direction: Direction) -> Iterator[Collectives]:
        """The collectives, with the time spent inside on account of `kind`."""
        before = self.timeline.now
        self.timeline.enter(kind, direction)
        yield self.collectives
        self.timeline.enter(*before)


def apply(function: type[torch.autograd.Function], *args: object) -> Tensor:
    """Call an autograd function of one result, which torch leaves untyped."""
    result: Tensor = function.apply(*args)
    return result


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, timeline: Timeline, leave: ComputePart, enter: ComputePart) -> Tensor:
        ctx.timeline, ctx.leave = timeline, leave
        timeline.enter(enter, "forward")
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.timeline.enter(ctx.leave, "backward")
        return grads[0], None, None, None


def cut(x: Tensor, wire: Wire, *, leave: ComputePart, enter: ComputePart) -> Tensor:
    """The border between two compute parts, crossed by `x` [any shape] forward and by its gradient backward."""
    if not wire.timeline.watching:
        return x
    return apply(_Cut, x, wire.timeline, leave, enter)
