"""Matrix products of fp8 operands: e4m3 with one scale a tensor, results in bf16; forward only.

torch._scaled_mm asks for row-major activations, column-major weights and, on CUDA, inputs and outputs that are
multiples of 16. Legend: M tokens, K input columns, N output columns.
"""

import torch
from jaxtyping import Float
from torch import Tensor

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
# Under this a scale would no longer divide; nothing but zeros has it.
TINY = 1e-12


def quantize(x: Float[Tensor, "M K"]) -> tuple[Tensor, Tensor]:
    """The tensor in e4m3, its largest magnitude on e4m3's, and the scale that undoes it."""
    scale = (x.abs().amax().float() / LARGEST).clamp(min=TINY)
    return (x.float() / scale).clamp(-LARGEST, LARGEST).to(E4M3), scale


def fp8_linear(
    x: Float[Tensor, "M K"], weight: Tensor, scale: Tensor, bias: Float[Tensor, " N"] | None
) -> Float[Tensor, "M N"]:
    """x W^T + b for a quantised weight [N, K]; x is quantised by its own largest magnitude."""
    quantized, x_scale = quantize(x)
    return fp8_product(quantized, x_scale, weight, scale, bias=bias, out_dtype=x.dtype)


def fp8_product(
    x: Tensor, x_scale: Tensor, weight: Tensor, scale: Tensor, *, bias: Tensor | None, out_dtype: torch.dtype
) -> Tensor:
    """x W^T + b of quantised operands [M, K] and [N, K]."""
    return torch._scaled_mm(
        x, weight.t(), scale_a=x_scale, scale_b=scale, bias=bias, out_dtype=out_dtype, use_fast_accum=True
    )
