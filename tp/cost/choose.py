"""The theories that what is known of a machine allows."""

from tp.cost.article import ArticleTheory
from tp.cost.calibrated import CalibratedTheory, Calibration
from tp.cost.datasheet import DatasheetTheory
from tp.cost.theory import Theory
from tp.hardware import Link, Node


def make_theories(*, node: Node, link: Link, calibration: Calibration | None) -> list[Theory]:
    """The article's and the data sheet's, and where there is a calibration, its own; the best is the last."""
    theories: list[Theory] = [ArticleTheory(node=node, link=link), DatasheetTheory(node=node, link=link)]
    if calibration is not None:
        theories.append(CalibratedTheory(calibration=calibration))
    return theories
