"""Choosing among forms: the one that is least far off on rows kept out of its fit."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

from analysis.fitting.rows import O, Rows
from analysis.fitting.validate import held_out
from tp.cost.curves.array import Array

C = TypeVar("C")

Candidate = Callable[[Rows[O], C | None], C]
"""Fits rows; for a fold it is given the curve of all rows, to start from."""

# A form with more freedom must win by this much: among few rows the least error is partly luck.
MARGIN: Final = 0.98


def choose(
    rows: Rows[O], candidates: Sequence[Callable[[Rows[O], C | None], C]], predict: Callable[[C, Rows[O]], Array]
) -> tuple[C, Array]:
    """The curve of all rows with the least mean held-out error, simplest first, and its held-out log errors [row]."""
    best: tuple[C, Array] | None = None
    for fit in candidates:
        curve = fit(rows, None)
        errors = held_out(rows, fit, curve, predict)
        if best is None or np.mean(np.abs(errors)) < MARGIN * np.mean(np.abs(best[1])):
            best = curve, errors
    assert best is not None
    return best
