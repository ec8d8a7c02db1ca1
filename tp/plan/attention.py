"""The ops of the attention block: norm, QKV, core, output projection, residual, and what is sent between.

Shapes are per rank: m tokens, h hidden, w = a/n*d the columns of this rank's heads. The backward mirrors the
forward; its products are two for each of the forward's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tp.plan.emit import Emitter
from tp.plan.linears import column_backward, column_forward, row_backward, row_forward
from tp.plan.ops import Op
from tp.plan.shards import AttentionShard


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOps:
    """The passes through the attention half of a layer."""

    e: Emitter
    shard: AttentionShard

    def forward(self) -> Iterator[Op]:
        yield from self._until_out()
        yield from self._out()
        yield from residual_forward(self.e)

    def remake(self) -> Iterator[Op]:
        """The forward once more, as far as the backward needs it."""
        yield from self._until_out()
        yield from self._out(until_saved=True)

    def backward(self) -> Iterator[Op]:
        e, s, model = self.e, self.shard, self.e.case.model
        yield from residual_backward(e)
        bias = model.has_out_bias
        yield from row_backward(e, "out", local=s.width, whole=model.attention_width, bias=bias)
        if e.case.recompute == "selective":
            yield from self._core()
        yield e.core(s, backward=True)
        if model.position == "rope":
            yield e.elementwise("core", "rope", self._rotated, reads=1, writes=1, backward=True)
        if e.case.strategy != "dtensor":  # dQ | dK | dV into one gradient
            yield e.elementwise("core", "concat", e.tokens * s.qkv_width, reads=1, writes=1, backward=True)
        yield from column_backward(e, "qkv", s.qkv_widths, bias=model.has_qkv_bias)
        yield from norm_backward(e)

    def _until_out(self) -> Iterator[Op]:
        e = self.e
        yield e.elementwise("norm", "norm", e.case.local_tokens * e.hidden, reads=1, writes=1)
        yield from column_forward(e, "qkv", self.shard.qkv_widths)
        yield from self._core()

    def _core(self) -> Iterator[Op]:
        e = self.e
        if e.case.model.position == "rope":
            yield e.elementwise("core", "rope", self._rotated, reads=1, writes=1)
        if e.case.workload.phase == "decode":  # the newest key and value, into the cache
            yield e.elementwise("core", "concat", e.tokens * 2 * self.shard.kv_width, reads=1, writes=1)
        yield e.core(self.shard)

    def _out(self, *, until_saved: bool = False) -> Iterator[Op]:
        whole = self.e.case.model.attention_width
        return row_forward(self.e, "out", local=self.shard.width, whole=whole, until_saved=until_saved)

    @property
    def _rotated(self) -> int:
        """Elements of the queries and keys."""
        return self.e.tokens * (self.shard.width + self.shard.kv_width)


def residual_forward(e: Emitter) -> Iterator[Op]:
    """The update is added to what the block was given, and before it the bias that a row-split layer leaves."""
    elements = e.case.local_tokens * e.hidden
    if e.case.model.has_out_bias and e.case.strategy != "columns":
        yield e.elementwise("residual", "residual", elements, reads=1, writes=1)
    yield e.elementwise("residual", "residual", elements, reads=2, writes=1)


def residual_backward(e: Emitter) -> Iterator[Op]:
    """The gradient of the output bias, where the residual's place holds it."""
    if e.case.model.has_out_bias and e.case.strategy != "columns":
        elements = e.case.local_tokens * e.hidden
        yield e.elementwise("residual", "bias_grad", elements, reads=1, writes=0, backward=True)


def norm_backward(e: Emitter, *, inner: bool = False) -> Iterator[Op]:
    """The norm's gradients; the gradient that skipped the half is added when they arrive.

    That is on the norm's time; of an `inner` half, behind another, on the time of that one's residual, where autograd
    gathers both (seen in training on CPUs: 0.6 ms less of norm and more of residual at 272 tokens of TinyLlama).
    """
    elements = e.case.local_tokens * e.hidden
    yield e.elementwise("norm", "norm_backward", elements, reads=2, writes=1, backward=True)
    yield e.elementwise("residual" if inner else "norm", "residual", elements, reads=2, writes=1, backward=True)
