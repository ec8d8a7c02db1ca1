"""Measure the attention block: torchrun --nproc-per-node N bench/attention.py [--model M] [--tp 1,2,4,8] ..."""

from bench.harness.run.cli import run_main
from bench.harness.run.runner import run_block

if __name__ == "__main__":
    run_main(lambda: run_block("attention"))
