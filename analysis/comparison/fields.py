"""A comparison as flat tables for programs: the names of `--json` and `--csv`, which stay stable.

Ratios are new over old; seconds end in `_s`; `_change` is relative, 0.04 for 4 %. Top level of the JSON: `sentence`,
`regressed`, `old`, `new` (files), `margin_change`, `common`, `differences`, `cases`, `rows`, `left_out`.
"""

from dataclasses import asdict, fields
from typing import Any, Final

from analysis.comparison.rows import Change, Comparison, Row
from analysis.comparison.show import sentence

_OWN: Final = tuple(field.name for field in fields(Row) if field.name != "change")
_CHANGE: Final = tuple(field.name for field in fields(Change))
ROW_COLUMNS: Final = (*_OWN, *_CHANGE)


def row_fields(row: Row) -> dict[str, Any]:
    """A row by ROW_COLUMNS; None where it has no such figure."""
    made = {name: getattr(row, name) for name in _OWN}
    return made | {name: None if row.change is None else getattr(row.change, name) for name in _CHANGE}


def comparison_fields(found: Comparison) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    return {
        "sentence": sentence(found),
        "regressed": found.regressed,
        "old": list(found.old),
        "new": list(found.new),
        "margin_change": found.margin,
        "common": asdict(found.common),
        "differences": [asdict(each) for each in found.differences],
        "cases": [asdict(each) for each in found.cases],
        "rows": [row_fields(row) for row in found.rows],
        "left_out": list(found.left_out),
    }
