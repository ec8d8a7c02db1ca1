"""What estimates decide: which theories a machine allows, and in how many chunks `overlap` should send."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tp.case import Case
from tp.cost.article import ArticleTheory
from tp.cost.calibrated import CalibratedTheory, Calibration
from tp.cost.datasheet import DatasheetTheory
from tp.cost.theory import THEORIES, Theory, estimate_plan
from tp.errors import ConfigError
from tp.flags import choice
from tp.hardware import Link, Node
from tp.plan.build import build_plan
from tp.plan.ops import Backend
from tp.plan.shards import token_misfit

CHUNK_COUNTS: Final = (1, 2, 4, 8)
# Products of fewer rows waste a device, which a theory without start-up times would not see.
MIN_CHUNK_TOKENS: Final = 128


def make_theories(
    *, node: Node, link: Link, calibration: Calibration | None, network: Link | None = None
) -> list[Theory]:
    """The article's and the data sheet's, and where there is a calibration, its own; the best is the last.

    `network` joins such nodes, a port of it for each device.
    """
    theories: list[Theory] = [
        ArticleTheory(node=node, link=link),
        DatasheetTheory(node=node, link=link, network=network),
    ]
    if calibration is not None:
        theories.append(
            CalibratedTheory(
                calibration=calibration,
                device=node.device,
                link=link,
                devices_per_node=node.num_devices,
                network=network,
            )
        )
    return theories


def named_theory(theories: Sequence[Theory], name: str) -> Theory:
    """The theory called `name`, by default the best; ConfigError for one that needs measurements and has none."""
    if not name:
        return theories[-1]
    by_name = {theory.name: theory for theory in theories}
    wanted = choice(name, THEORIES, flag="--theory")
    if wanted not in by_name:
        raise ConfigError(f"--theory {name}: needs measurements; give their --calibration FILE")
    return by_name[wanted]


def choose_chunks(case: Case, theories: Sequence[Theory], *, backend: Backend) -> int:
    """The number of chunks with the least estimated total under the last, best theory; the fewest where all agree."""
    if case.strategy != "overlap" or case.tp == 1 or token_misfit(case) is not None:
        return 1
    chunked = [replace(case, chunks=count) for count in CHUNK_COUNTS if count == 1 or _long_enough(case, count)]
    estimates = [estimate_plan(build_plan(each, backend=backend), theories[-1]).part("total") for each in chunked]
    known = [part.seconds for part in estimates if part.seconds is not None]
    return chunked[int(first_of_the_least(known))].chunks if len(known) == len(chunked) else 1


def first_of_the_least(seconds: Sequence[ArrayLike]) -> NDArray[np.intp]:
    """The index of the least, or of the first that differs from it by rounding alone; over a grid, at each point.

    The same ops in more pieces add up to the same time but for rounding, which decides nothing.
    """
    rows = np.stack(np.broadcast_arrays(*seconds))
    found: NDArray[np.intp] = np.argmax(rows <= rows.min(axis=0) * (1 + 1e-9), axis=0)
    return found


def _long_enough(case: Case, count: int) -> bool:
    fits = token_misfit(replace(case, chunks=count)) is None
    return fits and case.workload.tokens // (case.tp * count) >= MIN_CHUNK_TOKENS
