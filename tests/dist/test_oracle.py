"""Every sharded layer against the unsharded oracle, on real ranks; and what it sends against the plan."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.dist

WORKER = Path(__file__).with_name("oracle_worker.py")
# 6 models x 3 strategies x 3 phases x 2 dtypes, for each degree that divides the world.
CASES_A_DEGREE = 108


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def results(request, torchrun):
    done = torchrun(request.param, str(WORKER))
    assert done.returncode == 0, done.stderr[-4000:]
    return request.param, json.loads(done.stdout.splitlines()[-1])


def test_every_case_ran(results):
    world, cases = results
    degrees = {2: ("/tp1/", "/tp2/"), 4: ("/tp2/", "/tp4/")}[world]
    for degree in degrees:
        assert sum(degree in key for key in cases) == CASES_A_DEGREE
    assert len(cases) == CASES_A_DEGREE * len(degrees)


def test_output_and_gradients_agree_with_the_oracle(results):
    _, cases = results
    wrong = {key: [check for check in case["checks"] if not check[1]] for key, case in cases.items()}
    assert not {key: checks for key, checks in wrong.items() if checks}


def test_training_checks_input_and_every_weight(results):
    _, cases = results
    for key, case in cases.items():
        tensors = {check[0] for check in case["checks"]}
        expected = {"output"}
        if "/train/" in key:
            expected |= {"input gradient", "norm.weight gradient"}
            expected |= {"attention.qkv.weight gradient", "attention.out.weight gradient"}
        assert expected <= tensors
        assert ("attention.qkv.bias gradient" in tensors) == ("/train/" in key and "biased" in key)


def test_a_shard_one_percent_off_is_found(results):
    _, cases = results
    unfound = [key for key, case in cases.items() if "/tp1/" not in key and not case["planted_found"]]
    assert not unfound


def test_limits_leave_room_but_not_much(results):
    """A limit that no real error comes near would find nothing; the worst case must reach a tenth of it."""
    _, cases = results
    nearest = {"fp32": 0.0, "bf16": 0.0}
    for key, case in cases.items():
        dtype = key.rsplit("/", 1)[1]
        nearest[dtype] = max(nearest[dtype], *(error / limit for _, _, error, limit in case["checks"]))
    assert 0.1 < nearest["fp32"] < 1
    assert 0.1 < nearest["bf16"] < 1


def test_census_at_dispatch_is_the_plan(results):
    _, cases = results
    assert {key: case["census"] for key, case in cases.items()} == {key: case["planned"] for key, case in cases.items()}
    assert any(case["census"] for case in cases.values())
