"""What an H100 SXM showed (torch 2.11, one layer of Llama-2-70B, one GPU): `tests/records`, written by bench/block.py.

Left out of the files are paths and the card's serial number; everything measured is as it came.
"""

from pathlib import Path

import numpy as np
import pytest

from analysis.frames.parts import parts_frame
from analysis.frames.state import state_frame
from analysis.load import load_run
from bench.harness.record.interference import slowest
from bench.harness.record.parts import marked_rounds, num_rounds
from tests.conftest import ROOT
from tp.plan.memory import held_bytes

pytestmark = pytest.mark.unit

RECORDS = ROOT / "tests" / "records"


@pytest.fixture(scope="module", params=["h100-block", "h100-graph"])
def run(request):
    return load_run(RECORDS / f"{request.param}.jsonl")


def test_they_read_whole(run):
    assert run.problems == ()
    assert run.unfinished == ()
    assert {case.result.status for case in run.cases} == {"ok"}
    assert run.ends[-1].status == "done"
    assert run.headers[0].hardware.device.name.startswith("NVIDIA H100")


def test_large_products_run_at_the_power_limit_and_stay_comparable(run):
    for case in run.cases:
        marked = marked_rounds(case.result)
        bound_by_memory = case.planned.case.workload.phase == "decode"
        assert (len(marked.get("power", ())) == num_rounds(case.result)) != bound_by_memory
        assert set(marked) <= {"power", "clock"}
    assert parts_frame([run])["comparable"].all()


def test_planned_memory_is_what_cuda_s_allocator_saw(run):
    for case in run.cases:
        assert case.result.observed is not None
        peak, planned = case.result.observed.peak_bytes, held_bytes(case.planned.memory)
        if case.planned.case.workload.phase == "train":
            assert planned / 1.6 < peak <= planned
        else:
            assert peak == planned


def test_the_state_was_read_on_the_card(run):
    state = state_frame([run])
    assert (state["power_limit_rise_s"] <= 1.05 * state["lasted_s"]).all()
    assert (state["sm_clock_min_mhz"] < 1800).any()
    readings = [reading for line in run.telemetry for moment in line.moments for reading in moment.ranks]
    assert all(300 <= reading.values["sm_clock_mhz"] <= 1980 for reading in readings)
    assert all(reading.values["power_w"] < 750 for reading in readings)
    # This machine had one GPU and no NVLink, which is unread and not zero.
    assert all("nvlink_sent_bytes" in reading.unread for reading in readings)


def test_a_replayed_decode_saves_launches():
    def decode(name: str) -> float:
        cases = load_run(RECORDS / f"{name}.jsonl").cases
        (case,) = [c for c in cases if c.planned.case.workload.phase == "decode" and "/allreduce/" in c.result.key]
        return slowest(next(s for s in case.result.samples if s.task == "full")).median_s

    assert 0.95 < decode("h100-graph") / decode("h100-block") < 1.0


def test_no_time_is_under_what_the_card_can_do(run: object):
    """The datasheet bounds arithmetic: less would have timed launches and not work."""
    for case in run.cases:
        bounds = {e.theory: e for e in case.planned.estimates}["datasheet"]
        total = next(part.seconds for part in bounds.parts if part.part == "total")
        full = next(s for s in case.result.samples if s.task == "full")
        assert np.array(full.times_s).min() >= total


def test_the_files_name_no_path():
    for path in RECORDS.glob("*.jsonl"):
        text = Path(path).read_text()
        assert "/root" not in text
        assert "/home" not in text
