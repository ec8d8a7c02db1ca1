"""Runs of rows or columns, and which of them a rank holds."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of rows or columns."""

    start: int
    length: int

    def of(self, x: Tensor, *, dim: int = 0) -> Tensor:
        """The view of `x` along `dim`; by narrowing, which fake tensors of absent devices know and indexing not."""
        return x.narrow(dim, self.start, self.length)


def rank_span(width: int, *, rank: int, num_ranks: int) -> Span:
    """This rank's share of `width` rows or columns."""
    return Span(start=rank * width // num_ranks, length=width // num_ranks)


def kv_heads(num_kv_heads: int, *, rank: int, num_ranks: int) -> Span:
    """This rank's kv heads; with fewer of them than ranks, neighbours hold the same one."""
    return Span(start=rank * num_kv_heads // num_ranks, length=max(1, num_kv_heads // num_ranks))
