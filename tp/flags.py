"""The command line into a frozen dataclass: tyro parses, every mistake becomes one line and exit code 2."""

import contextlib
import difflib
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import tyro

from tp.errors import ConfigError

T = TypeVar("T")

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_RANGE: Final = re.compile(r"0*[1-9]\d{0,17}(:0*[1-9]\d{0,17}){1,2}")


def parse_flags(cls: type[T], args: Sequence[str] | None = None, *, prog: str, description: str) -> T:
    """Parse `args` (default: the process's own) as the dataclass `cls`.

    Raises ConfigError for an unknown flag, a missing value or a stray word; `--help` exits with 0.
    """
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report):
            options, unknown = tyro.cli(
                cls,
                args=args,
                prog=prog,
                description=description,
                return_unknown_args=True,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(_condense(report.getvalue(), prog)) from None
    if unknown:
        raise ConfigError(_unknown(unknown[0], cls, prog))
    return options


def _condense(report: str, prog: str) -> str:
    """tyro's box as one line: the finding stands between the title and the next rule, help text below that."""
    lines = [line.strip("│ ") for line in _COLOUR.sub("", report).splitlines()]
    body = itertools.dropwhile(_is_rule, lines[1:])
    finding = " ".join(" ".join(itertools.takewhile(lambda line: not _is_rule(line), body)).split())
    return f"{finding.rstrip('.') or 'the command line cannot be read'}; run '{prog} --help' for the flags"


def _is_rule(line: str) -> bool:
    return not line.strip("╰╯─-")


def _unknown(word: str, cls: Any, prog: str) -> str:
    flags = [f"--{field.name.replace('_', '-')}" for field in fields(cls)]
    close = difflib.get_close_matches(word.split("=")[0], flags, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"run '{prog} --help' for the flags"
    return f"{word}: no such flag; {remedy}"


def positive_int(text: str, *, flag: str) -> int:
    """A positive integer given to `flag`; ConfigError otherwise."""
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:
        raise ConfigError(f"{flag} {text[:40]}: not a positive whole number; give one such as {flag} 4")
    return int(text)


def positive_float(text: str, *, flag: str) -> float:
    """A positive number given to `flag`; ConfigError otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{flag} {text}: not a positive number; give one such as {flag} 2.5")
    return value


def comma_list(text: str, convert: Callable[[str], T], *, flag: str) -> tuple[T, ...]:
    """The comma-separated values of `flag`, each converted; empty and repeated ones are refused."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ConfigError(f"{flag} {text!r}: an empty entry; separate values with single commas")
    doubles = {word for word in words if words.count(word) > 1}
    if doubles:
        raise ConfigError(f"{flag} {text}: {min(doubles)} is given twice; name it once")
    return tuple(convert(word) for word in words)


def int_ranges(text: str, *, flag: str, most: int = 100_000) -> tuple[int, ...]:
    """The positive integers of a list of values and of ranges LO:HI and LO:HI:STEP, ends included.

    ConfigError for an empty range, a step of zero, a value given twice and more than `most` values.
    """
    found: list[int] = []
    for word in comma_list(text, str, flag=flag):
        if ":" in word and not _RANGE.fullmatch(word):
            raise ConfigError(f"{flag} {word[:40]}: not a range of positive whole numbers; write LO:HI or LO:HI:STEP")
        low, *rest = (positive_int(end, flag=flag) for end in word.split(":"))
        high, step = (*rest, *(low, 1)[len(rest) :])
        values = range(low, high + 1, step)
        if not values:
            raise ConfigError(f"{flag} {word}: an empty range; put the smaller end first, {flag} {high}:{low}")
        if len(found) + len(values) > most:
            raise ConfigError(f"{flag} {text}: more than {most:,} values; take a larger step")
        found.extend(values)
    doubles = [value for value, times in Counter(found).items() if times > 1]
    if doubles:
        raise ConfigError(f"{flag} {text}: {doubles[0]} is given twice; name it once")
    return tuple(found)


def choice(text: str, allowed: Sequence[T], *, flag: str) -> T:
    """`text` as one of `allowed`; ConfigError with the nearest ones otherwise."""
    for value in allowed:
        if value == text:
            return value
    names = [str(value) for value in allowed]
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(f"{flag} {text}: unknown; {hint}Choose from {', '.join(names)}")
