"""python -m analysis split --model M --hardware H ...: how far to split a layer; --figure DIR: over all hardware."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.split.rows import csv_rows
from analysis.split.scaling import Question, scale
from analysis.split.survey import COLUMNS, STRATEGIES, survey, survey_rows
from analysis.verbs.output import make_console, write_csv, writing
from analysis.verbs.split_output import Machine, print_json, print_tables
from tp.case import PHASES, Phase, Workload
from tp.case import STRATEGIES as ALL_STRATEGIES
from tp.cost.choose import make_theories, named_theory
from tp.cost.known import known_calibration
from tp.errors import ConfigError
from tp.flags import choice, comma_list, parse_flags, positive_int
from tp.hardware import load_network
from tp.model import load_model
from tp.probe import native_dtypes, resolve_node
from tp.suite import Defaults, defaults
from tp.units import DTYPES

# Without --tp this many nodes are looked at where a network joins them.
NODES: Final = 8
MOST_TP: Final = 1024
# Wide enough in a pipe for two targets beside two intervals.
WIDTH: Final = 170
MOST_PANELS: Final = 3
LEAST_TARGET: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFlags:
    """Up to which tensor-parallel degree a layer keeps its efficiency, and the link that each degree would need."""

    model: str = ""
    """A name of configs/models or a TOML file (default: llama2-70b on GPUs, tinyllama-1.1b on a CPU)."""
    hardware: str = "h100-sxm"
    """A name of configs/hardware, a TOML file, or auto."""
    link: str = ""
    """Which of the hardware's links (default: its first)."""
    network: str = ""
    """Joins such nodes, a port for each device: a name of configs/networks or a TOML file."""
    theory: str = ""
    """article, datasheet or calibrated (default: calibrated; on a CPU without --calibration datasheet)."""
    calibration: str = ""
    """File of `python -m analysis calibrate` (default: what is shipped for the GPU, or expected of its data sheet)."""
    tp: str = ""
    """The largest degree looked at (default: the devices of a node, of 8 nodes with --network)."""
    strategy: str = ",".join(STRATEGIES)
    phase: str = ""
    """prefill, train or decode (default: prefill,train; in a figure prefill)."""
    batch: str = "1"
    seq: str = ""
    """Tokens a sequence; in decode the context (default: 4096 on GPUs, 256 on a CPU)."""
    context: str = ""
    """In decode, where it differs from --seq."""
    dtype: str = ""
    """fp32, bf16, fp16 or fp8 (default: what suits the hardware)."""
    efficiency: str = "0.8,0.5"
    """The efficiencies T(1)/(n T(n)) asked for."""
    json: bool = False
    """Print everything as JSON instead of tables."""
    csv: str = ""
    """Also write one row a strategy, phase and degree to this file."""
    figure: str = ""
    """Draw the degrees of the whole catalogue of hardware into this folder instead, as SVG, PNG and CSV."""


def split(args: Sequence[str]) -> None:
    """Show the efficiency of every degree and how far each strategy carries, or draw that for all hardware."""
    flags = parse_flags(SplitFlags, args, prog="analysis split", description=SplitFlags.__doc__ or "")
    targets = _targets(flags.efficiency)
    if flags.figure:
        _draw(flags, targets)
        return
    machine = _machine(flags)
    questions = _questions(flags, machine, targets)
    strategies = comma_list(
        flags.strategy, lambda word: choice(word, ALL_STRATEGIES, flag="--strategy"), flag="--strategy"
    )
    curves = [curve for question in questions for curve in scale(question, strategies)]
    if flags.csv:
        write_csv(csv_rows(curves), Path(flags.csv), flag="--csv")
    if flags.json:
        print_json(machine, questions, curves)
    else:
        print_tables(make_console(plain_width=WIDTH, least_width=WIDTH), machine, questions, curves)


def _machine(flags: SplitFlags) -> Machine:
    node = resolve_node(flags.hardware)
    link = node.link(flags.link or None)
    network = load_network(flags.network) if flags.network else None
    if network is not None and node.device.kind != "gpu":
        raise ConfigError(f"--network {flags.network}: only nodes of GPUs are priced over a network; leave it out")
    known = known_calibration(flags.calibration, node, link)
    theories = make_theories(
        node=node, link=link, calibration=known.calibration if known is not None else None, network=network
    )
    theory = named_theory(theories, flags.theory)
    if link.one_way_bytes_per_s is None and theory.name != "calibrated":
        raise ConfigError(
            f"--hardware {flags.hardware}: nobody states the rate of its link {link.name}, so nothing prices what is "
            f"sent; measure, and give --calibration FILE"
        )
    return Machine(node=node, link=link, network=network, theory=theory, known=known)


def _questions(flags: SplitFlags, machine: Machine, targets: tuple[float, ...]) -> list[Question]:
    chosen = defaults("cuda" if machine.is_gpu else "cpu", native_dtypes())
    model = load_model(flags.model or chosen.model)
    workloads = _workloads(flags, chosen, flags.phase or "prefill,train")
    dtype = workloads[0].dtype
    if machine.theory.name != "calibrated" and machine.node.device.dense_peak(dtype) is None:
        raise ConfigError(
            f"--dtype {dtype}: nobody states a dense peak of {machine.node.name} in it, so nothing prices products; "
            f"measure, and give --calibration FILE"
        )
    return [
        Question(
            model=model,
            workload=workload,
            theory=machine.theory,
            backend="nccl" if machine.is_gpu else "gloo",
            most=_most(flags, machine),
            targets=targets,
            node=machine.node,
        )
        for workload in workloads
    ]


def _most(flags: SplitFlags, machine: Machine) -> int:
    """The largest degree: within a node, or within as many as are asked for where a network joins them."""
    devices = machine.node.num_devices
    if not flags.tp:
        return devices if machine.network is None else NODES * devices
    most = positive_int(flags.tp, flag="--tp")
    if most > MOST_TP:
        raise ConfigError(f"--tp {most}: more than {MOST_TP}; no layer is split so far")
    if machine.network is None and most > devices:
        plural = "" if devices == 1 else "s"
        raise ConfigError(
            f"--tp {most}: {machine.node.name} has {devices} device{plural} a node; name the --network that joins such "
            f"nodes"
        )
    return most


def _workloads(flags: SplitFlags, chosen: Defaults, phase: str) -> list[Workload]:
    phases = comma_list(phase, lambda word: choice(word, PHASES, flag="--phase"), flag="--phase")
    if flags.context and "decode" not in phases:
        raise ConfigError(f"--context {flags.context}: only decode has a context of its own; add --phase decode")
    seq = positive_int(flags.seq, flag="--seq") if flags.seq else chosen.seq
    context = positive_int(flags.context, flag="--context") if flags.context else seq
    batch = positive_int(flags.batch, flag="--batch")
    dtype = choice(flags.dtype, DTYPES, flag="--dtype") if flags.dtype else chosen.dtype

    def workload(each: Phase) -> Workload:
        decodes = each == "decode"
        return Workload(
            phase=each, batch=batch, seq=1 if decodes else seq, context=context if decodes else seq, dtype=dtype
        )

    return list(map(workload, phases))


def _targets(text: str) -> tuple[float, ...]:
    targets = comma_list(text, _target, flag="--efficiency")
    if len(set(targets)) < len(targets):
        raise ConfigError(f"--efficiency {text}: a share is given twice; name it once")
    return targets


def _target(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_TARGET <= value < 1:
        raise ConfigError(f"--efficiency {text}: not a share from {LEAST_TARGET:g} to 1; give some such as 0.8,0.5")
    return value


def _draw(flags: SplitFlags, targets: tuple[float, ...]) -> None:
    """The figure and its numbers; what is of one machine alone is refused beside it."""
    for name in ("link", "network", "theory", "calibration", "tp", "csv"):
        if getattr(flags, name):
            raise ConfigError(f"--figure: draws all hardware under two theories; leave out --{name}")
    if flags.json or flags.hardware != SplitFlags().hardware or flags.strategy != SplitFlags().strategy:
        raise ConfigError("--figure: draws all hardware and three strategies; leave out --hardware, --strategy, --json")
    if len(targets) > MOST_PANELS:
        raise ConfigError(f"--efficiency {flags.efficiency}: a figure has at most {MOST_PANELS} panels; name fewer")
    chosen = defaults("cuda", native_dtypes())
    workloads = _workloads(flags, chosen, flags.phase or "prefill")
    if len(workloads) > 1:
        raise ConfigError(f"--phase {flags.phase}: a figure shows one phase; name one")
    model, (workload,) = load_model(flags.model or chosen.model), workloads
    from analysis.figures.drawing import save
    from analysis.split.figure import in_groups, split_chart

    rows = in_groups(survey(model, workload, targets))
    chart = split_chart(rows, model=model, workload=workload, targets=targets)
    folder = Path(flags.figure)
    with writing("--figure", folder):
        folder.mkdir(parents=True, exist_ok=True)
        save(chart, folder)
    numbers = folder / f"{chart.name}.csv"
    write_csv(survey_rows(rows, workload), numbers, flag="--figure", names=COLUMNS)
    for suffix in ("svg", "png", "csv"):
        make_console().print(f"{folder / chart.name}.{suffix}", markup=False, soft_wrap=True)
    make_console().print(chart.alternative, markup=False)
