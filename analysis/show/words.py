"""What a row is about, in words: its scenario, workload, strategy."""

from pathlib import Path
from typing import Final

import pandas as pd

from analysis.show.table import Cells

# The fewest samples whose extremes enclose the median with 95 % confidence (bench/harness/record/stats.py).
MIN_SAMPLES: Final = 6
EMULATED_NOTE: Final = (
    "Emulated: one rank computed its shard alone; serial and total are derived, its compute as measured and the "
    "communication that the estimate adds."
)


def scenario_text(row: Cells, *, hardware: bool = False) -> str:
    """What was measured, strategy and degree aside: tinyllama-1.1b attention prefill, batch 1, seq 256, fp32."""
    where = f", {row['hardware']} ({row['backend']})" if hardware else ""
    series = f", {Path(row['series']).name}" if row.get("series") else ""
    how = f"{recompute_text(row)}{', emulated' if row['emulated'] else ''}"
    return f"{row['model']} {row['block']} {row['phase']}, {workload_text(row)}{how}{network_text(row)}{where}{series}"


def workload_text(row: Cells) -> str:
    """The sizes of a workload: those that its phase leaves open."""
    length = f"context {row['context']}" if row["phase"] == "decode" else f"seq {row['seq']}"
    return f"batch {row['batch']}, {length}, {row['dtype']}"


def network_text(row: Cells) -> str:
    """What joins the nodes, after a comma; nothing on one node."""
    return f", over {row['network']}" if row["network"] else ""


def strategy_text(row: Cells) -> str:
    """A strategy with what it was tuned to, and where its group lies: overlap in 4 chunks over 2 nodes."""
    chunks = f" in {row['chunks']} chunks" if row["chunks"] > 1 else ""
    nodes = f" over {row['group_nodes']} nodes" if row["group_nodes"] > 1 else ""
    return f"{row['strategy']}{chunks}{nodes}"


def recompute_text(row: Cells) -> str:
    """What training makes again, after a comma; nothing where it keeps all."""
    return "" if row["recompute"] == "none" else f", {row['recompute']} recompute"


def variant_text(row: Cells) -> str:
    """A strategy with its chunks and what it makes again: sequence, full recompute."""
    return strategy_text(row) + recompute_text(row)


def table_text(row: Cells, *, hardware: bool) -> str:
    """What the strategies of a table share; recomputation is told row by row."""
    return f"{scenario_text({**row, 'recompute': 'none'}, hardware=hardware)}, TP {row['tp']}"


def several_machines(frame: pd.DataFrame) -> bool:
    """Whether the rows come from more than one hardware or backend, so that each has to be named."""
    return len(frame[["hardware", "backend"]].drop_duplicates()) > 1


def curve_text(row: Cells, *, several: bool) -> str:
    """What a curve of a collective over sizes is of, the collective aside; its file where there are several."""
    nodes = f" on {row['nodes']} nodes" if row["nodes"] > 1 else ""
    placement = f", {row['placement']}" if row["placement"] else ""
    where = f", {Path(row['record']).name}" if several else ""
    dtype = f", {row['dtype']}" if row["dtype"] else ""
    return f"{row['ranks']} ranks{nodes} over {row['backend']}{dtype}{placement}{where}"
