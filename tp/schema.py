"""TOML and JSON into frozen dataclasses, strictly: an unknown, missing or mistyped key is an error.

Pydantic validates; this file turns its report into one line that names file, key, value and remedy.
A dataclass that is read from a file carries `@with_config(STRICT)` (nested ones inherit it).
"""

import difflib
import json
import tomllib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast, get_args

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from tp.errors import ConfigError

STRICT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

T = TypeVar("T")


def _check_name(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("a name is not empty and has no control characters; write it in letters that can be shown")
    if text[0] in "=+-@":
        raise ValueError("a name that begins with =, +, - or @ is a formula to a spreadsheet; begin it with a letter")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
"""What a described thing is called, in tables, in CSV files and on terminals."""


def load_toml(path: Path, cls: type[T]) -> T:
    """Read one TOML file as `cls`.

    Raises ConfigError when the file cannot be read, is not TOML, or does not fit the dataclass.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return from_mapping(data, cls, where=str(path))


def load_json(path: Path, cls: type[T]) -> T:
    """Read one JSON file as `cls`; the errors are those of `load_toml`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    return _validate(text, cls, where=str(path))


def from_mapping(data: Mapping[str, Any], cls: type[T], *, where: str) -> T:
    """Build `cls` from parsed data; `where` is the file or flag that the message names."""
    # Through JSON, because there a list may become a tuple and a TOML date a string without loosening anything.
    return _validate(json.dumps(data, default=str), cls, where=where)


def to_json(value: object, *, indent: int | None = None) -> str:
    """The JSON text that `load_json` reads back as the same dataclass."""
    return _adapter(cast(Hashable, type(value))).dump_json(value, indent=indent).decode()


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Made once for each dataclass, which takes milliseconds."""
    return TypeAdapter(cls)


def _validate(text: str, cls: type[T], *, where: str) -> T:
    try:
        read: T = _adapter(cast(Hashable, cls)).validate_json(text)
        return read
    except ValidationError as error:
        raise ConfigError(f"{where}: {' '.join(_finding(error, cls).split())}") from error


def _finding(error: ValidationError, cls: type) -> str:
    # Of another version nothing else need fit. A misspelt key is also a missing one: the spelling is what to tell.
    errors = error.errors(include_url=False)
    first, *others = sorted(
        errors, key=lambda each: (each["loc"] != ("schema_version",), each["type"] != "unexpected_keyword_argument")
    )
    key = ".".join(str(part) for part in first["loc"])
    rest = f" ({len(others)} more)" if others else ""
    kind = first["type"]
    if kind == "json_invalid":
        return f"not valid JSON: {first['msg']}"
    if kind == "missing":
        return f"key '{key}' is missing; add it{rest}"
    if kind == "unexpected_keyword_argument":
        return f"unknown key '{key}'{_did_you_mean(first['loc'], cls)}{rest}"
    message = first["msg"].removeprefix("Value error, ")
    subject = f"{key} = {first['input']!r}: " if key and not isinstance(first["input"], dict | list) else ""
    place = f"{key}: " if key and not subject else ""
    return f"{subject}{place}{message}{rest}"


def _did_you_mean(path: tuple[int | str, ...], cls: type) -> str:
    names = [field.name for field in fields(_table_at(path, cls))]
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(names)}"


def _table_at(path: tuple[int | str, ...], cls: Any) -> Any:
    """The dataclass within `cls` that the key at the end of `path` was looked up in."""
    for part in path[:-1]:  # an index, or a key of a mapping, stays where it is
        types = {field.name: field.type for field in fields(cls)}
        cls = next(_dataclasses_in(types.get(str(part))), cls)
    return cls


def _dataclasses_in(annotation: Any) -> Iterator[Any]:
    if is_dataclass(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _dataclasses_in(part)
