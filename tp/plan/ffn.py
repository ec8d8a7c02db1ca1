"""The ops of the FFN block: norm, up (and gate), activation, down, residual, and what is sent between.

Shapes are per rank: m tokens, h hidden, f/n this rank's columns of the FFN's width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tp.plan.attention import norm_backward, residual_backward, residual_forward
from tp.plan.emit import Emitter
from tp.plan.linears import column_backward, column_forward, row_backward, row_forward
from tp.plan.ops import Elementwise, Op
from tp.plan.rings import ring_ffn


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnOps:
    """The passes through the FFN half of a layer."""

    e: Emitter

    def forward(self) -> Iterator[Op]:
        e = self.e
        if e.case.pipelines_ffn:
            yield self._norm()
            yield from ring_ffn(e, up=sum(self._widths), down=self._width, activation=self._activation)
        else:
            yield from self._until_down()
            yield from self._down()
        yield from residual_forward(e)

    def remake(self) -> Iterator[Op]:
        """The forward once more, as far as the backward needs it."""
        yield from self._until_down()
        yield from self._down(until_saved=True)

    def backward(self) -> Iterator[Op]:
        e, model = self.e, self.e.case.model
        yield from residual_backward(e)
        yield from row_backward(e, "down", local=self._width, whole=model.ffn_width, bias=model.has_ffn_bias)
        if model.gated:  # SiLU once more, times the gradient; the gradient times up, and through SiLU
            reads, writes = (6, 3) if e.case.strategy == "dtensor" else (7, 4)
            yield e.elementwise(
                "activation", "swiglu_backward", self._hidden, reads=reads, writes=writes, backward=True
            )
        else:
            yield e.elementwise("activation", "gelu_backward", self._hidden, reads=2, writes=1, backward=True)
        yield from column_backward(e, "up", self._widths, bias=model.has_ffn_bias)
        yield from norm_backward(e, inner=e.case.has_attention)

    def _until_down(self) -> Iterator[Op]:
        yield self._norm()
        yield from column_forward(self.e, "up", self._widths)
        yield self._activation(self.e.tokens)

    def _norm(self) -> Elementwise:
        e = self.e
        return e.elementwise("norm", "norm", e.case.local_tokens * e.hidden, reads=1, writes=1)

    def _activation(self, tokens: int) -> Elementwise:
        elements = tokens * self._width
        if self.e.case.model.gated:  # SiLU of the gate, times up
            return self.e.elementwise("activation", "swiglu", elements, reads=3, writes=2)
        return self.e.elementwise("activation", "gelu", elements, reads=1, writes=1)

    def _down(self, *, until_saved: bool = False) -> Iterator[Op]:
        whole = self.e.case.model.ffn_width
        return row_forward(self.e, "down", local=self._width, whole=whole, until_saved=until_saved)

    @property
    def _width(self) -> int:
        return self.e.case.model.ffn_width // self.e.case.tp

    @property
    def _widths(self) -> tuple[int, ...]:
        """Of the gate and of up, or of up alone."""
        return (self._width,) * (2 if self.e.case.model.gated else 1)

    @property
    def _hidden(self) -> int:
        """Elements of this rank's part of the FFN's hidden activation."""
        return self.e.tokens * self._width
