"""python -m analysis import torch-profiler TRACE... --out steps.csv [--model M --hardware H --tp N ...]"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from analysis.profiler.collectives import Sent, sent_collectives
from analysis.profiler.compare import BESIDE_LAYERS, Compared, compare
from analysis.profiler.load import Traces, load_traces
from analysis.profiler.show import print_collectives, print_estimate, print_kernels, print_steps, verdict
from analysis.profiler.steps import KernelTime, StepTimes, kernel_times, outside, step_times
from analysis.profiler.table import collective_rows, estimate_rows, kernel_rows, step_rows
from analysis.verbs.output import Inputs, make_console, note, require, write_csv
from tp.case import PHASES, STRATEGIES
from tp.cost.choose import choose_chunks, make_theories, named_theory
from tp.cost.known import known_calibration
from tp.cost.theory import Theory
from tp.errors import ConfigError
from tp.flags import choice, parse_flags, positive_int
from tp.hardware import Node
from tp.model import ModelShape, load_model
from tp.plan.ops import Backend
from tp.probe import native_dtypes, resolve_node
from tp.suite import Suite, defaults, expand
from tp.units import DTYPES

PROG: Final = "analysis import torch-profiler"
CPU_TRACE: Final = (
    "a CPU trace: compute is the operators' self time on all threads, communication that of gloo's threads; what"
    " Python and autograd spend between operators is idle"
)
ESTIMATE_FLAGS: Final = (
    *("model", "hardware", "link", "calibration", "tp", "strategy", "phase", "batch", "seq", "dtype", "layers"),
)
COLLECTIVE_COLUMNS: Final = (
    *("rank", "device", "step", "collective", "group", "group_size", "size_bytes"),
    *("count", "total_s", "shortest_s", "wait_s", "skew_s"),
)
MEASURED: Final = (
    "measured: median over steps, compute of the rank that computes longest, communication and exposed of the rank with"
    " the least, which waits least"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerFlags:
    """Read torch profiler traces, one a rank: what a step computes, sends, hides and waits for.

    With --model and --hardware the estimate of its layers stands beside it.
    """

    traces: Inputs = ()
    """Files of export_chrome_trace or tensorboard_trace_handler, .json or .json.gz."""
    out: str = ""
    """Write one row a (trace, rank, device, step) to this .csv file."""
    collectives: str = ""
    """Write one row a (rank, step, collective, group, bytes) to this .csv file."""
    json: bool = False
    """Print everything as JSON instead of tables."""
    model: str = ""
    """A name of configs/model or a TOML file: estimate its layers (needs --hardware; so do all flags below)."""
    hardware: str = ""
    """A name of configs/hardware, a TOML file, or auto."""
    link: str = ""
    """Which of the hardware's links (default: its first)."""
    calibration: str = ""
    """File of `python -m analysis calibrate` (default: what is shipped for the GPU, or expected of its data sheet)."""
    tp: str = ""
    """Tensor-parallel degree (default: all ranks)."""
    strategy: str = ""
    """How layers are split (default: allreduce)."""
    phase: str = ""
    """train, prefill or decode (default: train)."""
    batch: str = ""
    """Sequences that a layer is given at once (default: 1)."""
    seq: str = ""
    """Tokens a sequence, in decode the context (default: 4096 on GPUs, 256 on a CPU)."""
    dtype: str = ""
    """fp32, bf16, fp16 or fp8 (default: what suits the hardware)."""
    layers: str = ""
    """Layers that a rank runs in a step, times its micro-batches (default: the model's)."""


def import_profiler(args: Sequence[str]) -> None:
    """Say what the steps of the traces spend, and write it to the files that are asked for."""
    flags = parse_flags(ProfilerFlags, args, prog=PROG, description=ProfilerFlags.__doc__ or "")
    _require_whole_estimate(flags)
    _require_outputs(flags)
    found = _find(flags)
    if flags.out:
        write_csv(step_rows(found.steps, found.sent), Path(flags.out), flag="--out")
    if flags.collectives:
        rows = collective_rows(found.sent)
        write_csv(rows, Path(flags.collectives), flag="--collectives", names=COLLECTIVE_COLUMNS)
    if flags.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print(make_console(), found)
        for problem in found.notes:
            note(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the traces say, and the estimate beside it."""

    traces: Traces
    steps: Sequence[StepTimes]
    sent: Sequence[Sent]
    kernels: Sequence[KernelTime]
    notes: Sequence[str]
    estimate: "_Estimate | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """An estimate of a step's layers, and what it is of."""

    what: str
    beside: str
    """What a step has that the estimate has not."""
    compared: Sequence[Compared]


def _find(flags: ProfilerFlags) -> _Found:
    # The estimate's flags are looked at before the traces, which may take minutes to read.
    plan = _Plan.of(flags) if flags.model else None
    traces = load_traces([Path(name) for name in flags.traces])
    steps = [found for trace in traces.traces for found in step_times(trace)]
    sent, unmatched = sent_collectives(traces)
    return _Found(
        traces=traces,
        steps=steps,
        sent=sent,
        kernels=kernel_times(traces.traces),
        notes=[*traces.notes, *(told for trace in traces.traces if (told := outside(trace))), *unmatched],
        estimate=None if plan is None else plan.compare(steps, world=traces.world_size),
    )


def _require_whole_estimate(flags: ProfilerFlags) -> None:
    """The flags of the estimate mean nothing without a model and its hardware."""
    given = next((name for name in ESTIMATE_FLAGS if getattr(flags, name)), None)
    if given is not None:
        require(flags.model, "--model", f"the traced model, as --{given} asks for an estimate of its layers")
        require(flags.hardware, "--hardware", f"what the traces ran on, as --{given} asks for an estimate")


def _require_outputs(flags: ProfilerFlags) -> None:
    """Nothing that is read is written over, and no table over the other."""
    taken = {Path(name).resolve() for name in flags.traces}
    for flag, name in (("--out", flags.out), ("--collectives", flags.collectives)):
        if not name:
            continue
        if Path(name).suffix.lower() != ".csv":
            raise ConfigError(f"{flag} {name}: is no .csv file; name one such as steps.csv")
        if Path(name).resolve() in taken:
            raise ConfigError(f"{flag} {name}: is a file that is read or written already; name another one")
        taken.add(Path(name).resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the flags say of the layers; the degree may still be that of the traces."""

    model: ModelShape
    node: Node
    theory: Theory
    label: str
    suite: Suite
    tp: int | None
    num_layers: int

    @classmethod
    def of(cls, flags: ProfilerFlags) -> "_Plan":
        node = resolve_node(flags.hardware)
        link = node.link(flags.link or None)
        known = known_calibration(flags.calibration, node, link)
        theory = named_theory(
            make_theories(node=node, link=link, calibration=known.calibration if known is not None else None), ""
        )
        is_calibrated = known is not None and theory.name == "calibrated"
        model = load_model(flags.model)
        return cls(
            model=model,
            node=node,
            theory=theory,
            label=f"{theory.name}{f', calibration {known.label}' if known is not None and is_calibrated else ''}",
            suite=_suite(flags),
            tp=positive_int(flags.tp, flag="--tp") if flags.tp else None,
            num_layers=positive_int(flags.layers, flag="--layers") if flags.layers else model.num_layers,
        )

    def compare(self, steps: Sequence[StepTimes], *, world: int) -> _Estimate:
        backend: Backend = "nccl" if self.node.device.kind == "gpu" else "gloo"
        (case,) = expand(
            replace(self.suite, tp=(self.tp or world,)),
            "block",
            world=None,
            chosen=defaults("cuda" if self.node.device.kind == "gpu" else "cpu", native_dtypes()),
            choose_chunks=lambda case: choose_chunks(case, [self.theory], backend=backend),
        )
        compared = compare(steps, case, self.theory, backend=backend, num_layers=self.num_layers)
        return _Estimate(
            what=f"{self.num_layers} layers of {case.case.key} on {self.node.name} ({self.label})",
            beside=BESIDE_LAYERS[case.case.workload.phase],
            compared=compared,
        )


def _suite(flags: ProfilerFlags) -> Suite:
    suite = Suite(
        name="traced",
        model=(flags.model,),
        strategy=(choice(flags.strategy or "allreduce", STRATEGIES, flag="--strategy"),),
        phase=(choice(flags.phase or "train", PHASES, flag="--phase"),),
        batch=(positive_int(flags.batch, flag="--batch") if flags.batch else 1,),
        seq=(positive_int(flags.seq, flag="--seq"),) if flags.seq else (),
    )
    return replace(suite, dtype=choice(flags.dtype, DTYPES, flag="--dtype")) if flags.dtype else suite


def _print(console: Console, found: _Found) -> None:
    console.print(verdict(found.steps, found.sent), markup=False, soft_wrap=True)
    if found.traces.is_cpu:
        console.print(CPU_TRACE, markup=False, soft_wrap=True)
    print_steps(console, found.steps, found.sent)
    print_collectives(console, found.sent)
    print_kernels(console, found.kernels, num_steps=len(found.steps))
    if found.estimate is not None:
        console.print(f"estimate: {found.estimate.what}", markup=False, soft_wrap=True)
        print_estimate(console, found.estimate.compared)
        told = f"{MEASURED}; the estimate is without {found.estimate.beside}"
        console.print(told, markup=False, soft_wrap=True)


def _as_json(found: _Found) -> dict[str, Any]:
    estimate = found.estimate
    return {
        "verdict": verdict(found.steps, found.sent),
        "is_cpu": found.traces.is_cpu,
        "world_size": found.traces.world_size,
        "steps": step_rows(found.steps, found.sent),
        "collectives": collective_rows(found.sent),
        "kernels": kernel_rows(found.kernels),
        "estimated": None if estimate is None else estimate.what,
        "estimate": [] if estimate is None else estimate_rows(estimate.compared),
        "notes": list(found.notes),
    }
