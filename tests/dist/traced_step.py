"""Training steps of two layers under torch's profiler, on real ranks: FOLDER/rank<r>.json, packed but of rank 0."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, schedule


def main(folder: Path, tokens: int, hidden: int, width: int, steps: int) -> None:
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    layers = torch.nn.Sequential(torch.nn.Linear(hidden, width), torch.nn.GELU(), torch.nn.Linear(width, hidden))
    given = torch.randn(tokens, hidden)

    def step() -> None:
        made = layers(given)
        dist.all_reduce(made.detach())
        made.square().mean().backward()
        for work in [dist.all_reduce(weight.grad, async_op=True) for weight in layers.parameters()]:
            work.wait()
        dist.all_gather_into_tensor(torch.empty(ranks * tokens, hidden), given)
        dist.reduce_scatter_tensor(torch.empty(tokens // ranks, hidden), given)
        layers.zero_grad()
        dist.barrier()

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(folder / f"rank{rank}.json{'.gz' if rank else ''}"))

    plan = schedule(wait=0, warmup=1, active=steps)
    with profile(
        activities=[ProfilerActivity.CPU], schedule=plan, record_shapes=True, on_trace_ready=write
    ) as profiler:
        for _ in range(1 + steps):
            step()
            profiler.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    # Newer torch has other names for two of the collectives.
    warnings.simplefilter("ignore", FutureWarning)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
