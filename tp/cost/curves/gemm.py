"""Seconds of a matrix product: a roofline for CPUs, tiles on streaming multiprocessors for GPUs."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from tp.cost.curves.array import Array
from tp.cost.curves.residual import Residual
from tp.cost.curves.trust import Fit
from tp.plan.ops import Gemm
from tp.units import DTYPE_BYTES

# Result tiles that GEMM libraries have kernels for, and into how many pieces they cut the reduction.
TILES: Final = np.array(
    [(256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64)], dtype=np.float64
)
SPLITS: Final = (1, 2, 3, 4, 6, 8)
# A reduction is cut only where a piece keeps this length and the tiles are few.
LEAST_SPLIT_LENGTH: Final = 256
MOST_SPLIT_WAVES: Final = 4
K_STEP: Final = 64
# The tile by which the features of a shape count waves.
USUAL_TILE: Final = (128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineGemm:
    """Start-up plus a smooth maximum of arithmetic and memory time: a + (c^p + b^p)^(1/p)."""

    startup_s: float
    flops_per_s: float
    bytes_per_s: float
    sharpness: float
    fit: Fit
    sources: tuple[str, ...] = ()
    residual: Residual | None = None
    form: Literal["roofline"] = "roofline"

    def seconds(self, op: Gemm) -> Array:
        """[...], the shape of the op's sizes."""
        return corrected(self, op)

    def plain_seconds(self, op: Gemm) -> Array:
        """Without the residual."""
        compute = np.asarray(op.flops, dtype=np.float64) / self.flops_per_s
        memory = np.asarray(op.moved_bytes, dtype=np.float64) / self.bytes_per_s
        plain: Array = self.startup_s + smooth_maximum(compute, memory, self.sharpness)
        return plain

    def features(self, op: Gemm, plain_s: Array) -> Array:
        """[..., 7]: what the residual goes by; `plain_s` is what the curve says without it."""
        ideal = np.maximum(np.asarray(op.flops) / self.flops_per_s, np.asarray(op.moved_bytes) / self.bytes_per_s)
        return gemm_features(op, num_units=1, waste=plain_s / ideal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a tile model takes from the data sheet; efficiencies are shares of these."""

    num_units: int
    """Streaming multiprocessors."""
    flops_per_s: float
    """Dense peak in the curve's dtype."""
    bytes_per_s: float
    l2_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGemm:
    """Waves of tiles over the multiprocessors, the least over tile shapes and cuts of the reduction.

    A tile takes (tc^4 + tl^4)^(1/4) + o0 + o1 area, tc its multiply-adds at a unit's share of the peak and tl the feed
    of its operands; a product W tiles one after the other, W between the whole number of waves and their fraction,
    times GFLOP^g, the slow-down of long products at the power limit. Memory takes Q / (em B), less where L2 still
    holds Q. Both join in a smooth maximum. Cut products add their partial sums.
    """

    machine: Machine
    startup_s: float
    compute_efficiency: float
    tile_s: float
    """Of every tile, whatever its size (o0)."""
    tile_area_s: float
    """Of a tile of 256 x 128 (o1); less for smaller ones."""
    memory_efficiency: float
    slowdown: float
    """The power of GFLOP by which long products slow down (g)."""
    wave_blur: float
    """0: whole waves only; 1: fractions of a wave cost fractions."""
    ramp_bytes: float
    """Traffic that the memory needs to get going."""
    l2_share: float
    """Of L2, what still holds operands of the pass before."""
    sharpness: float
    feed_bytes_per_flop: float
    """Operand bytes that a unit is fed, in hundredths of a byte for a FLOP at peak."""
    split_s: float
    l2_speedup: float
    fit: Fit
    sources: tuple[str, ...] = ()
    residual: Residual | None = None
    form: Literal["tiles"] = "tiles"

    def seconds(self, op: Gemm) -> Array:
        """[...], the shape of the op's sizes."""
        return corrected(self, op)

    def features(self, op: Gemm, plain_s: Array) -> Array:
        """[..., 7]: what the residual goes by; `plain_s` is what the curve says without it."""
        arithmetic = np.asarray(op.flops) / self.machine.flops_per_s
        ideal = np.maximum(arithmetic, np.asarray(op.moved_bytes) / self.machine.bytes_per_s)
        return gemm_features(op, num_units=self.machine.num_units, waste=plain_s / ideal)

    def plain_seconds(self, op: Gemm) -> Array:
        """Without the residual."""
        m, n, k = (np.asarray(size, dtype=np.float64) for size in (op.m, op.n, op.k))
        slow = np.maximum(1.0, 2e-9 * m * n * k) ** self.slowdown
        memory = self._memory_s(op)
        tiles = np.ceil(m[..., None] / TILES[:, 0]) * np.ceil(n[..., None] / TILES[:, 1])
        best: Array | None = None
        for split in SPLITS:
            compute = self._compute_s(tiles * split, k[..., None] / split, DTYPE_BYTES[op.dtype])
            if split > 1:
                whole = (k[..., None] / split >= LEAST_SPLIT_LENGTH) & (
                    tiles * split <= MOST_SPLIT_WAVES * self.machine.num_units
                )
                compute = np.where(whole, compute, np.inf)
            took = self.startup_s + smooth_maximum(compute.min(axis=-1) * slow, memory, self.sharpness)
            if split > 1:  # partial sums in fp32, written and read
                took = took + self.split_s + 4 * split * m * n / self.machine.bytes_per_s
            best = took if best is None else np.minimum(best, took)
        assert best is not None
        return best

    def _compute_s(self, tiles: Array, length: Array, element_bytes: int) -> Array:
        """[..., tile shape]: all waves of each shape, were it chosen."""
        rows, columns = TILES.T
        unit = self.machine.flops_per_s / self.machine.num_units
        padded = np.ceil(length / K_STEP) * K_STEP
        arithmetic = 2 * rows * columns * padded / (self.compute_efficiency * unit)
        feed = element_bytes * (rows + columns) * padded / (0.01 * self.feed_bytes_per_flop * unit)
        tile = np.sqrt(np.sqrt(arithmetic**4 + feed**4)) + self.tile_s + self.tile_area_s * rows * columns / 32768
        waves = tiles / self.machine.num_units
        count = np.maximum(1.0, (1 - self.wave_blur) * np.ceil(waves) + self.wave_blur * waves)
        result: Array = count * tile
        return result

    def _memory_s(self, op: Gemm) -> Array:
        moved = np.asarray(op.moved_bytes, dtype=np.float64)
        missing = 1 / (1 + (self.l2_share * self.machine.l2_bytes / moved) ** 4)
        rate = self.memory_efficiency * self.machine.bytes_per_s
        result: Array = moved / rate * (missing + (1 - missing) / self.l2_speedup) * (1 + self.ramp_bytes / moved)
        return result


GemmCurve = Annotated[RooflineGemm | TileGemm, Field(discriminator="form")]


def smooth_maximum(one: Array, other: Array, sharpness: float) -> Array:
    """(x^p + y^p)^(1/p), without overflow."""
    slower, lesser = np.maximum(one, other), np.minimum(one, other)
    with np.errstate(invalid="ignore"):
        joined: Array = slower * (1 + (lesser / slower) ** sharpness) ** (1 / sharpness)
    return np.where(np.isinf(slower), np.inf, joined)


def corrected(curve: GemmCurve, op: Gemm) -> Array:
    """The curve with what near shapes left over."""
    plain = curve.plain_seconds(op)
    if curve.residual is None:
        return plain
    result: Array = plain * np.exp(curve.residual.log_correction(curve.features(op, plain)))
    return result


def gemm_features(op: Gemm, *, num_units: int, waste: Array) -> Array:
    """[..., 7]: log2 of m, n, k and m n; how full the last wave is; what n or k is a multiple of; log2 of the waste.

    `waste` is the plain curve over the bound of arithmetic and memory: shapes of one waste are short of the same thing.
    """
    m, n, k = np.broadcast_arrays(*(np.asarray(size, dtype=np.float64) for size in (op.m, op.n, op.k)))
    waves = np.ceil(m / USUAL_TILE[0]) * np.ceil(n / USUAL_TILE[1]) / num_units
    fill = 2 * waves / np.ceil(waves)
    aligned = 0.5 * np.log2(np.minimum(_power_of_two_in(n), _power_of_two_in(k)))
    return np.stack([np.log2(m), np.log2(n), np.log2(k), np.log2(m * n), fill, aligned, np.log2(waste)], axis=-1)


def _power_of_two_in(size: ArrayLike) -> Array:
    """The largest power of two that divides."""
    whole = np.asarray(size).astype(np.int64)
    return (whole & -whole).astype(np.float64)
