"""The feed-forward network of `overlap` as one pipeline, forward only: what comes round is passed on as partial sums.

Two linear layers one after the other wait twice: the first for its last chunk, the second for its first. Here a chunk
goes through both products as soon as it comes, and its partial sums leave while the next chunk is on its way; the link
is never idle between gathering and scattering, and the activation is hidden too. This rank's own tokens are taken
through the first product while nothing has come yet, and through the second while the last partial sums are under way.
`ring_ffn` of `tp/plan/rings.py` is the same in ops. Training keeps the two layers apart, for autograd.

Legend: M tokens, M_tp this rank's tokens, H hidden, G_tp and F_tp this rank's columns before and after the activation.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from tp.layers.ring import Gather, Scatter, ring_of
from tp.layers.wire import Wire

Activation = Callable[[Tensor], Tensor]


def ring_ffn(
    x: Float[Tensor, "M_tp H"],
    up: Float[Tensor, "G_tp H"],
    bias: Float[Tensor, " G_tp"] | None,
    down: Float[Tensor, "H F_tp"],
    activation: Activation,
    chunks: int,
    wire: Wire,
) -> Float[Tensor, "M_tp H"]:
    """This rank's tokens of activation(x up^T + bias) down^T, summed over the ranks."""
    tokens = x.shape[0] * wire.num_ranks
    ring, timeline = ring_of(tokens, chunks, wire), wire.timeline
    full = wire.collectives.room((tokens, x.shape[1]), x.dtype)
    gather = Gather(ring, wire, "forward", own=x, full=full)
    y = x.new_empty((x.shape[0], down.shape[0]))
    scatter = Scatter(ring, wire, "forward", like=y)

    def active(step: int) -> Tensor:
        chunk = gather.at(step)
        timeline.enter("up", "forward")
        hidden = chunk @ up.t() if bias is None else torch.addmm(bias, chunk, up.t())
        timeline.enter("activation", "forward")
        made = activation(hidden)
        timeline.enter("down", "forward")
        return made

    own = [active(step) for step in range(chunks)]
    for step in range(chunks, ring.num_steps):
        # What a gather has at a step is what a scatter sends `chunks` steps earlier: the furthest rank's tokens first.
        scatter.pass_on(step - chunks, active(step) @ down.t())
    for position, made in enumerate(own):
        torch.mm(made, down.t(), out=y.narrow(0, position * ring.length, ring.length))
    gather.finish()
    scatter.finish(y)
    return y
