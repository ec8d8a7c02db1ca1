"""Parameters by least squares on logarithms: errors are relative, and one disturbed row does not bend a curve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import least_squares

from tp.cost.curves.array import Array

# Log residuals beyond this count linearly, not squared.
SOFT: Final = 0.1
# What a parameter that is one standard deviation off its prior costs, as a log residual of one row.
PRIOR_WEIGHT: Final = 0.1
STEP: Final = np.array(1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter with a prior: normal, or normal in its logarithm."""

    name: str
    deviation: float
    log: bool = True
    low: float = 0.0
    high: float = np.inf

    def value(self, centre: float, x: float) -> float:
        """The parameter `x` standard deviations off the centre of its prior."""
        return centre * float(np.exp(x * self.deviation)) if self.log else centre + x * self.deviation

    def deviations(self, centre: float, value: float) -> float:
        """The inverse of `value`."""
        return float(np.log(value / centre)) / self.deviation if self.log else (value - centre) / self.deviation

    def bounds(self, centre: float) -> tuple[float, float]:
        """In standard deviations; a little room, so that a start on a bound lies inside."""
        low = -np.inf if self.log and self.low == 0 else self.deviations(centre, self.low)
        high = np.inf if np.isinf(self.high) else self.deviations(centre, self.high)
        return max(low, -12.0) - 1e-6, min(high, 12.0) + 1e-6


def solve(
    predict: Callable[[dict[str, float]], Array],
    seconds: Array,
    parameters: Sequence[Parameter],
    centre: dict[str, float],
    starts: Sequence[dict[str, float]],
) -> dict[str, float]:
    """The parameters nearest to the rows and to their priors, from the best of several starts."""
    low, high = np.array([p.bounds(centre[p.name]) for p in parameters]).T

    def values(x: Array) -> dict[str, float]:
        inside = np.clip(x, low + 1e-6, high - 1e-6)
        return {p.name: p.value(centre[p.name], float(at)) for p, at in zip(parameters, inside, strict=True)}

    def residuals(x: Array) -> Array:
        errors = np.log(predict(values(x)) / seconds) / SOFT
        soft = np.sign(errors) * SOFT * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([soft, PRIOR_WEIGHT * x])

    solutions = []
    for start in starts:
        at = [p.deviations(centre[p.name], start[p.name]) for p in parameters]
        x0 = np.clip(at, low + 2e-6, high - 2e-6)
        solutions.append(least_squares(residuals, x0, bounds=(low, high), max_nfev=50, diff_step=STEP))
    return values(min(solutions, key=lambda solution: float(solution.cost)).x)
