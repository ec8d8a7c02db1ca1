"""The theory that measurements give: fitted curves, looked up by what an op is, and by where its times come from."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, TypeVar

from numpy.typing import ArrayLike
from pydantic import with_config

from tp.cost.collective import (
    NODES_LOG_ERROR_90,
    RankLaw,
    prior_log_error_90,
    prior_seconds,
    scaled_log_error_90,
    scaled_seconds,
)
from tp.cost.curves.array import Array
from tp.cost.curves.attention import AttentionCurve
from tp.cost.curves.gemm import GemmCurve
from tp.cost.curves.size import SizeCurve
from tp.cost.curves.trust import EXTRAPOLATION_WIDENING, Fit, interval
from tp.cost.networks import AtRate, at_other_rate, over_nodes
from tp.cost.overheads import NONE, Overheads
from tp.cost.priors import expected_contention, prior_attention, prior_decode, prior_elementwise, prior_gemm
from tp.cost.theory import OpEstimate, TheoryName
from tp.hardware import Device, Link
from tp.plan.ops import COLLECTIVE_KINDS, AttentionCore, Collective, Elementwise, Gemm, Op, bus_factor
from tp.schema import STRICT
from tp.units import DTYPE_BYTES

# 1: curves for gemm, attention, elementwise and collectives. 2: forms by name, bands instead of neighbours, curves of
# several sources.
CALIBRATION_VERSION: Final = 2
# The source whose curves price layers where there is one: its products ran as those of a layer do, one after another.
LAYERS: Final = "layers"
_COLLECTIVE_KEY: Final = re.compile(r"[a-z_]+/\d+(x\d+(@(?P<network>[^/@#]+))?)?/\w+")
# Log errors that stand between the rows of a curve and an op that is not of their sort, added to the curve's own.
# Rows of another source: 35 to 46 % of them were inside of intervals that held 90 % of their own source's; half-widths
# of 25 and 32 % would have held 90 % (A100 and H100, tables of aiconfigurator against Vidur's).
FOREIGN_LOG_ERROR: Final = 0.28
OTHER_DTYPE_LOG_ERROR: Final = 0.05
OTHER_LAYOUT_LOG_ERROR: Final = 0.20

OpKind = TypeVar("OpKind", Gemm, AttentionCore, Elementwise, Collective, contravariant=True)
C = TypeVar("C", GemmCurve, AttentionCurve, SizeCurve)


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Calibration:
    """Curves fitted to measurements of one machine.

    The keys are those of `curve_key`; after a '#' stands the source where it is not the main one.
    """

    schema_version: Literal[2]
    hardware: str
    created: str
    """ISO 8601."""
    sources: tuple[str, ...]
    """The files that were fitted."""
    gemm: dict[str, GemmCurve]
    attention: dict[str, AttentionCurve]
    elementwise: dict[str, SizeCurve]
    collectives: dict[str, SizeCurve]
    rank_laws: dict[str, RankLaw] = field(default_factory=dict)
    """By kind and dtype: what holds for rank counts that were not measured."""
    overheads: Overheads = NONE
    citations: dict[str, str] = field(default_factory=dict)
    """Where the sources that curves name were published."""
    networks: dict[str, float] = field(default_factory=dict)
    """One-way rate of a port, bytes a second, of the networks that collectives were measured over."""

    def __post_init__(self) -> None:
        for key in self.collectives:
            found = _COLLECTIVE_KEY.fullmatch(key.split("#")[0])
            if found is None:
                raise ValueError(f"collectives has {key!r}; a key is kind/ranks/dtype, such as all_reduce/8/bf16")
            if found["network"] and found["network"] not in self.networks:
                raise ValueError(
                    f"collectives has {key!r}, but networks does not say how fast that is; calibrate again"
                )


def curve_key(op: Op, *, network: str = "") -> str:
    """Which curve of its kind prices an op; collectives over several nodes have curves of their own, by network."""
    match op:
        case Gemm():
            return f"{op.dtype}/{op.layout}"
        case AttentionCore():
            forward = "forward" if op.causal else "decode"
            return f"{op.dtype}/{forward if op.direction == 'forward' else 'backward'}"
        case Elementwise():
            return f"{op.dtype}/{op.kind}"
        case Collective():
            nodes = f"x{op.num_nodes}" + (f"@{network}" if network else "") if op.num_nodes > 1 else ""
            return f"{op.kind}/{op.num_ranks}{nodes}/{op.dtype}"


def curve_sizes(op: Op) -> tuple[ArrayLike, ...]:
    """The sizes of an op whose range a fit remembers."""
    match op:
        case Gemm():
            return op.m, op.n, op.k
        case AttentionCore():
            return op.batch * op.num_heads, op.context, op.head_dim
        case Elementwise():
            return (op.moved_bytes,)
        case Collective():
            return (op.size_bytes,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedTheory:
    """Prices ops by a calibration, and by what is expected of the device where nothing of the kind was measured.

    Without either an op has no price.
    """

    calibration: Calibration
    device: Device | None = None
    """For priors; None: no price without a curve."""
    link: Link | None = None
    devices_per_node: int | None = None
    network: Link | None = None
    """One NIC, between nodes."""
    name: TheoryName = "calibrated"
    bounds: bool = False

    @property
    def overheads(self) -> Overheads:
        """Those of the calibration; the contention that is expected of a GPU where it knows none."""
        known = self.calibration.overheads
        if known.contention.rows or self.device is None:
            return known
        return replace(known, contention=expected_contention(self.device))

    def over(self, network: Link | None) -> "CalibratedTheory":
        """The theory of such machines joined by another network."""
        return replace(self, network=network)

    def price(self, op: Op, *, source: str | None = None) -> OpEstimate | None:
        """Of an op timed alone the curve of its `source`; of a plan's, that of layers where there is one."""
        match op:
            case Gemm():
                return _priced(find(self.calibration.gemm, op, source) or self._expected_gemm(op), op)
            case AttentionCore():
                return _priced(find(self.calibration.attention, op, source) or self._expected_core(op), op)
            case Elementwise():
                return _priced(find(self.calibration.elementwise, op, source) or self._expected_pass(), op)
            case Collective():
                name = "" if self.network is None else self.network.name
                found = find(self.calibration.collectives, op, source, network=name)
                if found is not None:
                    return _priced(found, op)
                return self._over_nodes(op, source) if op.num_nodes > 1 else self._other_ranks(op)

    def _expected_gemm(self, op: Gemm) -> tuple[GemmCurve, float] | None:
        curve = None if self.device is None else prior_gemm(self.device, op.dtype)
        return None if curve is None else (curve, 0.0)

    def _expected_core(self, op: AttentionCore) -> tuple[AttentionCurve, float] | None:
        if self.device is None:
            return None
        backward = op.direction == "backward"
        curve = prior_attention(self.device, op.dtype, backward=backward) if op.causal else prior_decode(self.device)
        return None if curve is None else (curve, 0.0)

    def _expected_pass(self) -> tuple[SizeCurve, float] | None:
        curve = None if self.device is None else prior_elementwise(self.device)
        return None if curve is None else (curve, 0.0)

    def _other_ranks(self, op: Collective) -> OpEstimate | None:
        """Of a rank count that was not measured: by the law of those that were, the nearest one, the data sheet."""
        link, law, measured = self._gpu_link(), self._law(op), self._measured_ranks(op)
        if link is None:
            return self._by_steps(op, measured) if measured else None
        nodes = 1 if self.devices_per_node is None else -(-op.num_ranks // self.devices_per_node)
        if nodes > 1 and self.network is not None:
            return self._over_nodes(replace(op, num_nodes=nodes), None)
        # Beyond a node whose network nobody described nothing of this holds but the order of magnitude.
        border = NODES_LOG_ERROR_90 if nodes > 1 else 0.0
        if law is not None:
            error = max(border, law.log_error_90(op.num_ranks, link))
            return interval(law.seconds(op.size_bytes, op.num_ranks), error, extrapolated=True)
        if not measured:
            seconds = prior_seconds(op.kind, op.size_bytes, op.num_ranks, link=link)
            return interval(seconds, max(border, prior_log_error_90(link)), extrapolated=True)
        nearest = min(measured, key=lambda n: abs(n - op.num_ranks))
        curve = measured[nearest]
        seconds = scaled_seconds(
            curve.seconds(op), op.kind, op.size_bytes, op.num_ranks, measured_ranks=nearest, link=link
        )
        error = max(border, scaled_log_error_90(link) + curve.fit.log_error_90)
        return interval(seconds, error, extrapolated=True)

    def _over_nodes(self, op: Collective, source: str | None) -> OpEstimate | None:
        """By networks of other rates that were measured, else stage by stage.

        Of a network that nobody described only what was measured over one as unknown.
        """
        known, network = self.calibration, self.network
        if network is None or network.one_way_bytes_per_s is None:
            return None
        rates = []
        for name, rate in known.networks.items():
            found = find(known.collectives, op, source, network=name)
            rates += [] if found is None else [AtRate(bytes_per_s=rate, curve=found[0], log_error=found[1])]
        if rates:
            return at_other_rate(op, network.one_way_bytes_per_s, rates)
        unnamed = find(known.collectives, op, source)
        if unnamed is not None:
            return _priced(unnamed, op)
        local = self._measured_ranks(replace(op, num_nodes=1)).get(op.num_ranks // op.num_nodes)
        return over_nodes(op, self._gpu_link(), network, local)

    def _gpu_link(self) -> Link | None:
        """The link, if NCCL's constants are of it, or expected to be like those of it, and its rate is known."""
        link = self.link
        # Infinity Fabric: RCCL is only expected to be like NCCL, so its interval is that of a border.
        kinds = ("nvlink", "infinity-fabric", "pcie")
        known = link is not None and link.one_way_bytes_per_s is not None and link.kind in kinds
        return link if known else None

    def _law(self, op: Collective) -> RankLaw | None:
        for key in (f"{op.kind}/{op.dtype}", *_sibling_dtypes(f"{op.kind}/{op.dtype}")):
            if key in self.calibration.rank_laws:
                return self.calibration.rank_laws[key]
        return None

    def _measured_ranks(self, op: Collective) -> dict[int, SizeCurve]:
        """The main curves of the collective by rank count."""
        counts = {int(key.split("/")[1]) for key in self.calibration.collectives if key.split("/")[1].isdigit()}
        found = {n: find(self.calibration.collectives, replace(op, num_ranks=n), None) for n in counts}
        return {n: curve[0] for n, curve in found.items() if curve is not None}

    def _by_steps(self, op: Collective, measured: Mapping[int, SizeCurve]) -> OpEstimate:
        """From the nearest measured rank count: latency by the number of steps, bytes by the bus factor."""
        nearest = min(measured, key=lambda n: abs(n - op.num_ranks))
        curve = measured[nearest]
        # A ring's step count; a send has one step whatever the number of ranks.
        steps = 1.0 if op.kind == "send_recv" else (op.num_ranks - 1) / (nearest - 1)
        share = bus_factor(op.kind, op.num_ranks) / bus_factor(op.kind, nearest)
        scaled = replace(
            curve,
            latency_s=(curve.latency_s[0] * steps, curve.latency_s[1] * steps),
            seconds_per_byte=(curve.seconds_per_byte[0] * share, curve.seconds_per_byte[1] * share),
        )
        error = EXTRAPOLATION_WIDENING * curve.fit.log_error_at(op.size_bytes)
        return interval(scaled.seconds(op), error, extrapolated=True)


class _Curve(Protocol[OpKind]):
    """What prices a kind of op."""

    @property
    def fit(self) -> Fit: ...

    def seconds(self, op: OpKind, /) -> Array: ...


def _priced(found: tuple[_Curve[OpKind], float] | None, op: OpKind) -> OpEstimate | None:
    """By a curve, and the log error that stands between its rows and the op."""
    if found is None:
        return None
    curve, distance = found
    return curve.fit.estimate(curve.seconds(op), curve_sizes(op), widening=distance)


def find(curves: Mapping[str, C], op: Op, source: str | None, *, network: str = "") -> tuple[C, float] | None:
    """The curve that prices an op, and the log error that stands between its rows and the op.

    Of a known source its own curve; else the layers' for ops of no source, then the main one; each also of a sibling
    dtype, and at last of another layout of products.
    """
    same, straight = _keys(curve_key(op, network=network))
    if source is not None:
        for at, (name, curve) in itertools.product(same, curves.items()):
            if name.split("#")[0] == at and source in curve.sources:
                return curve, 0.0 if at == same[0] else OTHER_DTYPE_LOG_ERROR
    order = ("#" + LAYERS, "") if source is None else ("", "#" + LAYERS)
    for distance, keys in ((0.0, same), (OTHER_LAYOUT_LOG_ERROR, straight)):
        for ending, at in itertools.product(order, keys):
            if at + ending in curves:
                curve = curves[at + ending]
                foreign = FOREIGN_LOG_ERROR if source and source not in curve.sources else 0.0
                return curve, max(distance, foreign, 0.0 if at == keys[0] else OTHER_DTYPE_LOG_ERROR)
    return None


def _keys(key: str) -> tuple[list[str], list[str]]:
    """Keys of curves that say as much of an op, and of those that say nearly as much; its own dtype first in both."""
    return [key, *_sibling_dtypes(key)], _straight(key)


def _sibling_dtypes(key: str) -> list[str]:
    """The key with the other dtypes of the same width, which memory and matrix units treat alike; links all of them."""
    words = key.split("/")
    if words[0] in COLLECTIVE_KINDS:
        return ["/".join([*words[:-1], dtype]) for dtype in DTYPE_BYTES if dtype != words[-1]]
    own = next((word for word in words if word in DTYPE_BYTES), None)
    return [
        "/".join(dtype if word == own else word for word in words)
        for dtype, size in DTYPE_BYTES.items()
        if own is not None and dtype != own and size == DTYPE_BYTES[own]
    ]


def _straight(key: str) -> list[str]:
    """Of a backward's product the forward's layout, in the same dtypes."""
    dtype, _, layout = key.partition("/")
    if layout not in ("nn", "tn"):
        return []
    forward = f"{dtype}/nt"
    return [forward, *_sibling_dtypes(forward)]
