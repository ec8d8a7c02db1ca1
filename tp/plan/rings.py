"""Linear layers whose tokens go round the ring of ranks in chunks while the chunk at hand is multiplied.

After Wang et al. 2023, "Overlap Communication with Dependent Computation via Decomposition": an all-gather before a
product and a reduce-scatter after one become n-1 sends to the next rank, each of `chunks` pieces, and the product n
times as many products of fewer rows. A rank's own tokens leave before its first product; what comes from others is
sent on, and what is multiplied at a step has to be here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tp.plan.emit import Emitter
from tp.plan.ops import ComputePart, Elementwise, Layout, Op


def ring_gather(
    e: Emitter, part: ComputePart, layout: Layout, *, outputs: int, inputs: int, backward: bool = False
) -> Iterator[Op]:
    """Chunks of [m, inputs] go round, each multiplied as it comes; in the backward all of them are kept."""
    if backward:
        yield e.elementwise(part, "concat", _own_tokens(e) * inputs, reads=1, writes=1, backward=True)
    first, sent = e.num_sent, list[int]()
    for step in range(_steps(e)):
        for _ in _leaving(e, step):
            sent.append(e.num_sent)
            yield e.send_chunk(inputs, backward=backward)
        needs = _arrived(first, sent, step - e.case.chunks)
        yield from e.gemm(part, layout, e.chunk_tokens, outputs, inputs, backward=backward, needs=needs)


def ring_scatter(e: Emitter, part: ComputePart, layout: Layout, *, outputs: int, inputs: int) -> Iterator[Op]:
    """Partial sums of [m, outputs] go round, each rank adding its own; those of its own tokens come last."""
    first, sent = e.num_sent, list[int]()
    for step in range(_steps(e)):
        needs = _arrived(first, sent, step - 1 - e.case.chunks)
        yield from e.gemm(part, layout, e.chunk_tokens, outputs, inputs, needs=needs)
        if step < _sends(e):
            yield from _pass_partial(e, part, first, sent, step, outputs)
    yield from _add_to_own(e, part, sent, outputs)


def ring_ffn(e: Emitter, *, up: int, down: int, activation: Callable[[int], Elementwise]) -> Iterator[Op]:
    """Both products of an FFN as one pipeline: a chunk goes through both as it comes, and leaves as partial sums.

    `up` outputs of the first product, `down` inputs of the second; `activation` of so many tokens lies between.
    """
    h, tokens, first = e.hidden, e.chunk_tokens, e.num_sent
    gathered, scattered = list[int](), list[int]()
    for step in range(_steps(e)):
        for _ in _leaving(e, step):
            gathered.append(e.num_sent)
            yield e.send_chunk(h)
        needs = _arrived(first, gathered, step - e.case.chunks)
        yield from e.gemm("up", "nt", tokens, up, h, needs=needs)
        yield replace(activation(tokens), needs=needs)
        if step >= e.case.chunks:
            yield from e.gemm("down", "nt", tokens, h, down, needs=needs)
            yield from _pass_partial(e, "down", first, scattered, step - e.case.chunks, h)
    for _ in range(e.case.chunks):
        yield from e.gemm("down", "nt", tokens, h, down, needs=gathered[-1] + 1)
    yield from _add_to_own(e, "down", scattered, h)


def ring_column_backward(e: Emitter, part: ComputePart, width: int) -> Iterator[Op]:
    """Both at once: the input comes round for the weight gradient, partial sums of its own gradient go round."""
    h, first = e.hidden, e.num_sent
    gathered, scattered = list[int](), list[int]()
    yield e.elementwise(part, "concat", _own_tokens(e) * h, reads=1, writes=1, backward=True)
    for step in range(_steps(e)):
        for _ in _leaving(e, step):
            gathered.append(e.num_sent)
            yield e.send_chunk(h, backward=True)
        # Only what has to be sent on is waited for; it was posted after partial sums, and so needs these too.
        sent_on = step if step < _sends(e) else _sends(e) - 1
        needs = _arrived(first, gathered, sent_on - e.case.chunks)
        yield from e.gemm(part, "nn", e.chunk_tokens, h, width, backward=True, needs=needs)
        if step < _sends(e):
            yield from _pass_partial(e, part, first, scattered, step, h, backward=True)
    # While the last partial sums are under way.
    yield from e.gemm(part, "tn", width, h, e.tokens, backward=True, needs=gathered[-1] + 1)
    yield from _add_to_own(e, part, scattered, h, backward=True)


def _pass_partial(
    e: Emitter, part: ComputePart, first: int, sent: list[int], step: int, width: int, *, backward: bool = False
) -> Iterator[Op]:
    """Add what the rank before sent `chunks` steps ago, and send the sum on."""
    before = step - e.case.chunks
    if before >= 0:
        yield _add(e, part, width, needs=_arrived(first, sent, before), backward=backward)
    sent.append(e.num_sent)
    yield e.send_chunk(width, backward=backward)


def _add_to_own(
    e: Emitter, part: ComputePart, sent: Sequence[int], width: int, *, backward: bool = False
) -> Iterator[Op]:
    for index in sent[-e.case.chunks :]:
        yield _add(e, part, width, needs=index + 1, backward=backward)


def _add(e: Emitter, part: ComputePart, width: int, *, needs: int, backward: bool) -> Op:
    elements = e.chunk_tokens * width
    return e.elementwise(part, "residual", elements, reads=2, writes=1, needs=needs, backward=backward)


def _arrived(first: int, sent: Sequence[int], position: int) -> int:
    """How many of the plan's collectives are here once the one at `position` of `sent` is."""
    return sent[position] + 1 if position >= 0 else first


def _leaving(e: Emitter, step: int) -> range:
    """The sends that begin before the product of a step: at first all of this rank's own chunks."""
    if step == 0:
        return range(e.case.chunks)
    return range(step, step + 1) if e.case.chunks <= step < _sends(e) else range(0)


def _steps(e: Emitter) -> int:
    return e.case.tp * e.case.chunks


def _sends(e: Emitter) -> int:
    return (e.case.tp - 1) * e.case.chunks


def _own_tokens(e: Emitter) -> int:
    return e.tokens // e.case.tp
