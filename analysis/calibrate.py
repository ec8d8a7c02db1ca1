"""Records of single ops become a calibration."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from analysis.fit import Rows, Sizes, fit_attention, fit_gemm, fit_size
from analysis.load import Run, load_runs, ops_table
from tp.cost.calibrated import CALIBRATION_VERSION, Calibration
from tp.errors import ConfigError
from tp.schema import to_json

C = TypeVar("C")


def fit_runs(
    paths: Sequence[Path], *, hardware: str | None, tell: Callable[[str], None] = lambda problem: None
) -> Calibration:
    """Fit every curve that the records of `bench/gemm.py` and `bench/collectives.py` allow.

    What is wrong with a file and could be left out is told. ConfigError when they hold no op timed alone, too few of a
    kind, or come from different machines.
    """
    # One rank may have measured the products and two the collectives; the machine must be the same.
    runs = load_runs(paths, mixed=True, tell=tell)
    _require_comparable(runs)
    table = ops_table(runs)
    if table.empty:
        raise ConfigError(f"{paths[0]}: holds no op timed alone; run bench/gemm.py and bench/collectives.py first")
    return Calibration(
        schema_version=CALIBRATION_VERSION,
        hardware=hardware or _device_name(runs),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(str(path) for path in paths),
        gemm=_fit_kind(table, "gemm", fit_gemm),
        attention=_fit_kind(table, "attention", fit_attention),
        elementwise=_fit_kind(table, "elementwise", fit_size),
        collectives=_fit_kind(table, "collective", fit_size),
    )


def write_calibration(calibration: Calibration, out: Path) -> None:
    """Write the file that `--calibration` reads; ConfigError when it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(to_json(calibration, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); name another file") from error


def _fit_kind(table: pd.DataFrame, kind: str, fit: Callable[..., C]) -> dict[str, C]:
    curves: dict[str, C] = {}
    for key, rows in table[table["op"] == kind].groupby("key"):
        values: Rows = rows[["flops", "bytes", "time_s"]].to_numpy(dtype=np.float64)
        sizes: Sizes = np.array(rows["sizes"].tolist(), dtype=np.float64)
        curves[str(key)] = fit(values, sizes, name=f"{kind} {key}")
    return curves


def _require_comparable(runs: Sequence[Run]) -> None:
    for run in runs:
        for header in run.headers:
            if header.oversubscribed is not None:
                raise ConfigError(
                    f"{run.path}: its times are not comparable ({header.oversubscribed}); measure with fewer ranks"
                )


def _device_name(runs: Sequence[Run]) -> str:
    names = {header.hardware.device.name for run in runs for header in run.headers}
    if len(names) > 1:
        raise ConfigError(f"records of different hardware ({', '.join(sorted(names))}); calibrate one at a time")
    return names.pop()
