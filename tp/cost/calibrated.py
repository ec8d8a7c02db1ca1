"""The theory that a machine's own measurements give: fitted curves, looked up by what an op is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import with_config

from tp import schema
from tp.cost.curves import AttentionCurve, GemmCurve, SizeCurve
from tp.cost.theory import OpEstimate, TheoryName
from tp.errors import ConfigError
from tp.plan.ops import AttentionCore, Collective, CollectiveKind, Elementwise, Gemm, Op, bus_factor
from tp.schema import STRICT
from tp.units import Dtype

# 1: curves for gemm, attention, elementwise and collectives.
CALIBRATION_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Calibration:
    """Curves fitted to measurements of one machine; the keys are those of `curve_key`."""

    schema_version: Literal[1]
    hardware: str
    created: str
    """ISO 8601."""
    sources: tuple[str, ...]
    """The files that were fitted, or their citations."""
    gemm: dict[str, GemmCurve]
    attention: dict[str, AttentionCurve]
    elementwise: dict[str, SizeCurve]
    collectives: dict[str, SizeCurve]


def curve_key(op: Op) -> str:
    """Which curve of its kind prices an op."""
    match op:
        case Gemm():
            return f"{op.dtype}/{op.layout}"
        case AttentionCore():
            return f"{op.dtype}/{'decode' if op.seq == 1 else op.direction}"
        case Elementwise():
            return f"{op.dtype}/{op.kind}"
        case Collective():
            return _collective_key(op.kind, op.num_ranks, op.dtype)


def curve_sizes(op: Op) -> tuple[float, ...]:
    """The sizes of an op whose range a fit remembers."""
    match op:
        case Gemm():
            return op.m, op.n, op.k
        case AttentionCore():
            return op.batch * op.num_heads, op.context, op.head_dim
        case Elementwise():
            return (op.moved_bytes,)
        case Collective():
            return (op.size_bytes,)


def _collective_key(kind: CollectiveKind, num_ranks: int, dtype: Dtype) -> str:
    return f"{kind}/{num_ranks}/{dtype}"


def load_calibration(path: Path, *, device: str) -> Calibration:
    """Read the calibration of `device`; ConfigError when the file is none, or that of another device."""
    if not path.is_file():
        raise ConfigError(f"--calibration {path}: no such file; make one with 'python -m analysis calibrate'")
    calibration = schema.load_json(path, Calibration)
    if calibration.hardware != device:
        raise ConfigError(
            f"--calibration {path}: is of {calibration.hardware}, not of {device}; calibrate that, or name --hardware"
        )
    return calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedTheory:
    """Prices ops by a calibration; an op of a kind or dtype that was not measured has no price."""

    calibration: Calibration
    name: TheoryName = "calibrated"
    bounds: bool = False

    def price(self, op: Op) -> OpEstimate | None:
        key, sizes = curve_key(op), curve_sizes(op)
        match op:
            case Gemm():
                gemm = self.calibration.gemm.get(key)
                if gemm is None:
                    return None
                return gemm.fit.estimate(float(gemm.seconds(op.flops, op.moved_bytes)), sizes)
            case AttentionCore():
                attention = self.calibration.attention.get(key)
                if attention is None:
                    return None
                return attention.fit.estimate(float(attention.seconds(op.flops, op.moved_bytes)), sizes)
            case Elementwise():
                elementwise = self.calibration.elementwise.get(key)
                if elementwise is None:
                    return None
                return elementwise.fit.estimate(float(elementwise.seconds(op.moved_bytes)), sizes)
            case Collective():
                curve = self.calibration.collectives.get(key)
                if curve is None:
                    return self._other_rank_count(op)
                return curve.fit.estimate(float(curve.seconds(op.size_bytes)), sizes)

    def _other_rank_count(self, op: Collective) -> OpEstimate | None:
        """From the nearest measured rank count: latency by the number of steps, bytes by the bus factor."""
        measured = []
        for key in self.calibration.collectives:
            kind, num_ranks, dtype = key.split("/")
            if kind == op.kind and dtype == op.dtype:
                measured.append(int(num_ranks))
        if not measured:
            return None
        nearest = min(measured, key=lambda n: abs(n - op.num_ranks))
        curve = self.calibration.collectives[_collective_key(op.kind, nearest, op.dtype)]
        # A ring's step count; a send has one step whatever the number of ranks.
        steps = 1.0 if op.kind == "send_recv" else (op.num_ranks - 1) / (nearest - 1)
        share = bus_factor(op.kind, op.num_ranks) / bus_factor(op.kind, nearest)
        scaled = replace(
            curve,
            latency_s=(curve.latency_s[0] * steps, curve.latency_s[1] * steps),
            seconds_per_byte=(curve.seconds_per_byte[0] * share, curve.seconds_per_byte[1] * share),
        )
        # A rank count that was not measured is outside of every range.
        return curve.fit.estimate(float(scaled.seconds(op.size_bytes)), (float("inf"),))
