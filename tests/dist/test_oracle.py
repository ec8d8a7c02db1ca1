"""Every sharded layer against the unsharded oracle, on real ranks; what it sends and holds against the plan."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.dist

WORKER = Path(__file__).with_name("oracle_worker.py")
# 3 models x, in fp32, 6 strategies x 3 phases; in bf16, 2 strategies alone, all on two ranks, training on four.
GRID = {1: 3 * (18 + 2 * 3), 2: 3 * (18 + 18), 4: 3 * (18 + 6)}
# 6 strategies x 3 models, for each phase: all of them on two ranks, training on four.
EXTREMES_A_PHASE = 18
# 2 models x 6 strategies x (3 attention + 2 FFN + 2 whole blocks) of what is made again.
REMADE = 84
SIDE_BY_SIDE = 18


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def results(request, torchrun):
    done = torchrun(request.param, str(WORKER), timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return request.param, json.loads(done.stdout.splitlines()[-1])


def test_every_case_ran(results):
    world, cases = results
    two = GRID[1] + GRID[2] + 2 * 3 * EXTREMES_A_PHASE + REMADE
    expected = {2: two, 4: GRID[4] + EXTREMES_A_PHASE + SIDE_BY_SIDE}[world]
    assert len(cases) == expected
    of_grid = [key for key in cases if key.startswith("block/") and f"/tp{world}/" in key and "recompute" not in key]
    assert len(of_grid) == GRID[world] + EXTREMES_A_PHASE * {2: 3, 4: 1}[world]


def test_output_and_gradients_agree_with_the_oracle(results):
    _, cases = results
    wrong = {key: [check for check in case["checks"] if not check[1]] for key, case in cases.items()}
    assert not {key: checks for key, checks in wrong.items() if checks}


def test_training_checks_input_and_every_weight(results):
    _, cases = results
    for key, case in cases.items():
        block, model, phase, strategy = key.split("/")[:4]
        tensors = {check[0] for check in case["checks"]}
        expected = {"update", "output", "input afterwards"}
        if phase == "train":
            expected.add("input gradient")
            if block != "ffn":
                expected.add("attention.norm.weight gradient")
                names = ("wq", "wk", "wv", "wo") if strategy == "dtensor" else ("qkv", "out")
                expected |= {f"attention.layer.{name}.weight gradient" for name in names}
            if block != "attention":
                expected.add("ffn.norm.weight gradient")
                gate = {"gate"} if strategy == "dtensor" and model.endswith(("-gated", "narrow-heads")) else set()
                expected |= {f"ffn.layer.{name}.weight gradient" for name in {"up", "down"} | gate}
        assert expected <= tensors, key
        has_bias = "biased" in model or model == "narrow-heads"
        assert ("attention.layer.qkv.bias gradient" in tensors) == (phase == "train" and block != "ffn" and has_bias)


def test_a_shard_one_percent_off_is_found(results):
    _, cases = results
    unfound = [key for key, case in cases.items() if "/tp1/" not in key and not case["planted_found"]]
    assert not unfound


def test_limits_leave_room_but_not_much(results):
    """A limit that no real error comes near would find nothing; the worst case must reach a tenth of it."""
    _, cases = results
    nearest = {"fp32": 0.0, "bf16": 0.0}
    for key, case in cases.items():
        dtype = "bf16" if "/bf16" in key else "fp32"
        nearest[dtype] = max(nearest[dtype], *(error / limit for _, _, error, limit in case["checks"]))
    assert 0.1 < nearest["fp32"] < 1
    assert 0.1 < nearest["bf16"] < 1


def test_what_is_sent_is_the_plan(results):
    _, cases = results
    assert {key: case["sent"] for key, case in cases.items()} == {key: case["planned"] for key, case in cases.items()}
    split = {key for key, case in cases.items() if case["sent"]}
    assert split == {key for key in cases if "/tp1/" not in key}


def test_what_is_held_is_the_plan_to_the_byte(results):
    """Weights, gradients, activations saved by autograd, KV cache."""
    _, cases = results
    held = {key: case["held"] for key, case in cases.items()}
    assert held == {key: case["planned_held"] for key, case in cases.items()}
    for key, (weights, gradients, saved, cache) in held.items():
        trains, decodes = "/train/" in key, "/decode/" in key
        assert weights > 0
        assert (gradients > 0, saved > 0, cache > 0) == (trains, trains, decodes)


def test_the_attention_kernel_is_named(results):
    _, cases = results
    wanted = {key: None if key.startswith("ffn/") else "flash (CPU)" for key in cases}
    assert {key: case["kernel"] for key, case in cases.items()} == wanted
