"""Calls into NVML that either give a value or raise; loads without torch."""

from collections.abc import Sequence
from typing import Any, Final

import pynvml

Handle = Any
"""NVML's opaque pointer to a GPU."""

# What NVML puts where a value is missing although the call succeeded (NVML_VALUE_NOT_AVAILABLE, in 32 and 64 bits).
_NOT_AVAILABLE: Final = (2**32 - 1, 2**64 - 1)
_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Of a field's value, by the number of its type."""


def ask(names: str | tuple[str, ...], *arguments: object) -> Any:
    """What the first of these functions answers that driver and package both have.

    Raises NVMLError with the driver's reason, ValueError where it answers that there is no value.
    """
    for name in (names,) if isinstance(names, str) else names:
        function = getattr(pynvml, name, None)
        if function is None:
            continue
        try:
            return _present(function(*arguments))
        except pynvml.NVMLError_FunctionNotFound:
            continue
    raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def field_value(handle: Handle, field: int) -> int | float:
    """A field of the whole GPU; the errors are those of `ask`."""
    return field_values(handle, [(field, 0)])[0]


def field_values(handle: Handle, fields: Sequence[tuple[int, int]]) -> list[int | float]:
    """The value of each (field, scope), in one call; the errors are those of `ask`, for the first that has one."""
    return [_of_field(answer) for answer in ask("nvmlDeviceGetFieldValues", handle, list(fields))]


def _of_field(answer: Any) -> int | float:
    if answer.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(answer.nvmlReturn)
    if answer.valueType >= len(_MEMBERS):
        raise ValueError(f"NVML answers with a value of the unknown type {answer.valueType}")
    value: int | float = _present(getattr(answer.value, _MEMBERS[answer.valueType]))
    return value


def _present(answer: Any) -> Any:
    if isinstance(answer, int) and answer in _NOT_AVAILABLE:
        raise ValueError("NVML answers that the value is not available")
    return answer
