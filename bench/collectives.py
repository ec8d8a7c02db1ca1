"""Measure what is sent, for a calibration: torchrun --nproc-per-node N bench/collectives.py [--seconds S] [--out F]"""

from bench.harness.run.cli import run_main
from bench.harness.run.op_sweeps import measure_collectives

if __name__ == "__main__":
    run_main(measure_collectives)
