"""What a rank holds, predicted beside measured, as rows of text for people."""

from collections.abc import Callable
from typing import Final

import pandas as pd

from analysis.frames.rows import gather, rows_of
from analysis.frames.strategies import side_by_side
from analysis.show.cells import size
from analysis.show.table import NOTHING, Cell, Cells, Display, Group, cells_in_use
from analysis.show.words import several_machines, table_text, variant_text


def show_memory(strategies: pd.DataFrame) -> Display:
    """All strategies of a workload and degree, a group each; nothing where no case says what it holds."""
    known = [name for name in strategies.columns if name.endswith(("_predicted_bytes", "_observed_bytes"))]
    rows = rows_of(strategies[strategies[known].notna().any(axis=1)])
    cells = cells_in_use(_CELLS, rows)
    machines = several_machines(strategies)
    groups = [
        Group(
            title=table_text(table[0], hardware=machines),
            rows=tuple(tuple(cell.read(row) for cell in cells) for row in table),
        )
        for table in gather(rows, side_by_side).values()
    ]
    notes = (
        "Memory of one rank, predicted / measured; as predicted, where they agree to the byte. Saved is what autograd "
        "keeps for the backward. The predicted peak is all that is held, with a workspace that is an upper estimate; "
        "only CUDA's allocator measures one.",
    )
    columns = tuple(cell.column for cell in cells)
    return Display(columns=columns, groups=tuple(groups), notes=notes if groups else ())


def predicted_and_measured(predicted: object, measured: object) -> str:
    """Bytes under both heads; "as predicted" only where they agree to the byte."""
    if pd.isna(measured):  # type: ignore[call-overload]
        return NOTHING if pd.isna(predicted) or predicted == 0 else f"{size(predicted)} / {NOTHING}"  # type: ignore[call-overload]
    if pd.isna(predicted):  # type: ignore[call-overload]
        return f"{NOTHING} / {size(measured)}"
    expected, found = int(str(predicted)), int(str(measured))
    if expected == found:
        return f"{size(found)}, as predicted" if found else NOTHING
    # What three digits do not tell apart is told as the difference.
    difference = f" ({found - expected:+} B)" if size(expected) == size(found) else ""
    return f"{size(expected)} / {size(found)}{difference}"


def _held(kind: str) -> Callable[[Cells], str]:
    return lambda row: predicted_and_measured(row[f"{kind}_predicted_bytes"], row[f"{kind}_observed_bytes"])


_CELLS: Final = (
    Cell(heading="strategy", read=variant_text, figures=False),
    Cell(heading="weights", read=_held("weights"), may_go=True),
    Cell(heading="gradients", read=_held("gradients"), may_go=True),
    Cell(heading="saved", read=_held("saved"), may_go=True),
    Cell(heading="KV cache", read=_held("kv_cache"), may_go=True),
    Cell(heading="workspace, predicted", read=lambda row: size(row["workspace_predicted_bytes"]), may_go=True),
    Cell(heading="peak", read=_held("peak"), may_go=True),
)
