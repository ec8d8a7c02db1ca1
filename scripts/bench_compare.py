"""How often `analysis compare` finds a change where there is none, and how often one that was planted.

    python scripts/bench_compare.py --pairs 20 --runs 3 --seconds 30
    python scripts/bench_compare.py --from FOLDER --runs 3

Runs of one attention block, old and new in turns, into --out: no pair has anything to find. Then in pair after pair
one part more is made slower by --slower in every sample of NEW, and the wholes that hold it by as many seconds;
--real slows the part in the program instead (scripts/slowed_part.py), in further runs.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from analysis.comparison.compare import compare
from analysis.comparison.rows import Comparison, Row
from analysis.load import Run, load_run
from bench.harness.record.records import CaseResult, Samples, Times
from tp.plan.ops import COLLECTIVE_KINDS

PARTS = ("qkv", "out", "core", "norm", "residual", "all_reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    old: list[Run]
    new: list[Run]


def measure(flags: argparse.Namespace, path: Path, slowed: Sequence[str] = ()) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *slowed]
    words += ["bench/attention.py", "--tp", "2", "--strategy", flags.strategy, "--phase", "prefill"]
    words += ["--seq", str(flags.seq), "--seconds", str(flags.seconds), "--out", str(path)]
    if not path.exists():
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def pairs_of(folder: Path, runs: int, most: int) -> list[Pair]:
    """Consecutive runs, old and new in turns; each run is in one pair."""
    files = sorted(folder.glob("run*.jsonl"))
    groups = [files[at : at + 2 * runs] for at in range(0, len(files) - 2 * runs + 1, 2 * runs)][:most]
    return [Pair(old=[*map(load_run, group[::2])], new=[*map(load_run, group[1::2])]) for group in groups]


def plant(run: Run, part: str, slower: float) -> Run:
    """The run with one part of its first case slower by a share, and the wholes that hold it by its seconds."""
    case = run.cases[0]
    return replace(run, cases=(replace(case, result=plant_case(case.result, part, slower)), *run.cases[1:]))


def plant_case(result: CaseResult, part: str, slower: float) -> CaseResult:
    marked = next(each for each in result.samples if each.task == "parts")
    added_s = slower * sum(median(map(max, each.times_s)) for each in marked.parts if each.part == part)
    whole = "communication" if part in COLLECTIVE_KINDS else "compute"

    def plant_one(samples: Samples) -> Samples:
        if samples.task in (whole, "serial", "full"):
            return replace(samples, times_s=tuple(tuple(time_s + added_s for time_s in row) for row in samples.times_s))
        return replace(
            samples, parts=tuple(replace(p, times_s=scaled(p.times_s)) if p.part == part else p for p in samples.parts)
        )

    def scaled(times: Times) -> Times:
        return tuple(tuple(time_s * (1 + slower) for time_s in row) for row in times)

    return replace(result, samples=tuple(map(plant_one, result.samples)))


def changed(found: Comparison) -> list[Row]:
    return [row for row in found.rows if row.verdict in ("slower", "faster")]


def tell(row: Row) -> str:
    change = row.change
    if change is None or change.could_see_change is None:
        return f"{row.verdict} ({row.reason})"
    return f"{row.verdict}, {change.judged_time_new_over_old - 1:+.1%}, could see {change.could_see_change:.0%}"


def without_change(pairs: Sequence[Pair], margin: float) -> None:
    wrong = rows = tested = tails = 0
    for number, pair in enumerate(pairs, 1):
        found = compare(pair.old, pair.new, margin=margin)
        false, common = changed(found), found.common.verdict in ("slower", "faster")
        wrong += len(false) + common
        rows, tested = rows + len(found.rows) + 1, tested + sum(row.verdict != "not comparable" for row in found.rows)
        tails += sum(row.change is not None and row.change.tail_time_new_over_old is not None for row in found.rows)
        told = ", ".join(f"{row.part} {tell(row)}" for row in false) + (f" all alike {found.common}" if common else "")
        refused = "" if found.rows else f" ({found.cases[0].reason})"
        print(f"  A/A {number}: {len(found.rows)} rows{refused}, {told or 'no change'}", flush=True)
    print(
        f"false verdicts of change: {wrong} in {len(pairs)} pairs ({rows} rows, {tested} judged), tails told: {tails}"
    )


def with_change(pairs: Sequence[Pair], flags: argparse.Namespace, real: Sequence[list[Run]]) -> None:
    hits = 0
    for number, pair in enumerate(pairs):
        part = (flags.parts.split(",") * len(pairs))[number]
        new = real[number] if real else [plant(run, part, flags.slower) for run in pair.new]
        found = compare(pair.old, new, margin=flags.margin)
        case = pair.old[0].cases[0].planned.key
        nothing = Row(case=case, part=part, verdict="not comparable", reason=found.cases[0].reason)
        row = next((row for row in found.rows if (row.case, row.part) == (case, part)), nothing)
        others = [each.part for each in changed(found) if each is not row and each.part in PARTS]
        hits += row.verdict == "slower"
        print(f"  {part} {flags.slower:+.0%}: {tell(row)}{'; also ' + ', '.join(others) if others else ''}", flush=True)
    print(f"found of planted: {hits} of {len(pairs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", type=Path, dest="folder", help="use run*.jsonl of this folder instead of measuring")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="a side of a pair")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--strategy", default="allreduce")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--slower", type=float, default=0.08)
    parser.add_argument("--margin", type=float, default=0.03)
    parser.add_argument("--real", action="store_true", help="also slow parts in the program")
    flags = parser.parse_args()
    folder, real = flags.folder or flags.out, []
    for number in range(0 if flags.folder else flags.pairs * flags.runs * 2):
        measure(flags, folder / f"run{number:03}.jsonl")
    if flags.real:
        for number in range(flags.planted):
            part = (flags.parts.split(",") * flags.planted)[number]
            paths = [folder / f"slowed-{number}-{part}-{run}.jsonl" for run in range(flags.runs)]
            for path in paths:
                measure(flags, path, ("scripts/slowed_part.py", part, str(flags.slower)))
            real.append([*map(load_run, paths)])
    pairs = pairs_of(folder, flags.runs, flags.pairs)
    without_change(pairs, flags.margin)
    with_change(pairs[: flags.planted], flags, ())
    if real:
        print("slowed in the program:")
        with_change(pairs[: len(real)], flags, real)


if __name__ == "__main__":
    main()
