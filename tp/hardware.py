"""Hardware as its makers describe it: devices, the links between them, and the node that holds them.

A number says what it is: a peak is `dense` or `2:4` sparse, a rate `one-way` or `two-way`. Estimates use
dense peaks and one-way rates only, and a number that contradicts its own arithmetic (units x clock x FLOPs a
cycle; lanes x rate of a lane) is refused, since it is then most likely a sparse or a two-way one.
"""

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import with_config

from tp import catalogue
from tp.errors import ConfigError
from tp.schema import STRICT, Name
from tp.units import Dtype, format_flops_rate, format_rate

# Published peaks are rounded; their arithmetic agrees with them within this.
ARITHMETIC_TOLERANCE: Final = 0.05

Sparsity = Literal["dense", "2:4"]
Direction = Literal["one-way", "two-way"]
DeviceKind = Literal["gpu", "cpu-core"]
LinkKind = Literal["nvlink", "infinity-fabric", "pcie", "host-memory", "ethernet", "infiniband"]
Architecture = Literal["ampere", "ada", "hopper", "blackwell", "blackwell-rtx", "cdna3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The highest rate of multiply-adds in one dtype, accumulating in fp32."""

    dtype: Dtype
    flops_per_s: float
    """A multiply-add is two."""
    sparsity: Sparsity
    """`dense`, or `2:4` for a rate that only structured-sparse operands reach; never used in an estimate."""
    source: str
    flops_per_cycle_per_unit: float | None = None
    """With `clock_hz`, the arithmetic that the rate is held against."""
    clock_hz: float | None = None
    doubt: str | None = None
    """Why the number is not certain, if it is not."""

    def __post_init__(self) -> None:
        for field in ("flops_per_s", "flops_per_cycle_per_unit", "clock_hz"):
            _require_positive(field, getattr(self, field))
        if (self.flops_per_cycle_per_unit is None) != (self.clock_hz is None):
            raise ValueError("flops_per_cycle_per_unit and clock_hz go together; give both or neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, or one core of a CPU."""

    name: Name
    vendor: str
    kind: DeviceKind
    num_units: int
    """Streaming multiprocessors of a GPU; 1 for a CPU core."""
    memory_bytes: float | None
    memory_bytes_per_s: float | None
    """Bandwidth of the device's memory; absent where nobody states it."""
    peaks: tuple[Peak, ...]
    source: str
    """Where the memory figures and the unit count come from."""
    date: str
    """When the sources were last looked at, ISO 8601."""
    l2_bytes: float | None = None
    power_limit_w: float | None = None
    nvml_names: tuple[str, ...] = ()
    """What NVML calls it; `--hardware auto` matches these."""
    architecture: Architecture | None = None
    """Of a GPU: which measured one it resembles where it was not measured itself."""

    def __post_init__(self) -> None:
        _require_positive("num_units", self.num_units)
        for field in ("memory_bytes", "memory_bytes_per_s", "l2_bytes", "power_limit_w"):
            _require_positive(field, getattr(self, field))
        labels = [(peak.dtype, peak.sparsity) for peak in self.peaks]
        if len(set(labels)) < len(labels):
            raise ValueError("two peaks for the same dtype and sparsity; keep one")
        for peak in self.peaks:
            _check_peak(peak, self.num_units)

    def dense_peak(self, dtype: Dtype) -> Peak | None:
        """The dense peak in `dtype`, or None where no source states one."""
        return next((p for p in self.peaks if p.dtype == dtype and p.sparsity == "dense"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Link:
    """What joins the devices of a node, per device; or nodes, per port of a network adapter (NIC)."""

    name: Name
    kind: LinkKind
    bytes_per_s: float | None
    """Line rate of one device's connection; absent where nobody states it."""
    direction: Direction
    source: str
    num_lanes: int | None = None
    """NVLink links or PCIe lanes of one device."""
    reduces_in_switch: bool = False
    """Whether a switch between the devices adds up what they send (NVLink SHARP, from NVLink 4 on)."""
    lane_bytes_per_s: float | None = None
    """One-way line rate of one of them; with `num_lanes`, the arithmetic that the rate is held against."""
    ports_per_node: int | None = None
    """Of a network: ports that a node has; absent where each device has one."""
    burst_bytes: float | None = None
    """Of a shaped network: what a port sends at once after a pause, before its rate holds."""
    doubt: str | None = None

    def __post_init__(self) -> None:
        for field in ("bytes_per_s", "num_lanes", "lane_bytes_per_s", "ports_per_node", "burst_bytes"):
            _require_positive(field, getattr(self, field))
        if (self.num_lanes is None) != (self.lane_bytes_per_s is None):
            raise ValueError("num_lanes and lane_bytes_per_s go together; give both or neither")
        one_way = self.one_way_bytes_per_s
        if one_way is None or self.num_lanes is None or self.lane_bytes_per_s is None:
            return
        expected = self.num_lanes * self.lane_bytes_per_s
        if not _agree(one_way, expected):
            raise ValueError(
                f"bytes_per_s is {one_way / expected:.3g} times {self.num_lanes} lanes x "
                f"{format_rate(self.lane_bytes_per_s)} one-way; give the one-way rate, or label it "
                f"direction = 'two-way'"
            )

    @property
    def one_way_bytes_per_s(self) -> float | None:
        """The rate in one direction, which a ring's sends are held against."""
        if self.bytes_per_s is None:
            return None
        return self.bytes_per_s / 2 if self.direction == "two-way" else self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Node:
    """One machine: equal devices and the links between them; the first, by default, is the fastest that joins all."""

    name: Name
    num_devices: int
    device: Device
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        _require_positive("num_devices", self.num_devices)
        if not self.links:
            raise ValueError("links is empty; add at least one [[links]] table")
        names = [link.name for link in self.links]
        if len(set(names)) < len(names):
            raise ValueError(f"two links of the same name among {', '.join(names)}; rename one")

    def num_nodes(self, num_ranks: int) -> int:
        """How many of such nodes so many ranks fill; those of a CPU share its cores instead."""
        return 1 if self.device.kind == "cpu-core" else -(-num_ranks // self.num_devices)

    def link(self, name: str | None = None) -> Link:
        """The link called `name`, by default the first; ConfigError when there is none of that name."""
        if name is None:
            return self.links[0]
        for link in self.links:
            if link.name == name:
                return link
        known = ", ".join(link.name for link in self.links)
        raise ConfigError(f"--link {name}: {self.name} has none of that name; choose from {known}")


def load_node(name: str) -> Node:
    """The node `name` of the catalogue, or described by the TOML file of that path."""
    return catalogue.load(name, Node, kind="hardware", flag="--hardware")


def load_network(name: str) -> Link:
    """One port of the network `name` of the catalogue, or described by the TOML file of that path."""
    network = catalogue.load(name, Link, kind="networks", flag="--network")
    if network.kind not in ("ethernet", "infiniband") or network.bytes_per_s is None:
        raise ConfigError(f"--network {name}: is no network with a rate; give ethernet or infiniband and bytes_per_s")
    return network


def find_node(device: str) -> Node | None:
    """The node of the catalogue whose device has this name, as calibrations and records state it."""
    nodes = (load_node(name) for name in catalogue.names("hardware"))
    return next((node for node in nodes if node.device.name == device), None)


def _require_positive(field: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{field} is {value:g}; it must be positive (leave it out where it is not known)")


def _agree(stated: float, expected: float) -> bool:
    return abs(stated / expected - 1) <= ARITHMETIC_TOLERANCE


def _check_peak(peak: Peak, num_units: int) -> None:
    if peak.sparsity != "dense" or peak.flops_per_cycle_per_unit is None or peak.clock_hz is None:
        return
    expected = num_units * peak.clock_hz * peak.flops_per_cycle_per_unit
    if not _agree(peak.flops_per_s, expected):
        raise ValueError(
            f"{peak.dtype} peak {format_flops_rate(peak.flops_per_s)} is {peak.flops_per_s / expected:.3g} times "
            f"{num_units} units x {peak.clock_hz / 1e9:g} GHz x {peak.flops_per_cycle_per_unit:g} FLOP a cycle; "
            f"give the dense peak, or label it sparsity = '2:4'"
        )
