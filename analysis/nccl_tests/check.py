"""Whether a row contradicts itself: algbw is size over time and busbw a share of it, as far as digits were printed."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Final

from analysis.nccl_tests.parts import Row
from analysis.nccl_tests.spelling import ITEM_BYTES, REDUCTIONS, SHARED, SILENT, bandwidth_factors

Range = tuple[float, float]
"""The least and the largest number that is printed as a text."""

_PRINTED: Final = re.compile(r"([+-]?\d+)(?:\.(\d*))?(?:e([+-]?\d+))?")
# The tests divide in another order than this file does.
_SLACK: Final = 1e-9
# A time in microseconds and a bandwidth in GB/s: bytes over microseconds are 1e6 bytes/s.
_GB_PER_S: Final = 1e-3
MOST_GPUS: Final = 4096


def printed_range(text: str) -> Range:
    """What the number was before it was rounded; anything where it is none (inf, nan)."""
    match = _PRINTED.fullmatch(text)
    if match is None:
        return (0.0, math.inf)
    half = 0.5 * 10.0 ** (int(match[3] or 0) - len(match[2] or ""))
    return (max(float(text) - half, 0.0), float(text) + half)


def contradiction(row: Row, collective: str, gpus: int) -> str | None:
    """Why the row cannot be of that collective over so many GPUs."""
    size_fault = _wrong_size(row, collective, gpus)
    if size_fault is not None:
        return size_fault
    if row.redop and collective not in SILENT and (row.redop != "none") != (collective in REDUCTIONS):
        return f"redop is {row.redop}, which no {collective} has; name the collective with --collective"
    factors = bandwidth_factors(collective, gpus)
    if not factors or any(_agrees(row, *each) for each in factors):
        return None
    if not any(_overlap(_times(_rate(row), each[0]), printed_range(row.algbw)) for each in factors):
        return f"algbw is {row.algbw} GB/s, but {row.size} bytes in {row.time} us are not; mend the row"
    said = f"busbw is {row.busbw} GB/s at an algbw of {row.algbw}, which no {collective} over {gpus} GPUs has"
    others = gpus_that_agree([row], collective)
    hint = f"; {span_of(others)} GPUs would" if others else ""
    return f"{said}{hint}; set --gpus or --collective right, or mend the row"


def gpus_that_agree(rows: Iterable[Row], collective: str) -> tuple[int, ...]:
    """Numbers of GPUs over which the bandwidths of all rows fit each other; none where every number does."""
    kept = list(rows)

    def fits(gpus: int) -> bool:
        return all(any(_agrees(row, *each) for each in bandwidth_factors(collective, gpus)) for row in kept)

    least, most = _first(fits, range(2, MOST_GPUS)), _first(fits, range(MOST_GPUS, 1, -1))
    if least is None or most is None or most == MOST_GPUS:
        return ()
    return tuple(gpus for gpus in range(least, most + 1) if fits(gpus))


def _first(fits: Callable[[int], bool], numbers: Iterable[int]) -> int | None:
    return next((number for number in numbers if fits(number)), None)


def span_of(numbers: tuple[int, ...]) -> str:
    """The numbers from the least to the largest."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _wrong_size(row: Row, collective: str, gpus: int) -> str | None:
    item = ITEM_BYTES.get(row.type)
    if item is None or collective == "all_to_all_v":
        return None
    shares = (1, gpus) if collective in SHARED else (1,)
    if any(row.count * item * share == row.size for share in shares):
        return None
    over = f" over {gpus} GPUs" if len(shares) > 1 else ""
    said = f"size is {row.size}, but {row.count} elements of {row.type}{over} are not"
    return f"{said}; mend the row, --gpus or --collective"


def _agrees(row: Row, alg_factor: float, bus_factor: float) -> bool:
    rate = _rate(row)
    algbw = _times(rate, alg_factor)
    printed = printed_range(row.algbw)
    if not _overlap(algbw, printed):
        return False
    # Both say what the rate was, the digits of both together best.
    rate = (max(rate[0], printed[0] / alg_factor), min(rate[1], printed[1] / alg_factor)) if alg_factor else rate
    return _overlap(_times(rate, bus_factor), printed_range(row.busbw))


def _rate(row: Row) -> Range:
    """Size over time, GB/s."""
    low, high = printed_range(row.time)
    size = row.size * _GB_PER_S
    return (size / high if high else math.inf, size / low if low else (math.inf if size else 0.0))


def _times(values: Range, factor: float) -> Range:
    return (values[0] * factor, values[1] * factor) if factor else (0.0, 0.0)


def _overlap(left: Range, right: Range) -> bool:
    return left[0] <= right[1] * (1 + _SLACK) and right[0] <= left[1] * (1 + _SLACK)
