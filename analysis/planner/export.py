"""A ranking as rows of numbers, for CSV and JSON."""

from typing import Any, Final

from analysis.planner.layout import MEMORY_TERMS, TIME_TERMS, Layout, Ranking, Span
from analysis.planner.request import Request

Row = dict[str, Any]
_LAYOUT: Final = ("tp", "pp", "dp", "status", "reason", "is_certain")
_CHOICE: Final = ("strategy", "recompute", "micro_batch")
_TIMING: Final = ("num_micro_batches", "tokens_per_s", "mfu")
_SPANS: Final = ("whole", "first_token", "per_token")
_ENDS: Final = {"s": "seconds", "low_s": "low_s", "high_s": "high_s"}


def rows(ranking: Ranking) -> list[Row]:
    """One row a layout, in order; seconds and bytes, None where there is none."""
    return [_row(number, layout) for number, layout in enumerate(ranking.layouts, start=1)]


def _row(number: int, layout: Layout) -> Row:
    timing, memory = layout.timing, layout.memory
    found: Row = {"rank": number if layout.status == "fits" else None}
    found |= {name: getattr(layout, name) for name in _LAYOUT}
    found |= {name: getattr(layout.choice, name, None) for name in _CHOICE}
    found |= {name: getattr(timing, name, None) for name in _TIMING}
    for name in _SPANS:
        span: Span | None = getattr(timing, name, None)
        found |= {f"{name}_{end}": getattr(span, field, None) for end, field in _ENDS.items()}
    found |= {f"{_key(term)}_s": None if timing is None else timing.terms.get(term, 0.0) for term in TIME_TERMS}
    found |= {"memory_bytes": getattr(memory, "total", None), "fullest_stage": getattr(memory, "stage", None)}
    found |= {f"{_key(term)}_bytes": None if memory is None else memory.terms.get(term, 0) for term in MEMORY_TERMS}
    return found


def _key(term: str) -> str:
    return term.replace(" ", "_").lower()


def description(request: Request) -> Row:
    """What was asked, in words and numbers."""
    return {
        "model": request.model.name,
        "hardware": request.node.name,
        "num_gpus": request.num_gpus,
        "devices_per_node": request.node.num_devices,
        "phase": request.phase,
        "batch": request.batch,
        "seq": request.seq,
        "new_tokens": request.new_tokens if request.phase == "serve" else None,
        "dtype": request.dtype,
        "optimizer": request.optimizer if request.phase == "train" else None,
        "theory": request.theory.name,
        "link": request.link.name,
        "network": None if request.network is None else request.network.name,
        "memory_bytes": request.memory_bytes,
    }
