"""`analysis predict` over grids: one row a configuration in a file, a summary of many, and what bad input is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.forecast.grid import GRID_COLUMNS, column_names, grid_columns, make_grid
from analysis.forecast.grid_summary import by_phase, summarise
from analysis.verbs.predict import predict
from tp.cost.choose import choose_chunks
from tp.cost.datasheet import DatasheetTheory
from tp.cost.theory import estimate_plan
from tp.errors import ConfigError
from tp.hardware import load_node
from tp.model import load_model
from tp.numbers import add_up, any_of, larger, lesser
from tp.plan.build import build_plan
from tp.plan.memory import held_bytes, plan_memory
from tp.plan.ops import PARTS
from tp.suite import Defaults, Suite, expand

pytestmark = pytest.mark.unit

NODE = load_node("h100-sxm")
SHEET = DatasheetTheory(node=NODE, link=NODE.link())
CHOSEN = Defaults(model="llama2-7b", seq=4096, dtype="bf16", strategies=("allreduce",))


def table(path: Path, *flags: str) -> pd.DataFrame:
    predict([*flags, "--out", str(path)])
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


SMALL = ("--model", "llama2-7b", "--tp", "1:4:3", "--batch", "1:3", "--phase", "decode", "--context", "128,1000")
BOTH = (*SMALL, "--strategy", "allreduce,sequence")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    found = table(tmp_path / "new" / f"grid{suffix}", *BOTH)
    assert tuple(found.columns) == GRID_COLUMNS
    assert len(found) == 2 * 2 * 3 * 2
    # Decode makes one token a sequence: at most 3 tokens, and 4 ranks.
    cut = (found["strategy"] == "sequence") & (found["tp"] == 4)
    assert set(found[cut]["status"]) == {"tokens not divisible by tp 4"}
    assert set(found[~cut]["status"]) == {"ok"}
    unknown = [
        "compute_s",
        "extrapolated",
        "total_s",
        "total_high_s",
        "tokens_per_s",
        "layer_bytes",
        "model_bytes",
        "fits",
    ]
    assert found.loc[cut, unknown].isna().all(axis=None) and not found.loc[~cut].isna().any(axis=None)
    assert set(found["context"]) == {128, 1000} and set(found["seq"]) == {1}
    assert found.loc[~cut, "fits"].astype(bool).all()
    out = capsys.readouterr().out
    assert "/allreduce/tp4/b3/s1/c1000/" in out and "cannot run, " in out


def test_both_files_hold_the_same(tmp_path: Path) -> None:
    flags = ("--tp", "1:4:3", "--strategy", "overlap", "--block", "block", "--seq", "1024,2049", "--parts")
    csv, parquet = (table(tmp_path / f"grid{suffix}", *flags) for suffix in (".csv", ".parquet"))
    assert tuple(csv.columns) == column_names(with_parts=True) == tuple(parquet.columns)
    numbers = [name for name in csv.columns if name.endswith("_s")]
    assert len(numbers) == 6 + len(PARTS)
    np.testing.assert_allclose(csv[numbers], parquet[numbers].astype(float), rtol=1e-12)
    for name in ("strategy", "status", "tp", "seq", "chunks"):
        assert csv[name].tolist() == parquet[name].tolist()


def test_rows_are_what_each_case_has() -> None:
    suite = Suite(
        name="x",
        model=("llama2-7b",),
        tp=(1, 4),
        strategy=("columns", "overlap", "async-tp"),
        phase=("prefill", "train"),
        batch=(1, 4),
        seq=(512, 4096),
        recompute=("none", "selective"),
    )
    grid = make_grid(suite, "block", chosen=CHOSEN)
    frames = [
        pd.DataFrame(
            {name: np.broadcast_to(np.asarray(column, dtype=object), rows) for name, column in columns.items()}
        )
        for _, rows, columns in grid_columns(grid, SHEET, backend="nccl", device=NODE.device, with_parts=False)
    ]
    rows = pd.concat(frames).set_index(["phase", "strategy", "tp", "batch", "seq", "recompute"])
    planned = expand(
        suite,
        "block",
        world=None,
        chosen=CHOSEN,
        choose_chunks=lambda case: choose_chunks(case, [SHEET], backend="nccl"),
    )
    assert len(grid) == len(rows) == len(planned) == 3 * 2 * (4 + 8)
    for case in (each.case for each in planned):
        w = case.workload
        row = rows.loc[(w.phase, case.strategy, case.tp, w.batch, w.seq, case.recompute)]
        total = estimate_plan(build_plan(case, backend="nccl"), SHEET).part("total").seconds
        assert row["total_s"] == pytest.approx(total)
        assert row["tokens_per_s"] == pytest.approx(w.tokens / row["total_s"])
        assert row["layer_bytes"] == held_bytes(plan_memory(case, device="cuda"))
        assert row["chunks"] == case.chunks


def test_many_are_summarised(capsys: pytest.CaptureFixture[str]) -> None:
    predict(["--tp", "1,8", "--strategy", "allreduce,overlap", "--batch", "1:8", "--seq", "500:4000:500"])
    out = capsys.readouterr().out
    # 2 degrees x 2 strategies x 8 batches x 8 lengths a phase; odd batches of 500, 1500 ... tokens are not cut by 8.
    assert "prefill: 256 configurations, 16 whose tokens cannot be cut as their strategy needs, " in out
    assert "train: 256 configurations, 16 whose" in out
    assert "whose whole model fits 80.0 GB less 2.00 GB a rank" in out
    assert out.count("attention/llama2-70b/prefill/") == 5
    assert out.count("attention/llama2-70b/train/") == 0  # 69e9 parameters of 16 bytes on 8 ranks


def test_a_summary_counts_and_ranks() -> None:
    suite = Suite(
        name="x", model=("llama2-7b",), tp=(1, 8), strategy=("allreduce",), phase=("prefill",), seq=(64, 4096)
    )
    families = [
        *grid_columns(
            make_grid(suite, "block", chosen=CHOSEN), SHEET, backend="nccl", device=NODE.device, with_parts=False
        )
    ]
    (found,) = by_phase(summarise(*family) for family in families)
    assert (found.num_configurations, found.num_divide, found.num_fit) == (4, 4, 4)
    speeds = [fast.tokens_per_s for fast in found.fastest]
    assert speeds == sorted(speeds, reverse=True) and len(speeds) == 4
    assert "/tp8/b1/s4096/" in found.fastest[0].key
    unknown = replace(NODE.device, memory_bytes=None)
    (found,) = by_phase(
        summarise(*family)
        for family in grid_columns(
            make_grid(suite, "block", chosen=CHOSEN), SHEET, backend="nccl", device=unknown, with_parts=True
        )
    )
    assert found.num_fit is None and len(found.fastest) == 4


def test_parts_are_columns_of_the_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    predict(["--theory", "datasheet", "--tp", "8", "--strategy", "allreduce", "--phase", "prefill", "--parts"])
    heading, row = capsys.readouterr().out.splitlines()[2:4]
    assert heading.split()[:7] == ["case", "norm", "qkv", "core", "out", "residual", "all_reduce"]
    assert row.split()[1:3] == ["40.1", "us"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "x.txt"), "--out x.txt: neither .csv nor .parquet; end the name in one of them"),
        (("--out", "/dev/null/x.csv"), "--out /dev/null/x.csv: cannot be written ("),
        (("--csv", "/dev/null/x.csv"), "--csv /dev/null/x.csv: cannot be written ("),
        (("--seq", "64:1"), "--seq 64:1: an empty range; put the smaller end first, --seq 1:64"),
        (("--batch", "1:5:0"), "--batch 1:5:0: not a range of positive whole numbers; write LO:HI or LO:HI:STEP"),
        (("--tp", "1:"), "--tp 1:: not a range of positive whole numbers"),
        (("--seq", "1:4,3"), "--seq 1:4,3: 3 is given twice; name it once"),
        (("--seq", "1:999999"), "--seq 1:999999: more than 100,000 values; take a larger step"),
        (
            ("--batch", "1:3000", "--seq", "1:3000"),
            "--batch and --seq: 9,000,000 workloads a family, more than 1,000,000",
        ),
        (("--context", "5"), "--context 5: only decode has a context of its own; add --phase decode"),
        (("--tp", "1:3"), "--tp 3: num_heads 64 is not divisible by tp 3"),
    ],
)
def test_bad_input_is_one_line(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        predict(["--tp", "1", "--strategy", "allreduce", *flags] if "--tp" not in flags else flags)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value) and "None" not in str(caught.value)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "p.csv"
    predict(["--tp", "1", "--strategy", "allreduce", "--csv", str(path)])
    assert path.is_file()


def test_every_model_of_a_grid_is_in_the_file(tmp_path: Path) -> None:
    found = table(tmp_path / "x.parquet", "--model", "llama2-7b,gpt3-175b", "--tp", "8", "--phase", "prefill")
    assert found.groupby("model", sort=False).size().to_dict() == {"llama2-7b": 3, "gpt3-175b": 3}
    assert found.set_index("model")["fits"].to_dict() == {"llama2-7b": True, "gpt3-175b": True}
    assert load_model("gpt3-175b").num_parameters * 2 / 8 < found["model_bytes"].max() < 80e9


def test_numbers_stay_numbers_and_arrays_arrays() -> None:
    array = np.array([1.0, 3.0])
    assert (larger(1.0, 2.0), lesser(1, 2), add_up([0.1] * 10), any_of([])) == (2.0, 1, 1.0, False)
    assert type(larger(1.0, 2.0)) is type(add_up([1.0])) is float
    assert larger(array, 2.0).tolist() == [2.0, 3.0]  # type: ignore[type-var]
    assert lesser(2.0, array).tolist() == [1.0, 2.0]  # type: ignore[type-var]
    assert add_up([array, 1.0, array]).tolist() == [3.0, 7.0]  # type: ignore[list-item,attr-defined]
    assert array.tolist() == [1.0, 3.0]
    assert any_of([False, array > 2]).tolist() == [False, True]  # type: ignore[list-item,attr-defined]
