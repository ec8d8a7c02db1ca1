"""Whether a whole model, or a pipeline stage of it, fits a rank's memory: layers, what stands around them, optimiser.

What is left out: the gradient of the logits, which cross-entropy kernels write in place, and buffers of sends.
Gradients are kept in the dtype of the weights and summed there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

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

StageTerm = Literal["weights", "gradients", "optimizer", "activations", "logits", "workspace", "kv_cache"]
STAGE_TERMS: Final[tuple[StageTerm, ...]] = get_args(StageTerm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What of a model a rank holds."""

    num_layers: int
    is_first: bool = True
    """Whether it holds the embedding."""
    is_last: bool = True
    """Whether it holds the last norm and the output layer; tied weights are held by both ends of a pipeline."""
    in_flight: int = 1
    """Micro-batches whose activations wait for their backward."""
    state_shards: int = 1
    """Ranks that the optimiser's states are cut over (Rajbhandari et al. 2020, section 5.1: ZeRO-1)."""


def whole_layer(case: Case) -> Case | None:
    """The layer that the case's block is of; None where the other half cannot be split in the same way."""
    layer = replace(case, block="block")
    return layer if misfit(layer.model, layer.block, layer.strategy, layer.tp) is None else None


def model_bytes(case: Case, held: Mapping[HoldingKind, int]) -> int:
    """What a rank holds of a whole model whose layers are `case` and hold `held` each; over a grid, at each point."""
    return sum(stage_bytes(case, held, Stage(num_layers=case.model.num_layers)).values())


def stage_bytes(case: Case, held: Mapping[HoldingKind, int], stage: Stage) -> dict[StageTerm, int]:
    """What a rank holds of a stage whose layers are `case` and hold `held` each; over a grid, at each point.

    Every layer's weights, gradients, saved activations and cache, the workspace of one, the embedding and the output
    layer, both cut by the vocabulary, and in training the optimiser.
    """
    layers, element_bytes, trains = stage.num_layers, case.workload.element_bytes, case.workload.phase == "train"
    outside = elements_outside(case, stage)
    return {
        "weights": layers * held["weights"] + outside * element_bytes,
        "gradients": layers * held["gradients"] + (outside * element_bytes if trains else 0),
        "optimizer": _state_bytes(case, stage_elements(case, held, stage), stage) if trains else 0,
        "activations": layers * stage.in_flight * held["saved"],
        "logits": _logit_bytes(case) if stage.is_last else 0,
        "workspace": held["workspace"],
        "kv_cache": layers * held["kv_cache"],
    }


def stage_elements(case: Case, held: Mapping[HoldingKind, int], stage: Stage) -> int:
    """Weights of a rank of a stage, in numbers rather than bytes; of dtypes that training knows."""
    return stage.num_layers * held["weights"] // case.workload.element_bytes + elements_outside(case, stage)


def elements_outside(case: Case, stage: Stage) -> int:
    """Weights of a rank that are in no layer: embedding, output layer, learned positions, the last norm."""
    model = case.model
    both_tied = stage.is_first and stage.is_last and model.tied_embeddings
    matrices = 1 if both_tied else stage.is_first + stage.is_last
    positions = model.max_positions * model.hidden if stage.is_first and model.position == "learned" else 0
    norm = model.hidden * (2 if model.norm == "layer" else 1) if stage.is_last else 0
    return local_vocabulary(case) * model.hidden * matrices + positions + norm


def local_vocabulary(case: Case) -> int:
    """Words of one rank, filled up to as many on each."""
    return -(-case.model.vocab_size // case.tp)


def fits(held: int, memory_bytes: float, *, device: DeviceKind) -> bool:
    """Whether a device has room for so much; on GPUs beside `RESERVE_BYTES`."""
    return held + (RESERVE_BYTES if device == "cuda" else 0) <= memory_bytes


def _state_bytes(case: Case, elements: int, stage: Stage) -> int:
    """The optimiser's, or a rank's share of them, rounded up."""
    return -(-elements * ADAM_BYTES[case.workload.element_bytes] // stage.state_shards)


def _logit_bytes(case: Case) -> int:
    """Logits in fp32, in training of every token with the last norm's input and result (Korthikanti et al. 2022, 4.3).

    Otherwise of the one token a sequence that the next is drawn by.
    """
    w = case.workload
    if w.phase != "train":
        return w.batch * local_vocabulary(case) * FP32_BYTES
    stream = case.local_tokens * case.model.hidden * w.element_bytes
    return w.tokens * local_vocabulary(case) * FP32_BYTES + 2 * stream
