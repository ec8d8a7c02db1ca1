"""What records of layers show of the article's claims: what was sent, kept and checked, and how times compare.

Pairs are cases of one record that differ in the one thing compared. Of several pairs the median counts; its interval
holds the middle of all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from analysis.load import Case, Run
from analysis.trial.finding import Finding, exact
from tp.case import Case as PlannedCase
from tp.plan.ops import bus_factor

ATTENTION_PARTS: Final = ("qkv", "core", "out")
FFN_PARTS: Final = ("up", "activation", "down")


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A case of a record that ran."""

    case: Case
    planned: PlannedCase

    @cached_property
    def seconds(self) -> dict[str, float | None]:
        """By part and whole."""
        return {row.part: row.measured_s for row in self.case.rows}

    @property
    def sent_bytes(self) -> float | None:
        """What a ring sends from each rank for the collectives that torch dispatched in one pass."""
        observed = self.case.result.observed
        if observed is None:
            return None
        return sum(sent.size_bytes * bus_factor(sent.kind, self.planned.tp) for sent in observed.sent)


def oracle_agreement(runs: Sequence[Run]) -> Finding | None:
    """Split cases with heads whose tensors all agree with the undivided oracle, as a share of those checked."""
    cases = [case for run in runs for case in run.cases if case.planned.case.tp > 1]
    checked = [case for case in cases if case.planned.case.has_attention and case.result.checks]
    if not checked:
        return None
    passed = sum(all(check.passed for check in case.result.checks) for case in checked)
    return exact(passed / len(checked), f"{passed} of {len(checked)} split cases agree with the undivided layer")


def scaling_efficiency(runs: Sequence[Run]) -> Finding | None:
    """T(1) over n T(n), of the highest degree that was measured beside 1."""
    pairs = []
    for whole, split in _pairs(runs, lambda case: replace(case, tp=1, nodes=1), lambda case: case.tp > 1):
        one, many = whole.seconds["total"], split.seconds["total"]
        if one and many:
            pairs.append((split.planned.tp, one / (split.planned.tp * many)))
    if not pairs:
        return None
    most = max(tp for tp, _ in pairs)
    found = [efficiency for tp, efficiency in pairs if tp == most]
    return _middle(found, f"T(1) / (n T(n)) at n = {most}")


def gathered_size(runs: Sequence[Run]) -> Finding | None:
    """What `columns` gathers in an attention block over twice the size of X: Z of all heads, and the output."""
    found = []
    for layer in _layers(runs):
        case, observed = layer.planned, layer.case.result.observed
        if (case.block, case.strategy) != ("attention", "columns") or case.tp == 1 or observed is None:
            continue
        if case.workload.phase == "train":
            continue
        x_bytes = case.workload.tokens * case.model.hidden * case.workload.element_bytes
        found.append(sum(s.size_bytes for s in observed.sent if s.kind == "all_gather") / (2 * x_bytes))
    return _middle(found, "bytes of the all-gathers of Z and of the output, as dispatched, over 2 X")


def saved_activations(runs: Sequence[Run]) -> Finding | None:
    """What autograd kept on one rank over what it kept of n, in training under `sequence`."""
    found = []
    degrees = set()
    for whole, split in _pairs(runs, lambda case: replace(case, tp=1, nodes=1), _is_sequence_training):
        one, many = whole.case.result.observed, split.case.result.observed
        if one is not None and many is not None and many.saved_bytes:
            found.append(one.saved_bytes / many.saved_bytes)
            degrees.add(split.planned.tp)
    return _middle(found, f"saved bytes at tp 1 over those at tp {', '.join(map(str, sorted(degrees)))}")


def columns_over_allreduce(runs: Sequence[Run]) -> Finding | None:
    """What `columns` sends over what `allreduce` sends, as dispatched, of whole layers: attention alone sends alike."""
    pairs = _pairs(runs, lambda case: replace(case, strategy="allreduce"), _is_columns_layer)
    found = [columns.sent_bytes / rows.sent_bytes for rows, columns in pairs if columns.sent_bytes and rows.sent_bytes]
    return _middle(found, "whole layers, bytes that a ring sends for what was dispatched")


def ffn_over_attention(runs: Sequence[Run]) -> Finding | None:
    """Power of ten between the times of the FFN's and of attention's own ops in a layer, whose halves send alike."""
    found = []
    for layer in _layers(runs):
        case = layer.planned
        if case.block != "block" or case.tp == 1 or case.strategy == "columns" or case.workload.phase == "decode":
            continue
        attention, ffn = ([layer.seconds.get(part) for part in parts] for parts in (ATTENTION_PARTS, FFN_PARTS))
        if all(attention) and all(ffn):
            ratio = sum(s for s in ffn if s) / sum(s for s in attention if s)
            found.append(abs(float(np.log10(ratio))))
    return _middle(found, "log10 of the time of up, activation, down over that of qkv, core, out")


def _is_sequence_training(case: PlannedCase) -> bool:
    return case.strategy == "sequence" and case.tp > 1 and case.workload.phase == "train"


def _is_columns_layer(case: PlannedCase) -> bool:
    return case.strategy == "columns" and case.tp > 1 and case.block == "block"


def _layers(runs: Sequence[Run]) -> Iterator[_Layer]:
    """Cases that ran as they would: not failed, not emulated, a core for each rank."""
    for run in runs:
        for case in run.cases:
            emulated = case.planned.emulated or case.header.oversubscribed is not None
            if case.result.status == "ok" and not emulated:
                yield _Layer(case=case, planned=case.planned.case)


def _pairs(
    runs: Sequence[Run], other: Callable[[PlannedCase], PlannedCase], wanted: Callable[[PlannedCase], bool]
) -> Iterator[tuple[_Layer, _Layer]]:
    """Each wanted case of a record after its counterpart in the same record."""
    for run in runs:
        by_case = {layer.planned: layer for layer in _layers([run])}
        for case, layer in by_case.items():
            counterpart = by_case.get(other(case)) if wanted(case) else None
            if counterpart is not None:
                yield counterpart, layer


def _middle(values: Sequence[float], text: str) -> Finding | None:
    if not values:
        return None
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    cases = "case" if len(values) == 1 else "cases"
    return Finding(value=float(middle), low=float(low), high=float(high), text=f"{text}, {len(values)} {cases}")


LAYER_FINDINGS: Final[dict[str, Callable[[Sequence[Run]], Finding | None]]] = {
    function.__name__: function
    for function in (
        *(oracle_agreement, scaling_efficiency, gathered_size, saved_activations),
        *(columns_over_allreduce, ffn_over_attention),
    )
}
