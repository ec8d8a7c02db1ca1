"""Run by torchrun: every strategy, phase, dtype, degree and model against the oracle; then with a planted error.

Prints one JSON object on rank 0: for each case its checks, whether the planted error was found, and its census. The
layers' shape annotations are checked on every call.
"""

import itertools
import json

from jaxtyping import install_import_hook

with install_import_hook("tp.layers", "beartype.beartype"):
    import torch
    import torch.distributed as dist

    from bench.harness.cases import build_case, full_inputs, full_weights
    from bench.harness.checks import check_case
    from bench.harness.lines import worst_over_ranks
    from bench.harness.ranks import WorldRanks
    from tp.case import PHASES, STRATEGIES, Case, Workload
    from tp.layers.census import Census, planned_count
    from tp.layers.collectives import GroupCollectives
    from tp.layers.mesh import split_world
    from tp.layers.wire import Unwatched, Wire
    from tp.model import ModelShape
    from tp.plan.build import build_plan

DTYPES = ("fp32", "bf16")


def shape(name, **changes):
    sizes = {
        "hidden": 256,
        "num_heads": 8,
        "num_kv_heads": 8,
        "head_dim": 32,
        "ffn_width": 512,
        "gated": True,
        "num_layers": 1,
        "vocab_size": 8,
        "tied_embeddings": False,
        "norm": "rms",
        "position": "rope",
        "max_positions": 64,
        "bias": "none",
        "source": "made up for this test",
    }
    return ModelShape(name=name, **(sizes | changes))


MODELS = (
    shape("multi-head"),
    shape("grouped", num_kv_heads=4),
    shape("kv-heads-under-ranks", num_kv_heads=1),
    shape("biased", norm="layer", position="learned", bias="all"),
    shape("qkv-biased", bias="qkv", num_kv_heads=2),
    # Heads whose width together is not the hidden size.
    shape("narrow-heads", head_dim=16, num_kv_heads=2),
)


def cases(world):
    # One rank alone is the same in every world; it is checked in the smallest.
    degrees = [n for n in range(1 if world == 2 else 2, world + 1) if world % n == 0]
    for model, strategy, phase, dtype, tp in itertools.product(MODELS, STRATEGIES, PHASES, DTYPES, degrees):
        decodes = phase == "decode"
        workload = Workload(phase=phase, batch=4 if decodes else 2, seq=1 if decodes else 48, context=48, dtype=dtype)
        yield Case(block="attention", model=model, strategy=strategy, tp=tp, workload=workload)


def run(case, mesh, ranks):
    device = torch.device("cpu")
    weights, inputs = full_weights(case, device), full_inputs(case, device)
    built = build_case(case, mesh, weights=weights, inputs=inputs)
    checks = worst_over_ranks(check_case(built, weights=weights, inputs=inputs), ranks)
    census = Census()
    with census:
        built.run(Wire(collectives=GroupCollectives(mesh), timeline=Unwatched()))
    planned = planned_count(build_plan(case, backend="gloo").collectives)
    if mesh.rank == mesh.size - 1:
        with torch.no_grad():
            for parameter in built.block.attention.parameters():
                parameter.mul_(1.01)
    planted = worst_over_ranks(check_case(built, weights=weights, inputs=inputs), ranks)
    return {
        "checks": [(check.tensor, check.passed, check.error, check.error_limit) for check in checks],
        "planted_found": not all(check.passed for check in planted),
        "census": census.count,
        "planned": planned,
    }


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = WorldRanks()
    meshes = {}
    results = {}
    for case in cases(ranks.size):
        if case.tp not in meshes:
            meshes[case.tp] = split_world(case.tp, device=torch.device("cpu"))
        results[case.key] = run(case, meshes[case.tp], ranks)
    if ranks.rank == 0:
        print(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
