"""A run on this rank, from the record file and the process group to the line that says how it ended."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from rich.console import Console

from bench.harness.machine.probe import make_probe
from bench.harness.record.files import RecordWriter
from bench.harness.record.records import Header
from bench.harness.run.cli import RunSettings
from bench.harness.run.lines import end_line, header_line
from bench.harness.timing.clock import make_clock
from bench.harness.timing.task import Instruments
from bench.harness.world.faults import Guard, Interrupted, interruptible
from bench.harness.world.launch import joined, pick_device
from bench.harness.world.ranks import Ranks
from tp.errors import ConfigError, MeasurementError


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a run has once its ranks have met."""

    header: Header
    device: torch.device
    instruments: Instruments
    writer: RecordWriter
    console: Console

    @property
    def ranks(self) -> Ranks:
        return self.instruments.ranks


@contextmanager
def session(run: RunSettings, console: Console) -> Iterator[Session]:
    """Open the record, meet the other ranks, write the header; at the end, write how it ended.

    Raises RunEnded, which says why in one line, when any rank fails or is interrupted.
    """
    # What was imported stays: the collector need not look through it before each measurement, for 0.2 s.
    gc.collect()
    gc.freeze()
    with RecordWriter(run.out, active=run.launch.leads) as writer:
        for note in writer.notes:
            console.print(f"note: {note}", markup=False)
        # Signals end a rank that still waits for others the plain way: nothing was written, and C++ would not let go.
        with joined(run.launch, run.device, timeout_s=run.timeout_s) as (ranks, store), interruptible():
            remedy = f"what was measured is in {run.out}, add --resume to go on"
            guard = Guard(store, ranks, timeout_s=run.timeout_s, remedy=remedy)
            try:
                yield _opened(run, ranks, guard, writer, console)
            except ConfigError:
                raise
            except (Exception, Interrupted) as error:
                ended = guard.explain(error)
                with suppress(MeasurementError):  # the disk may be what failed
                    writer.append(end_line(ended, interrupted=ended.exit_code > 128))
                raise ended from error
        writer.append(end_line())


def _opened(run: RunSettings, ranks: Ranks, guard: Guard, writer: RecordWriter, console: Console) -> Session:
    commands = ranks.gather_objects(run.command[1:])
    other = next((rank for rank, command in enumerate(commands) if command != commands[0]), None)
    if other is not None:
        raise MeasurementError(
            f"rank {other} was started with other flags than rank 0: {' '.join(commands[other])}; start all alike"
        )
    device = pick_device(run.device, run.launch)
    if device.type == "cuda" and ranks.size > 1:
        guard.watch()
    clock = make_clock(device, cold=run.method.cold)
    probe = make_probe(device)
    header = header_line(run, ranks, clock, probe)
    writer.append(header)
    for warning in header.warnings:
        console.print(f"warning: {warning}", markup=False)
    return Session(
        header=header,
        device=device,
        instruments=Instruments(clock=clock, ranks=ranks, probe=probe, guard=guard),
        writer=writer,
        console=console,
    )
