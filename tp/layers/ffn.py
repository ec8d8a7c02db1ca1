"""The feed-forward network split by columns on the way in and by rows on the way out.

Legend: M tokens, H hidden, F_tp this rank's columns of the FFN's width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from tp.layers.linear import ColumnParallelLinear, GatheredColumnLinear, RowParallelLinear
from tp.layers.pipeline import ring_ffn
from tp.layers.positions import Positions
from tp.layers.wire import Wire, apply, cut


class ParallelFfn(nn.Module):
    """down(silu(gate(x)) * up(x)) (SwiGLU, Shazeer 2020), or down(gelu(up(x))) where the model has no gate."""

    def __init__(
        self, *, up: ColumnParallelLinear, down: RowParallelLinear | GatheredColumnLinear, gated: bool
    ) -> None:
        """`up` makes gate | up in one product where there is a gate."""
        super().__init__()
        self.up = up
        self.down = down
        self.gated = gated

    def forward(self, x: Float[Tensor, "_ H"], positions: Positions | None, wire: Wire) -> Float[Tensor, "_ H"]:
        """x and the result are [M, H] on every rank, or this rank's [M_tp, H] under token strategies."""
        activation = swiglu if self.gated else plain_gelu
        split = self.up.split
        if split.strategy == "overlap" and wire.num_ranks > 1 and not torch.is_grad_enabled():
            return ring_ffn(x, self.up.weight, self.up.bias, self.down.weight, activation, split.chunks, wire)
        hidden = cut(self.up(x, wire), wire, leave="up", enter="activation")
        active = activation(hidden)
        y: Tensor = self.down(cut(active, wire, leave="activation", enter="down"), wire)
        return y


def plain_gelu(x: Float[Tensor, "*M F_tp"]) -> Float[Tensor, "*M F_tp"]:
    """GELU in the tanh form that GPT's weights were trained with (Hendrycks & Gimpel 2016)."""
    return gelu(x, approximate="tanh")


def swiglu(gate_and_up: Float[Tensor, "M G_tp"]) -> Float[Tensor, "M F_tp"]:
    """silu(gate) * up of [M, 2 F_tp], the gate's columns first."""
    return apply(_SwiGlu, gate_and_up)


class _SwiGlu(torch.autograd.Function):
    # By hand, because autograd would keep silu(gate) too, which is quickly made again.
    @staticmethod
    def forward(ctx: Any, gate_and_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_and_up)
        gate, up = gate_and_up.chunk(2, dim=-1)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,), (gate_and_up,) = grads, ctx.saved_tensors
        gate, up = gate_and_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_and_up)
        grad_gate, grad_up = result.chunk(2, dim=-1)
        torch.mul(grad, silu(gate), out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return result
