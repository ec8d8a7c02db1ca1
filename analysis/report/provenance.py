"""Where figures come from, in words: the machine, the software, what to mind, and how to measure again."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.frames.collectives import right_ones
from analysis.load import Run
from analysis.report.method import UNKNOWN, alignment_text, method_text
from bench.harness.record.interference import drift_change, drift_sentence
from bench.harness.record.parts import marked_rounds, num_rounds
from bench.harness.record.records import CaseResult, Drift, End, Header
from tp.hardware import Device, Link, Node
from tp.units import (
    format_bytes,
    format_flops_rate,
    format_rate,
    significant,
)

NO_CHECKOUT: Final = "not a checkout"
# An efficiency beyond 100 % by more than this, its interval too, wants a reason.
MOST_GAIN: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A line of the environment."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A record file, and what is true of its run."""

    path: str
    facts: tuple[Fact, ...]


def sources(runs: Sequence[Run]) -> list[Source]:
    """One a record file; where a resumed run changed, both values stand there."""
    return [Source(path=str(run.path), facts=tuple(_facts(run))) for run in runs]


def _facts(run: Run) -> Iterable[Fact]:
    headers = run.headers
    ranks = [rank for header in headers for rank in _ranks(header)]
    yield Fact(label="started", value=_distinct(header.created for header in headers))
    yield Fact(label="ranks", value=_distinct(map(_world, headers)))
    yield Fact(label="host", value=_distinct(rank.get("host") for rank in ranks))
    yield Fact(label="processor", value=_distinct(_processor(rank) for rank in ranks))
    yield Fact(label="GPUs", value=_distinct(_gpus(rank.get("gpus")) for rank in ranks))
    yield Fact(label="load before", value=_distinct(_load(rank) for rank in ranks))
    yield Fact(label="software", value=_distinct(_software(rank) for rank in ranks))
    yield Fact(label="variables", value=_distinct(_pairs(rank.get("variables"), "=") or "none" for rank in ranks))
    yield Fact(label="git", value=_distinct(_git(rank.get("git")) for rank in ranks))
    yield Fact(label="method", value=_distinct(method_text(header.method) for header in headers))
    yield Fact(label="clocks of ranks", value=alignment_text(run))
    yield Fact(label="calibration", value=_distinct(header.calibration or "none" for header in headers))
    for drift in run.drifts:
        yield Fact(label="drift", value=_drift(drift)[0])
    for node in dict.fromkeys(header.hardware for header in headers):
        yield from _hardware(node)
    for network in dict.fromkeys(header.network for header in headers):
        if network is not None:
            yield Fact(
                label=f"network {network.name}", value=f"{_rate(network)}. {_because(network.source, network.doubt)}"
            )


def _ranks(header: Header) -> list[dict[str, Any]]:
    ranks = header.environment.get("ranks")
    return [rank for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []


def _distinct(values: Iterable[Any]) -> str:
    known = dict.fromkeys(str(value) for value in values if value)
    return "; ".join(known) or UNKNOWN


def _world(header: Header) -> str:
    nodes = f" on {header.num_nodes} nodes" if header.num_nodes > 1 else ""
    shared = f" ({header.oversubscribed})" if header.oversubscribed else ""
    return f"{header.world}{nodes} over {header.backend}{shared}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _processor(rank: dict[str, Any]) -> str:
    cpu = _mapping(rank.get("cpu"))
    cores, threads = cpu.get("affinity"), rank.get("torch_threads")
    words = [str(cpu.get("model") or UNKNOWN)]
    words += [str(rank["cpu_capability"])] if rank.get("cpu_capability") else []
    words += [f"a rank may use {len(cores)} cores"] if isinstance(cores, list) else []
    words += [f"computes with {threads} thread{'s' if threads != 1 else ''}"] if threads else []
    return ", ".join(words)


def _gpus(gpus: Any) -> str:
    if not gpus:
        return "none"
    found = _mapping(gpus)
    listed = found.get("names")
    names = Counter(map(str, listed)) if isinstance(listed, list) else Counter[str]()
    counted = ", ".join(f"{count} x {name}" for name, count in names.items())
    return f"{counted or UNKNOWN}, CUDA {found.get('cuda') or UNKNOWN}, NCCL {found.get('nccl') or UNKNOWN}"


def _load(rank: dict[str, Any]) -> str | None:
    loads = _mapping(rank.get("cpu")).get("load_average")
    last = loads[0] if isinstance(loads, list) and loads else None
    return f"{significant(last)} over one minute" if isinstance(last, int | float) else None


def _software(rank: dict[str, Any]) -> str:
    words = [
        f"Python {rank.get('python', UNKNOWN)}",
        _pairs(rank.get("packages"), " "),
        str(rank.get("platform") or ""),
    ]
    return ", ".join(word for word in words if word)


def _pairs(value: Any, between: str) -> str:
    return ", ".join(f"{name}{between}{entry}" for name, entry in _mapping(value).items())


def _git(git: Any) -> str:
    found = _mapping(git)
    if not found.get("commit"):
        return NO_CHECKOUT
    return f"{found['commit']}{', with uncommitted changes' if found.get('dirty') else ''}"


def _hardware(node: Node) -> Iterable[Fact]:
    """The description that the estimates rest on, each number with its source and its doubt."""
    device = node.device
    yield Fact(label=f"described as {node.name}", value=f"{node.num_devices} x {device.name} ({device.vendor})")
    yield Fact(label="memory", value=_memory(device))
    lines: dict[str, list[str]] = {}
    for peak in device.peaks:
        rate = f"{peak.dtype} {format_flops_rate(peak.flops_per_s)} {peak.sparsity}"
        lines.setdefault(_because(peak.source, peak.doubt), []).append(rate)
    for because, rates in lines.items():
        yield Fact(label="peak", value=f"{', '.join(rates)}. {because}")
    for link in node.links:
        yield Fact(label=f"link {link.name}", value=f"{_rate(link)}. {_because(link.source, link.doubt)}")


def _memory(device: Device) -> str:
    size = "not stated" if device.memory_bytes is None else format_bytes(device.memory_bytes)
    rate = "not stated" if device.memory_bytes_per_s is None else format_rate(device.memory_bytes_per_s)
    return f"size {size}, bandwidth {rate}. {_because(device.source, None)} ({device.date})"


def _rate(link: Link) -> str:
    rate = "rate not stated" if link.bytes_per_s is None else f"{format_rate(link.bytes_per_s)} {link.direction}"
    return f"{link.kind}, {rate}"


def _because(source: str, doubt: str | None) -> str:
    return f"Source: {source}" + (f". Doubt: {doubt}" if doubt else "")


def caveats(runs: Sequence[Run], *, mixed: bool) -> tuple[str, ...]:
    """What to mind before a figure is quoted."""
    headers = [header for run in runs for header in run.headers]
    found = list(dict.fromkeys(problem for run in runs for problem in run.problems))
    found += [
        f"Times are not comparable with others: {reason}."
        for reason in dict.fromkeys(header.oversubscribed for header in headers)
        if reason
    ]
    found += dict.fromkeys(warning for header in headers for warning in header.warnings)
    for run in runs:
        found += [f"The run that ended {end.written} {_fate(end)}." for end in run.ends if end.status != "done"]
        found += [told for told, beyond_noise in map(_drift, run.drifts) if beyond_noise]
        found += [_marked(case.result) for case in run.cases if marked_rounds(case.result)]
    if any(header.backend == "gloo" for header in headers):
        found.append("Measured on CPUs over gloo: not a GPU figure.")
    emulated = sum(case.planned.emulated for run in runs for case in run.cases)
    if emulated:
        found.append(
            f"Emulated are {emulated} of {sum(len(run.cases) for run in runs)} cases: one rank's compute is measured, "
            f"communication estimated."
        )
    if mixed and len(runs) > 1:
        found.append("Runs stand together although they may differ in world, backend or load (--mixed).")
    return tuple(found)


def too_good(scaling: pd.DataFrame) -> tuple[str, ...]:
    """Cases that were more than so many times as fast as their share: seldom splitting, mostly the machine's speed."""
    slow = scaling["measured_total_low_s"] * scaling["measured_efficiency"] / scaling["measured_total_s"]
    beyond = scaling[(slow > 1 + MOST_GAIN) & (scaling["tp"] > 1)].to_dict("records")
    if not beyond:
        return ()
    worst = max(beyond, key=lambda row: row["measured_efficiency"])
    return (
        f"{worst['case']} runs at {significant(100 * worst['measured_efficiency'])} % efficiency"
        f"{f', and {len(beyond) - 1} more beyond 100 %' if len(beyond) > 1 else ''}: either a cache holds the shards, "
        f"or the machine was slower while TP 1 was timed (see drift and marks); time them again before you quote it.",
    )


def wrong_results(collectives: pd.DataFrame) -> tuple[str, ...]:
    """What a log's own check found."""
    wrong = len(collectives) - len(right_ones(collectives))
    if not wrong:
        return ()
    return (f"Of {len(collectives)} collectives {wrong} gave wrong results; such a run's times are worth nothing.",)


def _fate(end: End) -> str:
    how = "failed" if end.status == "failed" else "was interrupted"
    return f"{how}: {end.reason}" if end.reason else how


def _drift(drift: Drift) -> tuple[str, bool]:
    return drift_sentence(drift), drift_change(drift).beyond_noise


def _marked(result: CaseResult) -> str:
    (first, rounds), *others = marked_rounds(result).items()
    more = "".join(f", {len(rounds)} by {kind}" for kind, rounds in others)
    return f"{result.key}: of {num_rounds(result)} rounds {len(rounds)} are marked by {first}{more}."


def commands(runs: Sequence[Run], paths: Sequence[Path], out: Path, *, mixed: bool) -> tuple[str, ...]:
    """What to type to measure and to report again, from the same files; comments say what else it takes."""
    headers = [header for run in runs for header in run.headers]
    commits = dict.fromkeys(_git(rank.get("git")) for header in headers for rank in _ranks(header)[:1])
    measured = dict.fromkeys(f"# measured with commit {commit}" for commit in commits if commit != NO_CHECKOUT)
    measured |= dict.fromkeys(
        f"# {header.calibration} was made by python -m analysis calibrate, from records of bench/gemm.py and "
        f"bench/collectives.py on this machine"
        for header in headers
        if header.calibration and header.calibration.endswith(".json")
    )
    measured |= dict.fromkeys(map(_command, headers))
    words = ["python", "-m", "analysis", "report", *map(str, paths), "--out", str(out)]
    return (*measured, shlex.join([*words, *(["--mixed"] if mixed else [])]))


def _command(header: Header) -> str:
    """The command of a run with the launcher that it had; of several nodes, that of each node."""
    if header.world == 1:
        return shlex.join(["python", *header.command])
    launcher = ["torchrun", "--nproc-per-node", str(header.world // max(header.num_nodes, 1))]
    nodes = ["--nnodes", str(header.num_nodes)] if header.num_nodes > 1 else []
    return shlex.join([*launcher, *nodes, *header.command])
