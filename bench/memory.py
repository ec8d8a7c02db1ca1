"""Measure how fast memory moves, after STREAM: torchrun --nproc-per-node N bench/memory.py [--seconds S] [--out F]"""

from bench.harness.run.cli import run_main
from bench.harness.run.op_sweeps import measure_memory

if __name__ == "__main__":
    run_main(measure_memory)
