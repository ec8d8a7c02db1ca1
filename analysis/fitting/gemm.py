"""Curves of matrix products: candidates by form, and those of another source than the main one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from analysis.fitting.candidates import Candidate
from analysis.fitting.least_squares import Parameter, solve
from analysis.fitting.residual import LEAST_ROWS, LEAST_TILED_ROWS, fit_residual
from analysis.fitting.rows import Rows
from analysis.fitting.validate import NO_FIT
from tp.cost.curves.gemm import GemmCurve, RooflineGemm, TileGemm
from tp.plan.ops import Gemm

# Standard deviations of the priors; a tile model of a new machine starts from its class.
TILE: Final = (
    Parameter(name="startup_s", deviation=1.0),
    Parameter(name="compute_efficiency", deviation=0.15),
    Parameter(name="tile_s", deviation=1.0),
    Parameter(name="tile_area_s", deviation=1.0),
    Parameter(name="memory_efficiency", deviation=0.15),
    Parameter(name="slowdown", deviation=0.03, log=False, high=0.3),
    Parameter(name="wave_blur", deviation=0.5, log=False, high=1.0),
    Parameter(name="ramp_bytes", deviation=1.5),
    Parameter(name="l2_share", deviation=1.0),
    Parameter(name="sharpness", deviation=0.4),
    Parameter(name="feed_bytes_per_flop", deviation=0.5),
    Parameter(name="split_s", deviation=0.7),
    Parameter(name="l2_speedup", deviation=0.5),
)
ROOFLINE: Final = (
    Parameter(name="startup_s", deviation=2.0),
    Parameter(name="flops_per_s", deviation=2.0),
    Parameter(name="bytes_per_s", deviation=2.0),
    Parameter(name="sharpness", deviation=1.0, low=1.0, high=8.0),
)
# What another source on the same kind of machine differs in: its clocks first; its kernels where rows can tell.
REFIT: Final = ("compute_efficiency", "slowdown")
REFIT_OF_MANY: Final = (*REFIT, "wave_blur", "tile_area_s")
MANY: Final = 40
# Whole waves are those of one library's kernels; of another's, nothing is known but that it may hide them. Vidur's A100
# rows from 20 of them, 15 draws: 6.1 % with 0.6, 7.5 % with the 0 of the table that the main curve is fitted to.
OTHER_WAVE_BLUR: Final = 0.6
# Machines that show whole waves, and those that hide them.
WAVE_STARTS: Final = (0.05, 0.85)


def gemm_candidates(prior: TileGemm | None, *, residuals: bool = True) -> list[Candidate[Gemm, GemmCurve]]:
    """Forms to choose among by held-out error: tiles where the machine's class is known, else a roofline."""

    def tiles(rows: Rows[Gemm], like: GemmCurve | None) -> GemmCurve:
        assert prior is not None
        start = _tile_values(like) if isinstance(like, TileGemm) else None
        starts = [start] if start else [_tile_values(prior) | {"wave_blur": blur} for blur in WAVE_STARTS]
        return _fit_tiles(rows, prior, TILE, starts)

    if not residuals:
        return [roofline if prior is None else tiles]
    # A roofline over few rows may be better off without.
    return [roofline, _with_residual(roofline)] if prior is None else [_with_residual(tiles)]


def refit_candidates(base: TileGemm, num_rows: int) -> list[Candidate[Gemm, GemmCurve]]:
    """The curve of another source: the base's with few parameters fitted anew."""
    bare = replace(base, residual=None, wave_blur=max(base.wave_blur, OTHER_WAVE_BLUR))

    def refit(names: Sequence[str]) -> Candidate[Gemm, GemmCurve]:
        parameters = [each for each in TILE if each.name in names]
        return lambda rows, like: _fit_tiles(rows, bare, parameters, [_tile_values(bare)])

    return [refit(REFIT)] if num_rows < MANY else [refit(REFIT), refit(REFIT_OF_MANY)]


def roofline(rows: Rows[Gemm], like: GemmCurve | None) -> GemmCurve:
    """Start-up, arithmetic rate, memory rate and sharpness."""
    flops, moved = np.asarray(rows.op.flops), np.asarray(rows.op.moved_bytes)
    centre = {
        "startup_s": float(rows.seconds.min() / 2),
        "flops_per_s": float(np.max(flops / rows.seconds)),
        "bytes_per_s": float(2 * np.max(moved / rows.seconds)),
        "sharpness": 2.0,
    }

    def curve(values: dict[str, float]) -> RooflineGemm:
        return RooflineGemm(**values, fit=NO_FIT)  # type: ignore[arg-type]

    return curve(solve(lambda values: curve(values).seconds(rows.op), rows.seconds, ROOFLINE, centre, [centre]))


def _fit_tiles(
    rows: Rows[Gemm], prior: TileGemm, parameters: Sequence[Parameter], starts: Sequence[dict[str, float]]
) -> TileGemm:
    values = solve(
        lambda values: replace(prior, **values).plain_seconds(rows.op),  # type: ignore[arg-type]
        rows.seconds,
        parameters,
        _tile_values(prior),
        starts,
    )
    return replace(prior, **values, fit=NO_FIT)  # type: ignore[arg-type]


def _tile_values(curve: TileGemm) -> dict[str, float]:
    return {each.name: getattr(curve, each.name) for each in TILE}


def _with_residual(
    form: Callable[[Rows[Gemm], GemmCurve | None], GemmCurve],
) -> Candidate[Gemm, GemmCurve]:
    def fit(rows: Rows[Gemm], like: GemmCurve | None) -> GemmCurve:
        curve = form(rows, like)
        if len(rows) < (LEAST_TILED_ROWS if isinstance(curve, TileGemm) else LEAST_ROWS):
            return curve
        plain = curve.plain_seconds(rows.op)
        left = np.log(rows.seconds / plain)
        lengths = None if like is None else like.residual
        return replace(curve, residual=fit_residual(curve.features(rows.op, plain), left, like=lengths))

    return fit
