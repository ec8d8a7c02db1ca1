"""What a collective sends, by the algorithm that its backend runs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp.plan.ops import Backend, Collective, CollectiveKind, bus_factor

pytestmark = pytest.mark.unit


def sent(kind: CollectiveKind, num_ranks: int, size_bytes: int, backend: Backend) -> float:
    return Collective(
        kind=kind, direction="forward", num_ranks=num_ranks, size_bytes=size_bytes, dtype="bf16", backend=backend
    ).sent_bytes


@given(st.integers(2, 128), st.integers(1, 2**40))
@settings(deadline=None)
def test_an_all_reduce_sends_what_its_halves_send(num_ranks: int, size_bytes: int) -> None:
    whole = sent("all_reduce", num_ranks, size_bytes, "nccl")
    halves = sent("reduce_scatter", num_ranks, size_bytes, "nccl") + sent("all_gather", num_ranks, size_bytes, "nccl")
    assert math.isclose(whole, halves, rel_tol=1e-12)
    assert math.isclose(whole, 2 * size_bytes * (num_ranks - 1) / num_ranks, rel_tol=1e-12)
    # gloo has no reduce-scatter of its own and runs an all-reduce.
    assert sent("reduce_scatter", num_ranks, size_bytes, "gloo") == sent("all_reduce", num_ranks, size_bytes, "gloo")
    assert sent("all_gather", num_ranks, size_bytes, "gloo") == sent("all_gather", num_ranks, size_bytes, "nccl")
    assert sent("send_recv", num_ranks, size_bytes, "nccl") == size_bytes


def test_bus_factors_are_those_of_nccl_tests() -> None:
    # https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md, at 8 ranks.
    kinds: tuple[CollectiveKind, ...] = ("all_reduce", "all_gather", "reduce_scatter", "send_recv")
    assert [bus_factor(kind, 8) for kind in kinds] == [1.75, 0.875, 0.875, 1.0]
