"""Workloads and cases: the phases' rules, and a key that no two cases share."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from tp.case import BLOCKS, PHASES, STRATEGIES, Case, Phase, Workload
from tp.errors import PlanError
from tp.model import load_model
from tp.schema import load_json, to_json
from tp.units import DTYPES, Dtype

pytestmark = pytest.mark.unit


def workload(
    *, phase: Phase = "prefill", batch: int = 2, seq: int = 16, context: int = 16, dtype: Dtype = "bf16"
) -> Workload:
    return Workload(phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)


def test_sizes_follow_from_the_workload() -> None:
    prefill = workload(batch=3, seq=16, context=16)
    assert prefill.tokens == 48
    decode = workload(phase="decode", batch=3, seq=1, context=4096)
    assert decode.tokens == 3


@pytest.mark.parametrize(("dtype", "element_bytes"), [("fp32", 4), ("bf16", 2), ("fp16", 2), ("fp8", 2)])
def test_element_bytes(dtype: Dtype, element_bytes: int) -> None:
    assert workload(dtype=dtype).element_bytes == element_bytes


def test_decode_makes_one_token() -> None:
    with pytest.raises(PlanError) as caught:
        workload(phase="decode", seq=16, context=16)
    assert str(caught.value) == "--seq 16: decode makes one token at a time; use --seq 1 and --context"


@pytest.mark.parametrize("phase", ["prefill", "train"])
def test_other_phases_attend_to_their_own_tokens(phase: Phase) -> None:
    assert workload(phase=phase).context == 16
    with pytest.raises(PlanError) as caught:
        workload(phase=phase, seq=16, context=32)
    assert str(caught.value) == f"--context 32: {phase} attends to its own 16 tokens; drop it"


def test_the_choices_are_those_of_the_types() -> None:
    assert PHASES == get_args(Phase)
    assert all(len(set(choices)) == len(choices) > 0 for choices in (PHASES, STRATEGIES, BLOCKS, DTYPES))


def all_cases() -> list[Case]:
    models = [load_model("llama2-7b"), load_model("llama2-70b")]
    workloads = [
        Workload(phase=phase, batch=batch, seq=1, context=context, dtype=dtype)
        for phase, batch, context, dtype in itertools.product(PHASES, (1, 11), (1, 111), DTYPES)
        if phase == "decode" or context == 1
    ]
    return [
        Case(block=block, model=model, strategy=strategy, tp=tp, workload=load)
        for block, model, strategy, tp, load in itertools.product(BLOCKS, models, STRATEGIES, (1, 11), workloads)
    ]


def test_a_key_reads_as_the_case() -> None:
    case = Case(
        block="attention",
        model=load_model("llama2-70b"),
        strategy="sequence",
        tp=8,
        workload=workload(phase="train", batch=4, seq=2048, context=2048),
    )
    assert case.key == "attention/llama2-70b/train/sequence/tp8/b4/s2048/c2048/bf16"


def test_chunks_and_recompute_are_told_where_they_are_not_the_default() -> None:
    load = workload(phase="train", batch=4, seq=2048, context=2048)
    case = Case(block="ffn", model=load_model("llama2-70b"), strategy="overlap", tp=8, workload=load, chunks=4)
    assert case.key == "ffn/llama2-70b/train/overlap/tp8/b4/s2048/c2048/bf16/chunks4"
    assert replace(case, recompute="full").key == f"{case.key}/full-recompute"
    # Between blocks a rank holds its own eighth of 8192 tokens; under `allreduce`, and alone, all of them.
    assert (case.local_tokens, replace(case, strategy="allreduce").local_tokens) == (1024, 8192)
    assert replace(case, tp=1).local_tokens == 8192


def test_no_two_cases_share_a_key() -> None:
    cases = all_cases()
    train = [case for case in cases if case.workload.phase == "train"]
    cases += [replace(case, recompute=kept) for case in train for kept in ("selective", "full")]
    cases += [replace(case, chunks=2) for case in cases if case.strategy == "overlap"]
    assert len({case.key for case in cases}) == len(set(cases)) == len(cases)


def test_a_case_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    for case in all_cases()[::17]:
        path.write_text(to_json(case), encoding="utf-8")
        assert load_json(path, Case) == case
