"""Random weights, made alike on every rank from a seed."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWeights:
    """Draws tensors of a dtype on a device; the order of the calls decides the numbers."""

    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, device=self.device, dtype=torch.float32)
        return drawn.mul_(scale).to(self.dtype)

    def matrix(self, outputs: int, inputs: int) -> Tensor:
        """[outputs, inputs] that keeps the scale of what it multiplies."""
        return self.normal(outputs, inputs, scale=inputs**-0.5)

    def norm(self, width: int) -> Tensor:
        """Weights of a norm: around one, and not all alike."""
        return self.normal(width, scale=0.1) + 1

    def bias(self, width: int, *, present: bool) -> Tensor | None:
        return self.normal(width, scale=0.1) if present else None
