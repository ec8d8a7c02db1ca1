"""Strict reading: whatever is wrong with a file is one line that names the file, the key and the remedy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import with_config

from tp import schema
from tp.errors import ConfigError
from tp.hardware import Node, load_node
from tp.model import ModelShape, load_model
from tp.suite import Suite

pytestmark = pytest.mark.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    kind: Literal["oak", "ash"]
    width_m: float
    note: str | None = None

    def __post_init__(self) -> None:
        if self.width_m < 0:
            raise ValueError("width_m must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(schema.STRICT)
class Tree:
    name: str
    age: int
    leaves: tuple[Leaf, ...] = ()
    best: Leaf | None = None
    named: dict[str, Leaf] | None = None


LEAF = {"kind": "oak", "width_m": 0.5}


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        schema.from_mapping(data, Tree, where="tree.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "x"}, "tree.toml: key 'age' is missing; add it"),
        ({}, "tree.toml: key 'name' is missing; add it (1 more)"),
        ({"name": "x", "age": "7"}, "tree.toml: age = '7': Input should be a valid integer"),
        ({"name": "x", "age": 7.0}, "tree.toml: age = 7.0: Input should be a valid integer"),
        ({"name": "x", "age": True}, "tree.toml: age = True: Input should be a valid integer"),
        ({"name": 3, "age": 7}, "tree.toml: name = 3: Input should be a valid string"),
        ({"name": "x", "age": 7, "leaves": LEAF}, "tree.toml: leaves: Input should be a valid array"),
        ({"name": "x", "age": list(range(99))}, "tree.toml: age: Input should be a valid integer"),
        (
            {"name": "x", "age": 7, "leaves": [LEAF, LEAF | {"kind": "elm"}]},
            "tree.toml: leaves.1.kind = 'elm': Input should be 'oak' or 'ash'",
        ),
        (
            {"name": "x", "age": 7, "best": LEAF | {"width_m": float("nan")}},
            "tree.toml: best.width_m = nan: Input should be a finite number",
        ),
        (
            {"name": "x", "age": 7, "best": LEAF | {"width_m": -1.0}},
            "tree.toml: best: width_m must not be negative",
        ),
        ({"name": "x", "age": 7, "leaves": [{"kind": "oak"}]}, "tree.toml: key 'leaves.0.width_m' is missing; add it"),
    ],
)
def test_a_wrong_value_is_named(data: dict[str, Any], message: str) -> None:
    assert refusal(data) == message


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"leafs": 1}, "tree.toml: unknown key 'leafs'; did you mean 'leaves'?"),
        (
            {"best": {"kind": "oak", "widht_m": 1}},
            "tree.toml: unknown key 'best.widht_m'; did you mean 'width_m'? (1 more)",
        ),
        ({"leaves": [LEAF | {"widht_m": 1}]}, "tree.toml: unknown key 'leaves.0.widht_m'; did you mean 'width_m'?"),
        ({"best": LEAF | {"nite": "n"}}, "tree.toml: unknown key 'best.nite'; did you mean 'note'?"),
        (
            {"named": {"left": LEAF | {"nite": "n"}}},
            "tree.toml: unknown key 'named.left.nite'; did you mean 'note'?",
        ),
        (
            {"named": {"name": LEAF | {"nite": "n"}}},
            "tree.toml: unknown key 'named.name.nite'; did you mean 'note'?",
        ),
    ],
)
def test_a_misspelt_key_is_answered_from_its_own_table(extra: dict[str, Any], message: str) -> None:
    assert refusal({"name": "x", "age": 7} | extra) == message


def test_a_strange_key_lists_only_the_keys_of_its_table() -> None:
    message = refusal({"name": "x", "age": 7, "best": LEAF | {"zzz": 1}})
    assert message == "tree.toml: unknown key 'best.zzz'; known keys: kind, width_m, note"
    # A key of another table is no suggestion, however near.
    message = refusal({"name": "x", "age": 7, "width_mm": 1})
    assert message == "tree.toml: unknown key 'width_mm'; known keys: name, age, leaves, best, named"


def test_toml_is_read_with_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "tree.toml"
    path.write_text('name = 2026-11-22\nage = 7\n[[leaves]]\nkind = "ash"\nwidth_m = 1\n', encoding="utf-8")
    tree = schema.load_toml(path, Tree)
    assert tree == Tree(name="2026-11-22", age=7, leaves=(Leaf(kind="ash", width_m=1.0),))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    for load in (schema.load_toml, schema.load_json):
        with pytest.raises(ConfigError, match="none.toml: cannot be read .*No such file"):
            load(path, Tree)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    for load in (schema.load_toml, schema.load_json):
        with pytest.raises(ConfigError, match="bytes.toml: cannot be read .*utf-8"):
            load(path, Tree)


def test_a_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    path.write_text("name = [1,\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        schema.load_toml(path, Tree)
    assert str(caught.value).startswith(f"{path}: not valid TOML: ")
    with pytest.raises(ConfigError) as caught:
        schema.load_json(path, Tree)
    assert str(caught.value).startswith(f"{path}: not valid JSON: ")


def test_json_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        schema.load_json(path, Tree)
    assert str(caught.value) == f"{path}: Input should be an object"


FINITE = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
LEAVES = st.builds(Leaf, kind=st.sampled_from(["oak", "ash"]), width_m=FINITE, note=st.none() | st.text())
TREES = st.builds(
    Tree,
    name=st.text(),
    age=st.integers(),
    leaves=st.lists(LEAVES, max_size=3).map(tuple),
    best=st.none() | LEAVES,
    named=st.none() | st.dictionaries(st.text(), LEAVES, max_size=2),
)


@given(tree=TREES, indent=st.sampled_from([None, 2]))
@settings(deadline=None)
def test_json_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree, indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.json"
    path.write_text(schema.to_json(tree, indent=indent), encoding="utf-8")
    assert schema.load_json(path, Tree) == tree


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["name", "age", "leaves", "best", "named", "nmae"])


@given(st.dictionaries(KEYS, JSON, max_size=4))
@settings(deadline=None)
def test_every_refusal_is_one_line(data: dict[str, Any]) -> None:
    try:
        schema.from_mapping(data, Tree, where="tree.toml")
    except ConfigError as error:
        assert str(error).startswith("tree.toml: ")
        assert "\n" not in str(error)


UNPRINTABLE = "a name is not empty and has no control characters; write it in letters that can be shown"
FORMULA = "a name that begins with =, +, - or @ is a formula to a spreadsheet; begin it with a letter"


@pytest.mark.parametrize("described", [load_model("llama2-7b"), load_node("h100-sxm"), Suite(name="sweeps")])
@pytest.mark.parametrize(
    ("name", "told"),
    [("a\x1b[2Jb", UNPRINTABLE), ("two\nlines", UNPRINTABLE), ("", UNPRINTABLE), ("=1+1", FORMULA), ("@sum", FORMULA)],
)
def test_a_name_is_text_on_a_terminal_and_in_a_spreadsheet(
    described: ModelShape | Node | Suite, name: str, told: str
) -> None:
    data = json.loads(schema.to_json(described)) | {"name": name}
    with pytest.raises(ConfigError) as caught:
        schema.from_mapping(data, type(described), where="x.toml")
    assert str(caught.value) == f"x.toml: name = {name!r}: {told}"
