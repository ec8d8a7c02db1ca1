"""python -m analysis predict --model M --hardware H --tp 1,2,4,8 ..."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.predict import Prediction, article_ratio, article_table, prediction_table
from analysis.predict import predict as predict_cases
from analysis.verbs.output import make_console
from tp.case import BLOCKS, PHASES, STRATEGIES, Case
from tp.cost.calibrated import load_calibration
from tp.cost.choose import choose_chunks, make_theories
from tp.cost.theory import THEORIES, PartEstimate, Theory
from tp.errors import ConfigError
from tp.flags import choice, comma_list, parse_flags, positive_int
from tp.hardware import Link, Node
from tp.model import ModelShape, load_model
from tp.plan.ops import Backend
from tp.probe import native_dtypes, resolve_node
from tp.suite import Suite, defaults, expand
from tp.units import DTYPES, format_flops_rate, format_rate, format_seconds, significant


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
    """article, datasheet or calibrated (default: calibrated with --calibration, else datasheet)."""
    calibration: str = ""
    """File of `python -m analysis calibrate`."""
    tp: str = "1,2,4,8"
    """Tensor-parallel degrees."""
    strategy: str = "columns,allreduce,sequence"
    phase: str = "prefill,train"
    batch: str = "1"
    seq: str = ""
    """Tokens a sequence; in decode the context (default: 4096 on GPUs, 256 on a CPU)."""
    dtype: str = ""
    """fp32, bf16 or fp16 (default: what suits the hardware)."""
    csv: str = ""
    """Also write the table to this file."""


def predict(args: Sequence[str]) -> None:
    """Estimate every case of the grid and show it; the article's theory comes with its arithmetic redone."""
    flags = parse_flags(PredictFlags, args, prog="analysis predict", description=PredictFlags.__doc__ or "")
    node = resolve_node(flags.hardware)
    link = node.link(flags.link or None)
    theory = _theory(flags, node, link)
    suite = _suite(flags)
    chosen = defaults("cuda" if node.device.kind == "gpu" else "cpu", native_dtypes())
    block, backend = choice(flags.block, BLOCKS, flag="--block"), _backend(node)

    def chunks(case: Case) -> int:
        return choose_chunks(case, [theory], backend=backend)

    cases = expand(suite, block, world=None, chosen=chosen, choose_chunks=chunks)
    predictions = predict_cases(cases, theory, backend=backend)
    console = make_console()
    if theory.name == "article":
        for name in suite.model:
            _print_article(console, load_model(name))
    console.print(f"theory: {theory.name}")
    _print_predictions(console, predictions, node, link)
    if flags.csv:
        _write_csv(prediction_table(predictions), Path(flags.csv))


def _backend(node: Node) -> Backend:
    return "nccl" if node.device.kind == "gpu" else "gloo"


def _theory(flags: PredictFlags, node: Node, link: Link) -> Theory:
    calibration = None
    if flags.calibration:
        calibration = load_calibration(Path(flags.calibration), device=node.device.name)
    known = {theory.name: theory for theory in make_theories(node=node, link=link, calibration=calibration)}
    name = choice(flags.theory, THEORIES, flag="--theory") if flags.theory else list(known)[-1]
    if name not in known:
        raise ConfigError("--theory calibrated: needs measurements; give their --calibration FILE")
    return known[name]


def _suite(flags: PredictFlags) -> Suite:
    def whole(flag: str) -> Callable[[str], int]:
        return lambda word: positive_int(word, flag=flag)

    suite = Suite(
        name="prediction",
        model=comma_list(flags.model, str, flag="--model"),
        tp=comma_list(flags.tp, whole("--tp"), flag="--tp"),
        strategy=comma_list(flags.strategy, lambda w: choice(w, STRATEGIES, flag="--strategy"), flag="--strategy"),
        phase=comma_list(flags.phase, lambda w: choice(w, PHASES, flag="--phase"), flag="--phase"),
        batch=comma_list(flags.batch, whole("--batch"), flag="--batch"),
        seq=comma_list(flags.seq, whole("--seq"), flag="--seq") if flags.seq else (),
    )
    return replace(suite, dtype=choice(flags.dtype, DTYPES, flag="--dtype")) if flags.dtype else suite


def _print_article(console: Console, model: ModelShape) -> None:
    ratio = article_ratio(model)
    console.print(
        f"{model.name} at one head a rank (tp {ratio.tp}): {significant(ratio.multi_head)} FLOP a byte with multi-head "
        f"attention, as the article has it;\nof use with its {model.num_kv_heads} kv heads: "
        f"{significant(ratio.grouped)}. The article's A100 then needs {format_rate(ratio.needed_bytes_per_s)} in, and "
        f"as much out.",
        markup=False,
    )
    table = Table(title="largest useful degree", title_justify="left", box=None, pad_edge=False)
    for heading in ("", "article: peak", "link, two-way", "printed", "unrounded", "dense peak", "one-way", "corrected"):
        table.add_column(heading, justify="right" if heading else "left")
    for degree in article_table(model):
        table.add_row(
            degree.pair.label,
            format_flops_rate(degree.pair.flops_per_s),
            format_rate(degree.pair.link_two_way_bytes_per_s),
            f"{degree.rounded:.1f}",
            f"{degree.unrounded:.2f}",
            format_flops_rate(degree.dense_flops_per_s),
            format_rate(degree.one_way_bytes_per_s),
            f"{degree.corrected:.2f}",
        )
    console.print(table)
    for degree in article_table(model):
        console.print(f"  {degree.pair.label}: {degree.pair.note}", markup=False)
    console.print()


def _print_predictions(console: Console, predictions: Sequence[Prediction], node: Node, link: Link) -> None:
    rate = "rate unknown" if link.one_way_bytes_per_s is None else f"{format_rate(link.one_way_bytes_per_s)} one way"
    console.print(f"{node.name} over {link.name} ({rate})", markup=False)
    shown = Table(box=None, pad_edge=False)
    shown.add_column("case", no_wrap=True)
    for heading in ("compute", "communication", "total", "90 % interval"):
        shown.add_column(heading, justify="right")
    for prediction in predictions:
        if prediction.estimate is None:
            continue
        wholes = [prediction.estimate.part(name) for name in ("compute", "communication", "total")]
        shown.add_row(escape(prediction.key), *(_seconds(part.seconds) for part in wholes), _interval(wholes[-1]))
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
    try:
        table.to_csv(path, index=False)
    except OSError as error:
        raise ConfigError(f"--csv {path}: cannot be written ({error.strerror}); name another file") from error
