"""What ranks hold and send stands in the tables as the record has it, predicted beside observed."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.frames.holdings import MEMORY_COLUMNS, memory_frame
from analysis.frames.parts import parts_frame
from analysis.frames.scaling import scaling_frame
from analysis.frames.strategies import strategies_frame
from analysis.load import Run
from analysis.show.memory import predicted_and_measured
from analysis.show.table import NOTHING
from bench.harness.record.records import Sent
from tests.unit.record_factory import header, observation, planned, result, write_run
from tp.plan.ops import Collective

pytestmark = pytest.mark.unit


def only_row(run: Run) -> pd.Series:
    parts = parts_frame([run])
    frame = strategies_frame([run], parts, scaling_frame(parts))
    assert len(frame) == 1
    return frame.iloc[0]


def test_memory_is_a_row_a_holding(tmp_path: Path) -> None:
    plans = [planned(phase="train", block="block"), planned(phase="decode")]
    # A case that failed was planned all the same.
    run = write_run(tmp_path / "m.jsonl", header(), *plans, result(plans[0]), result(plans[1], status="failed"))
    frame = memory_frame([run])
    assert tuple(frame.columns) == MEMORY_COLUMNS
    assert len(frame) == sum(len(plan.memory) for plan in plans)
    first = frame[frame["case"] == plans[0].key]
    assert list(zip(first["name"], first["kind"], first["bytes"], strict=True)) == [
        (each.name, each.kind, each.bytes) for each in plans[0].memory
    ]
    # QKV of 8 heads of 8 over 64 columns, halved, in fp32.
    weights = first[(first["name"] == "attention.qkv") & (first["kind"] == "weights")]
    assert weights["bytes"].tolist() == [3 * 64 * 64 // 2 * 4]


def test_predicted_and_observed_bytes_are_those_of_the_record(tmp_path: Path) -> None:
    plan = planned(phase="train", block="block", strategy="sequence")
    observed = observation(plan, saved_bytes=4321, peak_bytes=987654)
    row = only_row(write_run(tmp_path / "o.jsonl", header(), plan, result(plan, observed=observed)))
    by_kind = {kind: sum(h.bytes for h in plan.memory if h.kind == kind) for kind in ("weights", "saved", "gradients")}
    assert by_kind["weights"] > 0 and by_kind["saved"] > 4321
    assert row["weights_predicted_bytes"] == row["weights_observed_bytes"] == by_kind["weights"]
    assert row["gradients_predicted_bytes"] == row["gradients_observed_bytes"] == by_kind["gradients"]
    assert (row["saved_predicted_bytes"], row["saved_observed_bytes"]) == (by_kind["saved"], 4321)
    assert row["kv_cache_predicted_bytes"] == row["kv_cache_observed_bytes"] == 0
    assert row["peak_predicted_bytes"] == sum(each.bytes for each in plan.memory)
    assert row["peak_observed_bytes"] == 987654
    assert row["attention_kernel"] == "flash (CPU)"


def test_sent_is_planned_and_counted(tmp_path: Path) -> None:
    plan = planned(phase="train", block="block", strategy="sequence")
    collectives = [op for op in plan.ops if isinstance(op, Collective)]
    row = only_row(write_run(tmp_path / "s.jsonl", header(), plan, result(plan, observed=observation(plan))))
    # Over gloo a reduce-scatter of 2 ranks sends its whole size, an all-gather half of it.
    expected = sum(op.size_bytes * (0.5 if op.kind == "all_gather" else 1.0) for op in collectives)
    assert row["sent_bytes"] == expected > 0
    assert row["collectives_planned"] == row["collectives_observed"] == "6 all_gather, 4 reduce_scatter"
    assert bool(row["sent_as_planned"])


@pytest.mark.parametrize("sent", [(), (Sent(kind="all_reduce", count=1, size_bytes=4095),)])
def test_what_is_sent_otherwise_than_planned_is_told(tmp_path: Path, sent: tuple[Sent, ...]) -> None:
    plan = planned()
    row = only_row(write_run(tmp_path / "s.jsonl", header(), plan, result(plan, observed=observation(plan, sent=sent))))
    assert row["collectives_planned"] == "1 all_reduce" and not row["sent_as_planned"]


def test_a_record_of_version_1_knows_neither(tmp_path: Path) -> None:
    plan = replace(planned(), memory=())
    row = only_row(write_run(tmp_path / "1.jsonl", header(), plan, result(plan)))
    assert pd.isna(row["weights_predicted_bytes"]) and pd.isna(row["weights_observed_bytes"])
    assert row["collectives_observed"] is None and row["collectives_planned"] == "1 all_reduce"


@pytest.mark.parametrize(
    ("predicted", "measured", "words"),
    [
        (1_000_000, 1_000_000, "1.00 MB, as predicted"),
        (1_000_000, 1_000_001, "1.00 MB / 1.00 MB (+1 B)"),
        (1_000_001, 1_000_000, "1.00 MB / 1.00 MB (-1 B)"),
        (1_000_000, 1_500_000, "1.00 MB / 1.50 MB"),
        (1_000_000, pd.NA, f"1.00 MB / {NOTHING}"),
        (pd.NA, 1_000_000, f"{NOTHING} / 1.00 MB"),
        (0, 512, "0 B / 512 B"),
        (0, 0, NOTHING),
        (0, pd.NA, NOTHING),
        (pd.NA, pd.NA, NOTHING),
    ],
)
def test_as_predicted_is_said_only_of_the_same_byte(predicted: object, measured: object, words: str) -> None:
    assert predicted_and_measured(predicted, measured) == words
