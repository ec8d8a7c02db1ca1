"""Arithmetic for a number and for an array of them, one for each configuration of a grid, alike.

Numbers stay Python's own, exact and quick; where one array takes part the result is an array. Both are written `int`
or `float`; `as_number` is the one place where an array becomes one to the type checker.
"""

import math
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", int, float)


def larger(a: Number, b: Number) -> Number:
    """The larger of both, point by point."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        found: Number = np.maximum(a, b)
        return found
    return max(a, b)


def lesser(a: Number, b: Number) -> Number:
    """The lesser of both, point by point."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        found: Number = np.minimum(a, b)
        return found
    return min(a, b)


def either(wanted: bool, one: Number, other: Number) -> Number:
    """`one` where it is wanted, else the other, point by point."""
    if isinstance(wanted, np.ndarray):
        found: Number = np.where(wanted, one, other)
        return found
    return one if wanted else other


def as_number(array: NDArray[np.int64]) -> int:
    """An array where a number is asked for, one of each point."""
    number: Any = array
    found: int = number
    return found


def add_up(values: Iterable[float]) -> float:
    """The sum, point by point; that of numbers alone is rounded once."""
    numbers, arrays = list[float](), list[float]()
    for value in values:
        (arrays if isinstance(value, np.ndarray) else numbers).append(value)
    total = math.fsum(numbers)
    if arrays:
        total = arrays[0] + total  # a new array, so that the others can be added in place
        for value in arrays[1:]:
            total += value
    return total


def any_of(flags: Iterable[bool]) -> bool:
    """Whether one of them holds, point by point."""
    return reduce(or_, flags, False)
