"""Passes captured once as a CUDA graph and then replayed: what the device does without the host's launches.

Capturing follows torch's notes on CUDA graphs: passes on a side stream first, so that libraries have set themselves up,
then the capture, whose tensors stay where they are. A replay must give what a launched pass gave: some versions of
collectives went wrong after capture (sglang#29946). Marks within a pass cannot be captured, so its parts are always
timed from launches.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from bench.harness.timing.task import Task
from tp.errors import MeasurementError
from tp.layers.wire import Timeline, Unwatched

WARM_UPS: Final = 3
# Kernels may be chosen anew under capture; further off than this, relative to the norm, is another result.
TOLERANCE: Final = 1e-2


def replayed(task: Task) -> Task:
    """The same work from a graph; the gradients of a pass are those that the capture allocated.

    Raises MeasurementError when a replay gives another result than a launched pass.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            task.reset()
            launched = _copy(task.run(Unwatched()))
    torch.cuda.current_stream().wait_stream(side)
    task.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = task.run(Unwatched())
    _compare(task.name, graph, captured, launched)

    def run(timeline: Timeline) -> object:
        graph.replay()
        return captured

    return replace(task, run=run)


def _copy(result: object) -> Tensor | None:
    return result.detach().clone() if isinstance(result, Tensor) else None


def _compare(name: str, graph: torch.cuda.CUDAGraph, captured: object, launched: Tensor | None) -> None:
    if launched is None or not isinstance(captured, Tensor):
        return
    with torch.inference_mode():  # in which a captured prefill was, and its result is
        captured.fill_(torch.nan)
        graph.replay()
        off = float((captured.float() - launched.float()).norm() / launched.float().norm())
    if not off <= TOLERANCE:
        raise MeasurementError(f"--graph: {name} replayed differs from {name} launched by {off:.2g}; leave --graph out")
