"""Claims and what became of them, as rows of text for people."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from analysis.show.table import Display, Group, figure_columns, text_column
from analysis.trial.verdicts import VERDICTS, Ruling
from analysis.trial.wording import format_quantity
from tp.claim import Claim

_WHOSE: Final = {
    "article": "The article",
    "vendor": "Vendors, and what follows of a CPU from its clock and width",
    "user": "Given with --claims",
    "planted": "Control: false on purpose",
}


def show_claims(rulings: Sequence[Ruling]) -> Display:
    """Of the claims that a measurement decides the verdicts, whoever made them; planted ones last."""
    measured = [ruling for ruling in rulings if ruling.is_measured]
    groups = [
        Group(
            title=_WHOSE[origin],
            detail=verdict_counts([ruling for ruling in measured if ruling.origin == origin]),
            rows=tuple(claim_cells(ruling) for ruling in measured if ruling.origin == origin),
        )
        for origin in dict.fromkeys(ruling.origin for ruling in measured)
    ]
    columns = (
        text_column("claim"),
        *figure_columns("stated", "from its inputs", "from the right ones", "measured"),
        text_column("verdict"),
        text_column("why"),
    )
    note = "Only what these records measure; python -m analysis claims judges all. A peak holds from 60 % of it on."
    return Display(columns=columns, groups=tuple(groups), notes=(note,) if groups else ())


def verdict_counts(rulings: Sequence[Ruling]) -> str:
    """61 claims: 23 hold, 21 refuted."""
    count = Counter(ruling.verdict for ruling in rulings)
    words = [(count[verdict], verdict) for verdict in VERDICTS if count[verdict]]
    parts = [f"{many} {verdict if many == 1 else verdict.replace('holds', 'hold')}" for many, verdict in words]
    return f"{'1 claim' if len(rulings) == 1 else f'{len(rulings)} claims'}: {', '.join(parts)}"


def claim_cells(ruling: Ruling) -> tuple[str, ...]:
    """Claim, stated, from its own inputs, from the right ones, measured, verdict, why."""
    claim, found = ruling.claim, ruling.finding
    return (
        f"{claim.subject}: {claim.statement}",
        "-" if claim.stated is None else _relation(claim) + format_quantity(claim.stated, claim.unit),
        _optional(ruling.own, claim),
        "as given" if ruling.own is not None and claim.right is None else _optional(ruling.right, claim),
        "-" if found is None else format_quantity(found.value, claim.unit),
        ruling.verdict,
        ruling.reason,
    )


def _relation(claim: Claim) -> str:
    return "" if claim.relation == "=" else f"{claim.relation} "


def _optional(value: float | None, claim: Claim) -> str:
    return "-" if value is None else format_quantity(value, claim.unit)
