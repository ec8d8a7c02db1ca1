"""Published tables as they come in: each kind becomes the right ops, and nonsense is refused in one line."""

from pathlib import Path
from typing import Any

import pytest

from analysis.measured.op import Measured
from analysis.measured.read import read_inputs
from analysis.measured.tables import read_table
from analysis.verbs.inputs import parse_select
from tp.cost.lookup import LAYERS
from tp.errors import ConfigError
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm

pytestmark = pytest.mark.unit

Row = dict[str, Any]

GEMM: Row = {
    "hardware": "X1",
    "dtype": "bf16",
    "m": 16,
    "n": 64,
    "k": 128,
    "library": "lib",
    "time_us": 2.5,
    "source": "s1",
}
ATTENTION: Row = {
    "hardware": "X1",
    "dtype": "bf16",
    "batch": 2,
    "seq": 512,
    "heads": 8,
    "kv_heads": 2,
    "head_dim": 64,
    "causal": True,
    "pass": "forward",
    "time_us": 20,
    "source": "s2",
}
COLLECTIVE: Row = {
    "hardware": "X1",
    "link": "wire",
    "nodes": 1,
    "gpus": 4,
    "collective": "all_gather",
    "bytes": 4096,
    "time_us": 8.0,
    "source": "s3",
}
LAYER: Row = {
    "hardware": "X1",
    "tp": 1,
    "model": "Llama-2-70b",
    "batch": 2,
    "seq": 2048,
    "hidden": 8192.0,
    "heads": 64.0,
    "kv_heads": 8.0,
    "ffn": 28672,
    "dtype": "fp16",
    "pass": "forward",
    "component": "attn_pre_proj",
    "time_us": 100.0,
    "source": "s4",
}
LLAMA_7B: Row = {"hidden": 4096.0, "heads": 32.0, "kv_heads": 32.0, "ffn": 11008}


def write(path: Path, base: Row, *changes: Row) -> Path:
    """A table of the base row with changes, a row each; a column of None is left out."""
    rows = [base | change for change in changes or ({},)]
    names = [name for name in rows[0] if rows[0][name] is not None]
    text = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def read(path: Path, **select: str) -> list[Measured]:
    return read_table(path, select={column: frozenset({value}) for column, value in select.items()}, tell=pytest.fail)


def test_a_product(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"dtype": "bfloat16", "m": 1}, {"dtype": "fp8_e4m3", "source": "s9"})
    rows = read(path)
    assert rows[0] == Measured(
        op=Gemm(part="qkv", direction="forward", layout="nt", m=16, n=64, k=128, dtype="bf16"),
        seconds=pytest.approx(2.5e-6),  # type: ignore[arg-type]
        source="s1",
        group="s1",
        kind="gemm",
    )
    assert [row.key for row in rows] == ["bf16/nt", "bf16/nt", "fp8/nt"]
    assert [(row.source, row.group) for row in rows] == [("s1", "s1"), ("s1", "s1"), ("s9", "s9")]
    assert all(isinstance(row.op, Gemm) and isinstance(row.op.m, int) for row in rows)


def test_an_attention_core(tmp_path: Path) -> None:
    decode = {"seq": 1, "causal": False, "batch": 64}
    rows = read(write(tmp_path / "t.csv", ATTENTION, {}, {"pass": "backward"}, decode))
    core = AttentionCore(
        part="core",
        direction="forward",
        batch=2,
        seq=512,
        context=512,
        num_heads=8,
        num_kv_heads=2,
        head_dim=64,
        causal=True,
        dtype="bf16",
    )
    assert (rows[0].op, rows[0].seconds, rows[0].kind) == (core, pytest.approx(2e-5), "attention")
    assert [row.key for row in rows] == ["bf16/forward", "bf16/backward", "bf16/decode"]


def test_a_core_that_is_not_causal_is_left_out_and_told(tmp_path: Path) -> None:
    path, told = write(tmp_path / "t.csv", ATTENTION, {"causal": "False"}, {}, {"causal": 0}), list[str]()
    assert len(read_table(path, select={}, tell=told.append)) == 1
    assert told == [f"{path}: 2 rows are no op that is modelled (whole layers, cores that are not causal); left out"]


def test_a_collective(tmp_path: Path) -> None:
    kinds = [{"collective": kind} for kind in ("all_gather", "reduce_scatter", "all_reduce")]
    rows = read(write(tmp_path / "t.csv", COLLECTIVE, *kinds, {"gpus": 16, "nodes": 2}))
    assert rows[0].op == Collective(
        kind="all_gather", direction="forward", num_ranks=4, size_bytes=4096, dtype="bf16", backend="nccl"
    )
    assert rows[0].seconds == pytest.approx(8e-6)
    assert [row.kind for row in rows] == ["all_gather/4", "reduce_scatter/4", "all_reduce/4", "all_gather/16/2nodes"]
    # Over two nodes it is priced by a curve of its own.
    assert (rows[0].key, rows[3].key, rows[3].nodes) == ("all_gather/4/bf16", "all_gather/16x2/bf16", 2)


PRODUCTS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")


@pytest.mark.parametrize(
    ("model", "tp", "widths"),
    [
        # n and k of qkv, out, gate and up, down. 70b: 64 + 2 * 8 heads of 128, ffn 28672.
        ({}, 1, [(10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672)]),
        ({}, 2, [(5120, 8192), (8192, 4096), (28672, 8192), (8192, 14336)]),
        ({}, 8, [(1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584)]),
        # More ranks than kv heads: each holds one. 4 * 128 + 2 * 128.
        ({}, 16, [(768, 8192), (8192, 512), (3584, 8192), (8192, 1792)]),
        # 7b: 3 * 32 heads of 128, ffn 11008.
        (LLAMA_7B, 1, [(12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008)]),
        (LLAMA_7B, 2, [(6144, 4096), (4096, 2048), (11008, 4096), (4096, 5504)]),
        (LLAMA_7B, 8, [(1536, 4096), (4096, 512), (2752, 4096), (4096, 1376)]),
    ],
)
def test_the_products_of_a_llamas_shard(tmp_path: Path, model: Row, tp: int, widths: list[tuple[int, int]]) -> None:
    rows = read(write(tmp_path / "t.csv", LAYER | model | {"tp": tp}, *({"component": name} for name in PRODUCTS)))
    parts = ("qkv", "out", "up", "down")
    assert [row.op for row in rows] == [
        Gemm(part=part, direction="forward", layout="nt", m=4096, n=n, k=k, dtype="fp16")  # type: ignore[arg-type]
        for part, (n, k) in zip(parts, widths, strict=True)
    ]
    assert [row.kind for row in rows] == [f"layer/{part}" for part in parts]
    assert {(row.group, row.source) for row in rows} == {(LAYERS, "s4")}


@pytest.mark.parametrize(
    ("component", "kind", "tp", "read_bytes", "written_bytes"),
    [
        # 4096 tokens in two bytes each: of 8192 wide, of 2 * 28672 / tp, of (64 + 8) / tp heads of 128.
        ("input_layernorm", "layer/norm", 8, 67_108_864, 67_108_864),
        ("post_attention_layernorm", "layer/norm", 1, 67_108_864, 67_108_864),
        ("add", "layer/residual", 2, 134_217_728, 67_108_864),
        ("mlp_act", "layer/activation", 1, 469_762_048, 234_881_024),
        ("mlp_act", "layer/activation", 8, 58_720_256, 29_360_128),
        ("attn_rope", "layer/rope", 1, 75_497_472, 75_497_472),
        ("attn_rope", "layer/rope", 2, 37_748_736, 37_748_736),
    ],
)
def test_the_passes_of_a_llamas_shard(
    tmp_path: Path, component: str, kind: str, tp: int, read_bytes: int, written_bytes: int
) -> None:
    (row,) = read(write(tmp_path / "t.csv", LAYER, {"component": component, "tp": tp}))
    assert isinstance(row.op, Elementwise)
    assert (row.kind, row.op.read_bytes, row.op.written_bytes) == (kind, read_bytes, written_bytes)


def test_whole_layers_and_backward_parts_are_left_out_and_told(tmp_path: Path) -> None:
    path, told = write(tmp_path / "t.csv", LAYER, {"component": "layer"}, {"pass": "backward"}, {}), list[str]()
    assert len(read_table(path, select={}, tell=told.append)) == 1
    assert len(told) == 1 and told[0].startswith(f"{path}: 2 rows are no op that is modelled")


def test_rows_are_selected(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"hardware": "X2"}, {"hardware": "X2", "m": 32}, {"hardware": "X3"})
    assert len(read(path, hardware="X1")) == 1
    found = read_table(path, select=parse_select(("hardware=X2", "m=16,64")), tell=pytest.fail)
    assert [row.op.m for row in found if isinstance(row.op, Gemm)] == [16]


def refusal(path: Path, *select: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_inputs([path], select=parse_select(select), tell=pytest.fail)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("time_us", "nan", "nan"),
        ("time_us", "", "nan"),
        ("time_us", "-1", "-1"),
        ("time_us", "0", "0"),
        ("time_us", "inf", "inf"),
        ("time_us", "fast", "'fast'"),
        ("time_us", "3 us", "'3 us'"),
        ("m", "", "nan"),
        ("m", "-16", "-16"),
        ("k", "0", "0"),
        ("n", "many", "'many'"),
    ],
)
def test_a_number_that_is_none_names_its_line(tmp_path: Path, column: str, value: str, shown: str) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"m": 32}, {column: value}, {"m": 64})
    told = refusal(path)
    assert told.startswith(f"{path}, line 4: {column} is ")
    assert shown in told.split("not a positive number")[0]
    assert told.endswith("not a positive number; mend or leave out the row (1 such)")


def test_the_lines_are_those_of_the_file_also_of_selected_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {"hardware": "X2"}, {"hardware": "X2"}, {"time_us": "nan"})
    assert refusal(path, "hardware=X1").startswith(f"{path}, line 4: time_us is ")
    assert refusal(write(tmp_path / "d.csv", GEMM, {}, {"dtype": "int3"})).startswith(f"{tmp_path / 'd.csv'}, line 3: ")


def test_a_missing_number_is_shown_as_people_write_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {"time_us": "nan"})
    assert refusal(path).startswith(f"{path}, line 2: time_us is nan, not a positive number")


def test_blank_lines_do_not_shift_the_line_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"time_us": "nan"})
    path.write_text(path.read_text().replace("\n", "\n\n"))
    assert refusal(path).startswith(f"{path}, line 5: time_us is ")


def test_a_comma_at_the_end_of_every_row_shifts_no_column(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"m": 32})
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(f"{row}," for row in rows)]))
    assert [row.op.m for row in read(path) if isinstance(row.op, Gemm)] == [16, 32]


def test_dtypes_go_by_other_names_in_every_table(tmp_path: Path) -> None:
    for base in (GEMM, ATTENTION, LAYER):
        (row,) = read(write(tmp_path / "t.csv", base, {"dtype": "float16"}))
        assert not isinstance(row.op, Collective) and row.op.dtype == "fp16"


def test_rows_of_no_stated_source_have_none(tmp_path: Path) -> None:
    (with_column,) = read(write(tmp_path / "t.csv", GEMM, {"source": ""}))
    (without,) = read(write(tmp_path / "u.csv", GEMM | {"source": None}))
    assert with_column.source == without.source == ""


@pytest.mark.parametrize(
    ("base", "column", "value"),
    [
        (ATTENTION | {"context": 512}, "context", "inf"),
        (ATTENTION | {"context": 512}, "context", -512),
        (ATTENTION, "batch", 1.5),
        (LAYER, "ffn", 28672.5),
        (LAYER, "tp", 1.5),
        (COLLECTIVE, "bytes", 0.5),
        (COLLECTIVE, "nodes", 1.5),
    ],
)
def test_every_size_is_a_positive_whole_number(tmp_path: Path, base: Row, column: str, value: object) -> None:
    path = write(tmp_path / "t.csv", base, {}, {column: value})
    assert refusal(path).startswith(f"{path}, line 3: {column} is ")


@pytest.mark.parametrize(
    ("base", "change", "told"),
    [
        (GEMM, {"dtype": "int8"}, "dtype 'int8' is unknown; use fp32, bf16, fp16, fp8"),
        (GEMM, {"dtype": ""}, "dtype 'nan' is unknown; use fp32"),
        (GEMM, {"m": 16.5}, "m is 16.5, not a whole number"),
        (ATTENTION, {"dtype": "int8"}, "dtype 'int8' is unknown; use fp32"),
        (ATTENTION, {"pass": "sideways"}, "pass 'sideways' is unknown; use forward, backward"),
        (
            COLLECTIVE,
            {"collective": "all_to_some"},
            "collective 'all_to_some' is unknown; use all_gather, reduce_scatter",
        ),
        (COLLECTIVE, {"gpus": 1}, "a collective of gpus = 1 on nodes = 1; at least 2"),
        (LAYER, {"dtype": "int8"}, "dtype 'int8' is unknown; use fp32"),
        (LAYER, {"tp": 3}, "tp 3 does not divide heads 64"),
        (LAYER, {"tp": 128}, "tp 128 does not divide heads 64"),
        (LAYER, {"tp": 4, "kv_heads": 6}, "tp 4 does not divide heads 64, kv_heads 6"),
        (LAYER, {"tp": 8, "ffn": 28673}, "tp 8 does not divide heads 64, kv_heads 8, ffn 28673"),
    ],
)
def test_a_row_that_makes_no_sense(tmp_path: Path, base: Row, change: Row, told: str) -> None:
    path = write(tmp_path / "t.csv", base, {}, change)
    assert refusal(path).startswith(f"{path}, line 3: {told}")


def test_times_of_an_unknown_unit(tmp_path: Path) -> None:
    changed = {name: value for name, value in GEMM.items() if name != "time_us"} | {"time_ms": 0.1}
    path = write(tmp_path / "t.csv", changed)
    assert refusal(path) == f"{path}: times are in a column 'time_ms' of unknown unit; give microseconds as time_us"


def test_columns_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM | {"k": None, "dtype": None})
    assert refusal(path) == (
        f"{path}: is no table of matrix products, layer parts, attention cores, collectives; "
        "as one of matrix products it lacks the columns dtype, k"
    )
    assert "of layer parts it lacks the columns component" in refusal(
        write(tmp_path / "l.csv", LAYER | {"component": None})
    )


def test_several_hardware_are_not_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"hardware": "X2"})
    assert refusal(path) == f"{path}: rows of several hardware (X1, X2); choose with --select hardware=X1"


def test_what_cannot_be_selected(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM, {}, {"hardware": "X2"})
    assert refusal(path, "gpu=X1").startswith(f"--select gpu=...: {path} has no such column; it has hardware, dtype, m")
    assert refusal(path, "hardware=X9") == f"--select hardware=X9: no row of {path}; it has X1, X2"
    for words in (("hardware",), ("=X1",), ("hardware=",), ("hardware=X1", "hardware=X2")):
        with pytest.raises(ConfigError, match=r"^--select hardware|^--select =X1"):
            parse_select(words)


def test_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for content, told in (
        (b"", "is no CSV table (No columns to parse from file)"),
        (b"\xff\xfe\x00junk\x00", "is no CSV table ("),
        (b"a,b\n1,2\n1,2,3,4\n", "is no CSV table ("),
        (b"once upon a time\n", "is no table of matrix products"),
        (b"hardware,dtype,m,n,k,time_us\n", "holds no row; measure some"),
    ):
        path.write_bytes(content)
        assert refusal(path).startswith(f"{path}: {told}")
    assert refusal(tmp_path / "absent.csv").startswith(f"{tmp_path / 'absent.csv'}: cannot be read (No such file")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert refusal(folder).startswith(f"{folder}: cannot be read (Is a directory)")


def test_a_file_that_is_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", GEMM)
    again = tmp_path / "x" / ".." / "t.csv"
    (tmp_path / "x").mkdir()
    for second in (path, again):
        with pytest.raises(ConfigError, match=r"t\.csv: is given twice; its rows would count twice$"):
            read_inputs([path, second], select={}, tell=pytest.fail)
    other = write(tmp_path / "u.csv", COLLECTIVE)
    assert [row.kind for row in read_inputs([path, other], select={}, tell=pytest.fail).rows] == [
        "gemm",
        "all_gather/4",
    ]
