"""Run by torchrun: every strategy, phase, dtype, degree and model against the oracle; then with a planted error.

Prints one JSON object on rank 0: for each case its checks, whether the planted error was found, and what it sends and
holds beside its plan. The layers' shape annotations are checked on every call. `async-tp` runs on torch's own
fallbacks of its fused operators, which have no CPU kernels.
"""

import itertools
import json

from jaxtyping import install_import_hook

with install_import_hook("tp.layers", "beartype.beartype"):
    import torch
    import torch.distributed as dist
    import torch.distributed._symmetric_memory as symmetric_memory

    from bench.harness.cases.build import build_case, full_inputs, full_weights
    from bench.harness.cases.checks import check_case
    from bench.harness.cases.observe import most_of, observe
    from bench.harness.run.lines import worst_over_ranks
    from bench.harness.world.ranks import WorldRanks
    from tp.case import PHASES, RECOMPUTES, STRATEGIES, Case, Workload
    from tp.layers.dtensor import local
    from tp.layers.mesh import split_world
    from tp.model import ModelShape
    from tp.plan.build import build_plan
    from tp.plan.memory import held_bytes, plan_memory
    from tp.plan.ops import planned_count

DTYPES = ("fp32", "bf16")
TOKENS = 48


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


# Heads and gate together, not crossed: attention sees no gate and the FFN no heads, so each meets all else here.
GROUPED = shape("grouped-gated", num_kv_heads=4)
GRID = (shape("multi-head-plain", gated=False), GROUPED, shape("kv-heads-under-ranks-gated", num_kv_heads=1))
EXTREMES = (
    shape("biased", norm="layer", position="learned", bias="all", gated=False),
    shape("gated-biased", bias="all", num_kv_heads=1),
    # Heads whose width together is not the hidden size; a bias on queries, keys and values alone.
    shape("narrow-heads", head_dim=16, num_kv_heads=2, bias="qkv"),
)


def case(model, strategy, phase, dtype, tp, block="block", recompute="none"):
    decodes = phase == "decode"
    workload = Workload(
        phase=phase, batch=8 if decodes else 2, seq=1 if decodes else TOKENS, context=TOKENS, dtype=dtype
    )
    chunks = 2 if strategy == "overlap" and tp > 1 else 1
    return Case(
        block=block, model=model, strategy=strategy, tp=tp, workload=workload, chunks=chunks, recompute=recompute
    )


def shows_more_in_bf16(strategy, phase, tp):
    """Two ranks do all in bf16; one alone has nothing sent to round, and all that four add up longer is in training."""
    return {1: strategy in ("allreduce", "dtensor"), 2: True, 4: phase == "train"}[tp]


def cases(world):
    # One rank alone is the same in every world, and so are two: both are checked in the smallest.
    degrees = [1, 2] if world == 2 else [world]
    for model, strategy, phase, dtype, tp in itertools.product(GRID, STRATEGIES, PHASES, DTYPES, degrees):
        if dtype == "fp32" or shows_more_in_bf16(strategy, phase, tp):
            yield case(model, strategy, phase, dtype, tp)
    phases = PHASES if world == 2 else ("train",)
    for model, strategy, phase, tp in itertools.product(EXTREMES, STRATEGIES, phases, degrees):
        yield case(model, strategy, phase, "fp32", tp)
    # The halves alone, and what is made again instead of kept.
    for model, strategy, recompute in itertools.product(
        (GROUPED, EXTREMES[0]) if world == 2 else (), STRATEGIES, RECOMPUTES
    ):
        yield case(model, strategy, "train", "fp32", world, block="attention", recompute=recompute)
        if recompute != "selective":
            yield case(model, strategy, "train", "fp32", world, block="ffn", recompute=recompute)
        if recompute != "none":
            yield case(model, strategy, "train", "fp32", world, recompute=recompute)
    # Groups side by side.
    for strategy, phase in itertools.product(STRATEGIES, PHASES) if world > 2 else ():
        yield case(GROUPED, strategy, phase, "fp32", 2)


def run(case, mesh, ranks):
    device = torch.device("cpu")
    weights, inputs = full_weights(case, device), full_inputs(case, device)
    built = build_case(case, mesh, weights=weights, inputs=inputs)
    checks = worst_over_ranks(check_case(built, weights=weights, inputs=inputs)[1], ranks)
    observed = most_of(ranks.gather_objects(observe(built)))
    holdings = plan_memory(case, device="cpu")
    # One rank alone holds no shard.
    planted = () if mesh.size == 1 else with_last_shard_off(built, weights, inputs, ranks)
    return {
        "checks": [(check.tensor, check.passed, check.error, check.error_limit) for check in checks],
        "planted_found": not all(check.passed for check in planted),
        "sent": {sent.kind: [sent.count, sent.size_bytes] for sent in observed.sent},
        "planned": planned_count(build_plan(case, backend="gloo").collectives),
        "held": [
            observed.weight_bytes,
            observed.gradient_bytes,
            observed.saved_bytes,
            observed.kv_cache_bytes,
        ],
        "planned_held": [held_bytes(holdings, kind) for kind in ("weights", "gradients", "saved", "kv_cache")],
        "kernel": observed.attention_kernel,
    }


def with_last_shard_off(built, weights, inputs, ranks):
    if built.mesh.rank == built.mesh.size - 1:
        with torch.no_grad():
            for half in built.block.halves:
                for parameter in half.layer.parameters():
                    local(parameter).mul_(1.01)
    return worst_over_ranks(check_case(built, weights=weights, inputs=inputs)[1], ranks)


def fall_back_on_cpu():
    """Give the fused operators the CPU kernels that torch has for its own tests; lasts as long as what is returned."""
    library = torch.library.Library("symm_mem", "IMPL", "CPU")
    library.impl("fused_all_gather_matmul", symmetric_memory._fused_all_gather_matmul_fallback)
    library.impl("fused_matmul_reduce_scatter", symmetric_memory._fused_matmul_reduce_scatter_fallback)
    return library


def main():
    torch.set_num_threads(1)
    library = fall_back_on_cpu()
    dist.init_process_group("gloo")
    ranks = WorldRanks(timeout_s=120)
    meshes = {}
    results = {}
    for each in cases(ranks.size):
        if each.tp not in meshes:
            meshes[each.tp] = split_world(each.tp, device=torch.device("cpu"))
        results[each.key] = run(each, meshes[each.tp], ranks)
    if ranks.rank == 0:
        print(json.dumps(results))
    dist.destroy_process_group()
    del library


if __name__ == "__main__":
    main()
