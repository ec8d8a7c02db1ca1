"""Model shapes: their parameter counts are the published ones, and shapes that cannot be are refused."""

from pathlib import Path

import pytest

from tp import catalogue
from tp.errors import ConfigError
from tp.model import ModelShape, load_model
from tp.schema import load_json, to_json

pytestmark = pytest.mark.unit

NAMES = catalogue.names("models")

# Exact counts, as the checkpoints hold them. The safetensors headers of the three Llama 2 models list 64 values a
# layer more: the rotary inverse frequencies, which are constants.
EXACT = {
    "llama2-7b": (6_738_415_616, "meta-llama/Llama-2-7b-hf"),
    "llama2-13b": (13_015_864_320, "meta-llama/Llama-2-13b-hf"),
    "llama2-70b": (68_976_648_192, "meta-llama/Llama-2-70b-hf"),
    "llama3-8b": (8_030_261_248, "meta-llama/Meta-Llama-3-8B"),
    "llama3-70b": (70_553_706_496, "meta-llama/Meta-Llama-3-70B"),
    "llama3-405b": (405_853_388_800, "meta-llama/Llama-3.1-405B"),
    "tinyllama-1.1b": (1_100_048_384, "TinyLlama/TinyLlama_v1.1"),
    "qwen2.5-72b": (72_706_203_648, "Qwen/Qwen2.5-72B"),
}

# Rounded counts, and by how much the paper rounds.
ROUNDED = {
    "gpt3-175b": (174.6e9, 0.001, "Brown et al. 2020, Table D.1: 174,600 M"),
    "gpt2-medium": (345e6, 0.05, "Radford et al. 2019, Table 2: 345 M"),
    "megatron-22b": (22e9, 0.05, "Korthikanti et al. 2022, Table 3: 22 B"),
}

SHAPE = {
    "name": "tiny",
    "hidden": 8,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 2,
    "ffn_width": 16,
    "gated": True,
    "num_layers": 1,
    "vocab_size": 10,
    "tied_embeddings": False,
    "norm": "rms",
    "position": "rope",
    "max_positions": 32,
    "bias": "none",
    "source": "made up",
}


def shape(**changes: object) -> ModelShape:
    return ModelShape(**(SHAPE | changes))  # type: ignore[arg-type]


def test_every_model_has_a_published_count() -> None:
    assert {"llama2-70b", "tinyllama-1.1b"} <= set(NAMES)
    assert set(EXACT) | set(ROUNDED) == set(NAMES)


@pytest.mark.parametrize("name", EXACT)
def test_exact_parameter_count(name: str) -> None:
    count, checkpoint = EXACT[name]
    model = load_model(name)
    assert model.num_parameters == count, checkpoint
    assert checkpoint in model.source


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_parameter_count(name: str) -> None:
    count, tolerance, source = ROUNDED[name]
    assert load_model(name).num_parameters == pytest.approx(count, rel=tolerance), source


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_catalogue_loads(name: str, tmp_path: Path) -> None:
    model = load_model(name)
    assert model.name == name
    assert model.attention_width == model.hidden
    assert model.kv_width * model.num_heads == model.attention_width * model.num_kv_heads
    path = tmp_path / "model.json"
    path.write_text(to_json(model), encoding="utf-8")
    assert load_json(path, ModelShape) == model


def test_count_of_a_shape_small_enough_to_add_up() -> None:
    # q and out 8x8 each, k and v 8x4 each, three 8x16 of the FFN, two norms of 8 and a last one, two 10x8 embeddings.
    layer = 2 * 64 + 2 * 32 + 3 * 128 + 2 * 8
    assert shape().num_parameters == layer + 8 + 2 * 80


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"tied_embeddings": True}, -80),
        ({"gated": False}, -128),
        ({"norm": "layer"}, 3 * 8),
        ({"position": "learned"}, 32 * 8),
        ({"bias": "qkv"}, 8 + 2 * 4),
        ({"bias": "all"}, (8 + 2 * 4 + 8) + (2 * 16 + 8)),
        ({"bias": "all", "gated": False}, -128 + (8 + 2 * 4 + 8) + (16 + 8)),
        ({"num_kv_heads": 4}, 2 * 32),
        ({"vocab_size": 11}, 2 * 8),
        ({"head_dim": 4}, 2 * 64 + 2 * 32),
    ],
)
def test_what_each_choice_adds(changes: dict[str, object], more: int) -> None:
    assert shape(**changes).num_parameters - shape().num_parameters == more


def test_layers_add_up() -> None:
    one, two, three = (shape(num_layers=n).num_parameters for n in (1, 2, 3))
    assert three - two == two - one > 0


@pytest.mark.parametrize(("bias", "qkv", "out"), [("none", False, False), ("qkv", True, False), ("all", True, True)])
def test_which_layers_have_a_bias(bias: str, qkv: bool, out: bool) -> None:
    model = shape(bias=bias)
    assert (model.has_qkv_bias, model.has_out_bias) == (qkv, out)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_kv_heads = 8", "num_kv_heads = 6", "num_heads 64 is not a multiple of num_kv_heads 6"),
        ("num_kv_heads = 8", "num_kv_heads = 128", "num_heads 64 is not a multiple of num_kv_heads 128"),
        ("num_kv_heads = 8", "num_kv_heads = 0", "num_kv_heads is 0; it must be at least 1"),
        ("hidden = 8192", "hidden = -8192", "hidden is -8192; it must be at least 1"),
        ("max_positions = 4096", "max_positions = 0", "max_positions is 0; it must be at least 1"),
        ("hidden = 8192", "hiden = 8192", "unknown key 'hiden'; did you mean 'hidden'? (1 more)"),
        ("hidden = 8192\n", "", "key 'hidden' is missing; add it"),
        ("hidden = 8192", "hidden = 8192.0", "hidden = 8192.0: Input should be a valid integer"),
        ("gated = true", "gated = 1", "gated = 1: Input should be a valid boolean"),
        ('norm = "rms"', 'norm = "rmsnorm"', "norm = 'rmsnorm': Input should be 'rms' or 'layer'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = catalogue.find("llama2-70b", kind="models", flag="--model").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_model(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_an_unknown_model_is_answered_with_the_catalogue() -> None:
    with pytest.raises(ConfigError) as caught:
        load_model("llama2-70")
    assert str(caught.value) == f"--model llama2-70: unknown; did you mean llama2-70b? Choose from {', '.join(NAMES)}"
