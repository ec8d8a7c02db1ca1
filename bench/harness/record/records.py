"""What record files hold, JSON Lines that bench/harness/record/files.py writes and reads; loads without torch.

Lines, by `line`:
  header     once a run (a resumed run adds another): schema version, command, hardware, environment, git
  planned    before a case's first sample: its plan and its estimates
  telemetry  when what was timed together ends: the machine's state on every rank, from block to block of samples
  case       when a case ends: samples of all ranks, checks, status
  op         when one op of `bench/gemm.py`, `collectives.py` or `memory.py` ends: the op and its samples
  failed_op  when one could not be timed: why
  drift      at the end: the first case or op once more
  end        how the run ended; a run without it died

Schema history
  1  first version
  2  chunks, recompute and emulation of a case; its planned memory, and what was observed of it; ops say what they need.
  3  telemetry, drift and end; marks of disturbed samples, starts of passes and collectives on a clock that all ranks
     share, contention, traffic on the wire; every line carries its run, its place in it and a checksum.
     Files of version 1 and 2 are read as they are.
  4  ops timed alone also inside a pass, after a product; cases of the launch probe beside ops; ops that only move
     memory.
  5  several nodes: over how many a case's group and a collective lie, which ranks form a group, the network between.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config

from bench.harness.machine.judge import MarkKind
from bench.harness.machine.reading import Reading
from bench.harness.record.grouping import Groups, Members
from tp.case import Case
from tp.cost.theory import Estimate, OpEstimate, TheoryName
from tp.hardware import Link, Node
from tp.plan.memory import Holding
from tp.plan.ops import AttentionCore, Backend, Collective, CollectiveKind, Direction, Elementwise, Gemm, Part
from tp.schema import STRICT

SCHEMA_VERSION: Final = 5
# From here on a collective says over how many nodes it went.
PLACED_SINCE: Final = 5

AnyOp = Annotated[Gemm | AttentionCore | Elementwise | Collective, Field(discriminator="op")]
Times = tuple[tuple[float, ...], ...]
"""[iteration][rank], seconds."""
Status = Literal["ok", "failed", "skipped"]
StoppedBy = Literal["target", "rounds", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTimes:
    """The time that one part of the passes took."""

    part: Part
    direction: Direction
    call: int = 0
    """Which of the part's collectives in that direction; compute parts are one."""
    times_s: Times
    arrivals_s: Times = ()
    """When each rank began it, of collectives: after the first rank began the pass, on the aligned clock.

    One that is posted and waited for later has two calls: the posting and the wait.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Every timed pass of one task, on every rank."""

    task: str
    warmup_s: Times
    times_s: Times
    parts: tuple[PartTimes, ...]
    stopped_by: StoppedBy
    host_bound: int = 0
    """Timed passes in which the device was waiting for the host, on the rank with the most: launches were timed."""
    starts_s: Times = ()
    """When each rank began the pass, after the first one, on the aligned clock."""
    uncovered: int = 0
    """Timed passes that outlasted what ran beside them (contention), on the rank with the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMark:
    """Why some rounds of samples were not taken on a machine at its best."""

    first_round: int
    num_rounds: int
    rank: int
    kind: MarkKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The machine's state on every rank after so many rounds of samples."""

    rounds: int
    since_s: float
    """Seconds after the first moment."""
    ranks: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraffic:
    """What left a host, by network device, or its GPUs' NVLinks, while its ranks ran passes."""

    host: str
    num_ranks: int
    sent_bytes: dict[str, int]
    unread: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that counters saw around a block of passes, the least of several, and what the plan says of them."""

    passes: int
    planned_bytes: int
    """Of one rank in one pass."""
    hosts: tuple[HostTraffic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One tensor against the oracle, the worst over ranks."""

    tensor: str
    error: float | None
    """None where it was not a number."""
    error_limit: float
    gain: float | None
    gain_limit: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The collectives of one kind in one pass, as torch dispatched them; sizes as in nccl-tests."""

    kind: CollectiveKind
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one pass sent, and what the rank that held most held."""

    sent: tuple[Sent, ...]
    weight_bytes: int
    gradient_bytes: int
    saved_bytes: int
    """Storages that autograd kept from the forward for the backward."""
    kv_cache_bytes: int
    peak_bytes: int | None
    """By CUDA's allocator; None on a CPU, where nothing counts."""
    attention_kernel: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Header:
    """What is true of the whole run."""

    line: Literal["header"] = "header"
    schema_version: Literal[1, 2, 3, 4, 5] = SCHEMA_VERSION
    created: str
    command: tuple[str, ...]
    world: int
    num_nodes: int
    backend: Backend
    hardware: Node
    network: Link | None = None
    """One port of what joins the nodes, where it was described."""
    calibration: str | None
    """Which calibration the estimates used: the path of the file, or in words."""
    environment: dict[str, Any]
    oversubscribed: str | None
    """Why the ranks' times are not comparable with others', or None when they are."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the machine before anything was measured, each with its number."""
    method: dict[str, Any] = field(default_factory=dict)
    """How time is read: clock, cache, replay, planted delay."""

    @property
    def crossed(self) -> Link | None:
        """The network between the nodes of the run; within one node nothing crosses any, whatever was named."""
        return self.network if self.num_nodes > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Planned:
    """A case's plan and estimates, written before its first sample."""

    line: Literal["planned"] = "planned"
    key: str
    written: str
    case: Case
    ops: tuple[AnyOp, ...]
    estimates: tuple[Estimate, ...]
    memory: tuple[Holding, ...] = ()
    emulated: bool = False
    """Whether one rank alone computes its shard, and communication is an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class CaseResult:
    """What came of a case."""

    line: Literal["case"] = "case"
    key: str
    written: str
    status: Status
    reason: str | None
    """Why it failed or was skipped."""
    groups: int
    """Tensor-parallel groups that ran side by side."""
    members: Members = ()
    """The ranks of each, where they are not next to each other."""
    checks: tuple[CheckResult, ...]
    samples: tuple[Samples, ...]
    observed: Observation | None = None
    traffic: Traffic | None = None
    marks: tuple[BlockMark, ...] = ()

    @property
    def grouping(self) -> Groups:
        """Which ranks formed a group."""
        return self.members or self.groups


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Telemetry:
    """The machine's state while the cases `keys` (or single ops, which have none) took turns."""

    line: Literal["telemetry"] = "telemetry"
    written: str
    keys: tuple[str, ...]
    moments: tuple[Moment, ...]
    clock_offsets_s: tuple[float, ...]
    """Every rank's clock minus that of rank 0."""
    clock_uncertainty_s: tuple[float, ...]
    """Half of the fastest round trip by which the offset was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class OpResult:
    """One op alone, timed for a calibration with all ranks busy at it."""

    line: Literal["op"] = "op"
    written: str
    op: AnyOp
    estimates: dict[TheoryName, OpEstimate]
    """Made before the op was timed; a theory that says nothing of it is left out."""
    samples: Samples
    in_pass: Samples | None = None
    """A pass of a product and the op after it, as a layer calls it, both marked."""
    overlapped: Samples | None = None
    """Of a send: posted before a product and awaited after it; marked is the wait."""
    delayed: Samples | None = None
    """The same with a delay planted on one rank, as a control of the skew that is reported."""
    marks: tuple[BlockMark, ...] = ()
    members: Members = ()
    """The ranks of each group, where they are not next to each other."""

    @property
    def grouping(self) -> Groups:
        """Which ranks took part in a collective together."""
        assert isinstance(self.op, Collective), "only collectives have groups"
        return self.members or len(self.samples.times_s[0]) // self.op.num_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class FailedOp:
    """An op that could not be timed here."""

    line: Literal["failed_op"] = "failed_op"
    written: str
    op: AnyOp
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class Drift:
    """The first case's full pass, or the first op, timed once more when all was done."""

    line: Literal["drift"] = "drift"
    key: str
    """Of the case; of an op its part and kind."""
    written: str
    before: Samples
    after: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class End:
    """How the run ended."""

    line: Literal["end"] = "end"
    written: str
    status: Literal["done", "failed", "interrupted"]
    reason: str | None


AnyLine = Header | Planned | Telemetry | CaseResult | OpResult | FailedOp | Drift | End
Line = Annotated[AnyLine, Field(discriminator="line")]
