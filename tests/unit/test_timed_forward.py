"""The forward that is timed is the one that is checked: errors that only it has are found."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.harness.cases.build import build_case, full_inputs, full_weights
from bench.harness.cases.checks import check_again, check_case, products_a_step
from tp.case import Case, Phase, Workload
from tp.layers import attention
from tp.layers.block import Block
from tp.layers.mesh import lone_mesh
from tp.model import load_model

pytestmark = pytest.mark.unit

DEVICE = torch.device("cpu")
SMALL = replace(load_model("tinyllama-1.1b"), hidden=256, num_heads=8, num_kv_heads=2, head_dim=32, ffn_width=512)


def failed(phase: Phase) -> set[str]:
    """The tensors of a small block that do not agree with the oracle."""
    decodes = phase == "decode"
    workload = Workload(phase=phase, batch=2, seq=1 if decodes else 16, context=16, dtype="fp32")
    case = Case(block="block", model=SMALL, strategy="allreduce", tp=1, workload=workload)
    weights, inputs = full_weights(case, DEVICE), full_inputs(case, DEVICE)
    built = build_case(case, lone_mesh(DEVICE), weights=weights, inputs=inputs)
    return {check.tensor for check in check_case(built, weights=weights, inputs=inputs)[1] if not check.passed}


def without_residual(self: Block, x: Tensor, *args: object) -> Tensor:
    for half in self.halves:
        x = half(x, *args)
    return x


def from_the_first_input(self: Block, x: Tensor, *args: object) -> Tensor:
    return x + sum(half(x, *args) for half in self.halves)


@pytest.mark.parametrize("phase", ["prefill", "train", "decode"])
@pytest.mark.parametrize("wrong", [without_residual, from_the_first_input])
def test_a_wrong_output_is_found(wrong: Callable[..., Tensor], phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(phase) == set()
    monkeypatch.setattr(Block, "_output", wrong)
    assert failed(phase) == {"output"}


def test_an_input_that_a_pass_overwrites_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Block._output

    def overwriting(self: Block, x: Tensor, *args: object) -> Tensor:
        return x.copy_(right(self, x, *args))  # type: ignore[arg-type]

    monkeypatch.setattr(Block, "_output", overwriting)
    assert "input afterwards" in failed("prefill")


def test_an_error_in_inference_mode_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.attend

    def blind(q: Tensor, k: Tensor, v: Tensor, cache: object) -> Tensor:
        if torch.is_inference_mode_enabled():
            q = torch.zeros_like(q)
        return right(q, k, v, cache)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "attend", blind)
    assert failed("prefill") == {"output"}


@pytest.mark.parametrize("phase", ["prefill", "train", "decode"])
def test_what_changes_while_times_are_taken_is_found(phase: Phase) -> None:
    decodes = phase == "decode"
    workload = Workload(phase=phase, batch=2, seq=1 if decodes else 16, context=16, dtype="fp32")
    case = Case(block="block", model=SMALL, strategy="allreduce", tp=1, workload=workload)
    weights, inputs = full_weights(case, DEVICE), full_inputs(case, DEVICE)
    built = build_case(case, lone_mesh(DEVICE), weights=weights, inputs=inputs)
    output, _ = check_case(built, weights=weights, inputs=inputs)
    assert check_again(built, output).passed
    weight = next(built.block.parameters())
    for value in (float("nan"), 2.0):
        before = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(value)
        assert not check_again(built, output).passed
        with torch.no_grad():
            weight.copy_(before)
    assert check_again(built, output).passed


def test_matrix_units_cut_off_what_they_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, products in (((8, 0), 8), ((9, 0), 16), ((10, 0), 16), ((7, 0), 4)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert products_a_step(torch.device("cuda"), torch.bfloat16) == products
        assert products_a_step(torch.device("cuda"), torch.float8_e4m3fn) == products
        # Sums of fp32 operands are rounded, as on a CPU.
        assert products_a_step(torch.device("cuda"), torch.float32) == math.inf
        assert products_a_step(DEVICE, torch.bfloat16) == math.inf
