"""The command line: what tyro reads, and what a mistyped flag is told."""

import io
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tp import flags
from tp.errors import ConfigError

pytestmark = pytest.mark.unit

HELP = "run 'bench/x.py --help' for the flags"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the entry point takes."""

    out: str
    """The record file."""
    num_gpus: int = 4
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Element type of weights and activations, one of a list that is long enough to be wrapped in the report."""
    resume: bool = False


def parse(*args: str) -> Options:
    return flags.parse_flags(Options, args, prog="bench/x.py", description="An entry point.")


def refusal(*args: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*args)
    return str(caught.value)


def test_flags_become_the_dataclass() -> None:
    assert parse("--out", "r") == Options(out="r")
    given_all = parse("--out=r", "--num-gpus", "8", "--dtype", "bf16", "--resume")
    assert given_all == Options(out="r", num_gpus=8, dtype="bf16", resume=True)


def test_the_process_arguments_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench/x.py", "--out", "r", "--num-gpus", "2"])
    options = flags.parse_flags(Options, prog="bench/x.py", description="")
    assert options == Options(out="r", num_gpus=2)


REFUSALS = [
    ((), f"Missing from bench/x.py: --out STR The record file. (required); {HELP}"),
    (("--out",), f"Missing value for argument '--out'. Expected 1 values; {HELP}"),
    (
        ("--out", "r", "--num-gpus", "four"),
        f"Error parsing --num-gpus: invalid literal for int() with base 10: 'four'; {HELP}",
    ),
    (
        ("--out", "r", "--dtype", "bfloat16-with-a-long-tail"),
        "invalid choice 'bfloat16-with-a-long-tail' for argument '--dtype'. "
        f"Expected one of ('fp32', 'bf16', 'fp16'); {HELP}",
    ),
    (("--out", "r", "--num-gpu", "8"), "--num-gpu: no such flag; did you mean --num-gpus?"),
    (("--out", "r", "--dtyp=bf16"), "--dtyp=bf16: no such flag; did you mean --dtype?"),
    (("--out", "r", "--zzz"), f"--zzz: no such flag; {HELP}"),
    (("--out", "r", "stray"), f"stray: no such flag; {HELP}"),
    (("--out", "r", "--no-resume"), "--no-resume: no such flag; did you mean --resume?"),
]


@pytest.mark.parametrize(("args", "message"), REFUSALS)
def test_a_mistake_is_one_line(args: tuple[str, ...], message: str) -> None:
    assert refusal(*args) == message


class Terminal(io.StringIO):
    """A standard output that asks for colours and, by its encoding, for one or the other kind of box."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", ["60", "200"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(("args", "message"), REFUSALS)
def test_the_line_does_not_depend_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str, encoding: str, columns: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", Terminal(encoding))
    assert refusal(*args) == message


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code in (0, None)
    text = capsys.readouterr().out
    assert "An entry point." in text
    assert "--num-gpus" in text


@given(st.integers(1, 10**12))
@settings(deadline=None)
def test_positive_int_reads_what_is_written(value: int) -> None:
    assert flags.positive_int(str(value), flag="--tp") == value


@pytest.mark.parametrize("text", ["0", "-4", "4.0", "", " 4", "four", "1e3", "+4"])
def test_positive_int_refuses_the_rest(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags.positive_int(text, flag="--tp")
    assert str(caught.value) == f"--tp {text}: not a positive whole number; give one such as --tp 4"


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
@settings(deadline=None)
def test_positive_float_reads_what_is_written(value: float) -> None:
    assert flags.positive_float(str(value), flag="--seconds") == value


@pytest.mark.parametrize("text", ["0", "-1.5", "nan", "inf", "", "two"])
def test_positive_float_refuses_the_rest(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags.positive_float(text, flag="--seconds")
    assert str(caught.value) == f"--seconds {text}: not a positive number; give one such as --seconds 2.5"


WORDS = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Z", "C")), min_size=1)


@given(st.lists(WORDS, min_size=1, unique=True), st.sampled_from([",", ", ", " ,"]))
@settings(deadline=None)
def test_comma_list_undoes_join(words: list[str], comma: str) -> None:
    assert flags.comma_list(comma.join(words), str, flag="--tp") == tuple(words)


@given(st.lists(st.integers(1, 9), min_size=1, unique=True))
@settings(deadline=None)
def test_comma_list_converts_each_value(values: list[int]) -> None:
    text = ",".join(map(str, values))
    assert flags.comma_list(text, lambda word: flags.positive_int(word, flag="--tp"), flag="--tp") == tuple(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--tp '': an empty entry; separate values with single commas"),
        ("1,,2", "--tp '1,,2': an empty entry; separate values with single commas"),
        ("1,2,", "--tp '1,2,': an empty entry; separate values with single commas"),
        ("1,2,1", "--tp 1,2,1: 1 is given twice; name it once"),
        ("1,x", "--tp x: not a positive whole number; give one such as --tp 4"),
    ],
)
def test_comma_list_refuses_the_rest(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags.comma_list(text, lambda word: flags.positive_int(word, flag="--tp"), flag="--tp")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prefil", "--phase prefil: unknown; did you mean prefill? Choose from prefill, train, decode"),
        ("x", "--phase x: unknown; Choose from prefill, train, decode"),
    ],
)
def test_choice_names_what_there_is(text: str, message: str) -> None:
    phases = ("prefill", "train", "decode")
    assert flags.choice("train", phases, flag="--phase") == "train"
    with pytest.raises(ConfigError) as caught:
        flags.choice(text, phases, flag="--phase")
    assert str(caught.value) == message


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 20), st.integers(200, 300))
def test_ranges_hold_both_ends(low: int, more: int, step: int, alone: int) -> None:
    expected = (*range(low, low + more + 1, step), alone)
    assert flags.int_ranges(f"{low}:{low + more}:{step}, {alone}", flag="--seq") == expected
    assert flags.int_ranges(f"{low}:{low + more}", flag="--seq") == tuple(range(low, low + more + 1))
