"""How it was measured, in words: what a run's header says of its clock, and what was timed, for the whole page."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from analysis.load import Run
from bench.harness.record.names import (
    COMMUNICATION,
    COMPUTE,
    CONTENDED_COMMUNICATION,
    CONTENDED_COMPUTE,
    DELAYED,
    FULL,
    PARTS,
    SERIAL,
)
from bench.harness.record.records import Samples
from tp.units import format_bytes, format_seconds

UNKNOWN: Final = "not recorded"
VARIANTS: Final = {
    COMPUTE: "compute alone",
    COMMUNICATION: "communication alone",
    SERIAL: "serial",
    FULL: "full",
    PARTS: "full with its parts marked",
    CONTENDED_COMPUTE: "compute while communication runs",
    CONTENDED_COMMUNICATION: "communication while compute runs",
}


def method(runs: Sequence[Run]) -> tuple[str, ...]:
    """How it was measured, a sentence or two a line; of variants and the machine's state what the records hold."""
    samples = [sample for run in runs for case in run.cases for sample in case.result.samples]
    timed = {sample.task.removeprefix(DELAYED) for sample in samples}
    variants = [words for name, words in VARIANTS.items() if name in timed]
    return (
        "A pass takes as long as on its slowest rank, and so does a compute part; a collective takes as long as on its "
        "fastest, since the others' time holds their wait for the last to arrive.",
        f"Times are medians with a 95 % interval free of any distribution{_counts(samples)}.",
        f"{_variants(variants, late=any(sample.task.startswith(DELAYED) for sample in samples))} timed in rounds that "
        f"begin elsewhere each time, all strategies of a workload and degree together: drift falls on all alike.",
        *_recorded(runs, contended=CONTENDED_COMPUTE in timed),
        "Each estimate was written to the record before the first sample of its case; its interval is nominally 90 %.",
        "Before it was timed, each case was checked against the unsharded block; one that fails has no speed.",
    )


def _variants(variants: Sequence[str], *, late: bool) -> str:
    """The beginning of a sentence: what was timed."""
    if not variants:
        return "All variants of a case are"
    told = "; ".join(variants)
    again = ", those of communication and of parts once more with one rank late on purpose," if late else ""
    return f"{len(variants)} variants of a case ({told}){again} are"


def _recorded(runs: Sequence[Run], *, contended: bool) -> Iterable[str]:
    """What newer records hold beside the times."""
    if contended:
        yield (
            "Contention: one of compute and communication is timed while the other is repeated beside it until it is "
            "done; a pass that outlasted what ran beside it is counted as uncovered."
        )
    if any(run.states for run in runs):
        yield (
            "The machine's state is read once a block of rounds, and rounds in which it was throttled or shared are "
            "marked, not left out. Arrivals are on clocks aligned with that of rank 0, each within half of the "
            "fastest round trip."
        )


def _counts(samples: Sequence[Samples]) -> str:
    if not samples:
        return ""
    numbers = [len(sample.times_s) for sample in samples]
    reached = sum(sample.stopped_by == "target" for sample in samples)
    return (
        f", over {min(numbers)} to {max(numbers)} passes after warm-up; {reached} of {len(samples)} sets of samples "
        f"came to their target precision, the others ended at their cap"
    )


def method_text(method: dict[str, Any]) -> str:
    """How time was read: what a header says, its flags in words; empty in records that say nothing."""
    if not method:
        return ""
    delay_s, rank = method.get("delay_s"), method.get("delayed_rank")
    words = [f"timed by {method.get('clock', UNKNOWN)}"]
    words += [_flushed(method.get("flush_bytes"))]
    words += ["replayed as CUDA graphs" if method.get("graph") else "no CUDA graphs"]
    if rank is None:
        words.append("no rank late on purpose")
    else:
        planted = format_seconds(delay_s) if isinstance(delay_s, int | float) else UNKNOWN
        words.append(f"once more with rank {rank} late by {planted}")
    timeout_s = method.get("timeout_s")
    words += [f"given up after {format_seconds(timeout_s)}"] if isinstance(timeout_s, int | float) else []
    return ", ".join(words)


def _flushed(flush_bytes: Any) -> str:
    if not isinstance(flush_bytes, int):
        return f"cache flushes {UNKNOWN}"
    return f"caches flushed with {format_bytes(flush_bytes)} before each pass" if flush_bytes else "caches not flushed"


def alignment_text(run: Run) -> str:
    """How well the ranks' clocks agree: without it arrivals of ranks on different hosts say nothing."""
    uncertain = [each for telemetry in run.telemetry for each in telemetry.clock_uncertainty_s]
    offsets = [abs(each) for telemetry in run.telemetry for each in telemetry.clock_offsets_s]
    if not uncertain or not offsets:
        return UNKNOWN
    if not any(uncertain) and not any(offsets):
        return "all read the same clock, that of one host"
    return (
        f"up to {format_seconds(max(offsets))} off that of rank 0, which is taken off; known to "
        f"{format_seconds(max(uncertain))}"
    )
