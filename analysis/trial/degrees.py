"""The article's arithmetic redone: its ratio, and its largest degrees with its numbers and with the right ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor

from analysis.split.balance import balance_degree
from tp.cost.article import ArticlePair, article_pairs, as_multi_head, flops_per_byte, largest_degree
from tp.errors import ConfigError
from tp.hardware import Link, Node, load_node
from tp.model import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """QKV FLOPs a byte of input at one head a rank."""

    tp: int
    multi_head: float
    """As the article has it: every head with its own keys and values."""
    grouped: float
    """With the model's own kv heads, each counted once."""
    needed_bytes_per_s: float
    """One-way bandwidth that keeps up with the article's A100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Where sending takes as long as computing on one machine, with dense peak and one-way rate."""

    hardware: str
    link: str
    flops_per_s: float
    one_way_bytes_per_s: float
    by_the_rule: float
    """By the article's rule: multi-head QKV against the input."""
    balance: float
    """Of the full layer: its products against two all-reduces over a ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degree:
    """The largest degree of one GPU and link by the article's rule, with its numbers and with the right ones."""

    pair: ArticlePair
    rounded: float
    """From the article's rounded threshold, cut to one decimal: what it prints."""
    unrounded: float
    """From the article's own peak and link rate."""
    right: Corrected


def article_ratio(model: ModelShape) -> Ratio:
    """The article's 384 FLOP a byte, from the plan of `columns` at one head a rank."""
    tp = model.num_heads
    multi_head = flops_per_byte(as_multi_head(model), tp)
    return Ratio(
        tp=tp,
        multi_head=multi_head,
        grouped=flops_per_byte(model, 1) / tp,
        needed_bytes_per_s=article_pairs()[0].flops_per_s / multi_head,
    )


def article_table(model: ModelShape) -> list[Degree]:
    """The article's four pairs of GPU and link."""
    return [_degree(model, pair) for pair in article_pairs()]


def _degree(model: ModelShape, pair: ArticlePair) -> Degree:
    node = load_node(pair.hardware)
    right = corrected(model, node, node.link(pair.link))
    if right is None:
        raise ConfigError(f"{pair.hardware}: has no dense bf16 peak or no rate for {pair.link}; add them")
    multi_head = as_multi_head(model)
    by_threshold = largest_degree(multi_head, flops_per_s=pair.threshold_flops_per_byte, bytes_per_s=1.0)
    one_way = pair.link_two_way_bytes_per_s / 2
    return Degree(
        pair=pair,
        rounded=floor(by_threshold * 10) / 10,
        unrounded=largest_degree(multi_head, flops_per_s=pair.flops_per_s, bytes_per_s=one_way),
        right=right,
    )


def corrected(model: ModelShape, node: Node, link: Link) -> Corrected | None:
    """What a machine's sheet gives over a link; None where it does not state both rates."""
    peak, rate = node.device.dense_peak("bf16"), link.one_way_bytes_per_s
    if peak is None or rate is None:
        return None
    flops = peak.flops_per_s
    return Corrected(
        hardware=node.name,
        link=link.name,
        flops_per_s=flops,
        one_way_bytes_per_s=rate,
        by_the_rule=largest_degree(as_multi_head(model), flops_per_s=flops, bytes_per_s=rate),
        balance=balance_degree(model, flops_per_s=flops, bytes_per_s=rate),
    )


def corrected_table(model: ModelShape, nodes: Iterable[Node]) -> list[Corrected]:
    """Each machine over its default link, as far as its sheet states both rates."""
    found = (corrected(model, node, node.link()) for node in nodes)
    return [each for each in found if each is not None]
