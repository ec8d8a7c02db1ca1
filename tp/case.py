"""A case: one point of a suite, that is one block of one model, split one way, under one workload."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from tp.errors import PlanError
from tp.model import ModelShape
from tp.units import DTYPE_BYTES, Dtype

Phase = Literal["prefill", "train", "decode"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

Strategy = Literal["columns", "allreduce", "sequence"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

Block = Literal["attention"]
BLOCKS: Final[tuple[Block, ...]] = get_args(Block)


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
    def element_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One block of one model, split by one strategy over `tp` ranks, under one workload."""

    block: Block
    model: ModelShape
    strategy: Strategy
    tp: int
    workload: Workload

    @property
    def key(self) -> str:
        """A name that tells the cases of a suite apart, for people and for `--resume`."""
        w = self.workload
        return (
            f"{self.block}/{self.model.name}/{w.phase}/{self.strategy}/tp{self.tp}"
            f"/b{w.batch}/s{w.seq}/c{w.context}/{w.dtype}"
        )
