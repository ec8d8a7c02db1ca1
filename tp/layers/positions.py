"""Where the tokens of a pass stand: in which sequences, at which positions, after which earlier tokens.

Legend: B sequences, AK kv heads of this rank, C context, D head dim.
"""

from dataclasses import dataclass

from torch import Tensor

from tp.layers.rope import RopeTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Keys and values of earlier tokens, each [B, AK, C, D]; the newest token's place is the last."""

    keys: Tensor
    values: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.keys, self.values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How many sequences, their rotation if the model has one, what came before."""

    batch: int
    rope: RopeTable | None
    cache: Cache | None

    @property
    def tensors(self) -> list[Tensor]:
        """Everything held between passes."""
        table = [] if self.rope is None else [self.rope.cos, self.rope.sin]
        return table + ([] if self.cache is None else self.cache.tensors)
