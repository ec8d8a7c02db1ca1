"""Calibrations at hand: those that are shipped hold curves and no table, others are expected, files are checked."""

import json
from dataclasses import replace

import pytest

from tp import catalogue
from tp.case import Case, Workload
from tp.cost.calibrated import CalibratedTheory
from tp.cost.known import expected_calibration, known_calibration, shipped_calibration
from tp.cost.theory import estimate_plan
from tp.hardware import find_node, load_node
from tp.model import load_model
from tp.plan.build import build_plan

pytestmark = pytest.mark.unit

SHIPPED = sorted((catalogue.CONFIGS / "calibrations").glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_holds_curves_with_citations_and_no_rows(path) -> None:  # type: ignore[no-untyped-def]
    text = json.loads(path.read_text())
    node = load_node(path.stem)
    assert text["hardware"] == node.device.name
    calibration = shipped_calibration(node.device)
    assert calibration is not None
    curves = [*calibration.gemm.values(), *calibration.attention.values()]
    assert curves
    assert all(curve.residual is None for curve in curves)
    sized = [*calibration.elementwise.values(), *calibration.collectives.values()]
    assert all(curve.log_size == (0.0,) for curve in sized)
    assert {source for curve in (*curves, *sized) for source in curve.sources} == set(calibration.citations)
    assert all(citation.startswith("github:") for citation in calibration.citations.values())
    assert path.stat().st_size < 40_000


def layer_seconds(hardware: str, *, expected: bool = False, phase: str = "prefill", tp: int = 8) -> tuple[float, float]:
    node = load_node(hardware)
    known = expected_calibration(node.device) if expected else known_calibration("", node.device).calibration  # type: ignore[union-attr]
    theory = CalibratedTheory(calibration=known, device=node.device, link=node.link())
    seq = 1 if phase == "decode" else 4096
    workload = Workload(phase=phase, batch=1, seq=seq, context=4096, dtype="bf16")  # type: ignore[arg-type]
    case = Case(block="block", model=load_model("llama2-70b"), strategy="allreduce", tp=tp, workload=workload)
    total = estimate_plan(build_plan(case, backend="nccl"), theory).part("total")
    assert total.seconds is not None and total.low_s is not None and total.high_s is not None
    assert total.extrapolated or not expected
    return total.seconds, total.high_s / total.low_s


@pytest.mark.parametrize("phase", ["prefill", "train", "decode"])
@pytest.mark.parametrize(
    "hardware", [name for name in catalogue.names("hardware") if load_node(name).device.architecture]
)
def test_every_gpu_of_the_catalogue_has_an_estimate(hardware: str, phase: str) -> None:
    seconds, spread = layer_seconds(hardware, phase=phase)
    assert 1e-5 < seconds < 1.0
    assert spread > 1.2


@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "h100-sxm"])
def test_a_data_sheet_alone_comes_near_and_is_less_sure(hardware: str) -> None:
    shipped, narrow = layer_seconds(hardware)
    expected, wide = layer_seconds(hardware, expected=True)
    assert expected == pytest.approx(shipped, rel=0.2)
    assert wide > narrow


def test_an_h100_of_ours_as_the_shipped_calibration_has_it() -> None:
    """Measured on one H100 at its power limit (tests/records/h100-block.jsonl): 10.8 ms prefill, 33.6 ms training."""
    assert layer_seconds("h100-sxm", tp=1)[0] == pytest.approx(10.8e-3, rel=0.06)
    assert layer_seconds("h100-sxm", tp=1, phase="train")[0] == pytest.approx(33.6e-3, rel=0.06)


def test_a_cpu_is_expected_nothing_of() -> None:
    device = load_node("h100-sxm").device
    assert known_calibration("", replace(device, architecture=None, name="a CPU")) is None


def test_nodes_are_found_by_their_device() -> None:
    node = load_node("a100-sxm-80gb")
    assert find_node(node.device.name) == node
    assert find_node("no such device") is None
