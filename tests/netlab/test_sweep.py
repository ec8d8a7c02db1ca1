"""scripts/netsweep: a suite over link rates, predicted before it is measured, and what the report makes of it."""

import subprocess

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.netlab.conftest import needs_netlab

SUITE = """
name = "tiny, over two rates"
model = ["{model}"]
tp = [1, 2]
strategy = ["allreduce", "overlap"]
phase = ["prefill"]
seq = [512]
dtype = "fp32"
link_rates = ["40mbit", "4gbit"]
calibration_rates = ["200mbit"]
"""


def sweep(*words):
    return subprocess.run(
        [ROOT / "scripts" / "netsweep", *words], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.mark.dist
@pytest.mark.solo
@needs_netlab
def test_where_splitting_pays_is_measured_and_predicted(tmp_path, tiny):
    suite, out = tmp_path / "suite.toml", tmp_path / "out"
    suite.write_text(SUITE.format(model=tiny))
    done = sweep(
        *("--suite", suite, "--out", out, "--seconds", "0.3", "--shapes", "8"),
        *("--calibration-seconds", "2", "--largest-mib", "1"),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    rates = pd.read_csv(out / "report" / "rates.csv")
    assert set(rates["strategy"]) == {"allreduce", "overlap"} and (rates["theory"] == "calibrated").all()
    slow = rates[rates["network"] == "netlab-40mbit"]
    # Half a megabyte over 5 MB/s takes longer than the layer: splitting is slower, as measured and as predicted.
    assert (slow["measured_efficiency"] < 0.5).all() and (slow["estimate_efficiency"] < 0.5).all()
    crossings = pd.read_csv(out / "report" / "crossings.csv")
    assert len(crossings) == 2
    assert "over what link it pays" in done.stdout
    # All of it is there: nothing is measured again.
    again = sweep("--suite", suite, "--out", out, "--seconds", "0.3")
    assert again.returncode == 0 and "ffn.py on" not in again.stdout


@pytest.mark.unit
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--hosts", "1"), "error: --hosts 1: has no link; give at least 2"),
        (("--suite", "small-model-sizes"), "error: --suite small-model-sizes: needs at least two link_rates"),
        (("--block", "gemm"), "error: --block gemm: unknown"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, expected):
    done = sweep(*words)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(expected)
