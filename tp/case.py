"""A case: one point of a suite, that is one block of one model, split one way, under one workload."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from tp.errors import PlanError
from tp.model import ModelShape
from tp.units import DTYPE_BYTES, Dtype, activation_dtype

Phase = Literal["prefill", "train", "decode"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

Strategy = Literal["columns", "allreduce", "sequence", "overlap", "async-tp", "dtensor"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

# Strategies whose activations between blocks are cut by tokens, each rank holding its own.
TOKEN_STRATEGIES: Final[tuple[Strategy, ...]] = ("sequence", "overlap", "async-tp")

Block = Literal["attention", "ffn", "block"]
"""Attention with its norm and residual, the FFN with its own, and both: a transformer layer."""
BLOCKS: Final[tuple[Block, ...]] = get_args(Block)

Recompute = Literal["none", "selective", "full"]
"""Which activations training makes again in the backward instead of keeping them.

`selective` those of the attention core, `full` all but the block's input (Korthikanti et al. 2022, section 5).
"""
RECOMPUTES: Final[tuple[Recompute, ...]] = get_args(Recompute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one pass through the block is given."""

    phase: Phase
    batch: int
    seq: int
    """Query tokens of each sequence; 1 in decode."""
    context: int
    """Tokens that each query may attend to; `seq` outside decode."""
    dtype: Dtype

    def __post_init__(self) -> None:
        if self.phase == "decode" and self.seq != 1:
            raise PlanError(f"--seq {self.seq}: decode makes one token at a time; use --seq 1 and --context")
        if self.phase != "decode" and self.context != self.seq:
            raise PlanError(f"--context {self.context}: {self.phase} attends to its own {self.seq} tokens; drop it")

    @property
    def tokens(self) -> int:
        """m = b*s, the rows of every activation."""
        return self.batch * self.seq

    @property
    def activation_dtype(self) -> Dtype:
        """The dtype of everything but the operands of matrix products; of these too, but in fp8."""
        return activation_dtype(self.dtype)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of the activations."""
        return DTYPE_BYTES[self.activation_dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One block of one model, split by one strategy over `tp` ranks, under one workload."""

    block: Block
    model: ModelShape
    strategy: Strategy
    tp: int
    workload: Workload
    chunks: int = 1
    """Chunks that each rank's tokens are sent in under `overlap`."""
    recompute: Recompute = "none"
    nodes: int = 1
    """Over which the ranks lie, as many on each; more than need be where a group is to cross nodes."""

    def __post_init__(self) -> None:
        if self.tp % self.nodes:
            raise PlanError(f"--nodes {self.nodes}: {self.tp} ranks do not lie evenly on so many; use a divisor")
        if self.recompute != "none" and self.workload.phase != "train":
            raise PlanError(f"--recompute {self.recompute}: {self.workload.phase} keeps no activations; use train")

    @property
    def has_attention(self) -> bool:
        return self.block != "ffn"

    @property
    def has_ffn(self) -> bool:
        return self.block != "attention"

    @property
    def splits_tokens(self) -> bool:
        """Whether activations between blocks are cut by tokens."""
        return self.strategy in TOKEN_STRATEGIES and self.tp > 1

    @property
    def pipelines_ffn(self) -> bool:
        """Whether an FFN's two products are one pipeline, which autograd could not look into."""
        return self.strategy == "overlap" and self.tp > 1 and self.workload.phase != "train"

    @property
    def local_tokens(self) -> int:
        """Tokens whose norm and residual a rank computes."""
        return self.workload.tokens // self.tp if self.splits_tokens else self.workload.tokens

    @property
    def key(self) -> str:
        """A name that tells the cases of a suite apart, for people and for `--resume`."""
        w = self.workload
        chunks = f"/chunks{self.chunks}" if self.chunks > 1 else ""
        recompute = f"/{self.recompute}-recompute" if self.recompute != "none" else ""
        nodes = f"x{self.nodes}nodes" if self.nodes > 1 else ""
        return (
            f"{self.block}/{self.model.name}/{w.phase}/{self.strategy}/tp{self.tp}{nodes}"
            f"/b{w.batch}/s{w.seq}/c{w.context}/{w.dtype}{chunks}{recompute}"
        )
