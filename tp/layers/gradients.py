"""The gradients that a pass leaves partial, summed as a training loop does once a step, outside what is timed.

Under sequence strategies each rank has seen only its own tokens' part of the norm's and the output bias's
gradient; with fewer kv heads than ranks each holder of a kv head has seen only its own query heads' part.
Megatron-LM defers both to the end of the step in the same way (core/distributed/finalize_model_grads.py).
"""

import torch
from torch import Tensor

from tp.case import Strategy
from tp.layers.block import AttentionBlock
from tp.layers.collectives import Collectives


def finish_gradients(block: AttentionBlock, *, strategy: Strategy, num_kv_heads: int, collectives: Collectives) -> None:
    """Make every `.grad` of the block whole; `num_kv_heads` is the model's."""
    if collectives.mesh.size == 1:
        return
    if strategy == "sequence":
        for parameter in (block.norm.weight, block.norm.bias, block.out_bias):
            if parameter is not None and parameter.grad is not None:
                collectives.all_reduce(parameter.grad)
    holders = collectives.mesh.size // num_kv_heads
    if holders > 1:
        qkv = block.attention.qkv
        first_kv_row = block.attention.heads.num_heads * block.attention.heads.head_dim
        for parameter in (qkv.weight, qkv.bias):
            if parameter is not None and parameter.grad is not None:
                _sum_over_holders(parameter.grad[first_kv_row:], holders, collectives)


def _sum_over_holders(rows: Tensor, holders: int, collectives: Collectives) -> None:
    """Sum [r, ...] in place over the `holders` neighbouring ranks that hold the same kv head."""
    everyone = collectives.all_gather(rows.contiguous()).view(collectives.mesh.size, *rows.shape)
    first = collectives.mesh.rank // holders * holders
    with torch.no_grad():
        rows.copy_(everyone[first : first + holders].sum(0))
