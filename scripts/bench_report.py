"""How long `analysis report` takes over many cases, and how large its page is.

    python scripts/bench_report.py RECORD [--cases 10000] [--out DIR]

The cases of a real record are repeated under other batches and lengths, with all times stretched alike: the amount is
real, the figures mean nothing.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analysis.report.write import write_report
from bench.harness.record.files import read_record
from bench.harness.record.records import AnyLine, CaseResult, Planned, Samples, Telemetry
from bench.harness.record.scan import seal
from tp.cost.theory import Estimate

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)


def copies(lines: list[AnyLine], number: int) -> Iterator[AnyLine]:
    """Every case once for each workload, until there are so many."""
    planned = {line.key: line for line in lines if isinstance(line, Planned)}
    results = [line for line in lines if isinstance(line, CaseResult) and line.key in planned and line.samples]
    made = 0
    for batch, seq in ((batch, seq) for batch in itertools.count(1) for seq in LENGTHS):
        for result in results:
            if made == number:
                return
            yield from _copy(planned[result.key], result, batch=batch, seq=seq)
            made += 1


def _copy(planned: Planned, result: CaseResult, *, batch: int, seq: int) -> Iterator[AnyLine]:
    case = planned.case
    context = seq if case.workload.phase != "decode" else case.workload.context
    tokens = 1 if case.workload.phase == "decode" else seq
    workload = replace(case.workload, batch=batch, seq=tokens, context=context)
    stretch = workload.tokens / case.workload.tokens
    case = replace(case, workload=workload)
    estimates = tuple(_stretched(estimate, stretch) for estimate in planned.estimates)
    yield replace(planned, key=case.key, case=case, estimates=estimates)
    yield replace(result, key=case.key, samples=tuple(_slower(each, stretch) for each in result.samples), marks=())


def _slower(samples: Samples, stretch: float) -> Samples:
    def table(times: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(each * stretch for each in row) for row in times)

    parts = tuple(replace(part, times_s=table(part.times_s)) for part in samples.parts)
    return replace(samples, times_s=table(samples.times_s), parts=parts)


def _stretched(estimate: Estimate, stretch: float) -> Estimate:
    def longer(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * stretch

    parts = (
        replace(part, seconds=longer(part.seconds), low_s=longer(part.low_s), high_s=longer(part.high_s))
        for part in estimate.parts
    )
    return replace(estimate, parts=tuple(parts))


def enlarge(source: Path, target: Path, number: int) -> None:
    """Write the record with its cases repeated."""
    (run, *_) = read_record(source).runs
    others = [line for line in run.lines if isinstance(line, Telemetry)]
    with target.open("wb") as file:
        for place, line in enumerate(itertools.chain([run.header], others, copies(list(run.lines), number))):
            file.write(seal(line, "c0ffee00", place))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="folder to keep record and report in (default: none is kept)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = flags.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "records.jsonl"
        enlarge(flags.record, record, flags.cases)
        begin = time.perf_counter()
        page = write_report([record], folder / "report", mixed=False, tell=print)
        lasted = time.perf_counter() - begin
        print(f"{flags.cases:,} cases, {record.stat().st_size / 1e6:.0f} MB of records: report in {lasted:.1f} s")
        print(f"page of {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
