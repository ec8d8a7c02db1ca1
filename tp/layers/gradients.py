"""The gradients that a pass leaves partial, summed as a training loop does once a step, outside what is timed.

Under token strategies each rank has seen only its own tokens' part of the norms' and the output biases' gradients;
with fewer kv heads than ranks each holder of a kv head has seen only its own query heads' part. Megatron-LM defers
both to the end of the step in the same way (core/distributed/finalize_model_grads.py).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tp.layers.attention import ParallelAttention
from tp.layers.block import Block
from tp.layers.collectives import Collectives
from tp.layers.dtensor import DTensorAttention, local


def finish_gradients(block: Block, *, splits_tokens: bool, num_kv_heads: int, collectives: Collectives) -> None:
    """Make every `.grad` of the block whole; `num_kv_heads` is the model's."""
    if collectives.mesh.size == 1:
        return
    if splits_tokens:
        for half in block.halves:
            for parameter in (half.norm.weight, half.norm.bias, half.bias):
                if parameter is not None and parameter.grad is not None:
                    collectives.all_reduce(parameter.grad)
    holders = collectives.mesh.size // num_kv_heads
    if holders > 1 and block.attention is not None:
        for rows in _kv_gradients(block.attention.layer):
            _sum_over_holders(rows, holders, collectives)


def _kv_gradients(attention: torch.nn.Module) -> Iterator[Tensor]:
    """This rank's gradients of what makes keys and values, as views."""
    if isinstance(attention, ParallelAttention):
        first = attention.heads.num_heads * attention.heads.head_dim
        yield from (gradient[first:] for gradient in _gradients(attention.qkv))
    if isinstance(attention, DTensorAttention):
        for linear in (attention.wk, attention.wv):
            yield from (local(gradient) for gradient in _gradients(linear))


def _gradients(linear: torch.nn.Module) -> Iterator[Tensor]:
    return (parameter.grad for parameter in linear.parameters() if parameter.grad is not None)


def _sum_over_holders(rows: Tensor, holders: int, collectives: Collectives) -> None:
    """Sum [r, ...] in place over the `holders` neighbouring ranks that hold the same kv head."""
    everyone = collectives.all_gather(rows.contiguous()).view(collectives.mesh.size, *rows.shape)
    first = collectives.mesh.rank // holders * holders
    with torch.no_grad():
        rows.copy_(everyone[first : first + holders].sum(0))
