"""Every figure of a report, in its order."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.figures.agreement import agreement_chart
from analysis.figures.bandwidth import bandwidth_chart
from analysis.figures.drawing import Chart, house_style
from analysis.figures.errors import error_chart
from analysis.figures.memory import memory_chart
from analysis.figures.rates import rates_chart
from analysis.figures.roofline import roofline_chart
from analysis.figures.scaling import scaling_chart
from analysis.figures.state import state_chart
from analysis.figures.strategies import strategies_chart
from analysis.load import Run


def charts(runs: Sequence[Run], frames: Mapping[str, pd.DataFrame]) -> list[Chart]:
    """Every figure that the frames, by their names, have something for."""
    with house_style():
        drawn = (
            agreement_chart(frames["parts"]),
            error_chart(frames["parts"]),
            scaling_chart(frames["scaling"]),
            rates_chart(frames["rates"], frames["crossings"]),
            strategies_chart(frames["parts"], frames["strategies"]),
            bandwidth_chart(frames["collectives"]),
            roofline_chart(frames["products"]),
            memory_chart(frames["strategies"]),
            state_chart(runs),
        )
        return [chart for chart in drawn if chart is not None]
