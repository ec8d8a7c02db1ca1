"""One suite at every rate of its links: calibrated at some of them, predicted and measured at all, one report.

The estimate at a rate stands in its record before the first sample there, from the calibration rates alone.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flags import parse_rate  # noqa: E402

from tp import catalogue  # noqa: E402
from tp.case import BLOCKS  # noqa: E402
from tp.errors import ConfigError, MeasurementError, TpbenchError  # noqa: E402
from tp.flags import choice, parse_flags, positive_float, positive_int  # noqa: E402
from tp.suite import Suite  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What to sweep, and for how long."""

    suite: str = "link-rates"
    """A name of configs/suites or a TOML file, with link_rates and calibration_rates."""
    block: str = "ffn"
    """attention, ffn or block."""
    out: str = ""
    """Folder of records and report (default: a new one under runs/); with the same flags again it goes on."""
    hosts: str = "2"
    """Hosts, each with one rank."""
    seconds: str = "4"
    """Cap on sampling each case."""
    shapes: str = "40"
    """Matrix shapes that the calibration of compute is fitted to."""
    calibration_seconds: str = "30"
    """Cap on sampling each program that a calibration is fitted to."""
    largest_mib: str = "8"
    """MiB of the largest message that the calibration of links is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep, its flags given their meaning."""

    flags: Flags
    suite: Suite
    out: Path

    def run(self) -> None:
        """Calibrate, measure every rate, find the balanced one, measure that, and report."""
        seconds = ("--seconds", self.flags.calibration_seconds)
        inputs = [self.measure("gemm", "", "gemm.py", "--shapes", self.flags.shapes, *seconds)]
        for rate in self.suite.calibration_rates:
            largest = ("--largest-mib", self.flags.largest_mib)
            inputs.append(self.measure(f"collectives-{rate}", rate, "collectives.py", *largest, *seconds))
            inputs.append(self.block(f"calibration-{rate}", rate))
        calibration = self.out / "calibration.json"
        call("python", "-m", "analysis", "calibrate", *inputs, "--out", str(calibration))
        using = ("--calibration", str(calibration))
        records = [self.block(f"{self.flags.block}-{rate}", rate, *using) for rate in self.suite.link_rates]
        self.report(records)
        balanced = self.balanced()
        if balanced:
            print(f"compute alone takes as long as the ring alone at {balanced}: measured there, too")
            records.append(self.block(f"{self.flags.block}-balanced-{balanced}", balanced, *using))
            self.report(records)

    def block(self, name: str, rate: str, *more: str) -> str:
        """The record of the suite at one rate."""
        suite = str(catalogue.find(self.flags.suite, kind="suites", flag="--suite"))
        script = f"{self.flags.block}.py"
        return self.measure(name, rate, script, "--suite", suite, "--seconds", self.flags.seconds, *more)

    def measure(self, name: str, rate: str, script: str, *words: str) -> str:
        """The record of one program on all hosts, unless it is there already."""
        record = self.out / f"{name}.jsonl"
        if not record.is_file():
            print(f"{name}: {script} on {self.flags.hosts} hosts, {rate or 'no limit'}", flush=True)
            shaped = ("--rate", rate) if rate else ()
            log, part = self.out / f"{name}.log", self.out / f"{name}.part.jsonl"
            part.unlink(missing_ok=True)
            lab = (str(ROOT / "scripts/netlab"), "--hosts", self.flags.hosts, *shaped, "--")
            call(*lab, "torchrun", str(ROOT / "bench" / script), *words, "--out", str(part), log=log)
            # What was cut short has another name, and is measured again.
            part.rename(record)
        return str(record)

    def report(self, records: Sequence[str]) -> None:
        call("python", "-m", "analysis", "report", *records, "--out", str(self.out / "report"))

    def balanced(self) -> str:
        """The rate, in megabits, where compute alone takes as long as `overlap`'s sends alone; empty if there is none.

        Of a suite without `overlap` that of its first strategy.
        """
        crossings = pd.read_csv(self.out / "report" / "crossings.csv")
        known = crossings[crossings["balanced_bytes_per_s"].notna()]
        ring = known[known["strategy"] == "overlap"]
        rows = ring if len(ring) else known
        return f"{round(rows['balanced_bytes_per_s'].iloc[0] * 8 / 1e6)}mbit" if len(rows) else ""


def call(*words: str, log: Path | None = None) -> None:
    """Run a command from the checkout, its output into `log` where there is one; MeasurementError if it fails."""
    if log is None:
        code = subprocess.run(words, cwd=ROOT, check=False).returncode
    else:
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(words, cwd=ROOT, stdout=file, check=False).returncode
    if code:
        where = f"; see {log}" if log else ""
        raise MeasurementError(f"{' '.join(words[:8])} ...: ended with exit code {code}{where}")


def resolve(args: Sequence[str]) -> Sweep:
    """The sweep that the command line asks for; ConfigError when it makes no sense."""
    flags = parse_flags(Flags, args, prog="scripts/netsweep", description="Sweeps the rate of the links of a suite.")
    choice(flags.block, BLOCKS, flag="--block")
    if positive_int(flags.hosts, flag="--hosts") < 2:
        raise ConfigError("--hosts 1: has no link; give at least 2")
    positive_float(flags.seconds, flag="--seconds")
    positive_float(flags.calibration_seconds, flag="--calibration-seconds")
    suite = catalogue.load(flags.suite, Suite, kind="suites", flag="--suite")
    if len(suite.link_rates) < 2 or not suite.calibration_rates:
        raise ConfigError(f"--suite {flags.suite}: needs at least two link_rates and calibration_rates; add them")
    for rate in (*suite.link_rates, *suite.calibration_rates):
        parse_rate(rate)
    out = Path(flags.out or ROOT / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-links").resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made ({error.strerror}); name another folder") from error
    return Sweep(flags=flags, suite=suite, out=out)


if __name__ == "__main__":
    try:
        resolve(sys.argv[1:]).run()
    except KeyboardInterrupt:
        sys.exit(130)
    except TpbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
