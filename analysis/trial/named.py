"""What a ledger calls by name: a function and its arguments, as `peak h100-sxm bf16`."""

import inspect
from collections.abc import Callable, Mapping
from typing import TypeVar

from tp.errors import ConfigError

R = TypeVar("R")


def named(
    text: str, functions: Mapping[str, Callable[..., R]], *, given: int = 0
) -> tuple[Callable[..., R], list[str]]:
    """The function that `text` names and the words after it; `given` arguments come before these.

    ConfigError for an unknown name and for another number of words than the function takes.
    """
    name, *words = text.split() or [""]
    if name not in functions:
        raise ConfigError(f"{text!r} is unknown; choose from {', '.join(functions)}")
    takes = list(inspect.signature(functions[name]).parameters)[given:]
    if len(words) != len(takes):
        raise ConfigError(f"{text!r} has {len(words)} arguments; {name} takes {', '.join(takes) or 'none'}")
    return functions[name], words
