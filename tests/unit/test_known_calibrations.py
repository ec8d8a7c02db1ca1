"""Calibrations at hand: those that are shipped hold curves and no table, others are expected, files are checked."""

import json
from dataclasses import replace

import pytest

from tp import catalogue
from tp.case import Case, Workload
from tp.cost.calibrated import CalibratedTheory
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import Fit
from tp.cost.known import expected_calibration, known_calibration, open_calibration, shipped_calibration
from tp.cost.theory import estimate_plan
from tp.errors import ConfigError
from tp.hardware import find_node, load_node
from tp.model import load_model
from tp.plan.build import build_plan
from tp.plan.ops import Collective

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
    given = known_calibration("", node, node.link())
    assert given is not None
    known = expected_calibration(node.device) if expected else given.calibration
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
    node = load_node("h100-sxm")
    cpu = replace(node, device=replace(node.device, architecture=None, name="a CPU"))
    assert known_calibration("", cpu, cpu.link()) is None


def test_over_another_link_no_curve_of_collectives_holds() -> None:
    node = load_node("h100-sxm")
    found = {link.name: known_calibration("", node, link) for link in node.links}
    assert set(found) == {"nvlink4", "pcie5"}
    curves = {name: known.calibration for name, known in found.items() if known is not None}
    assert curves["nvlink4"].collectives and curves["nvlink4"].rank_laws
    assert not curves["pcie5"].collectives and not curves["pcie5"].rank_laws
    assert curves["pcie5"].gemm == curves["nvlink4"].gemm


def test_nodes_are_found_by_their_device() -> None:
    node = load_node("a100-sxm-80gb")
    assert find_node(node.device.name) == node
    assert find_node("no such device") is None


def test_beyond_a_node_only_the_order_of_magnitude_holds() -> None:
    node = load_node("h100-sxm")
    calibration = shipped_calibration(node.device)
    assert calibration is not None
    theory = CalibratedTheory(calibration=calibration, device=node.device, link=node.link(), devices_per_node=8)
    sent = Collective(
        kind="all_reduce", direction="forward", num_ranks=8, size_bytes=1 << 26, dtype="bf16", backend="nccl"
    )

    def spread(ranks: int) -> float:
        price = theory.price(replace(sent, num_ranks=ranks))
        assert price is not None
        return price.high_s / price.low_s

    assert spread(8) < spread(6) < 2 < 20 < spread(16)


def test_an_unmeasured_rank_count_is_no_surer_than_its_neighbour() -> None:
    bands = Fit(
        rows=9,
        held_out_mape_percent=1.0,
        held_out_median_percent=1.0,
        log_error_90=0.3,
        low=(1024.0,),
        high=(2.0**25,),
        band_edges=(2e5, 8e6),
        band_log_errors=(0.6, 0.3, 0.1),
    )
    curve = SizeCurve(
        latency_s=(1e-4, 2e-4), seconds_per_byte=(1e-8, 1e-9), log_size=(0.0,), log_correction=(0.0,), fit=bands
    )
    empty = expected_calibration(load_node("h100-sxm").device)
    theory = CalibratedTheory(calibration=replace(empty, collectives={"all_reduce/2/fp32": curve}))
    sent = Collective(
        kind="all_reduce", direction="forward", num_ranks=2, size_bytes=4096, dtype="fp32", backend="gloo"
    )
    measured, elsewhere = theory.price(sent), theory.price(replace(sent, num_ranks=4))
    assert measured is not None and elsewhere is not None
    assert elsewhere.extrapolated and not measured.extrapolated
    assert elsewhere.high_s / elsewhere.seconds > measured.high_s / measured.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text["overheads"].update(launch_s={"norm": 1e-3}), "a key is phase/direction/part"),
        (lambda text: text["collectives"].update(foo=next(iter(text["collectives"].values()))), "kind/ranks/dtype"),
        (lambda text: text["gemm"]["bf16/nt"]["fit"].update(band_log_errors=[0.1]), "range or bands"),
        (lambda text: text["collectives"]["all_reduce/8/bf16"].update(log_size=[]), "sizes and corrections"),
        (lambda text: text["gemm"]["bf16/nt"].update(form="waves"), "form"),
        (lambda text: text.update(schema_version=1), "schema_version = 1"),
    ],
)
def test_a_damaged_calibration_is_one_line(change, message: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = json.loads(next(path for path in SHIPPED if path.stem == "h100-sxm").read_text())
    change(text)
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match=message) as caught:
        open_calibration(path)
    assert "\n" not in str(caught.value)
