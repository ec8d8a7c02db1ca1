"""The article's table over the whole catalogue: for every hardware and link the degree where efficiency falls.

Every link is taken to join a single domain of any size, so that the degrees are of the GPU and the link alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from analysis.split.balance import balance_degree
from analysis.split.efficiency import Reach
from analysis.split.scaling import Question, scale
from tp import catalogue
from tp.case import Strategy, Workload
from tp.cost.article import article_pairs
from tp.cost.calibrated import Calibration
from tp.cost.choose import make_theories
from tp.cost.known import known_calibration
from tp.cost.lookup import find
from tp.errors import ConfigError
from tp.hardware import Link, Node, load_node
from tp.model import ModelShape
from tp.plan.ops import Gemm
from tp.units import Dtype

STRATEGIES: Final[tuple[Strategy, ...]] = ("allreduce", "sequence", "overlap")
# Up to here degrees are looked at; a larger one is told as beyond.
MOST: Final = 128
# Whose sizes the article reckons with.
ARTICLE_MODEL: Final = "llama2-70b"

Basis = Literal["datasheet", "calibrated", "expected"]
"""The bound of the data sheet; curves fitted to published tables of the GPU; what is expected of GPUs like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where efficiency falls under the targets, for one strategy and basis."""

    strategy: Strategy
    basis: Basis
    reaches: tuple[Reach, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One hardware over one link."""

    node: Node
    link: Link
    balance: float | None
    """None where a rate is not stated, and in decode."""
    printed: float | None
    """The article's degree, where it has one of this model."""
    findings: tuple[Finding, ...]

    @property
    def is_calibrated(self) -> bool:
        """Whether products and, over its default link, collectives were measured."""
        measured = any(finding.basis == "calibrated" for finding in self.findings)
        return measured and self.link.name == self.node.link().name


def survey(model: ModelShape, workload: Workload, targets: Sequence[float]) -> list[Row]:
    """Every hardware of the catalogue that has a price, over each of its links, the largest balance first."""
    rows = [
        _row(model, workload, targets, node, link)
        for node in map(load_node, catalogue.names("hardware"))
        for link in joining(node)
    ]
    known = [row for row in rows if any(finding.reaches for finding in row.findings)]
    if not known:
        raise ConfigError(f"--dtype {workload.dtype}: no hardware of the catalogue has a peak in it; choose another")
    return sorted(known, key=lambda row: (-(row.balance or 0.0), row.node.name, row.link.name))


def joining(node: Node) -> list[Link]:
    """The default link, and the others that join all devices of the node: no bridges, none of a single device."""
    others = [link for link in node.links[1:] if node.num_devices > 1 and "bridge" not in (link.doubt or "")]
    return [node.link(), *others]


def _row(model: ModelShape, workload: Workload, targets: Sequence[float], node: Node, link: Link) -> Row:
    balance = printed = None
    # Both are of products at peak, which those of decode, that read their weights for a token each, never reach.
    if workload.phase != "decode":
        balance = _balance(model, workload, node, link)
        pairs = {(pair.hardware, pair.link): pair.largest_degree for pair in article_pairs()}
        printed = pairs.get((node.name, link.name)) if model.name == ARTICLE_MODEL else None
    return Row(
        node=node,
        link=link,
        balance=balance,
        printed=printed,
        findings=tuple(_findings(model, workload, targets, node, link)),
    )


def _balance(model: ModelShape, workload: Workload, node: Node, link: Link) -> float | None:
    peak, rate = node.device.dense_peak(workload.dtype), link.one_way_bytes_per_s
    if peak is None or rate is None:
        return None
    # It counts activations of two bytes.
    return balance_degree(model, flops_per_s=peak.flops_per_s, bytes_per_s=rate * 2 / workload.element_bytes)


def _is_measured(calibration: Calibration | None, dtype: Dtype) -> bool:
    """Whether a calibration has a curve for products in that dtype, or in one that is as wide."""
    product = Gemm(part="qkv", direction="forward", layout="nt", m=1, n=1, k=1, dtype=dtype)
    return calibration is not None and find(calibration.gemm, product, None) is not None


def _findings(
    model: ModelShape, workload: Workload, targets: Sequence[float], node: Node, link: Link
) -> Iterator[Finding]:
    known = known_calibration("", node, link)
    calibration = None if known is None else known.calibration
    domain = replace(node, num_devices=MOST)
    for theory in make_theories(node=domain, link=link, calibration=calibration):
        # Without a peak the data sheet bounds products by memory alone, which says nothing of how far to split.
        is_bound = theory.name == "datasheet" and node.device.dense_peak(workload.dtype) is not None
        if not is_bound and theory.name != "calibrated":
            continue
        question = Question(
            model=model,
            workload=workload,
            theory=theory,
            backend="nccl",
            most=MOST,
            targets=tuple(targets),
            needs=False,
        )
        basis: Basis = "datasheet"
        if theory.name == "calibrated":
            basis = "calibrated" if _is_measured(calibration, workload.dtype) else "expected"
        for curve in scale(question, STRATEGIES):
            yield Finding(strategy=curve.strategy, basis=basis, reaches=curve.reaches)


COLUMNS: Final = (
    *("hardware", "link", "one_way_bytes_per_s", "dense_flops_per_s", "kind", "strategy", "efficiency"),
    *("degree", "low", "high", "largest_degree", "largest_degree_known"),
)


def survey_rows(rows: Sequence[Row], workload: Workload) -> Iterator[dict[str, Any]]:
    """One row a mark of the figure; `inf` where efficiency does not fall up to the largest degree known."""
    for row in rows:
        peak = row.node.device.dense_peak(workload.dtype)
        same = {
            "hardware": row.node.name,
            "link": row.link.name,
            "one_way_bytes_per_s": row.link.one_way_bytes_per_s,
            "dense_flops_per_s": None if peak is None else peak.flops_per_s,
        }
        if row.balance is not None:
            yield same | {"kind": "balance", "strategy": "allreduce", "degree": row.balance}
        if row.printed is not None:
            yield same | {"kind": "article", "degree": row.printed}
        for finding in row.findings:
            for reach in finding.reaches:
                yield same | {
                    "kind": finding.basis,
                    "strategy": finding.strategy,
                    "efficiency": reach.target,
                    "degree": reach.crossing.value,
                    "low": reach.crossing.low,
                    "high": reach.crossing.high,
                    "largest_degree": reach.largest,
                    "largest_degree_known": reach.last,
                }
