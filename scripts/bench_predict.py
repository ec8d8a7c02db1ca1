"""How many layer configurations a second `analysis predict` estimates over a grid, on one core.

    python scripts/bench_predict.py [--calibration FILE ...] [--strategy S,S] [--block B]

Timed are plans, prices, schedules and the totals at every point, from nothing; with memory and all columns apart. The
theories take turns, and so do some of the same configurations one at a time.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.forecast.grid import WHOLES, Grid, estimates, grid_columns, make_grid
from tp.case import STRATEGIES, Case
from tp.cost.choose import choose_chunks, make_theories
from tp.cost.known import load_calibration
from tp.cost.theory import Theory, estimate_plan
from tp.flags import int_ranges
from tp.hardware import Node, load_node
from tp.plan.build import build_plan
from tp.plan.shards import token_misfit
from tp.suite import Defaults, Suite

# Configurations that are estimated one at a time, drawn at random from the grid.
NUM_ALONE = 100


def one_by_one(cases: Sequence[Case], theory: Theory) -> None:
    for case in cases:
        chunks = choose_chunks(case, [theory], backend="nccl")
        estimate_plan(build_plan(replace(case, chunks=chunks), backend="nccl"), theory)


def all_at_once(grid: Grid, theory: Theory) -> None:
    for _ in estimates(grid, theory, WHOLES, backend="nccl"):
        pass


def with_memory(grid: Grid, theory: Theory, node: Node) -> None:
    for _ in grid_columns(grid, theory, backend="nccl", device=node.device, with_parts=False):
        pass


def seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def drawn(grid: Grid) -> list[Case]:
    """Some configurations that can run, the same ones each time."""
    random.seed(0)
    found: list[Case] = []
    while len(found) < NUM_ALONE:
        case = random.choice(grid.cases)
        points = grid.points[case.workload.phase]
        at = random.randrange(len(points))
        batch, seq, context = (int(sizes[at]) for sizes in (points.batch, points.seq, points.context))
        case = replace(case, workload=replace(case.workload, batch=batch, seq=seq, context=context))
        if token_misfit(case) is None:
            found.append(case)
    return found


def spread(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):12,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, nargs="*", default=[], help="of the hardware, to be timed too")
    parser.add_argument("--hardware", default="h100-sxm")
    parser.add_argument("--model", default="llama2-70b")
    parser.add_argument("--block", default="block")
    parser.add_argument("--tp", default="1,2,4,8")
    parser.add_argument("--strategy", default="columns,allreduce,sequence")
    parser.add_argument("--phase", default="prefill,train")
    parser.add_argument("--batch", default="1:64")
    parser.add_argument("--seq", default="128:32768:128")
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    flags = parse()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    suite = Suite(
        name="grid",
        model=(flags.model,),
        tp=int_ranges(flags.tp, flag="--tp"),
        strategy=tuple(flags.strategy.split(",")),
        phase=tuple(flags.phase.split(",")),
        batch=int_ranges(flags.batch, flag="--batch"),
        seq=int_ranges(flags.seq, flag="--seq"),
    )
    chosen = Defaults(model=flags.model, seq=4096, dtype="bf16", strategies=STRATEGIES)

    def grid() -> Grid:
        return make_grid(suite, flags.block, chosen=chosen)

    node = load_node(flags.hardware)
    theories = {"datasheet": make_theories(node=node, link=node.link(), calibration=None)[-1]}
    for path in flags.calibration:
        calibration = load_calibration(path, device=node.device.name)
        theories[str(path)] = make_theories(node=node, link=node.link(), calibration=calibration)[-1]
    size, cases = len(grid()), drawn(grid())
    print(f"{size:,} configurations: {flags.block} of {flags.model}, {flags.strategy}, {flags.phase}, tp {flags.tp}")
    print(f"configurations a second on one core, median and extremes of {flags.repeats} repeats that take turns")
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(flags.repeats):
        for name, theory in theories.items():
            ways: dict[str, tuple[int, Callable[[], None]]] = {
                "grid": (size, lambda theory=theory: all_at_once(grid(), theory)),  # type: ignore[misc]
                "grid, memory, columns": (size, lambda theory=theory: with_memory(grid(), theory, node)),  # type: ignore[misc]
                "one at a time": (len(cases), lambda theory=theory: one_by_one(cases, theory)),  # type: ignore[misc]
            }
            for way, (number, run) in ways.items():
                rates.setdefault((name, way), []).append(number / seconds(run))
    for (name, way), found in rates.items():
        times = statistics.median(found) / statistics.median(rates[name, "one at a time"])
        print(f"  {name:24}  {way:22} {spread(found)}, {times:,.0f} times one at a time")


if __name__ == "__main__":
    main()
