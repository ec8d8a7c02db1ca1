"""Is a sharded case right? Its output and gradients against the unsharded oracle, before anything is timed.

Two figures a tensor, both against the oracle in a wider dtype:
- `error`, the relative distance |y - ref| / |ref|. Each rounding to the working dtype on the way adds an error whose
  relative root mean square is at most u / sqrt(3), u the unit roundoff; independent, they add in quadrature. Sums of
  k products kept in fp32 add sqrt(k) of fp32's.
- `gain`, <y, ref> / <ref, ref> - 1: a part that is scaled or missing moves it, while roundings cancel over the many
  elements. It finds a shard that is 1 % off, which the distance cannot in 16 bits.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bench.harness.cases.build import (
    TORCH_DTYPES,
    BuiltCase,
    Inputs,
    block_sizes,
    collectives_of,
    local_tokens,
    shard_case,
)
from tp.case import Case
from tp.layers.build import BlockWeights
from tp.layers.dtensor import local
from tp.layers.gradients import finish_gradients
from tp.layers.reference import Past, gradients, reference_update, widen
from tp.layers.wire import Unwatched, Wire

# Roundings to the working dtype on the way through a half: norm, QKV, two in the rotation, the probabilities, the
# core's result, the output projection, the bias; or norm, up and gate, SiLU, its product, down, the bias. The sum over
# n ranks adds n - 1, the residual between two halves one. The backward walks it again.
ATTENTION_ROUNDINGS: Final = 8
FFN_ROUNDINGS: Final = 7
# Roundings are not quite independent and not quite uniform; real errors stay under half of the bound.
SAFETY: Final = 2.0
# Rounding to nearest does not bias, but few values may round alike: the part of the roundoff granted to the gain,
# and the standard deviations of its noise. A shard that is 1 % off on one of 8 ranks moves it by 5 times the former
# in bf16.
GAIN_ROUNDOFFS: Final = 1 / 16
GAIN_DEVIATIONS: Final = 4.0
# A value rounded to nearest lies in the middle of what rounds to it, which makes <y, ref> smaller by the variance of
# the roundings; they enter a half by way of weights and activations. It shows in fp8 (H100: gain -0.0079 at a distance
# of 0.067) and is nothing in 16 bits.
ATTENUATION: Final = 2.0
# Matrix units of NVIDIA's GPUs cut off what they add up in fp32 instead of rounding it, so many products a step
# (Fasi, Higham, Mikaitis & Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330, 2021), by compute
# capability; each step loses half a unit of the last place. An H100 loses 1.9e-4 in a layer
# of Llama-2-70B, as this says.
PRODUCTS_A_STEP: Final = {7: 4, 8: 8}
PRODUCTS_A_STEP_HOPPER: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One tensor against the oracle."""

    tensor: str
    error: float
    error_limit: float
    gain: float
    gain_limit: float

    @property
    def passed(self) -> bool:
        """Comparisons with NaN are false, so a NaN fails."""
        return self.error <= self.error_limit and abs(self.gain) <= self.gain_limit


def check_case(built: BuiltCase, *, weights: BlockWeights, inputs: Inputs) -> tuple[Tensor, list[Check]]:
    """Run the block under real collectives and compare; every rank of the group must call it. Also gives the output.

    The output is that of the very forward that is timed. What the block adds to its input is compared too, since the
    input would cover a small error, and it is what the gradients are taken of.
    """
    case, mesh = built.case, built.mesh
    wire = Wire(collectives=collectives_of(case, mesh), timeline=Unwatched())
    built.forget()
    with torch.set_grad_enabled(built.trains):
        update = built.block.update(built.x, built.positions, wire)
    expected_update, expected_x, expected_block = _expected(built, weights, inputs)
    for_output, for_gradients = _limits(case, mesh.device)
    given = local_tokens(case, mesh).of(inputs.x)
    output = built.forward(wire)
    checks = [
        _compare("update", update, expected_update, for_output),
        _compare("output", output, given + expected_update, for_output),
        _compare("input afterwards", built.x, given, for_output),
    ]
    if built.trains:
        update.backward(built.grad)
        finish_gradients(
            built.block,
            splits_tokens=case.splits_tokens,
            num_kv_heads=case.model.num_kv_heads,
            collectives=wire.collectives,
        )
        checks.append(_compare("input gradient", _gradient(built.x), expected_x, for_gradients))
        expected = _joined({name: local(p) for name, p in expected_block.named_parameters()})
        actual = _joined({name: local(_gradient(p)) for name, p in built.block.named_parameters()})
        for name, gradient in actual.items():
            checks.append(_compare(f"{name} gradient", gradient, expected[name], for_gradients))
    built.forget()
    return output.detach(), checks


def check_again(built: BuiltCase, output: Tensor) -> Check:
    """The output of the timed forward once more, against what it was before anything was timed.

    Times of passes whose weights, input or cache have changed meanwhile are times of something else.
    """
    built.forget()
    wire = Wire(collectives=collectives_of(built.case, built.mesh), timeline=Unwatched())
    for_output, _ = _limits(built.case, built.mesh.device)
    return _compare("output after timing", built.forward(wire), output, for_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """What roundings may do to a tensor that is made from `independent` rounded values."""

    error: float
    gain: float
    """Where few values do not add noise: the bias of roundings and of sums kept in fp32."""
    independent: int
    uneven: bool
    """Whether few elements may carry most of the norm, as in gradients: a causal mask gives the first tokens more."""

    def gain_of(self, reference: Tensor, error: float) -> float:
        """The bias, that of roundings as large as `error`, and the noise of an average over the tensor's elements."""
        counting = float(reference.numel())
        if self.uneven:
            # Only the elements that make up its norm average anything: its participation ratio.
            counting = float(reference.square().sum() ** 2 / reference.pow(4).sum())
        noise = GAIN_DEVIATIONS * self.error / math.sqrt(min(counting, self.independent))
        return self.gain + ATTENUATION * min(error, self.error) ** 2 + noise


def products_a_step(device: torch.device, dtype: torch.dtype) -> float:
    """How many products are added up before something is cut off; infinitely many where sums are rounded."""
    if device.type != "cuda" or dtype.itemsize > 2:
        return math.inf
    return PRODUCTS_A_STEP.get(torch.cuda.get_device_capability(device)[0], PRODUCTS_A_STEP_HOPPER)


def _limits(case: Case, device: torch.device) -> tuple[_Limit, _Limit]:
    """The limits for the output and for the gradients."""
    dtype, w, model = TORCH_DTYPES[case.workload.dtype], case.workload, case.model
    u, u_fp32 = torch.finfo(dtype).eps / 2, torch.finfo(torch.float32).eps / 2
    roundings, summed = 0, 0
    if case.has_attention:
        roundings += ATTENTION_ROUNDINGS + case.tp - 1
        summed += model.hidden + w.context + model.attention_width
    if case.has_ffn:
        roundings += FFN_ROUNDINGS + case.tp - 1
        summed += model.hidden + model.ffn_width
    roundings += case.has_attention and case.has_ffn

    def limit(*, walks: int, summed: int, independent: int, uneven: bool) -> _Limit:
        error = SAFETY * math.sqrt(walks * (roundings * u**2 + summed * u_fp32**2) / 3)
        cut_off = walks * summed / products_a_step(device, dtype) * u_fp32
        gain = GAIN_ROUNDOFFS * u + SAFETY * math.sqrt(walks * summed / 3) * u_fp32 + cut_off
        return _Limit(error=error, gain=gain, independent=independent, uneven=uneven)

    # Gradients are products of rounded factors; the fewest elements among these has the gradient of the keys.
    kv_elements = w.tokens * max(1, model.num_kv_heads // case.tp) * model.head_dim
    fewest = kv_elements if case.has_attention else w.tokens * model.ffn_width // case.tp
    return (
        limit(walks=1, summed=summed, independent=w.tokens * model.hidden, uneven=False),
        limit(walks=2, summed=summed + w.tokens, independent=fewest, uneven=True),
    )


def _compare(name: str, actual: Tensor, expected: Tensor, limit: _Limit) -> Check:
    y, ref = (tensor.detach().double().flatten() for tensor in (actual, expected))
    norm = float(ref.norm())
    error = float((y - ref).norm()) / norm
    return Check(
        tensor=name,
        error=error,
        error_limit=limit.error,
        gain=float(y @ ref) / norm**2 - 1,
        gain_limit=limit.gain_of(ref, error),
    )


def _expected(built: BuiltCase, weights: BlockWeights, inputs: Inputs) -> tuple[Tensor, Tensor, torch.nn.Module]:
    """The oracle's update, input gradient and parameter gradients, cut as this rank holds them."""
    case, mesh = built.case, built.mesh
    wide_dtype = torch.float64 if case.workload.dtype == "fp32" else torch.float32
    wide = widen(weights, wide_dtype)
    x = inputs.x.to(wide_dtype).requires_grad_()
    past = Past(
        batch=case.workload.batch,
        first_position=case.workload.context - case.workload.seq if case.model.position == "rope" else None,
        keys_and_values=None if inputs.past is None else (inputs.past[0][:, :, :-1], inputs.past[1][:, :, :-1]),
    )
    with torch.set_grad_enabled(built.trains):
        update = reference_update(x, wide, block_sizes(case), past)
    tokens = local_tokens(case, mesh)
    if not built.trains:
        return tokens.of(update), tokens.of(x), built.block
    update.backward(inputs.grad.to(wide_dtype))
    return tokens.of(update), tokens.of(_gradient(x)), shard_case(case, mesh, gradients(wide))


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The biases of queries, keys and values as one tensor: a softmax cancels the keys' own, and 0 has no scale."""
    biases = [name for name in tensors if name.endswith(("wq.bias", "wk.bias", "wv.bias"))]
    joined = {name: tensor for name, tensor in tensors.items() if name not in biases}
    if biases:
        joined["attention.layer.qkv.bias"] = torch.cat([tensors[name] for name in biases])
    return joined


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None, "the backward left a leaf without a gradient"
    return leaf.grad
