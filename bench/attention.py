"""Measure the attention block: torchrun --nproc-per-node N bench/attention.py [--model M] [--tp 1,2,4,8] ..."""

from bench.harness.block_flags import read_block_flags
from bench.harness.cli import run_main
from bench.harness.runner import run_suite

if __name__ == "__main__":
    run_main(lambda: run_suite(read_block_flags("attention")))
