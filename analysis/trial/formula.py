"""A claim's formula over its inputs."""

import math
from collections.abc import Mapping
from typing import Final

from simpleeval import InvalidExpression, simple_eval

from analysis.trial.quantities import quantity
from tp.claim import Inputs
from tp.errors import ConfigError

FUNCTIONS: Final = {
    "abs": abs,
    "floor": math.floor,
    "log2": math.log2,
    "log10": math.log10,
    "max": max,
    "min": min,
}


def numbers(inputs: Inputs, *, where: str) -> dict[str, float]:
    """The inputs with references looked up; ConfigError, beginning with `where`, for one that means nothing."""
    return {name: quantity(value, where=where) if isinstance(value, str) else value for name, value in inputs.items()}


def evaluate(formula: str, inputs: Mapping[str, float], *, where: str) -> float:
    """The value of `formula`, an arithmetic expression; ConfigError, beginning with `where`, where it has none."""
    try:
        value = simple_eval(formula, names=inputs, functions=FUNCTIONS)
    except (InvalidExpression, ArithmeticError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: formula {formula!r} has no value ({' '.join(str(error).split())})") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: formula {formula!r} is no number ({value!r})")
    return float(value)
