"""What the ranks hold and send, predicted and observed: the rows of memory.csv, and the figures of a case by kind."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from analysis.frames.rows import Row, frame_of
from analysis.load import Case, Run
from bench.harness.record.records import Observation, Sent
from tp.plan.memory import HOLDING_KINDS, HoldingKind, held_bytes
from tp.plan.ops import COLLECTIVE_KINDS, Collective, planned_count

MEMORY_COLUMNS: Final = ("record", "case", "name", "kind", "bytes")
# What an observation counts; of the workspace it knows nothing but the peak, which holds it too.
OBSERVED_KINDS: Final[tuple[HoldingKind, ...]] = ("weights", "gradients", "saved", "kv_cache")
HOLDING_COLUMNS: Final = (
    *(f"{kind}_{side}_bytes" for kind in OBSERVED_KINDS for side in ("predicted", "observed")),
    "workspace_predicted_bytes",
    "peak_predicted_bytes",
    "peak_observed_bytes",
)
SENT_COLUMNS: Final = ("sent_bytes", "collectives_planned", "collectives_observed", "sent_as_planned")


def memory_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a (case, holding): the bytes that a rank was predicted to hold, tensor by tensor."""
    rows = [
        {"record": str(run.path), "case": case.planned.key, "name": each.name, "kind": each.kind, "bytes": each.bytes}
        for run in runs
        for case in run.cases
        for each in case.planned.memory
    ]
    return frame_of(rows, MEMORY_COLUMNS)


def holding_cells(case: Case) -> Row:
    """`HOLDING_COLUMNS` of a case; None where a record says nothing of it."""
    memory, seen = case.planned.memory, case.result.observed
    row: Row = dict.fromkeys(HOLDING_COLUMNS)
    if memory:
        row |= {f"{kind}_predicted_bytes": held_bytes(memory, kind) for kind in HOLDING_KINDS}
        row["peak_predicted_bytes"] = held_bytes(memory)
    if seen is not None:
        row |= {f"{kind}_observed_bytes": _observed(seen, kind) for kind in OBSERVED_KINDS}
        row["peak_observed_bytes"] = seen.peak_bytes
    return row


def _observed(seen: Observation, kind: HoldingKind) -> int:
    match kind:
        case "weights":
            return seen.weight_bytes
        case "gradients":
            return seen.gradient_bytes
        case "saved":
            return seen.saved_bytes
        case "kv_cache":
            return seen.kv_cache_bytes
        case _:
            raise AssertionError(f"nobody observes {kind}")


def sent_cells(case: Case) -> Row:
    """`SENT_COLUMNS` of a case: bytes that a rank sends by plan, and its collectives as planned and as dispatched.

    An emulated case sends nothing, so nothing is observed of it.
    """
    planned = _planned(case)
    seen = None if case.result.observed is None or case.planned.emulated else case.result.observed.sent
    return {
        "sent_bytes": sum(op.sent_bytes for op in case.planned.ops if isinstance(op, Collective)),
        "collectives_planned": _counts(planned),
        "collectives_observed": None if seen is None else _counts(seen),
        "sent_as_planned": None if seen is None else set(seen) == set(planned),
    }


def _planned(case: Case) -> list[Sent]:
    counted = planned_count(case.planned.ops)
    return [Sent(kind=kind, count=number, size_bytes=size) for kind, (number, size) in counted.items()]


def _counts(sent: Sequence[Sent]) -> str:
    """4 all_gather, 2 reduce_scatter; empty where nothing is sent."""
    ordered = sorted(sent, key=lambda each: COLLECTIVE_KINDS.index(each.kind))
    return ", ".join(f"{each.count} {each.kind}" for each in ordered)
