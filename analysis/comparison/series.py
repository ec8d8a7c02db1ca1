"""The times of a record as rows that two records may share: a case's parts and wholes, an op alone and in a pass.

An iteration's time is that of `bench/harness/record/parts.py`: the slowest rank, of a collective the transfer.
"""

from dataclasses import fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.measured.op import is_of, part_times
from bench.harness.machine.judge import MarkKind
from bench.harness.record.parts import THROTTLING, WHOLES, joined_rings, transfer_or_all
from bench.harness.record.records import BlockMark, CaseResult, OpResult
from tp.plan.ops import Collective, Op

Times = NDArray[np.float64]
DISTURBING: Final[frozenset[MarkKind]] = frozenset(("steal", "others"))
ALONE: Final = "alone"
IN_PASS: Final = "in a pass"


def case_series(result: CaseResult) -> dict[str, Times]:
    """[round] seconds of every part and whole of a case, parts first."""
    by_task = {sample.task: sample for sample in result.samples}
    rows: dict[str, Times] = {}
    for times in joined_rings(by_task["parts"].parts if "parts" in by_task else ()):
        rows[times.part] = rows.get(times.part, 0.0) + transfer_or_all(times, result.grouping)
    rows = {part: by_rank.max(axis=1) for part, by_rank in rows.items()}
    wholes = {
        name: np.array(by_task[task].times_s).max(axis=1)
        for name, task in WHOLES.items()
        # Of a case that sends nothing some records hold an empty variant.
        if task in by_task and np.any(by_task[task].times_s)
    }
    return rows | wholes


def op_series(result: OpResult) -> dict[str, Times]:
    """[iteration] seconds of an op alone and, where it was timed so, in a pass after a product."""
    rows = {ALONE: np.array(result.samples.times_s).max(axis=1)}
    if result.in_pass is not None:
        mine = [part for part in result.in_pass.parts if is_of(result.op, part)]
        rows[IN_PASS] = sum((part_times(result, part) for part in mine), start=np.zeros(1))
    return rows


def op_name(op: Op) -> str:
    """An op in one line, the same for the same work: gemm qkv forward nt 64 1280 2048 fp32."""
    values = [op.op, *(getattr(op, each.name) for each in fields(op) if each.name not in ("op", "needs", "num_nodes"))]
    nodes = f" over {op.num_nodes} nodes" if isinstance(op, Collective) and op.num_nodes > 1 else ""
    return " ".join(str(value) for value in values) + nodes


def throttled_share(marks: tuple[BlockMark, ...], rounds: int) -> float:
    """The share of rounds in which a rank's device was held back; a GPU at its power limit is in its normal state."""
    slow = _marked(marks, frozenset(("clock",)), rounds) & ~_marked(marks, frozenset(("power",)), rounds)
    return float((slow | _marked(marks, THROTTLING, rounds)).mean()) if rounds else 0.0


def disturbed_rounds(marks: tuple[BlockMark, ...], rounds: int) -> NDArray[np.bool_]:
    """[round] whether the hypervisor or other processes took a part of the processors."""
    return _marked(marks, DISTURBING, rounds)


def _marked(marks: tuple[BlockMark, ...], kinds: frozenset[MarkKind], rounds: int) -> NDArray[np.bool_]:
    found = np.zeros(rounds, dtype=np.bool_)
    for mark in marks:
        if mark.kind in kinds:
            found[max(mark.first_round, 0) : max(mark.first_round + mark.num_rounds, 0)] = True
    return found
