"""What a curve leaves over at the measured shapes, as a Gaussian process (scikit-learn)."""

import warnings
from typing import Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from tp.cost.curves.array import Array
from tp.cost.curves.residual import Residual

# Fewest rows by which shapes say something about their neighbours that the curve does not. A tile model knows most of
# it: with 40 rows its residual gained nothing, and its held-out error was told too small (A100, 3 draws).
LEAST_ROWS: Final = 30
LEAST_TILED_ROWS: Final = 100
# Up to so many rows a fold finds its own lengths; beyond, those of all rows are lent to it: the search takes the cube
# of the rows, and the more there are the less do lengths owe to those kept out.
MOST_OWN_ROWS: Final = 320
TINY: Final = 1e-9


def fit_residual(features: Array, log_left: Array, *, like: Residual | None) -> Residual:
    """A correction [row] over features [row, feature]; `like` lends its lengths, which takes most of the time to find.

    Amplitude, lengths and noise are those of the largest marginal likelihood (Rasmussen and Williams 2006, 5.4.1).
    """
    centre = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), TINY)
    scaled = (features - centre) / spread
    amplitude, lengths, noise = (
        _lent(like, spread) if like is not None and len(log_left) > MOST_OWN_ROWS else _learned(scaled, log_left)
    )
    at = scaled / lengths
    distance = np.sqrt(np.maximum(0.0, ((at[:, None, :] - at[None, :, :]) ** 2).sum(axis=2)))
    covariance = amplitude * np.exp(-distance) + noise * np.eye(len(at))
    weights = amplitude * np.linalg.solve(covariance, log_left)
    return Residual(
        centre=tuple(centre.tolist()),
        length=tuple((lengths * spread).tolist()),
        points=tuple(tuple(row) for row in at.tolist()),
        weights=tuple(weights.tolist()),
        amplitude=amplitude,
        noise=noise,
    )


def _lent(like: Residual, spread: Array) -> tuple[float, Array, float]:
    return like.amplitude, np.array(like.length) / spread, like.noise


def _learned(scaled: Array, log_left: Array) -> tuple[float, Array, float]:
    kernel: Kernel = ConstantKernel(3e-3, (1e-6, 10.0)) * Matern(
        np.ones(scaled.shape[1]), (0.05, 100.0), nu=0.5
    ) + WhiteKernel(1e-4, (1e-6, 1.0))
    with warnings.catch_warnings():
        # Lengths of features that say nothing run to their bound; that is the answer, not a failure.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianProcessRegressor(kernel).fit(scaled, log_left).kernel_
    return (
        float(fitted.k1.k1.constant_value),
        np.broadcast_to(np.asarray(fitted.k1.k2.length_scale, dtype=np.float64), scaled.shape[1]),
        float(fitted.k2.noise_level),
    )
