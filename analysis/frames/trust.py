"""How far measurements can be trusted, as frames: ranks, arrivals, contention and traffic; state.py has the machine.

A case without a speed has no row in any of them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd

from analysis.frames.parts import status_of
from analysis.frames.rows import Row, frame_of
from analysis.load import Case, Run
from bench.harness.record.arrivals import Arrivals, of_pass, part_name, within_pass
from bench.harness.record.grouping import Groups, by_group
from bench.harness.record.interference import contention, over_ranks, sent_over_planned
from bench.harness.record.names import COMMUNICATION, COMPUTE, DELAYED, FULL, PARTS, SERIAL
from bench.harness.record.records import HostTraffic, OpResult, Samples, Traffic
from tp.plan.ops import Collective
from tp.units import format_bytes

RANK_COLUMNS: Final = (
    "record",
    "case",
    "whole",
    "ranks",
    "slowest_s",
    "slowest_low_s",
    "slowest_high_s",
    "fastest_s",
    "fastest_low_s",
    "fastest_high_s",
    "spread_s",
    "spread_share",
    "samples",
    "stopped_by",
    "host_bound",
    "warmup_rounds",
)
# `measured_in`: in a pass of nothing but the case's communication, in a pass of the whole case, or alone. `..._change`:
# what the planted delay made of it, over what it was, less one. `early_share`: of the passes in which a rank was done
# before the last one came, which none can be with a collective: what was timed is the wait for one sent before.
ARRIVAL_COLUMNS: Final = (
    "record",
    "case",
    "collective",
    "measured_in",
    "samples",
    "skew_s",
    "skew_p95_s",
    "transfer_s",
    "transfer_low_s",
    "transfer_high_s",
    "last_rank",
    "last_share",
    "early_share",
    "planted_s",
    "delayed_rank",
    "delayed_skew_s",
    "delayed_transfer_s",
    "transfer_change",
)
# `exposed_s` is derived: full less compute alone.
CONTENTION_COLUMNS: Final = (
    "record",
    "case",
    "compute_s",
    "contended_compute_s",
    "compute_slowdown",
    "communication_s",
    "contended_communication_s",
    "communication_slowdown",
    "full_s",
    "overlap_percent",
    "exposed_s",
    "samples",
    "uncovered",
)
# `seen_per_rank_and_pass_bytes` is of one device; `seen_over_planned_ratio` of all devices of all hosts together.
TRAFFIC_COLUMNS: Final = (
    "record",
    "case",
    "host",
    "device",
    "ranks",
    "passes",
    "seen_bytes",
    "seen_per_rank_and_pass_bytes",
    "planned_per_rank_and_pass_bytes",
    "seen_over_planned_ratio",
    "unread",
)
WHOLES: Final = (COMPUTE, COMMUNICATION, SERIAL, FULL)


def _sound(runs: Sequence[Run]) -> Iterator[tuple[str, Case]]:
    return ((str(run.path), case) for run in runs for case in run.cases if status_of(case.result) == "ok")


def ranks_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a case and whole: the maximum and the minimum over ranks of each pass, and how it was sampled."""
    rows = [
        {"record": record, "case": case.result.key} | _ranks(samples)
        for record, case in _sound(runs)
        for samples in case.result.samples
        if samples.task in WHOLES
    ]
    return frame_of(rows, RANK_COLUMNS)


def _ranks(samples: Samples) -> Row:
    found = over_ranks(samples)
    slowest_s = found.slowest.median_s
    return {
        "whole": samples.task,
        "ranks": len(samples.times_s[0]),
        "slowest_s": slowest_s,
        "slowest_low_s": found.slowest.low_s,
        "slowest_high_s": found.slowest.high_s,
        "fastest_s": found.fastest.median_s,
        "fastest_low_s": found.fastest.low_s,
        "fastest_high_s": found.fastest.high_s,
        "spread_s": found.spread_s,
        "spread_share": found.spread_s / slowest_s if slowest_s else None,
        "samples": found.slowest.num_samples,
        "stopped_by": samples.stopped_by,
        "host_bound": samples.host_bound,
        "warmup_rounds": len(samples.warmup_s),
    }


def arrivals_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a case or op and collective; beside it the same with a delay planted on one rank, where there is one."""
    rows = [{"record": record} | row for record, case in _sound(runs) for row in _case_arrivals(case)]
    for run in runs:
        # Where a file was resumed, all its headers have the delay of their own runs: none is told if they differ.
        delays = {_planted_s(header.method) for header in run.headers}
        planted_s = delays.pop() if len(delays) == 1 else None
        rows += [{"record": str(run.path)} | row for line in run.ops for row in _op_arrivals(line, planted_s)]
    return frame_of(rows, ARRIVAL_COLUMNS)


def _case_arrivals(case: Case) -> Iterator[Row]:
    by_task = {samples.task: samples for samples in case.result.samples}
    planted_s = _planted_s(case.header.method)
    for task, where in ((COMMUNICATION, "communication alone"), (PARTS, "the whole case")):
        late = {each.name.removeprefix(DELAYED): each for each in _found(by_task, f"{DELAYED}{task}", case)}
        early = _early(by_task[task], case.result.grouping) if task in by_task else {}
        for each in _found(by_task, task, case):
            base: Row = {"case": case.result.key, "measured_in": where, "early_share": early.get(each.name, 0.0)}
            yield base | _arrivals(each, late.get(each.name), planted_s)


def _early(samples: Samples, groups: Groups) -> dict[str, float]:
    """By the collective within a pass, how often a rank of any group was done before the last one came."""
    shares = {}
    for part in samples.parts:
        if part.arrivals_s:
            arrivals = np.array(part.arrivals_s)
            begun, ends = by_group(arrivals, groups), by_group(arrivals + np.array(part.times_s), groups)
            shares[part_name(part)] = float((ends.min(axis=2) < begun.max(axis=2)).any(axis=1).mean())
    return shares


def _found(by_task: dict[str, Samples], task: str, case: Case) -> Sequence[Arrivals]:
    samples = by_task.get(task)
    if samples is None:
        return ()
    whole = of_pass(samples, groups=case.result.grouping) if task.endswith(COMMUNICATION) else None
    inside = within_pass(samples, case.planned.ops, groups=case.result.grouping)
    return tuple(inside) if whole is None else (whole,)


def _op_arrivals(line: OpResult, planted_s: float | None) -> Iterator[Row]:
    op = line.op
    if isinstance(op, Collective) and line.samples.starts_s:
        found = of_pass(line.samples, groups=line.grouping)
        late = None if line.delayed is None else of_pass(line.delayed, groups=line.grouping)
        if found is not None:
            name = f"{op.kind} of {format_bytes(op.size_bytes)}, {op.num_ranks} ranks, {op.dtype}"
            row = _arrivals(found, late, planted_s)
            yield row | {"case": "", "measured_in": "alone", "collective": name}


def _arrivals(found: Arrivals, late: Arrivals | None, planted_s: float | None) -> Row:
    row: Row = {
        "collective": found.name,
        "samples": found.skew.num_samples,
        "skew_s": found.skew.median_s,
        "skew_p95_s": found.skew.p95_s,
        "transfer_s": found.transfer.median_s,
        "transfer_low_s": found.transfer.low_s,
        "transfer_high_s": found.transfer.high_s,
        "last_rank": found.last_rank,
        "last_share": found.last_share,
    }
    if late is None:
        return row
    before_s, after_s = found.transfer.median_s, late.transfer.median_s
    return row | {
        "planted_s": planted_s,
        "delayed_rank": late.last_rank,
        "delayed_skew_s": late.skew.median_s,
        "delayed_transfer_s": after_s,
        "transfer_change": after_s / before_s - 1 if before_s else None,
    }


def _planted_s(method: dict[str, object]) -> float | None:
    delay = method.get("delay_s")
    return float(delay) if isinstance(delay, int | float) else None


def contention_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a case: compute and communication alone, each while the other runs, and both as the strategy runs them.

    `overlap_percent` is IMB-NBC's: 100 * max(0, min(1, (Tm + Tc - To) / min(Tm, Tc))) of the times alone and full.
    """
    rows = []
    for record, case in _sound(runs):
        found = contention(case.result)
        if found is None or not (found.compute_s and found.communication_s):
            continue
        cells = {name: getattr(found, name) for name in CONTENTION_COLUMNS if hasattr(found, name)}
        samples = min(len(each.times_s) for each in case.result.samples)
        rows.append({"record": record, "case": case.result.key, "samples": samples} | cells)
    return frame_of(rows, CONTENTION_COLUMNS)


def traffic_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a case, host and device that a counter saw something of, or that could not be read and why."""
    rows = [
        {"record": record, "case": case.result.key} | row
        for record, case in _sound(runs)
        if case.result.traffic is not None
        for host in case.result.traffic.hosts
        for row in _traffic(case.result.traffic, host)
    ]
    return frame_of(rows, TRAFFIC_COLUMNS)


def _traffic(traffic: Traffic, host: HostTraffic) -> Iterator[Row]:
    base: Row = {
        "host": host.host,
        "ranks": host.num_ranks,
        "passes": traffic.passes,
        "planned_per_rank_and_pass_bytes": traffic.planned_bytes,
        "seen_over_planned_ratio": sent_over_planned(traffic),
        "unread": "",
    }
    shares = traffic.passes * host.num_ranks
    for device, seen in host.sent_bytes.items():
        each = seen / shares if shares else None
        yield base | {"device": device, "seen_bytes": seen, "seen_per_rank_and_pass_bytes": each}
    for device, why in host.unread.items():
        yield base | {"device": device, "unread": why}
    if not host.sent_bytes and not host.unread:
        yield base | {"device": "", "unread": "no counter moved"}
