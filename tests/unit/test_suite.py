"""Suites: what they expand to, which cases are skipped and which degrees refused, and what is timed together."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp import schema
from tp.case import STRATEGIES, Block, Case, Phase, Strategy
from tp.errors import ConfigError, PlanError
from tp.suite import Defaults, PlannedCase, Suite, defaults, expand, interleaved

pytestmark = pytest.mark.unit

THREE: tuple[Strategy, ...] = ("columns", "allreduce", "sequence")
CHOSEN = Defaults(model="llama2-70b", seq=4096, dtype="bf16", strategies=THREE)


def expanded(
    suite: Suite, *, block: Block = "attention", world: int | None = 8, chosen: Defaults = CHOSEN
) -> list[PlannedCase]:
    """The suite's cases; as many chunks are chosen as there are ranks."""
    return expand(suite, block, world=world, chosen=chosen, choose_chunks=lambda case: case.tp)


def keys(suite: Suite, *, block: Block = "attention", world: int | None = 8) -> list[str]:
    return [planned.case.key for planned in expanded(suite, block=block, world=world)]


def test_what_a_suite_leaves_open_is_chosen() -> None:
    suite = Suite(name="x", tp=(8,), strategy=("allreduce",), phase=("prefill",))
    assert keys(suite) == ["attention/llama2-70b/prefill/allreduce/tp8/b1/s4096/c4096/bf16"]


def test_every_combination_in_order_strategies_next_to_each_other() -> None:
    suite = Suite(
        name="x",
        model=("llama2-7b", "llama2-70b"),
        tp=(2, 4),
        strategy=("columns", "sequence"),
        phase=("prefill", "train"),
        batch=(1, 2),
        seq=(128, 256),
        dtype="fp32",
    )
    found = keys(suite, world=4)
    assert len(found) == len(set(found)) == 2**6
    assert found[:4] == [
        "attention/llama2-7b/prefill/columns/tp2/b1/s128/c128/fp32",
        "attention/llama2-7b/prefill/sequence/tp2/b1/s128/c128/fp32",
        "attention/llama2-7b/prefill/columns/tp4/b1/s128/c128/fp32",
        "attention/llama2-7b/prefill/sequence/tp4/b1/s128/c128/fp32",
    ]
    assert found[-1] == "attention/llama2-70b/train/sequence/tp4/b2/s256/c256/fp32"


def test_decode_makes_one_token_against_the_context() -> None:
    suite = Suite(name="x", tp=(1,), strategy=("allreduce",), phase=("prefill", "decode"), seq=(64,), context=(512,))
    assert keys(suite, world=1) == [
        "attention/llama2-70b/prefill/allreduce/tp1/b1/s64/c64/bf16",
        "attention/llama2-70b/decode/allreduce/tp1/b1/s1/c512/bf16",
    ]


def test_without_a_context_decode_takes_the_length() -> None:
    suite = Suite(name="x", tp=(1,), strategy=("allreduce",), phase=("decode",), seq=(64, 128))
    assert [key.split("/")[-2] for key in keys(suite, world=1)] == ["c64", "c128"]


def test_a_context_without_decode_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        keys(Suite(name="x", context=(512,)))
    assert str(caught.value) == "--context 512: only decode has a context of its own; add --phase decode"


@pytest.mark.parametrize(
    ("world", "degrees"),
    [(None, {1, 2, 4, 8}), (1, {1}), (4, {1, 2, 4}), (12, {1, 2, 4}), (16, {1, 2, 4, 8, 16})],
)
def test_by_default_every_degree_that_divides_the_world_and_fits(world: int | None, degrees: set[int]) -> None:
    # 64 heads and 8 kv heads: 3, 6 and 12 divide the world of 12 but not the heads.
    cases = expanded(Suite(name="x"), world=world)
    assert {planned.case.tp for planned in cases} == degrees


def test_a_default_degree_that_a_strategy_cannot_have_is_left_to_the_others(tmp_path: Path) -> None:
    # hidden 100 has no 8 columns; the heads do.
    text = (Path(__file__).parents[2] / "configs/models/llama2-7b.toml").read_text(encoding="utf-8")
    path = tmp_path / "odd.toml"
    path.write_text(text.replace("hidden = 4096", "hidden = 100"), encoding="utf-8")
    suite = Suite(name="x", model=(str(path),), phase=("prefill",))
    found = {(p.case.tp, p.case.strategy) for p in expanded(suite)}
    assert (8, "columns") not in found
    assert {(4, "columns"), (8, "allreduce"), (8, "sequence")} <= found
    # Asked for by name it is a mistake.
    with pytest.raises(PlanError, match="hidden 100 is not divisible by tp 8"):
        expanded(Suite(name="x", model=(str(path),), tp=(8,)))


def test_a_degree_must_divide_the_world() -> None:
    with pytest.raises(ConfigError) as caught:
        keys(Suite(name="x", tp=(4,)), world=6)
    assert str(caught.value) == "--tp 4: does not divide the world of 6; use 1, 2, 3, 6"
    # A prediction has no world.
    assert keys(Suite(name="x", tp=(64,), strategy=("allreduce",), phase=("prefill",)), world=None)


def test_a_degree_that_does_not_fit_is_refused_for_the_whole_suite() -> None:
    with pytest.raises(PlanError, match=r"^--tp 3: num_heads 64 is not divisible by tp 3"):
        keys(Suite(name="x", tp=(3,)), world=3)


def test_tokens_that_do_not_divide_are_skipped_with_a_reason() -> None:
    suite = Suite(name="x", tp=(4,), phase=("decode",), batch=(2, 4), seq=(128,))
    cases = expanded(suite, world=4)
    skipped = {planned.case.key: planned.skip for planned in cases if planned.skip}
    assert skipped == {
        "attention/llama2-70b/decode/sequence/tp4/b2/s1/c128/bf16": "--batch 2 --seq 1: 2 tokens are not divisible "
        "by tp 4, as strategy sequence needs; make batch x seq a multiple of 4"
    }
    assert len(cases) == 6


def test_a_group_is_all_strategies_of_one_point() -> None:
    suite = Suite(name="x", tp=(2, 4), phase=("prefill", "train"), seq=(128,))
    groups = list(interleaved(expanded(suite, world=4)))
    shapes = [(g[0].case.workload.phase, g[0].case.tp, [p.case.strategy for p in g]) for g in groups]
    strategies = list(THREE)
    assert shapes == [
        ("prefill", 2, strategies),
        ("prefill", 4, strategies),
        ("train", 2, strategies),
        ("train", 4, strategies),
    ]


def test_what_is_made_again_is_timed_together_too() -> None:
    suite = Suite(name="x", tp=(2,), strategy=("allreduce", "dtensor"), phase=("train",), recompute=("none", "full"))
    (group,) = interleaved(expanded(suite))
    found = [(planned.case.strategy, planned.case.recompute) for planned in group]
    assert found == [("allreduce", "none"), ("allreduce", "full"), ("dtensor", "none"), ("dtensor", "full")]


def test_only_training_makes_activations_again() -> None:
    suite = Suite(name="x", tp=(8,), strategy=("allreduce",), recompute=("selective", "none"))
    assert [key.split("/")[2:] for key in keys(suite)] == [
        ["prefill", "allreduce", "tp8", "b1", "s4096", "c4096", "bf16"],
        ["train", "allreduce", "tp8", "b1", "s4096", "c4096", "bf16", "selective-recompute"],
        ["train", "allreduce", "tp8", "b1", "s4096", "c4096", "bf16"],
    ]
    with pytest.raises(ConfigError) as caught:
        keys(Suite(name="x", phase=("prefill", "decode"), recompute=("full",)))
    assert str(caught.value) == "--recompute full: only training keeps activations; add --phase train"
    with pytest.raises(PlanError, match=r"^--recompute selective: remakes the attention core and the FFN has none"):
        keys(Suite(name="x", tp=(8,), phase=("train",), recompute=("selective",)), block="ffn")


def test_chunks_are_the_suites_or_else_chosen_where_something_goes_round() -> None:
    suite = Suite(name="x", tp=(1, 2), strategy=("allreduce", "overlap"), phase=("prefill",))
    asked: list[str] = []

    def choose(case: Case) -> int:
        asked.append(case.key)
        return 4

    def chunks(suite: Suite) -> list[int]:
        cases = expand(suite, "ffn", world=2, chosen=CHOSEN, choose_chunks=choose)
        return [planned.case.chunks for planned in cases]

    assert chunks(suite) == [1, 1, 1, 4]
    assert asked == ["ffn/llama2-70b/prefill/overlap/tp2/b1/s4096/c4096/bf16"]
    asked.clear()
    assert chunks(replace(suite, chunks=3)) == [1, 1, 1, 3]
    assert not asked


def test_chunks_that_do_not_divide_are_skipped_with_a_reason() -> None:
    suite = Suite(name="x", tp=(8,), strategy=("sequence", "overlap"), phase=("prefill",), seq=(64,), chunks=3)
    sequence, overlap = expanded(suite)
    assert (sequence.skip, overlap.case.key) == (
        None,
        "attention/llama2-70b/prefill/overlap/tp8/b1/s64/c64/bf16/chunks3",
    )
    assert overlap.skip == (
        "--batch 1 --seq 64: 64 tokens are not divisible by tp 8 x 3 chunks, as strategy overlap needs; "
        "make batch x seq a multiple of 24"
    )


def test_each_block_has_the_degrees_that_split_it() -> None:
    suite = Suite(name="x", strategy=("allreduce",), phase=("prefill",))
    # The FFN's 28672 columns are cut in 7 and 14, the 64 heads are not.
    assert {planned.case.tp for planned in expanded(suite, block="ffn", world=14)} == {1, 2, 7, 14}
    assert {planned.case.tp for planned in expanded(suite, block="block", world=14)} == {1, 2}
    with pytest.raises(PlanError, match=r"^--tp 7: num_heads 64 is not divisible by tp 7"):
        keys(Suite(name="x", tp=(7,)), block="block", world=7)
    with pytest.raises(PlanError, match=r"^--tp 3: ffn_width 28672 is not divisible by tp 3"):
        keys(Suite(name="x", tp=(3,)), block="ffn", world=3)


def test_without_a_strategy_every_one_that_runs_here() -> None:
    suite = Suite(name="x", tp=(2,), phase=("prefill",))
    for device, left_out in (("cuda", set[str]()), ("cpu", {"async-tp"})):
        found = {p.case.strategy for p in expanded(suite, chosen=defaults(device, ["bf16"]))}  # type: ignore[arg-type]
        assert found == set(STRATEGIES) - left_out


PHASES: tuple[Phase, ...] = ("prefill", "train", "decode")


def some(values: tuple[object, ...]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


SWEEPS = st.fixed_dictionaries(
    {
        "phase": some(PHASES),
        "strategy": some(STRATEGIES),
        "batch": some((1, 2, 3)),
        "seq": some((16, 64)),
        "tp": some((1, 2, 4)),
    }
)


@given(SWEEPS)
@settings(deadline=None, max_examples=30)
def test_groups_keep_every_case_once_and_differ_by_strategy_only(swept: dict[str, tuple[object, ...]]) -> None:
    suite = schema.from_mapping({"name": "x", **swept}, Suite, where="x")
    cases = expanded(suite, world=4)
    assert len(cases) == math.prod(len(values) for values in swept.values())
    groups = list(interleaved(cases))
    assert [planned for group in groups for planned in group] == cases
    assert len(groups) * len(swept["strategy"]) == len(cases)
    for group in groups:
        assert len({_point(planned) for planned in group}) == 1


def _point(planned: PlannedCase) -> tuple[object, ...]:
    case = planned.case
    return case.model, case.tp, case.workload


def test_defaults_fit_the_machine() -> None:
    cuda = Defaults(model="llama2-70b", seq=4096, dtype="bf16", strategies=STRATEGIES)
    assert defaults("cuda", ["fp32"]) == cuda
    on_cpu: tuple[Strategy, ...] = ("columns", "allreduce", "sequence", "overlap", "dtensor")
    assert defaults("cpu", ["fp32"]) == Defaults(model="tinyllama-1.1b", seq=256, dtype="fp32", strategies=on_cpu)
    assert defaults("cpu", ["fp32", "bf16"]).dtype == "bf16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tp = [0]", "tp holds 0; sizes are at least 1"),
        ("batch = [4, -1]", "batch holds -1; sizes are at least 1"),
        (
            'strategy = ["rows"]',
            "strategy.0 = 'rows': Input should be 'columns', 'allreduce', 'sequence', 'overlap', 'async-tp' or "
            "'dtensor'",
        ),
        ('phase = ["prefil"]', "phase.0 = 'prefil': Input should be 'prefill', 'train' or 'decode'"),
        ('dtype = "int8"', "dtype = 'int8': Input should be 'fp32', 'bf16', 'fp16' or 'fp8'"),
        ("chunks = 0", "chunks is 0; it is at least 1"),
        ('recompute = ["all"]', "recompute.0 = 'all': Input should be 'none', 'selective' or 'full'"),
        ("recompute = []", "recompute is empty; leave it out for the default"),
        ('recompute = ["full", "full"]', "recompute names a value twice; name it once"),
        ("tps = [1]", "unknown key 'tps'; did you mean 'tp'?"),
    ],
)
def test_a_suite_file_is_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(f'name = "x"\n{text}\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        schema.load_toml(path, Suite)
    assert str(caught.value) == f"{path}: {message}"


def test_a_suite_file_becomes_a_suite(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text('name = "sweep"\nmodel = ["llama2-7b"]\ntp = [1, 2]\nseq = [128]\n', encoding="utf-8")
    assert schema.load_toml(path, Suite) == Suite(name="sweep", model=("llama2-7b",), tp=(1, 2), seq=(128,))


def test_an_unknown_model_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^--model llama2-70: unknown; did you mean llama2-70b\?"):
        keys(Suite(name="x", model=("llama2-70",)))
