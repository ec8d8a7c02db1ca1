"""fp8 products against plain ones: torch's scaled multiplication runs on CPUs too, slowly."""

from dataclasses import replace

import pytest
import torch

from bench.harness.cases.build import build_case, full_inputs, full_weights
from bench.harness.cases.checks import check_case
from tests.unit.record_factory import TOY
from tp.case import Case, Phase, Strategy, Workload
from tp.layers.fp8 import LARGEST, fp8_linear, quantize
from tp.layers.mesh import lone_mesh

pytestmark = pytest.mark.unit

MODEL = replace(TOY, hidden=256, num_kv_heads=4, head_dim=32, ffn_width=512)


def test_the_largest_magnitude_lands_on_the_largest_number() -> None:
    x = torch.tensor([[-3.0, 0.5], [1.5, 0.0]], dtype=torch.bfloat16)
    quantized, scale = quantize(x)
    assert quantized.float().abs().max() == LARGEST
    assert scale == pytest.approx(3 / LARGEST)
    # Three bits behind the point: half of the last is 1/16 of the number.
    assert torch.allclose(quantized.float() * scale, x.float(), rtol=2**-4, atol=0)


def test_nothing_but_zeros_stays_zero() -> None:
    quantized, scale = quantize(torch.zeros(4, 16, dtype=torch.bfloat16))
    assert torch.isfinite(scale)
    assert quantized.float().abs().sum() == 0


def test_a_product_is_off_by_the_rounding_of_its_operands() -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(64, 512, generator=generator).to(torch.bfloat16) for _ in range(2))
    quantized, scale = quantize(weight)
    exact = x.double() @ weight.double().t()
    error = (fp8_linear(x, quantized, scale, bias=None).double() - exact).norm() / exact.norm()
    # e4m3 has three bits behind the point: each operand is off by up to 2^-4, evenly spread 2^-4 / sqrt(3), and both.
    assert 0.01 < error < 2**0.5 * 2**-4 / 3**0.5


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("strategy", ["columns", "allreduce", "sequence"])
def test_a_block_agrees_with_the_oracle_and_a_wrong_scale_does_not(strategy: Strategy, phase: Phase) -> None:
    decodes = phase == "decode"
    workload = Workload(phase=phase, batch=8, seq=1 if decodes else 32, context=32, dtype="fp8")
    case = Case(block="block", model=MODEL, strategy=strategy, tp=1, workload=workload)
    device = torch.device("cpu")
    weights, inputs = full_weights(case, device), full_inputs(case, device)
    built = build_case(case, lone_mesh(device), weights=weights, inputs=inputs)
    assert {p.dtype for half in built.block.halves for p in half.layer.parameters()} == {torch.float8_e4m3fn}
    assert all(check.passed for check in check_case(built, weights=weights, inputs=inputs)[1])
    for half in built.block.halves:
        for layer in half.layer.children():
            layer.scale = layer.scale * 1.1
    assert not all(check.passed for check in check_case(built, weights=weights, inputs=inputs)[1])
