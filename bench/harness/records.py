"""Record files: JSON Lines, one file a run, appended and flushed line by line; loads without torch.

Lines, by `line`:
  header    once a run (a resumed run adds another): schema version, command, hardware, environment, git
  planned   before a case's first sample: its plan and its estimates
  case      when a case ends: samples of all ranks, checks, status
  op        when one op of `bench/gemm.py` or `bench/collectives.py` ends: the op and its samples

Schema history
  1  first version
  2  chunks, recompute and emulation of a case; its planned memory, and what was observed of it; ops say what they need.
     Files of version 1 are read as they are.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TextIO

from pydantic import Field, TypeAdapter, ValidationError, with_config

from tp.case import Case
from tp.cost.theory import Estimate, OpEstimate, TheoryName
from tp.errors import ConfigError, MeasurementError
from tp.hardware import Node
from tp.plan.memory import Holding
from tp.plan.ops import AttentionCore, Backend, Collective, CollectiveKind, Direction, Elementwise, Gemm, Part
from tp.schema import STRICT, to_json

SCHEMA_VERSION: Final = 2

AnyOp = Annotated[Gemm | AttentionCore | Elementwise | Collective, Field(discriminator="op")]
Times = tuple[tuple[float, ...], ...]
"""[iteration][rank], seconds."""
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTimes:
    """The time that one part of the passes took."""

    part: Part
    direction: Direction
    call: int = 0
    """Which of the part's collectives in that direction; compute parts are one."""
    times_s: Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Every timed pass of one task, on every rank."""

    task: str
    warmup_s: Times
    times_s: Times
    parts: tuple[PartTimes, ...]
    stopped_by: Literal["target", "rounds", "seconds"]
    host_bound: int = 0
    """Timed passes in which the device was waiting for the host, on the rank with the most: launches were timed."""


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
    schema_version: Literal[1, 2] = SCHEMA_VERSION
    created: str
    command: tuple[str, ...]
    world: int
    num_nodes: int
    backend: Backend
    hardware: Node
    calibration: str | None
    """Path of the calibration that the estimates used."""
    environment: dict[str, Any]
    oversubscribed: str | None
    """Why the ranks' times are not comparable with others', or None when they are."""


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
    checks: tuple[CheckResult, ...]
    samples: tuple[Samples, ...]
    observed: Observation | None = None


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


Line = Annotated[Header | Planned | CaseResult | OpResult, Field(discriminator="line")]
_LINE: Final[TypeAdapter[Header | Planned | CaseResult | OpResult]] = TypeAdapter(Line)


class RecordWriter:
    """Appends lines to a record file, each on disk before the next thing is measured; silent where not `active`."""

    def __init__(self, path: Path, *, active: bool = True) -> None:
        """Open `path` for appending at once, so that a bad one fails before anything runs."""
        self.path = path
        self._file: TextIO | None = None
        if not active:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _set_torn_tail_aside(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, line: Header | Planned | CaseResult | OpResult) -> None:
        """Write one line; MeasurementError when the disk does not take it."""
        if self._file is None:
            return
        try:
            self._file.write(to_json(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise MeasurementError(f"{self.path}: could not be written ({error.strerror}); free the disk") from error


def _set_torn_tail_aside(path: Path) -> None:
    """Move what an interrupted run left of its last line to a file beside, so that lines stay lines."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        path.with_name(f"{path.name}.torn").write_bytes(text[whole:])
        os.truncate(path, whole)


def finished_keys(path: Path, *, world: int) -> frozenset[str]:
    """The cases of a record file that need not be measured again: those that are ok or were skipped.

    ConfigError for a file that holds no record, or one of another number of ranks.
    """
    if not path.exists():
        return frozenset()
    lines = list(read_lines(path))
    worlds = {line.world for line in lines if isinstance(line, Header)}
    if not worlds:
        raise ConfigError(f"--out {path}: holds no record to resume; name another file, or remove it")
    if worlds != {world}:
        raise ConfigError(f"--out {path}: is a run of {min(worlds)} ranks, not of {world}; resume with as many ranks")
    return frozenset(line.key for line in lines if isinstance(line, CaseResult) and line.status != "failed")


def read_lines(path: Path) -> Iterator[Header | Planned | CaseResult | OpResult]:
    """The lines of a record file, in order.

    Raises ConfigError naming the line that cannot be read. What follows the last line feed is left out: an
    interrupted run leaves such a torn line, and a resumed one sets it aside.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            yield _LINE.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            detail = f"{place}: {first['msg']}" if place else first["msg"]
            raise ConfigError(f"{path}: line {number} is not a record ({detail})") from error
