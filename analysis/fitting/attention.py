"""Curves of attention cores: a sum for every kind, tiles for causal ones on GPUs, and what is left between the rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from analysis.fitting.candidates import Candidate
from analysis.fitting.least_squares import Parameter, solve
from analysis.fitting.residual import LEAST_ROWS, fit_residual
from analysis.fitting.rows import Rows
from analysis.fitting.validate import NO_FIT
from tp.cost.curves.attention import AttentionCurve, SumAttention, TileAttention, attention_features
from tp.plan.ops import AttentionCore

TILE: Final = (
    Parameter(name="startup_s", deviation=1.0),
    Parameter(name="compute_efficiency", deviation=0.3),
    Parameter(name="diagonal_tokens", deviation=0.7),
    Parameter(name="query_passes", deviation=0.7),
    Parameter(name="key_passes", deviation=0.7),
    Parameter(name="tail", deviation=1.0),
    Parameter(name="slowdown", deviation=0.03, log=False, high=0.3),
)
SUM: Final = (
    Parameter(name="startup_s", deviation=2.0),
    Parameter(name="seconds_per_flop", deviation=2.0),
    Parameter(name="seconds_per_byte", deviation=2.0),
)
# A rate this slow a unit is nothing.
TINY: Final = 1e-18


def attention_candidates(
    prior: TileAttention | None, *, residuals: bool = True
) -> list[Candidate[AttentionCore, AttentionCurve]]:
    """Forms to choose among by held-out error; `prior` where the machine's tiles are known and the core is causal."""
    if prior is None:
        return [plain_sum, _with_residual(plain_sum)] if residuals else [plain_sum]

    def tiles(rows: Rows[AttentionCore], like: AttentionCurve | None) -> AttentionCurve:
        return _fit_tiles(rows, prior, like)

    # Held out on an H100, 10 draws of 108 rows: tiles 3.5 %, with the residual 2.4; the sum 4.9 and 2.7.
    return [_with_residual(tiles)] if residuals else [tiles]


def plain_sum(rows: Rows[AttentionCore], like: AttentionCurve | None) -> AttentionCurve:
    """Start-up, seconds a FLOP and seconds a byte."""
    flops, moved = np.asarray(rows.op.flops), np.asarray(rows.op.moved_bytes)
    centre = {
        "startup_s": float(rows.seconds.min() / 2),
        "seconds_per_flop": float(np.min(rows.seconds / flops) / 2) if flops.all() else TINY,
        "seconds_per_byte": float(np.min(rows.seconds / moved) / 2),
    }

    def curve(values: dict[str, float]) -> SumAttention:
        return SumAttention(**values, fit=NO_FIT)  # type: ignore[arg-type]

    return curve(solve(lambda values: curve(values).seconds(rows.op), rows.seconds, SUM, centre, [centre]))


def _fit_tiles(rows: Rows[AttentionCore], prior: TileAttention, like: AttentionCurve | None) -> TileAttention:
    start = like if isinstance(like, TileAttention) else prior
    values = solve(
        lambda values: replace(prior, **values).seconds(rows.op),  # type: ignore[arg-type]
        rows.seconds,
        TILE,
        {each.name: getattr(prior, each.name) for each in TILE},
        [{each.name: getattr(start, each.name) for each in TILE}],
    )
    return replace(prior, **values, fit=NO_FIT)  # type: ignore[arg-type]


def _with_residual(
    form: Callable[[Rows[AttentionCore], AttentionCurve | None], AttentionCurve],
) -> Candidate[AttentionCore, AttentionCurve]:
    def fit(rows: Rows[AttentionCore], like: AttentionCurve | None) -> AttentionCurve:
        curve = form(rows, like)
        if len(rows) < LEAST_ROWS:
            return curve
        left = np.log(rows.seconds / curve.seconds(rows.op))
        lengths = None if like is None else like.residual
        return replace(curve, residual=fit_residual(attention_features(rows.op), left, like=lengths))

    return fit
