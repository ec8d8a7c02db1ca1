"""What a block would take on a machine that need not be here, part by part; and the article's arithmetic redone."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Final

import pandas as pd

from tp.cost.article import ArticlePair, article_degrees, as_multi_head, flops_per_byte, largest_degree
from tp.cost.theory import Estimate, Theory, estimate_plan
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import ModelShape
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """QKV FLOPs a byte of input at one head a rank."""

    tp: int
    multi_head: float
    """As the article has it: every head with its own keys and values."""
    grouped: float
    """With the model's own kv heads, each counted once."""
    needed_bytes_per_s: float
    """One-way bandwidth that keeps up with the article's A100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degree:
    """The largest degree of one GPU and link by the article's rule, with its numbers and with the right ones."""

    pair: ArticlePair
    rounded: float
    """From the article's rounded threshold, cut to one decimal: what it prints."""
    unrounded: float
    """From the article's own peak and link rate."""
    dense_flops_per_s: float
    one_way_bytes_per_s: float
    corrected: float
    """From the dense peak and the one-way rate."""


def article_ratio(model: ModelShape) -> Ratio:
    """The article's 384 FLOP a byte, from the plan of `columns` at one head a rank."""
    tp = model.num_heads
    multi_head = flops_per_byte(as_multi_head(model), tp)
    return Ratio(
        tp=tp,
        multi_head=multi_head,
        grouped=flops_per_byte(model, 1) / tp,
        needed_bytes_per_s=article_degrees().pairs[0].flops_per_s / multi_head,
    )


def article_table(model: ModelShape) -> list[Degree]:
    """The article's four pairs of GPU and link."""
    return [_degree(as_multi_head(model), pair) for pair in article_degrees().pairs]


def _degree(model: ModelShape, pair: ArticlePair) -> Degree:
    node = load_node(pair.hardware)
    peak, rate = node.device.dense_peak("bf16"), node.link(pair.link).one_way_bytes_per_s
    if peak is None or rate is None:
        raise ConfigError(f"{pair.hardware}: has no dense bf16 peak or no rate for {pair.link}; add them")
    by_threshold = largest_degree(model, flops_per_s=pair.threshold_flops_per_byte, bytes_per_s=1.0)
    return Degree(
        pair=pair,
        rounded=floor(by_threshold * 10) / 10,
        unrounded=largest_degree(model, flops_per_s=pair.flops_per_s, bytes_per_s=pair.link_two_way_bytes_per_s / 2),
        dense_flops_per_s=peak.flops_per_s,
        one_way_bytes_per_s=rate,
        corrected=largest_degree(model, flops_per_s=peak.flops_per_s, bytes_per_s=rate),
    )
