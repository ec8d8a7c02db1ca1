"""What is asked of the planner, with defaults for what is left open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tp.case import RECOMPUTES, Recompute, Strategy
from tp.cost.choose import make_theories, named_theory
from tp.cost.known import KnownCalibration, known_calibration
from tp.cost.theory import Theory, TheoryName
from tp.errors import ConfigError
from tp.hardware import Architecture, Link, Node, load_network
from tp.model import ModelShape
from tp.units import Dtype

Phase = Literal["train", "serve"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
Optimizer = Literal["sharded", "replicated"]
OPTIMIZERS: Final[tuple[Optimizer, ...]] = get_args(Optimizer)

STRATEGIES: Final[tuple[Strategy, ...]] = ("allreduce", "sequence", "overlap")
MICRO_BATCHES: Final = (1, 2, 4, 8)
# Sequences of a training step: Llama 2 was trained on 4 M tokens a step (Touvron et al. 2023, section 2.2).
LEAST_BATCH: Final = 1024
SEQ: Final[dict[Phase, int]] = {"train": 4096, "serve": 2048}
SERVED: Final = 64
"""Concurrent sequences to serve."""
NEW_TOKENS: Final = 256
# One port a device, of the rate that nodes of the class are sold with (DGX A100: 200 Gb/s; DGX H100 and B200: 400).
NETWORKS: Final[dict[Architecture | None, str]] = {"ampere": "infiniband-200", "ada": "infiniband-200"}
USUAL_NETWORK: Final = "infiniband-400"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A model, GPUs, and what is to be done; sizes in sequences and tokens."""

    model: ModelShape
    node: Node
    num_gpus: int
    theory: Theory
    batch: int
    """Training: sequences of a step, over all replicas. Serving: concurrent sequences."""
    seq: int
    """Tokens of a sequence; in serving of a prompt."""
    dtype: Dtype
    phase: Phase = "train"
    link: Link
    """What joins the devices of a node."""
    network: Link | None = None
    """What joins nodes, a port of it for each device; None: there is one node."""
    new_tokens: int = NEW_TOKENS
    """Made of each sequence in serving."""
    micro_batches: tuple[int, ...] = MICRO_BATCHES
    strategies: tuple[Strategy, ...] = STRATEGIES
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    optimizer: Optimizer = "sharded"
    """Whether the optimiser's states are cut over the replicas (ZeRO-1)."""
    tp_across_nodes: bool = False

    @property
    def memory_bytes(self) -> float:
        """Of one device."""
        return device_memory(self.node)

    @property
    def max_context(self) -> int:
        """Tokens of a sequence in the cache at its end."""
        return self.seq + self.new_tokens


def make_request(
    model: ModelShape,
    node: Node,
    num_gpus: int,
    *,
    phase: Phase = "train",
    theory: TheoryName | None = None,
    calibration: KnownCalibration | None = None,
    link: Link | None = None,
    network: Link | None = None,
    batch: int | None = None,
    seq: int | None = None,
    dtype: Dtype = "bf16",
    optimizer: Optimizer = "sharded",
    new_tokens: int = NEW_TOKENS,
    micro_batches: Sequence[int] = MICRO_BATCHES,
    strategies: Sequence[Strategy] = STRATEGIES,
    recomputes: Sequence[Recompute] = RECOMPUTES,
    tp_across_nodes: bool = False,
) -> Request:
    """The request with what is left out chosen; ConfigError for what cannot be planned.

    Without a calibration the shipped or the expected one of the device is taken; without a theory the calibrated one;
    between nodes without a network the usual one of the device's class.
    """
    device_memory(node)
    if phase == "train" and dtype == "fp8":
        raise ConfigError("--dtype fp8: is of forward passes alone; train in bf16, or give --phase serve")
    link = link or node.link()
    if num_gpus > node.num_devices and network is None:
        network = usual_network(node)
    return Request(
        model=model,
        node=node,
        num_gpus=num_gpus,
        theory=placed_theory(node, link, network, theory, calibration),
        batch=batch or default_batch(num_gpus, phase),
        seq=seq or SEQ[phase],
        dtype=dtype,
        phase=phase,
        link=link,
        network=network if num_gpus > node.num_devices else None,
        new_tokens=new_tokens,
        micro_batches=tuple(sorted(micro_batches)),
        strategies=tuple(strategies),
        recomputes=tuple(recomputes) if phase == "train" else ("none",),
        optimizer=optimizer,
        tp_across_nodes=tp_across_nodes,
    )


def default_batch(num_gpus: int, phase: Phase) -> int:
    """Training: the GPUs times the power of two that makes 1024 or more, so that every layout divides it."""
    if phase == "serve":
        return SERVED
    batch = num_gpus
    while batch < LEAST_BATCH:
        batch *= 2
    return batch


def usual_network(node: Node) -> Link:
    """One port of what nodes of this class are usually joined by."""
    return load_network(NETWORKS.get(node.device.architecture, USUAL_NETWORK))


def placed_theory(
    node: Node, link: Link, network: Link | None, name: TheoryName | None, calibration: KnownCalibration | None
) -> Theory:
    """The data sheet's bound, or what the calibration makes of it; ConfigError for the article's."""
    if name == "article":
        raise ConfigError(
            "--theory article: has no memory, no pipeline and no elementwise pass; use datasheet or calibrated"
        )
    known = calibration or known_calibration("", node, link)
    theories = make_theories(node=node, link=link, calibration=known.calibration if known else None, network=network)
    return named_theory(theories, name or "")


def device_memory(node: Node) -> float:
    """Bytes of a device's memory; ConfigError where nobody states them."""
    if node.device.kind != "gpu" or node.device.memory_bytes is None:
        raise ConfigError(f"--hardware {node.name}: states no memory of a GPU, which a plan must fit into; name a GPU")
    return node.device.memory_bytes
