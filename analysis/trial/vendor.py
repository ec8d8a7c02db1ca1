"""What vendors claim of a machine: every peak and rate of its description, which holds qualifiers and source.

And claims planted beside them that are known to be false: a trial that does not refute those tells nothing.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tp.claim import Claim, Ledger, Qualifier
from tp.hardware import DeviceKind, Link, Node, Peak

# How much too high what is planted is: of GPUs as much as a sparse rate passed for a dense one, or a two-way for a
# one-way one. Of a CPU a nominal clock is known, or an idle one, which turbo beats several times.
PLANTED_FACTOR: Final[dict[DeviceKind, float]] = {"gpu": 2.0, "cpu-core": 10.0}


def vendor_ledger(node: Node) -> Ledger:
    """The vendor's claims of a machine: peaks, memory, links."""
    return Ledger(origin="vendor", source=node.device.source, claims=tuple(_claims(node)))


def network_ledger(network: Link) -> Ledger:
    """The claim of one port of a network."""
    return Ledger(origin="vendor", source=network.source, claims=(_link_claim(network, network.name, port=True),))


def planted_ledger(node: Node) -> Ledger:
    """Every rate of the machine that a bench can measure, times `PLANTED_FACTOR`."""
    measurable = [claim for claim in _claims(node) if claim.measured is not None]
    return Ledger(origin="planted", source="this project", claims=tuple(_planted(claim, node) for claim in measurable))


def _claims(node: Node) -> Iterator[Claim]:
    for peak in node.device.peaks:
        yield _peak_claim(peak, node)
    if node.device.memory_bytes_per_s is not None:
        yield Claim(
            name=f"{node.name} memory",
            subject=node.device.name,
            statement="Memory bandwidth",
            printed="",
            stated=node.device.memory_bytes_per_s,
            unit="B/s",
            formula="rate",
            inputs={"rate": node.device.memory_bytes_per_s},
            measured="memory_bytes_per_s",
            hardware=node.name,
            qualifiers=("per device", "peak"),
        )
    for link in node.links:
        if link.bytes_per_s is not None:
            yield _link_claim(link, f"{node.name} {link.name}", node=node)


def _peak_claim(peak: Peak, node: Node) -> Claim:
    is_dense = peak.sparsity == "dense"
    has_arithmetic = peak.flops_per_cycle_per_unit is not None and peak.clock_hz is not None
    inputs: dict[str, float | str] = {"rate": peak.flops_per_s}
    if peak.flops_per_cycle_per_unit is not None and peak.clock_hz is not None:
        inputs = {
            "units": float(node.device.num_units),
            "clock": peak.clock_hz,
            "flops_per_cycle": peak.flops_per_cycle_per_unit,
        }
    return Claim(
        name=f"{node.name} {peak.dtype} {peak.sparsity}",
        subject=node.device.name,
        statement=f"Peak of matrix products in {peak.dtype}, {peak.sparsity}",
        printed="",
        stated=peak.flops_per_s,
        unit="FLOP/s",
        formula="units * clock * flops_per_cycle" if has_arithmetic else "rate",
        inputs=inputs,
        measured=f"flops_per_s {peak.dtype}" if is_dense else None,
        hardware=node.name,
        qualifiers=(peak.sparsity, "per device", "peak"),
        doubt=peak.doubt,
        untestable=None if is_dense else "nothing here multiplies 2:4 sparse operands",
    )


def _link_claim(link: Link, name: str, *, node: Node | None = None, port: bool = False) -> Claim:
    assert link.bytes_per_s is not None, "a link without a rate claims nothing"
    inputs: dict[str, float | str] = {"rate": link.bytes_per_s}
    formula = "rate"
    if link.num_lanes is not None and link.lane_bytes_per_s is not None:
        inputs = {"lanes": float(link.num_lanes), "lane": link.lane_bytes_per_s}
        formula = "2 * lanes * lane" if link.direction == "two-way" else "lanes * lane"
    per: Qualifier = "per port" if port else "per device"
    return Claim(
        name=name,
        subject=name if node is None else node.device.name,
        statement=f"Line rate of {link.name}, {link.direction}, {per}",
        printed="",
        stated=link.bytes_per_s,
        unit="B/s",
        formula=formula,
        inputs=inputs,
        measured=_link_measurement(link, node),
        hardware=None if node is None else node.name,
        qualifiers=(link.direction, per, "peak"),
        doubt=link.doubt,
    )


def _link_measurement(link: Link, node: Node | None) -> str | None:
    """PCIe is tested by copies from and to the host; other links by collectives, if ranks meet over them."""
    if node is None or node.device.kind != "gpu":
        return None
    if link.kind == "pcie":
        return "host_bytes_per_s" if link.direction == "one-way" else "host_bytes_both_ways_per_s"
    return f"link_bytes_per_s {link.kind}" if link.name == node.link().name else None


def _planted(claim: Claim, node: Node) -> Claim:
    """Without a correction: only a measurement refutes it."""
    factor = PLANTED_FACTOR[node.device.kind]
    assert claim.stated is not None, "what can be measured is stated"
    return replace(
        claim,
        name=f"planted: {claim.name}",
        statement=f"{factor:g} times: {claim.statement}",
        stated=factor * claim.stated,
        formula="rate",
        inputs={"rate": factor * claim.stated},
        doubt=None,
    )
