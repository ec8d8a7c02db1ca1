"""python -m analysis plan --model M --hardware H --gpus N: what a whole model needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.planner.alone import advice, sentences
from analysis.planner.export import description, rows
from analysis.planner.layout import Ranking
from analysis.planner.rank import plan_layouts
from analysis.planner.request import MICRO_BATCHES, NEW_TOKENS, OPTIMIZERS, PHASES, Request, make_request
from analysis.planner.show import heading, print_ranking
from analysis.verbs.output import make_console, note, write_csv, writing
from tp.case import RECOMPUTES, STRATEGIES
from tp.cost.known import KnownCalibration, known_calibration
from tp.cost.theory import THEORIES
from tp.errors import ConfigError
from tp.flags import choice, comma_list, int_ranges, parse_flags, positive_int
from tp.hardware import load_network
from tp.model import load_model
from tp.probe import resolve_node
from tp.units import DTYPES

# Wide enough in a pipe for a line a layout with its reason.
WIDTH: Final = 190
LEAST_WIDTH: Final = 160
# Beyond these a number is a slip of the pen.
MOST_GPUS: Final = 1_000_000
MOST_BATCH: Final = 100_000_000
MOST_TOKENS: Final = 10_000_000
MOST_MICRO_BATCH: Final = 4096
MOST_MICRO_BATCHES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    """Rank the layouts tp x pp x dp of a whole model on so many GPUs: memory, time, and why each loser lost."""

    model: str = "llama2-70b"
    """A name of configs/models or a TOML file."""
    hardware: str = "h100-sxm"
    """A name of configs/hardware, a TOML file, or auto."""
    gpus: str = ""
    """How many (default: those of one node)."""
    phase: str = "train"
    """train or serve."""
    batch: str = ""
    """Train: sequences of a step, over all replicas (default: the GPUs times the power of two that makes 1024 or more,
    so that every layout divides it). Serve: sequences at once (default: 64)."""
    seq: str = ""
    """Tokens of a sequence, in serving of a prompt (default: 4096, serve 2048)."""
    new_tokens: str = ""
    """Serve: tokens made of each sequence (default: 256)."""
    micro_batch: str = ",".join(map(str, MICRO_BATCHES))
    """Sequences of a micro-batch, of which the best is chosen; also ranges LO:HI."""
    strategy: str = "allreduce,sequence,overlap"
    """Of which the best is chosen for each layout."""
    recompute: str = ""
    """Train: none, selective, full, of which the best is chosen (default: all three)."""
    optimizer: str = ""
    """Train: sharded, its states cut over the replicas (ZeRO-1), or replicated (default: sharded)."""
    network: str = ""
    """What joins nodes, a port a GPU: a name of configs/networks or a TOML file (default: infiniband-200 of Ampere and
    Ada, else infiniband-400)."""
    tp_across_nodes: bool = False
    """Also layouts whose TP groups span nodes."""
    link: str = ""
    """Which of the hardware's links (default: its first)."""
    dtype: str = ""
    """bf16, fp16 or fp32; serve also fp8 (default: bf16)."""
    theory: str = ""
    """datasheet or calibrated (default: calibrated)."""
    calibration: str = ""
    """File of `python -m analysis calibrate` (default: what is shipped for the GPU, or expected of its data sheet)."""
    show: str = "10"
    """Layouts to show."""
    json: bool = False
    """All layouts as JSON, and nothing else."""
    csv: str = ""
    """Also write one row a layout to this file."""
    figure: str = ""
    """Also draw step time beside memory into this folder, as SVG and PNG."""


def plan(args: Sequence[str]) -> None:
    """Rank the layouts and show them; that none fits is an answer too."""
    flags = parse_flags(PlanFlags, args, prog="analysis plan", description=PlanFlags.__doc__ or "")
    most = _whole(flags.show, "--show", MOST_GPUS)
    request, known = _request(flags)
    ranking = plan_layouts(request)
    if flags.csv:
        write_csv(rows(ranking), Path(flags.csv), flag="--csv")
    if flags.figure:
        _draw(request, ranking, Path(flags.figure))
    if flags.json:
        print(json.dumps({"request": description(request), "layouts": rows(ranking)}, indent=1))
        return
    console = make_console(plain_width=WIDTH, least_width=LEAST_WIDTH)
    for line in heading(request):
        console.print(line, markup=False)
    origin = f" (calibration {known.label})" if known is not None and request.theory.name == "calibrated" else ""
    console.print(f"theory: {request.theory.name}{origin}\n", markup=False)
    print_ranking(console, request, ranking, most=most)
    if request.phase == "train" and ranking.best is None:
        console.print(f"\n{advice(request)}", markup=False)
    if request.phase == "train" and request.num_gpus > 1:
        console.print()
        for line in sentences(request, ranking):
            console.print(line, markup=False)


def _request(flags: PlanFlags) -> tuple[Request, KnownCalibration | None]:
    phase = choice(flags.phase, PHASES, flag="--phase")
    for name in ("recompute", "optimizer") if phase == "serve" else ("new_tokens",):
        if getattr(flags, name):
            other = "train" if phase == "serve" else "serve"
            raise ConfigError(
                f"--{name.replace('_', '-')} {getattr(flags, name)}: is of --phase {other} alone; drop it"
            )
    node, recomputes = resolve_node(flags.hardware), flags.recompute or ",".join(RECOMPUTES)
    link = node.link(flags.link or None)
    sizes = int_ranges(flags.micro_batch, flag="--micro-batch", most=MOST_MICRO_BATCHES)
    if max(sizes) > MOST_MICRO_BATCH:
        raise ConfigError(f"--micro-batch {max(sizes)}: more than {MOST_MICRO_BATCH:,}; give fewer sequences")
    known = known_calibration(flags.calibration, node, link)
    request = make_request(
        load_model(flags.model),
        node,
        _whole(flags.gpus, "--gpus", MOST_GPUS) if flags.gpus else node.num_devices,
        phase=phase,
        theory=choice(flags.theory, THEORIES, flag="--theory") if flags.theory else None,
        calibration=known,
        link=link,
        network=load_network(flags.network) if flags.network else None,
        batch=_whole(flags.batch, "--batch", MOST_BATCH) if flags.batch else None,
        seq=_whole(flags.seq, "--seq", MOST_TOKENS) if flags.seq else None,
        dtype=choice(flags.dtype, DTYPES, flag="--dtype") if flags.dtype else "bf16",
        optimizer=choice(flags.optimizer, OPTIMIZERS, flag="--optimizer") if flags.optimizer else "sharded",
        new_tokens=_whole(flags.new_tokens, "--new-tokens", MOST_TOKENS) if flags.new_tokens else NEW_TOKENS,
        micro_batches=sizes,
        strategies=comma_list(flags.strategy, lambda w: choice(w, STRATEGIES, flag="--strategy"), flag="--strategy"),
        recomputes=comma_list(recomputes, lambda w: choice(w, RECOMPUTES, flag="--recompute"), flag="--recompute"),
        tp_across_nodes=flags.tp_across_nodes,
    )
    return request, known


def _whole(text: str, flag: str, most: int) -> int:
    number = positive_int(text, flag=flag)
    if number > most:
        raise ConfigError(f"{flag} {text}: more than {most:,}; give less")
    return number


def _draw(request: Request, ranking: Ranking, folder: Path) -> None:
    from analysis.figures.drawing import save  # matplotlib takes a second to load
    from analysis.planner.figure import layouts_chart

    with writing("--figure", folder):
        folder.mkdir(parents=True, exist_ok=True)
        save(layouts_chart(request, ranking), folder)
    note(f"figure: {folder}")
