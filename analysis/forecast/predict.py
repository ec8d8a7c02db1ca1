"""What a block would take on a machine that need not be here, part by part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from tp.cost.theory import Estimate, Theory, estimate_plan
from tp.plan.build import build_plan
from tp.plan.ops import Backend
from tp.suite import PlannedCase

PREDICTION_COLUMNS: Final = ("case", "part", "estimate_s", "low_s", "high_s", "extrapolated", "theory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A case and its estimate, or why it cannot run."""

    key: str
    skip: str | None
    estimate: Estimate | None


def predict(cases: Sequence[PlannedCase], theory: Theory, *, backend: Backend) -> list[Prediction]:
    """The estimate of every case."""
    return [
        Prediction(
            key=planned.case.key,
            skip=planned.skip,
            estimate=None if planned.skip else estimate_plan(build_plan(planned.case, backend=backend), theory),
        )
        for planned in cases
    ]


def prediction_table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row a (case, part) and whole; cases that cannot run are left out."""
    rows = [
        (p.key, part.part, part.seconds, part.low_s, part.high_s, part.extrapolated, p.estimate.theory)
        for p in predictions
        if p.estimate is not None
        for part in p.estimate.parts
    ]
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
