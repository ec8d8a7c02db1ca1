"""The project's estimate of the same layers beside what a trace shows.

A step has more than its layers: embedding, loss and optimizer in training, embedding and the output layer else. The
estimate leaves these out, so that of compute it should be the lower.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from analysis.forecast.predict import predict
from analysis.profiler.steps import StepTimes
from tp.case import Phase
from tp.cost.theory import Estimate, PartEstimate, Theory
from tp.errors import ConfigError
from tp.plan.ops import COLLECTIVE_KINDS, Backend
from tp.suite import PlannedCase

Quantity = Literal["compute", "communication", "exposed"]
BESIDE_LAYERS: Final[dict[Phase, str]] = {
    "train": "embedding, output layer, loss, optimizer and gradient sums over data-parallel ranks",
    "prefill": "embedding, output layer and sampling",
    "decode": "embedding, output layer and sampling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One quantity of a step, measured and estimated, in seconds."""

    quantity: Quantity
    measured_s: float
    estimate_s: float | None
    """None where the theory has nothing to say."""
    low_s: float | None
    high_s: float | None
    """Of the 90 % interval; the point itself of a theory without one."""

    @property
    def predicted_over_measured(self) -> float | None:
        """None where one of them is unknown or none."""
        return self.estimate_s / self.measured_s if self.estimate_s is not None and self.measured_s else None


def compare(
    steps: Sequence[StepTimes], case: PlannedCase, theory: Theory, *, backend: Backend, num_layers: int
) -> list[Compared]:
    """Compute, communication and what is exposed of it in a step of so many layers; ConfigError for a case without."""
    (prediction,) = predict([case], theory, backend=backend)
    if prediction.estimate is None:
        raise ConfigError(f"{prediction.key}: cannot run, {prediction.skip}; give the sizes of the traced run")
    measured = measured_quantities(steps)
    return [
        Compared(
            quantity=quantity,
            measured_s=measured[quantity],
            estimate_s=_times(part.seconds, num_layers),
            low_s=_times(part.low_s, num_layers),
            high_s=_times(part.high_s, num_layers),
        )
        for quantity, part in _estimated(prediction.estimate)
    ]


def _estimated(estimate: Estimate) -> Iterable[tuple[Quantity, PartEstimate]]:
    yield "compute", estimate.part("compute")
    yield "communication", estimate.part("communication")
    # A collective's part is the time that compute stands still for it.
    parts = [part for part in estimate.parts if part.part in COLLECTIVE_KINDS]
    yield (
        "exposed",
        PartEstimate(
            part="communication",
            seconds=_total([part.seconds for part in parts]),
            low_s=_total([part.low_s for part in parts]),
            high_s=_total([part.high_s for part in parts]),
            extrapolated=any(part.extrapolated for part in parts),
        ),
    )


def measured_quantities(steps: Sequence[StepTimes]) -> dict[Quantity, float]:
    """Seconds a step, the median over steps.

    Compute of the rank that computes longest; communication and what is exposed of it on the rank with the least, whose
    collectives hold the least waiting for others.
    """
    by_step = defaultdict[int | None, list[StepTimes]](list)
    for each in steps:
        by_step[each.step].append(each)
    found = by_step.values()
    return {
        "compute": median(max(each.split.compute_ns for each in ranks) for ranks in found) / 1e9,
        "communication": median(min(each.split.communication_ns for each in ranks) for ranks in found) / 1e9,
        "exposed": median(min(each.split.exposed_ns for each in ranks) for ranks in found) / 1e9,
    }


def _times(value_s: float | None, num_layers: int) -> float | None:
    return None if value_s is None else value_s * num_layers


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
