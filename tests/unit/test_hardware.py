"""Hardware descriptions: the catalogue is consistent, and a sparse or a two-way number cannot pass as another."""

from dataclasses import replace
from pathlib import Path

import pytest

from tp import catalogue
from tp.errors import ConfigError
from tp.hardware import ARITHMETIC_TOLERANCE, Link, Node, load_network, load_node
from tp.schema import load_json, to_json
from tp.units import DTYPES

pytestmark = pytest.mark.unit

NAMES = catalogue.names("hardware")

# Dense bf16 TFLOP/s, two-way link total in GB/s, default link: the figures of the data sheets.
PUBLISHED = {
    "a100-pcie-80gb": (312, 63, "pcie4"),
    "a100-sxm-80gb": (312, 600, "nvlink3"),
    "h100-pcie": (756.5, 126, "pcie5"),
    "h100-sxm": (989.4, 900, "nvlink4"),
    "h800-sxm": (989.4, 400, "nvlink4"),
    "gh200": (990, 900, "nvlink4"),
    "rtx-4090": (165.2, 63, "pcie4"),
    "l40s": (362.05, 63, "pcie4"),
    "h200-sxm": (989.4, 900, "nvlink4"),
    "b200-sxm": (2250, 1800, "nvlink5"),
    "rtx-pro-6000": (503.8, 126, "pcie5"),
    "a800-sxm": (312, 400, "nvlink3"),
    "h100-nvl": (835.5, 126, "pcie5"),
    "h20": (148, 900, "nvlink4"),
    "gb200": (2500, 1800, "nvlink5"),
    "mi300x": (1307.4, 896, "infinity-fabric"),
}

# Ampere's matrix units multiply nothing narrower than int8; Ada's (capability 8.9) were NVIDIA's next with fp8.
WITHOUT_FP8 = ("a100-pcie-80gb", "a100-sxm-80gb", "a800-sxm")

# Dense fp8 TFLOP/s, accumulating in fp32.
FP8 = {
    "h100-pcie": 1513,
    "h100-sxm": 1978.9,
    "h800-sxm": 1978.9,
    "gh200": 1979,
    "rtx-4090": 330.3,
    "l40s": 724.1,
    "h200-sxm": 1978.9,
    "b200-sxm": 4500,
    "rtx-pro-6000": 1007.6,
    "h100-nvl": 1670.5,
    "h20": 296,
    "gb200": 5000,
    "mi300x": 2614.9,
}

# One direction of x16, after 128b/130b coding.
PCIE_BYTES_PER_S = {"pcie4": 16 * 16e9 / 8 * 128 / 130, "pcie5": 16 * 32e9 / 8 * 128 / 130}

# One direction of one link.
NVLINK_BYTES_PER_S = {"nvlink3": 25e9, "nvlink4": 25e9, "nvlink5": 50e9}
INFINITY_FABRIC_BYTES_PER_S = 16 * 32e9 / 8

# Lanes of one port, and Gb/s of one of them.
NETWORKS = {
    "roce-100": (4, 25),
    "roce-200": (4, 50),
    "roce-400": (4, 100),
    "roce-800": (8, 100),
    "infiniband-100": (4, 25),
    "infiniband-200": (4, 50),
    "infiniband-400": (4, 100),
    "infiniband-800": (4, 200),
}
NETWORK_KINDS = {"roce": "ethernet", "infiniband": "infiniband"}


def edited(tmp_path: Path, old: str, new: str, *, name: str = "h100-sxm") -> str:
    """The path of a copy of a catalogue file in which the first `old` reads `new`."""
    text = catalogue.find(name, kind="hardware", flag="--hardware").read_text(encoding="utf-8")
    assert old in text, f"{name} has no {old!r} to edit"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(path)


def refusal(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_node(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_catalogue_loads(name: str) -> None:
    node = load_node(name)
    assert node.name == name
    assert node.device.date >= "2026-11-22"
    assert node.device.source
    assert all(peak.source for peak in node.device.peaks)
    assert all(link.source for link in node.links)


@pytest.mark.parametrize("name", NAMES)
def test_no_dense_peak_is_above_its_sparse_one(name: str) -> None:
    device = load_node(name).device
    for sparse in (peak for peak in device.peaks if peak.sparsity == "2:4"):
        dense = device.dense_peak(sparse.dtype)
        assert dense is not None
        assert dense.flops_per_s < sparse.flops_per_s <= 2.01 * dense.flops_per_s


@pytest.mark.parametrize("name", NAMES)
def test_every_dense_peak_of_a_gpu_follows_from_its_clock(name: str) -> None:
    device = load_node(name).device
    if device.kind != "gpu":
        pytest.skip("a CPU core's peaks are measured, not published")
    for dtype in DTYPES:
        peak = device.dense_peak(dtype)
        if dtype == "fp8" and name in WITHOUT_FP8:
            assert peak is None
            continue
        assert peak is not None
        assert peak.sparsity == "dense"
        if peak.clock_hz is not None and peak.flops_per_cycle_per_unit is not None:
            product = device.num_units * peak.clock_hz * peak.flops_per_cycle_per_unit
            assert peak.flops_per_s == pytest.approx(product, rel=ARITHMETIC_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_one_way_rates_are_one_way(name: str) -> None:
    for link in load_node(name).links:
        rate = link.one_way_bytes_per_s
        if rate is None or link.num_lanes is None:
            continue
        if link.kind == "pcie":
            assert rate == pytest.approx(PCIE_BYTES_PER_S[link.name], rel=0.01)
        if link.kind == "nvlink":
            generation = link.name.removesuffix("-bridge")
            assert rate == pytest.approx(link.num_lanes * NVLINK_BYTES_PER_S[generation], rel=0.01)
        if link.kind == "infinity-fabric":
            assert rate == pytest.approx(link.num_lanes * INFINITY_FABRIC_BYTES_PER_S)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name: str) -> None:
    bf16_tflops, two_way_gb_per_s, default_link = PUBLISHED[name]
    node = load_node(name)
    peak = node.device.dense_peak("bf16")
    assert peak is not None
    assert peak.flops_per_s == pytest.approx(bf16_tflops * 1e12)
    link = node.link()
    assert link.name == default_link
    assert link.one_way_bytes_per_s == pytest.approx(two_way_gb_per_s * 1e9 / 2)
    assert any(link.kind == "pcie" for link in node.links)


@pytest.mark.parametrize("name", NAMES)
def test_fp8_is_twice_as_fast_as_bf16_where_it_is_multiplied_at_all(name: str) -> None:
    device = load_node(name).device
    fp8, bf16 = device.dense_peak("fp8"), device.dense_peak("bf16")
    if name not in FP8:
        assert fp8 is None
        return
    assert fp8 is not None and bf16 is not None
    assert fp8.flops_per_s == pytest.approx(FP8[name] * 1e12)
    assert fp8.flops_per_s == pytest.approx(2 * bf16.flops_per_s, rel=1e-3)
    assert fp8.flops_per_cycle_per_unit == 2 * (bf16.flops_per_cycle_per_unit or 0)
    assert fp8.clock_hz == bf16.clock_hz


@pytest.mark.parametrize("name", ["gb200", "gh200", "h100-nvl"])
def test_doubtful_peaks_say_so(name: str) -> None:
    """Recalled ones, and those of which pages conflict."""
    peaks = load_node(name).device.peaks
    assert peaks
    assert all(peak.doubt for peak in peaks)


def test_where_two_figures_are_about_both_are_told() -> None:
    figures = {"gb200": "192 GB", "gh200": "144 GB", "h100-nvl": "350 W", "b200-sxm": "192 GB", "h20": "no NVIDIA"}
    for name, other in figures.items():
        assert other in load_node(name).device.source, name
    assert any("148" in (peak.doubt or "") for peak in load_node("gb200").device.peaks)


def test_a_mesh_says_what_one_peer_gets() -> None:
    link = load_node("mi300x").link()
    assert link.num_lanes == load_node("mi300x").num_devices - 1
    assert not link.reduces_in_switch
    assert "one peer" in (link.doubt or "")


def test_device_names_tell_the_files_apart() -> None:
    devices = [load_node(name).device.name for name in NAMES]
    assert len(devices) == len(set(devices))


def test_every_file_is_held_against_published_figures() -> None:
    assert set(PUBLISHED) == set(NAMES)
    assert set(FP8) == set(NAMES) - set(WITHOUT_FP8)
    assert set(NETWORKS) == set(catalogue.names("networks"))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_what_its_name_says(name: str) -> None:
    kind, gigabits = name.split("-")
    network = load_network(name)
    assert network.name == name
    assert network.kind == NETWORK_KINDS[kind]
    assert network.one_way_bytes_per_s == float(gigabits) * 1e9 / 8
    assert (network.num_lanes, network.lane_bytes_per_s) == (NETWORKS[name][0], NETWORKS[name][1] * 1e9 / 8)
    assert network.source
    assert "PCIe" in (network.doubt or "")


def test_nvml_names_tell_the_files_apart() -> None:
    names = [nvml for name in NAMES for nvml in load_node(name).device.nvml_names]
    assert len(names) == len(set(names))
    assert "NVIDIA H100 80GB HBM3" in load_node("h100-sxm").device.nvml_names


def test_a_bridge_between_two_cards_is_never_the_default() -> None:
    for name in NAMES:
        node = load_node(name)
        assert not node.link().name.endswith("-bridge")
        for link in node.links:
            assert not link.name.endswith("-bridge") or "two cards only" in (link.doubt or "")


def test_links_are_found_by_name() -> None:
    node = load_node("h100-sxm")
    assert node.link("pcie5") is node.links[1]
    with pytest.raises(ConfigError) as caught:
        node.link("nvlink3")
    assert str(caught.value) == "--link nvlink3: h100-sxm has none of that name; choose from nvlink4, pcie5"


def test_a_sparse_peak_is_never_the_dense_one() -> None:
    device = load_node("h100-sxm").device
    dense = device.dense_peak("bf16")
    assert dense is not None
    assert (dense.sparsity, dense.flops_per_s) == ("dense", 989.4e12)
    for peaks in (device.peaks, device.peaks[::-1]):
        assert replace(device, peaks=peaks).dense_peak("bf16") is dense
    only_sparse = replace(device, peaks=tuple(peak for peak in device.peaks if peak.sparsity == "2:4"))
    assert only_sparse.peaks
    assert only_sparse.dense_peak("bf16") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_node_survives_json(name: str, tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_text(to_json(load_node(name)), encoding="utf-8")
    assert load_json(path, Node) == load_node(name)


def test_a_sparse_peak_without_its_label_is_refused(tmp_path: Path) -> None:
    assert refusal(edited(tmp_path, "flops_per_s = 989.4e12", "flops_per_s = 1978.9e12")) == (
        "device: bf16 peak 1.98 PFLOP/s is 2 times 132 units x 1.83 GHz x 4096 FLOP a cycle; "
        "give the dense peak, or label it sparsity = '2:4'"
    )


def test_a_peak_without_a_label_is_refused(tmp_path: Path) -> None:
    message = refusal(edited(tmp_path, 'sparsity = "dense"\n', ""))
    assert message == "key 'device.peaks.0.sparsity' is missing; add it"


def test_a_link_without_a_direction_is_refused(tmp_path: Path) -> None:
    message = refusal(edited(tmp_path, 'direction = "one-way"\n', ""))
    assert message == "key 'links.0.direction' is missing; add it"


def test_a_two_way_total_given_as_one_way_is_refused(tmp_path: Path) -> None:
    assert refusal(edited(tmp_path, "bytes_per_s = 450e9", "bytes_per_s = 900e9")) == (
        "links.0: bytes_per_s is 2 times 18 lanes x 25.0 GB/s one-way; "
        "give the one-way rate, or label it direction = 'two-way'"
    )


def test_a_one_way_rate_labelled_two_way_is_refused(tmp_path: Path) -> None:
    message = refusal(edited(tmp_path, 'direction = "one-way"', 'direction = "two-way"'))
    assert message.startswith("links.0: bytes_per_s is 0.5 times 18 lanes x 25.0 GB/s one-way")


def test_a_labelled_two_way_total_is_halved(tmp_path: Path) -> None:
    one_way = 'bytes_per_s = 450e9\ndirection = "one-way"'
    node = load_node(edited(tmp_path, one_way, 'bytes_per_s = 900e9\ndirection = "two-way"'))
    assert node.link().one_way_bytes_per_s == 450e9


def test_an_unknown_rate_stays_unknown() -> None:
    link = Link(name="ethernet", kind="ethernet", bytes_per_s=None, direction="two-way", source="nobody says")
    assert link.one_way_bytes_per_s is None


POSITIVE = "it must be positive (leave it out where it is not known)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_units = 132", "num_unit = 132", "unknown key 'device.num_unit'; did you mean 'num_units'? (1 more)"),
        ("lane_bytes_per_s", "lanes_bytes_per_s", "unknown key 'links.0.lanes_bytes_per_s'; did you mean"),
        ("num_devices = 8\n", "", "key 'num_devices' is missing; add it"),
        ("num_units = 132\n", "", "key 'device.num_units' is missing; add it"),
        ("num_devices = 8", "num_devices = 0", f"num_devices is 0; {POSITIVE}"),
        ("num_units = 132", "num_units = 0", f"device: num_units is 0; {POSITIVE}"),
        ("num_units = 132", "num_units = 132.0", "device.num_units = 132.0: Input should be a valid integer"),
        ("num_units = 132", 'num_units = "132"', "device.num_units = '132': Input should be a valid integer"),
        ("memory_bytes = 80e9", "memory_bytes = -80e9", f"device: memory_bytes is -8e+10; {POSITIVE}"),
        ("memory_bytes = 80e9", "memory_bytes = nan", "device.memory_bytes = nan: Input should be a finite number"),
        ("memory_bytes = 80e9", "memory_bytes = inf", "device.memory_bytes = inf: Input should be a finite number"),
        ("power_limit_w = 700", "power_limit_w = 0", f"device: power_limit_w is 0; {POSITIVE}"),
        ("flops_per_s = 989.4e12", "flops_per_s = -1", f"device.peaks.0: flops_per_s is -1; {POSITIVE}"),
        ("clock_hz = 1.83e9", "clock_hz = 0", f"device.peaks.0: clock_hz is 0; {POSITIVE}"),
        (
            "clock_hz = 1.83e9\n",
            "",
            "device.peaks.0: flops_per_cycle_per_unit and clock_hz go together; give both or neither",
        ),
        ('sparsity = "dense"', 'sparsity = "4:8"', "device.peaks.0.sparsity = '4:8': Input should be 'dense' or '2:4'"),
        ('dtype = "fp16"', 'dtype = "bf16"', "device: two peaks for the same dtype and sparsity; keep one"),
        ("bytes_per_s = 450e9", "bytes_per_s = 0", f"links.0: bytes_per_s is 0; {POSITIVE}"),
        ("num_lanes = 18", "num_lanes = 0", f"links.0: num_lanes is 0; {POSITIVE}"),
        ("num_lanes = 18\n", "", "links.0: num_lanes and lane_bytes_per_s go together; give both or neither"),
        ('name = "pcie5"', 'name = "nvlink4"', "two links of the same name among nvlink4, nvlink4; rename one"),
    ],
)
def test_a_wrong_key_or_value_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert refusal(edited(tmp_path, old, new)).startswith(message)


def test_a_node_needs_a_link(tmp_path: Path) -> None:
    text = catalogue.find("rtx-4090", kind="hardware", flag="--hardware").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.partition("[[links]]")[0].replace("num_devices", "links = []\nnum_devices"), encoding="utf-8")
    assert refusal(str(path)) == "links is empty; add at least one [[links]] table"


def test_an_unknown_name_is_answered_with_the_catalogue() -> None:
    with pytest.raises(ConfigError) as caught:
        load_node("h100-smx")
    assert str(caught.value) == f"--hardware h100-smx: unknown; did you mean h100-sxm? Choose from {', '.join(NAMES)}"
    with pytest.raises(ConfigError) as caught:
        load_node("missing.toml")
    assert str(caught.value).startswith("--hardware missing.toml: no such file; give a TOML file or one of ")
