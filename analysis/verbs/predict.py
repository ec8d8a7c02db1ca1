"""python -m analysis predict --model M --hardware H --tp 1,2,4,8 ..."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.forecast.grid import column_names, grid_columns, make_grid
from analysis.forecast.grid_file import require_suffix
from analysis.forecast.predict import Prediction, prediction_table
from analysis.forecast.predict import predict as predict_cases
from analysis.verbs.degree_table import print_article
from analysis.verbs.grid_output import evaluate, print_summaries
from analysis.verbs.output import PLAIN_WIDTH, make_console, writing
from tp.case import BLOCKS, PHASES, STRATEGIES, Case
from tp.cost.choose import choose_chunks, make_theories, named_theory
from tp.cost.known import known_calibration
from tp.cost.theory import PartEstimate
from tp.flags import choice, comma_list, int_ranges, parse_flags
from tp.hardware import Node
from tp.model import load_model
from tp.plan.ops import PARTS, Backend
from tp.probe import native_dtypes, resolve_node
from tp.suite import Suite, defaults, expand
from tp.units import DTYPES, format_rate, format_seconds

# Cases that are shown one a line; of more a summary.
LARGEST_SHOWN: Final = 40
# Wide enough in a pipe for a column each of the twelve parts of a block.
WITH_PARTS_WIDTH: Final = 260


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictFlags:
    """Estimate attention, FFN or a whole block on a machine that need not be here."""

    block: str = "attention"
    """attention, ffn or block, a whole transformer layer."""

    model: str = "llama2-70b"
    """Models, names of configs/models or TOML files."""
    hardware: str = "h100-sxm"
    """A name of configs/hardware, a TOML file, or auto."""
    link: str = ""
    """Which of the hardware's links (default: its first)."""
    theory: str = ""
    """article, datasheet or calibrated (default: calibrated; on a CPU without --calibration datasheet)."""
    calibration: str = ""
    """File of `python -m analysis calibrate` (default: what is shipped for the GPU, or expected of its data sheet)."""
    tp: str = "1,2,4,8"
    """Tensor-parallel degrees; these, batch, seq and context also as ranges LO:HI or LO:HI:STEP, ends included."""
    strategy: str = "columns,allreduce,sequence"
    phase: str = "prefill,train"
    batch: str = "1"
    seq: str = ""
    """Tokens a sequence; in decode the context (default: 4096 on GPUs, 256 on a CPU)."""
    context: str = ""
    """In decode, where it differs from --seq."""
    dtype: str = ""
    """fp32, bf16 or fp16 (default: what suits the hardware)."""
    parts: bool = False
    """Also every part of the block, a column each."""
    out: str = ""
    """Also write one row a configuration, with its memory, to this .csv or .parquet file."""
    csv: str = ""
    """Also write one row a part and configuration to this file."""


def predict(args: Sequence[str]) -> None:
    """Estimate every case of the grid and show it; the article's theory comes with its arithmetic redone."""
    flags = parse_flags(PredictFlags, args, prog="analysis predict", description=PredictFlags.__doc__ or "")
    out = Path(flags.out) if flags.out else None
    if out is not None:
        require_suffix(out, flag="--out")
    node = resolve_node(flags.hardware)
    link = node.link(flags.link or None)
    known = known_calibration(flags.calibration, node, link)
    calibration = known.calibration if known is not None else None
    theory = named_theory(make_theories(node=node, link=link, calibration=calibration), flags.theory)
    suite = _suite(flags)
    chosen = defaults("cuda" if node.device.kind == "gpu" else "cpu", native_dtypes())
    block, backend = choice(flags.block, BLOCKS, flag="--block"), _backend(node)

    grid = make_grid(suite, block, chosen=chosen)
    is_small = len(grid) <= LARGEST_SHOWN

    def chunks(case: Case) -> int:
        return choose_chunks(case, [theory], backend=backend)

    predictions: list[Prediction] = []
    if is_small or flags.csv:
        cases = expand(suite, block, world=None, chosen=chosen, choose_chunks=chunks)
        predictions = predict_cases(cases, theory, backend=backend)
    console = make_console(plain_width=WITH_PARTS_WIDTH if flags.parts else PLAIN_WIDTH)
    if theory.name == "article":
        for name in suite.model:
            print_article(console, load_model(name))
    origin = f" (calibration {known.label})" if known is not None and theory.name == "calibrated" else ""
    console.print(f"theory: {theory.name}{origin}", markup=False)
    rate = "rate unknown" if link.one_way_bytes_per_s is None else f"{format_rate(link.one_way_bytes_per_s)} one way"
    console.print(f"{node.name} over {link.name} ({rate})", markup=False)
    if is_small:
        _print_predictions(console, predictions, with_parts=flags.parts)
    if out is not None or not is_small:
        found = evaluate(
            grid_columns(grid, theory, backend=backend, device=node.device, with_parts=flags.parts),
            column_names(with_parts=flags.parts),
            out=out,
        )
        if not is_small:
            print_summaries(console, found, node.device)
    if flags.csv:
        _write_csv(prediction_table(predictions), Path(flags.csv))


def _backend(node: Node) -> Backend:
    return "nccl" if node.device.kind == "gpu" else "gloo"


def _suite(flags: PredictFlags) -> Suite:
    suite = Suite(
        name="prediction",
        model=comma_list(flags.model, str, flag="--model"),
        tp=int_ranges(flags.tp, flag="--tp"),
        strategy=comma_list(flags.strategy, lambda w: choice(w, STRATEGIES, flag="--strategy"), flag="--strategy"),
        phase=comma_list(flags.phase, lambda w: choice(w, PHASES, flag="--phase"), flag="--phase"),
        batch=int_ranges(flags.batch, flag="--batch"),
        seq=int_ranges(flags.seq, flag="--seq") if flags.seq else (),
        context=int_ranges(flags.context, flag="--context") if flags.context else (),
    )
    return replace(suite, dtype=choice(flags.dtype, DTYPES, flag="--dtype")) if flags.dtype else suite


def _print_predictions(console: Console, predictions: Sequence[Prediction], *, with_parts: bool) -> None:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("case", no_wrap=True)
    estimates = [prediction.estimate for prediction in predictions if prediction.estimate is not None]
    present = {part.part for estimate in estimates for part in estimate.parts} if with_parts else set()
    parts = [part for part in PARTS if part in present]
    for part in parts:
        shown.add_column(part, justify="right")
    for heading in ("compute", "communication", "total", "90 % interval"):
        shown.add_column(heading, justify="right")
    for prediction in predictions:
        if prediction.estimate is None:
            continue
        wholes = [prediction.estimate.part(name) for name in ("compute", "communication", "total")]
        known = {part.part: part.seconds for part in prediction.estimate.parts}
        words = [_seconds(seconds) for seconds in (*map(known.get, parts), *(part.seconds for part in wholes))]
        shown.add_row(escape(prediction.key), *words, _interval(wholes[-1]))
    console.print(shown)
    for prediction in predictions:
        if prediction.skip is not None:
            console.print(f"{prediction.key}: cannot run, {prediction.skip}", markup=False)


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_seconds(value)


def _interval(part: PartEstimate) -> str:
    if part.low_s is None or part.high_s is None or part.low_s == part.high_s:
        return "-"
    return f"{format_seconds(part.low_s)} - {format_seconds(part.high_s)}"


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with writing("--csv", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
