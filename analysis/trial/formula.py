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


def evaluate(formula: str, inputs: Inputs, *, where: str) -> float:
    """The value of `formula`, an arithmetic expression, with references among its inputs looked up.

    ConfigError, beginning with `where`, for a formula or reference that means nothing.
    """
    names: Mapping[str, float] = {
        name: quantity(value, where=where) if isinstance(value, str) else value for name, value in inputs.items()
    }
    try:
        value = simple_eval(formula, names=names, functions=FUNCTIONS)
    except (InvalidExpression, ArithmeticError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: formula {formula!r} has no value ({' '.join(str(error).split())})") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: formula {formula!r} is no number ({value!r})")
    return float(value)
