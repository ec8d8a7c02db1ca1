"""Whether a whole model fits a rank's memory: its layers, what stands before and after them, and the optimiser.

What is left out: pipeline stages, a sharded optimiser (ZeRO), and the gradient of the logits, which cross-entropy
kernels write in place.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tp.case import Case
from tp.plan.memory import HoldingKind
from tp.plan.shards import misfit
from tp.plan.workspace import FP32_BYTES, DeviceKind
from tp.units import GB

# What a CUDA context, the libraries' workspaces and NCCL's channels take of a device before a model does; a convention.
RESERVE_BYTES: Final = 2 * GB
# Adam beside 16-bit weights and gradients: weights, momentum and variance in fp32 (Rajbhandari et al. 2020, "ZeRO",
# section 3.1, K = 12); beside fp32 ones momentum and variance alone.
ADAM_BYTES: Final = {2: 12, 4: 8}


def whole_layer(case: Case) -> Case | None:
    """The layer that the case's block is of; None where the other half cannot be split in the same way."""
    layer = replace(case, block="block")
    return layer if misfit(layer.model, layer.block, layer.strategy, layer.tp) is None else None


def model_bytes(case: Case, held: Mapping[HoldingKind, int]) -> int:
    """What a rank holds of a whole model whose layers are `case` and hold `held` each; over a grid, at each point.

    Every layer's weights, gradients, saved activations and cache, the workspace of one, the embedding and the output
    layer, both cut by the vocabulary, and in training the optimiser.
    """
    layers = case.model.num_layers
    kept = held["weights"] + held["gradients"] + held["saved"] + held["kv_cache"]
    element_bytes, outside = case.workload.element_bytes, _elements_outside(case)
    found = layers * kept + held["workspace"] + outside * element_bytes + _logit_bytes(case)
    if case.workload.phase == "train":
        elements = layers * held["weights"] // element_bytes + outside
        found = found + outside * element_bytes + elements * ADAM_BYTES[element_bytes]
    return found


def fits(held: int, memory_bytes: float, *, device: DeviceKind) -> bool:
    """Whether a device has room for so much; on GPUs beside `RESERVE_BYTES`."""
    return held + (RESERVE_BYTES if device == "cuda" else 0) <= memory_bytes


def _elements_outside(case: Case) -> int:
    """Weights of a rank that are in no layer: embedding, output layer, learned positions, the last norm."""
    model = case.model
    vocabulary = _vocabulary(case) * model.hidden * (1 if model.tied_embeddings else 2)
    positions = model.max_positions * model.hidden if model.position == "learned" else 0
    return vocabulary + positions + model.hidden * (2 if model.norm == "layer" else 1)


def _vocabulary(case: Case) -> int:
    """Words of one rank, filled up to as many on each."""
    return -(-case.model.vocab_size // case.tp)


def _logit_bytes(case: Case) -> int:
    """Logits in fp32, in training of every token with the last norm's input and result (Korthikanti et al. 2022, 4.3).

    Otherwise of the one token a sequence that the next is drawn by.
    """
    w = case.workload
    if w.phase != "train":
        return w.batch * _vocabulary(case) * FP32_BYTES
    stream = case.local_tokens * case.model.hidden * w.element_bytes
    return w.tokens * _vocabulary(case) * FP32_BYTES + 2 * stream
