"""A dry run: every case of a suite built and passed through on fake tensors, on any machine, for any world.

Layers, shapes and dtypes are real; data, devices and peers are not. What the layers then send, multiply and keep is
held against the plan, so that a reservation is not spent on a typo.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.harness.cases.build import build_case, collectives_of, full_inputs, full_weights
from bench.harness.cases.held import Held, held_after, saved_by_autograd
from bench.harness.run.block_flags import BlockSettings
from bench.harness.run.console import make_console
from tp.errors import MeasurementError
from tp.layers.census import Census
from tp.layers.mesh import Mesh, split_world
from tp.layers.wire import Unwatched, Wire
from tp.plan.build import build_plan
from tp.plan.memory import Holding, HoldingKind, held_bytes, plan_memory
from tp.plan.ops import Gemm, Plan, planned_count
from tp.plan.workspace import DeviceKind
from tp.suite import PlannedCase
from tp.units import format_bytes, format_flops

# The operators that a plan's matrix products become.
_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten._scaled_mm)
_FUSED = (torch.ops.symm_mem.fused_all_gather_matmul, torch.ops.symm_mem.fused_matmul_reduce_scatter)
# What arrives whole in inference mode and is made of them.
_COMPOSITES = (torch.ops.aten.linear, torch.ops.aten.matmul)

# CUDA's flash kernel notes one more int64 of the random generator than the two that are planned (cuDNN, efficient).
FLASH_STATE_BYTES = 8


class ProductCount(TorchDispatchMode):
    """While active, adds up the FLOPs of matrix products, by torch's own formulas.

    Not FlopCounterMode, which follows modules by hooks that need a real device in the backward.
    """

    def __init__(self, num_ranks: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self._num_ranks = num_ranks

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # torch unfolds it to local tensors, which come here again
        if func.overloadpacket in _PRODUCTS:
            result = func(*args, **kwargs)
            self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
            return result
        if func.overloadpacket in _FUSED:
            result = func(*args, **kwargs)
            # torch has no formula for them: every rank's tokens times this rank's weights, or the other way round.
            shard, matrices = args[0], args[1] if isinstance(args[1], list) else [args[1]]
            rows = shard.shape[0] * self._num_ranks if isinstance(args[1], list) else shard.shape[0]
            self.flops += sum(2 * rows * matrix.shape[0] * matrix.shape[1] for matrix in matrices)
            return result
        if func.overloadpacket in _COMPOSITES:
            with self:
                return func.decompose(*args, **kwargs)
        return func(*args, **kwargs)


def dry_run(settings: BlockSettings) -> None:
    """Pass every case through on fake tensors; MeasurementError naming the first that disagrees with its plan."""
    cases = settings.cases()
    console = make_console(leads=settings.run.launch.leads)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=settings.world)
    try:
        meshes: dict[tuple[int, int], Mesh] = {}
        for planned in cases:
            placement = tp, nodes = planned.case.tp, planned.case.nodes
            if placement not in meshes:
                device = torch.device(settings.run.device)
                meshes[placement] = split_world(tp, device=device, nodes=nodes, on_node=settings.on_node)
            if planned.skip is not None:
                console.print(f"{planned.case.key}: skipped, {planned.skip}", markup=False)
                continue
            plan = build_plan(planned.case, backend=settings.run.backend)
            mesh = meshes[placement]
            problems = disagreements(planned, plan, replace(mesh, device=fake_device(planned, mesh)))
            if problems:
                raise MeasurementError(f"{planned.case.key}: {'; '.join(problems)}")
            console.print(
                f"{planned.case.key}: as planned, {_summary(planned, plan, settings.run.device)}", markup=False
            )
    finally:
        dist.destroy_process_group()
    skipped = sum(planned.skip is not None for planned in cases)
    left_out = f", {skipped} do not" if skipped else ""
    console.print(f"{len(cases) - skipped} cases fit a world of {settings.world}{left_out}; nothing was measured")


def fake_device(planned: PlannedCase, mesh: Mesh) -> torch.device:
    """The device asked for, or a fake CPU where torch cannot fake it.

    Without CUDA, autograd finds no stream for a fake CUDA tensor and an in-place copy no device; a prefill has neither.
    """
    if torch.cuda.is_available() or planned.case.workload.phase == "prefill":
        return mesh.device
    return torch.device("cpu")


def disagreements(planned: PlannedCase, plan: Plan, mesh: Mesh) -> list[str]:
    """How a pass on fake tensors differs from the plan, in sentences; empty when it does not."""
    census, multiplied = Census(), ProductCount(mesh.size)
    with FakeTensorMode():
        weights = full_weights(planned.case, mesh.device)
        inputs = full_inputs(planned.case, mesh.device)
        built = build_case(planned.case, mesh, weights=weights, inputs=inputs)
        wire = Wire(collectives=collectives_of(planned.case, mesh), timeline=Unwatched())
        if planned.case.strategy == "dtensor":
            # Its first pass also runs every op on whole tensors, to find out how they are split.
            built.run(wire)
            built.forget()
        with saved_by_autograd(built) as saved, census, multiplied:
            built.run(wire)
        held = held_after(built, saved)
    problems = []
    expected = planned_count(plan.collectives)
    if census.count != expected:
        problems.append(f"sends {census.count}, planned {expected}")
    products = sum(op.flops for op in plan.ops if isinstance(op, Gemm))
    if multiplied.flops != products:
        problems.append(f"multiplies {format_flops(multiplied.flops)}, planned {format_flops(products)}")
    device = device_kind(mesh.device)
    slack_bytes = FLASH_STATE_BYTES if device == "cuda" else 0
    return problems + _held_otherwise(held, plan_memory(planned.case, device=device), slack_bytes)


def device_kind(device: torch.device) -> DeviceKind:
    """Whose kernels run."""
    return "cuda" if device.type == "cuda" else "cpu"


def _held_otherwise(held: Held, holdings: Sequence[Holding], slack_bytes: int) -> list[str]:
    """`slack_bytes`: how much more autograd may save."""
    kept: dict[HoldingKind, tuple[str, int]] = {
        "weights": ("holds weights of", held.weight_bytes),
        "gradients": ("makes gradients of", held.gradient_bytes),
        "saved": ("saves", held.saved_bytes),
        "kv_cache": ("caches", held.kv_cache_bytes),
    }
    problems = []
    for kind, (verb, size) in kept.items():
        expected = held_bytes(holdings, kind)
        if not expected <= size <= expected + (slack_bytes if kind == "saved" else 0):
            amounts = f"{format_bytes(size)}, planned {format_bytes(expected)}"
            problems.append(f"{verb} {amounts} ({size} and {expected} bytes)")
    return problems


def _summary(planned: PlannedCase, plan: Plan, device: DeviceKind) -> str:
    kinds: Sequence[str] = [f"{number} {kind}" for kind, (number, _) in planned_count(plan.collectives).items()]
    sent = f"sends {', '.join(kinds)} ({format_bytes(plan.sent_bytes)})" if kinds else "sends nothing"
    memory = held_bytes(plan_memory(planned.case, device=device))
    return f"{format_flops(plan.flops)} and {format_bytes(memory)} a rank, {sent}"
