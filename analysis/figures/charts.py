"""Every figure of a report."""

import pandas as pd

from analysis.figures.agreement import agreement_chart
from analysis.figures.drawing import Chart, house_style
from analysis.figures.errors import error_chart
from analysis.figures.scaling import scaling_chart
from analysis.figures.strategies import strategies_chart


def charts(parts: pd.DataFrame, scaling: pd.DataFrame, strategies: pd.DataFrame) -> list[Chart]:
    """Every figure that the frames have something for."""
    with house_style():
        drawn = (
            agreement_chart(parts),
            scaling_chart(scaling),
            strategies_chart(parts, strategies),
            error_chart(parts),
        )
        return [chart for chart in drawn if chart is not None]
