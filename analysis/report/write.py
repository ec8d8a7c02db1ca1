"""A report: one self-contained page, its figures, and its tables as CSV."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from analysis.figures.charts import charts
from analysis.figures.drawing import Chart, inline_svg, save
from analysis.figures.state import state_chart
from analysis.frames.holdings import memory_frame
from analysis.frames.outcomes import checks_frame, unmeasured_frame
from analysis.frames.parts import error_frame, parts_frame, scaling_frame
from analysis.frames.state import state_frame
from analysis.frames.strategies import strategies_frame
from analysis.frames.trust import arrivals_frame, contention_frame, ranks_frame, traffic_frame
from analysis.load import Run, load_runs
from analysis.report.method import method
from analysis.report.provenance import caveats, commands, sources
from analysis.report.verdict import judge
from analysis.show.outcomes import show_checks, show_errors, show_unmeasured
from analysis.show.parts import show_parts
from analysis.show.scaling import show_scaling
from analysis.show.strategies import show_strategies
from analysis.show.trust import show_trust
from bench.harness.record.parts import COLUMNS
from tp.errors import ConfigError

PAGE: Final = "report.html"
FIGURES: Final = "figures"


def write_report(
    paths: Sequence[Path], out: Path, *, mixed: bool, tell: Callable[[str], None] = lambda problem: None
) -> Path:
    """Write the report of the record files `paths` to the folder `out`; the path of its page.

    What is wrong with a file and could be left out is told. Raises ConfigError for a record file that cannot be read,
    for runs that differ unless `mixed`, and for a folder that cannot be written.
    """
    # A file that is named twice is one run.
    runs = load_runs(list({path.resolve(): path for path in paths}.values()), mixed=mixed, tell=tell)
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        return _write(runs, out, mixed=mixed)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error}); name another folder") from error


def _write(runs: Sequence[Run], out: Path, *, mixed: bool) -> Path:
    parts = parts_frame(runs)
    scaling = scaling_frame(parts)
    frames = {
        "parts": parts,
        "errors": error_frame(parts),
        "scaling": scaling,
        "strategies": strategies_frame(runs, parts, scaling),
        "memory": memory_frame(runs),
        "checks": checks_frame(runs),
        "unmeasured": unmeasured_frame(runs),
        "ranks": ranks_frame(runs),
        "arrivals": arrivals_frame(runs),
        "contention": contention_frame(runs),
        "traffic": traffic_frame(runs),
        "state": state_frame(runs),
    }
    for name, frame in frames.items():
        shown = frame[list(COLUMNS)] if name == "parts" else frame
        shown.to_csv(out / f"{name}.csv", index=False)
    timeline = state_chart(runs)
    drawn = [*charts(parts, scaling, frames["strategies"]), *([] if timeline is None else [timeline])]
    for chart in drawn:
        save(chart, out / FIGURES)
    page = out / PAGE
    page.write_text(_render(runs, frames, drawn, out=out, mixed=mixed), encoding="utf-8")
    return page


def _render(
    runs: Sequence[Run], frames: dict[str, pd.DataFrame], drawn: Sequence[Chart], *, out: Path, mixed: bool
) -> str:
    parts, scaling = frames["parts"], frames["scaling"]
    num_cases = sum(len(run.cases) + len(run.unfinished) for run in runs)
    num_ops = sum(len(run.ops) for run in runs)
    incomparable = parts[~parts["comparable"].astype(bool)].groupby(["record", "case"]).ngroups
    return _template().render(
        subject=_subject(runs, num_cases=num_cases, num_ops=num_ops),
        verdict=judge(scaling, num_cases=num_cases, num_ops=num_ops),
        caveats=caveats(runs, mixed=mixed),
        charts=[(chart, Markup(inline_svg(chart))) for chart in drawn],
        parts=show_parts(parts),
        scaling=show_scaling(scaling),
        strategies=show_strategies(frames["strategies"]),
        errors=show_errors(frames["errors"], left_out=incomparable),
        trust=show_trust(frames),
        checks=show_checks(frames["checks"]),
        unmeasured=show_unmeasured(frames["unmeasured"]),
        sources=sources(runs),
        method=method(runs),
        commands=commands(runs, out, mixed=mixed),
        files=[f"{name}.csv" for name in frames],
    )


def _template() -> Template:
    """The page's template, in which everything is text unless it says otherwise."""
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _subject(runs: Sequence[Run], *, num_cases: int, num_ops: int) -> str:
    """What the page is about, in a line: 12 cases of tinyllama-1.1b on cpu-local, 2 ranks over gloo."""
    headers = [header for run in runs for header in run.headers]
    models = dict.fromkeys(case.planned.case.model.name for run in runs for case in run.cases)
    machines = dict.fromkeys(
        f"{h.hardware.name}, {h.world} rank{'s' * (h.world > 1)} over {h.backend}" for h in headers
    )
    counted = f"{num_cases} case{'s' * (num_cases != 1)}" if num_cases or not num_ops else f"{num_ops} ops"
    of = f" of {', '.join(models)}" if models else ""
    return f"{counted}{of} on {'; '.join(machines)}"
