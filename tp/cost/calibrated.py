"""The theory that measurements give: fitted curves, looked up by what an op is, and by where its times come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, TypeVar

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
from tp.cost.lookup import curve_sizes, find, sibling_dtypes
from tp.cost.networks import AtRate, at_other_rate, over_nodes, sustained
from tp.cost.overheads import NONE, Overheads
from tp.cost.priors import expected_contention, prior_attention, prior_decode, prior_elementwise, prior_gemm
from tp.cost.theory import OpEstimate, TheoryName
from tp.hardware import Device, Link
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm, Op, bus_factor
from tp.schema import STRICT

# 1: curves for gemm, attention, elementwise and collectives. 2: forms by name, bands instead of neighbours, curves of
# several sources.
CALIBRATION_VERSION: Final = 2
_COLLECTIVE_KEY: Final = re.compile(r"[a-z_]+/\d+(x\d+(@(?P<network>[^/@#]+))?)?/\w+")

OpKind = TypeVar("OpKind", Gemm, AttentionCore, Elementwise, Collective, contravariant=True)


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
                return sustained(op, self._collective(op, source), self.network)

    def _collective(self, op: Collective, source: str | None) -> OpEstimate | None:
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
        for key in (f"{op.kind}/{op.dtype}", *sibling_dtypes(f"{op.kind}/{op.dtype}")):
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
