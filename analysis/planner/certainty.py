"""Whether one layout is certainly slower than another: their times share most of their errors."""

from math import exp, hypot, sqrt
from typing import get_args

from analysis.planner.layout import Source, Timing
from tp.cost.curves.trust import LAYER_LOG_ERROR_90


def least_ratio(slower: Timing, faster: Timing) -> float:
    """The low end of the 90 % interval of both times' ratio; over 1: certainly slower.

    Errors of a source are common to both times, and sources are independent of each other. To first order ln ratio then
    errs by (share - share') w for each source, w the wider of both half-widths, and by what two layers of one machine
    differ in beyond that (`LAYER_LOG_ERROR_90`, once each).
    """
    errors = [_error(slower, faster, source) for source in get_args(Source)]
    return slower.whole.seconds / faster.whole.seconds * exp(-hypot(*errors, sqrt(2) * LAYER_LOG_ERROR_90))


def _error(one: Timing, other: Timing, source: Source) -> float:
    width = max(one.log_errors.get(source, 0.0), other.log_errors.get(source, 0.0))
    return (one.share(source) - other.share(source)) * width
