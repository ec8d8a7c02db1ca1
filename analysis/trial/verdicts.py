"""A claim's verdict: by measurement where there is one, else by its arithmetic with the right inputs.

- holds: the claim stands as it is
- holds with other inputs: what it concludes is so, but not from what it was concluded from
- refuted: with the right inputs, or as measured, it is not so
- not testable here: nothing here computes or measures it

A peak is held to be reachable: it holds when the best that was measured reaches `REACH` of it and does not beat it by
more than the tolerance, and with the right inputs it is as stated. Sparse rates passed for dense and two-way rates for
one-way ones are twice too high, and even a machine at its best then stays under half.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from analysis.load import Run
from analysis.trial.finding import Finding
from analysis.trial.formula import evaluate, numbers
from analysis.trial.layers import LAYER_FINDINGS
from analysis.trial.named import named
from analysis.trial.rates import RATES, host_bytes_both_ways_per_s, link_bytes_per_s
from analysis.trial.wording import format_quantity
from tp.claim import Claim, Ledger, Origin
from tp.errors import ConfigError
from tp.units import format_signed_percent

Verdict = Literal["holds", "holds with other inputs", "refuted", "not testable here"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
NOT_TESTABLE: Final[Verdict] = "not testable here"

Standing = Literal["reached", "beaten", "out of reach"]
OUT_OF_REACH: Final[Standing] = "out of reach"

# By name; all take the records first.
MEASUREMENTS: Final[dict[str, Callable[..., Finding | None]]] = RATES | LAYER_FINDINGS
# Published tables reach 0.74 (NVLink, all-gather) to 0.96 (products) of dense, one-way peaks (aiconfigurator's tables
# of A100 to B200), our H100 at its power limit 0.74 in fp8, 0.79 in bf16, 0.91 of its memory, 0.86 of PCIe.
REACH: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A claim and what became of it."""

    claim: Claim
    origin: Origin
    source: str
    own: float | None
    """From its own inputs."""
    right: float | None
    """From the right ones; the same where its own are right."""
    finding: Finding | None
    verdict: Verdict
    reason: str

    @property
    def is_measured(self) -> bool:
        """Whether a measurement decided."""
        return self.finding is not None


def judge(ledger: Ledger, runs: Sequence[Run]) -> list[Ruling]:
    """The ruling on every claim of a ledger; ConfigError for a formula or a reference that means nothing."""
    return [_ruling(claim, ledger, runs) for claim in ledger.claims]


def control_failures(rulings: Sequence[Ruling]) -> list[Ruling]:
    """Planted claims that were measured and not found out of reach: held, or beaten by a bench that is too fast."""
    planted = [(r, r.finding) for r in rulings if r.origin == "planted"]
    return [r for r, found in planted if found is not None and _standing(r.claim, found) != OUT_OF_REACH]


def measured_of(claim: Claim, runs: Sequence[Run]) -> Finding | None:
    """The measured counterpart of a claim among the records of its hardware, in its direction."""
    if claim.measured is None:
        return None
    mine = [run for run in runs if claim.hardware in (None, run.headers[0].hardware.name)]
    try:
        measure, words = named(claim.measured, MEASUREMENTS, given=1)
    except ConfigError as error:
        raise ConfigError(f"{claim.name}: measured {error}") from error
    found = measure(mine, *words)
    if found is None or "two-way" not in claim.qualifiers or measure is host_bytes_both_ways_per_s:
        return found
    # A rank of a ring sends while it receives as much; elsewhere one way alone says nothing of both.
    return found.times(2, f"both ways, {found.text}") if measure is link_bytes_per_s else None


def _ruling(claim: Claim, ledger: Ledger, runs: Sequence[Run]) -> Ruling:
    values = _evaluated(claim)
    finding = None if claim.untestable else measured_of(claim, runs)
    if claim.untestable is not None or values is None:
        verdict, reason = NOT_TESTABLE, claim.untestable or "nothing computes it"
    elif finding is not None:
        verdict, reason = _by_measurement(claim, values, finding)
    elif ledger.origin in ("article", "user"):
        verdict, reason = _by_arithmetic(claim, values)
    elif not _satisfies(claim, values.own):
        verdict, reason = "refuted", f"{' x '.join(claim.inputs)} do not give it"
    else:
        verdict, reason = NOT_TESTABLE, "; ".join(_unmeasured(claim, runs))
    return Ruling(
        claim=claim,
        origin=ledger.origin,
        source=ledger.source,
        own=None if values is None else values.own,
        right=None if values is None else values.right,
        finding=finding,
        verdict=verdict,
        reason=reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """A claim's numbers."""

    own: float
    right: float
    is_corrected: bool
    """Whether another input, or by another formula another number, had to take the place of its own."""
    beside: dict[str, float]


def _evaluated(claim: Claim) -> _Values | None:
    if claim.formula is None:
        return None
    inputs = numbers(claim.inputs, where=claim.name)
    own = evaluate(claim.formula, inputs, where=claim.name)
    if claim.right is None:
        return _Values(own=own, right=own, is_corrected=False, beside={})
    where = f"{claim.name}, right"
    better = inputs | numbers(claim.right.inputs, where=where)
    right = evaluate(claim.right.formula or claim.formula, better, where=where)
    return _Values(
        own=own,
        right=right,
        is_corrected=right != own if claim.right.formula else any(better[name] != inputs[name] for name in inputs),
        beside={name: evaluate(formula, better, where=where) for name, formula in claim.right.beside.items()},
    )


def _by_measurement(claim: Claim, values: _Values, finding: Finding) -> tuple[Verdict, str]:
    """What is measured decides; but nothing that is merely within reach holds against its own arithmetic."""
    assert claim.stated is not None, "a claim with a measured counterpart has a formula"
    if "peak" not in claim.qualifiers:
        # Refuted only if the whole interval is on the other side.
        ends = (finding.low, finding.value, finding.high)
        holds = any(_satisfies(claim, end) for end in ends)
        return "holds" if holds else "refuted", f"measured: {finding.text}"
    share = f"measured {100 * finding.value / claim.stated:.0f} % of it ({finding.text})"
    match _standing(claim, finding):
        case "beaten":
            return "refuted", f"beaten: {share}" + (f"; {claim.doubt}" if claim.doubt else "")
        case "out of reach":
            return "refuted", f"out of reach: {share}; a peak counts as reachable from {100 * REACH:.0f} % on"
        case "reached":
            if claim.right is None:
                return "holds", share + (f"; doubtful: {claim.doubt}" if claim.doubt else "")
            verdict, reason = _by_arithmetic(claim, values)
            return verdict, f"{reason}; {share}"


def _standing(claim: Claim, finding: Finding) -> Standing:
    """Where what was measured, to the ends of its interval, stands to a peak."""
    assert claim.stated is not None, "a peak is stated"
    if finding.low > claim.stated * (1 + claim.tolerance):
        return "beaten"
    return OUT_OF_REACH if finding.high < claim.stated * REACH else "reached"


def _by_arithmetic(claim: Claim, values: _Values) -> tuple[Verdict, str]:
    reasons = [claim.note or "recomputed"] if claim.right is None else [claim.right.why]
    if claim.right is not None and not _satisfies(claim, values.own):
        reasons.append("its own inputs do not give it")
    if claim.relation == "=" and claim.stated and values.right != values.own:
        off = format_signed_percent(values.right / claim.stated - 1)
        reasons.append(f"{off}, tolerance {100 * claim.tolerance:g} %")
    reasons += [f"{name}: {format_quantity(value, claim.unit)}" for name, value in values.beside.items()]
    if not _satisfies(claim, values.right):
        return "refuted", "; ".join(reasons)
    same = _satisfies(claim, values.own) and not values.is_corrected
    return "holds" if same else "holds with other inputs", "; ".join(reasons)


def _unmeasured(claim: Claim, runs: Sequence[Run]) -> Iterator[str]:
    has_arithmetic = set(claim.inputs) != {"rate"}
    yield f"{' x '.join(claim.inputs)} give it" if has_arithmetic else "no arithmetic behind it is stated"
    if claim.measured is None:
        yield "nothing here measures it"
    elif any(run.headers[0].hardware.name == claim.hardware for run in runs):
        yield "the machine's records hold no measurement of it"
    else:
        yield "no record of such a machine is given"
    if claim.doubt is not None:
        yield f"doubtful: {claim.doubt}"


def _satisfies(claim: Claim, value: float) -> bool:
    """Whether a value stands in the claim's relation to what it states."""
    assert claim.stated is not None, "only claims with a formula are compared"
    match claim.relation:
        case "<":
            return value < claim.stated
        case ">":
            return value > claim.stated
        case ">=":
            return value >= claim.stated
        case "=":
            # Rounding errors of the arithmetic itself are no difference.
            return abs(value - claim.stated) <= max(claim.tolerance, 1e-9) * abs(claim.stated)


def require_one_machine_a_name(runs: Sequence[Run]) -> None:
    """ConfigError where two records call different machines by one name: their rates must not be mixed."""
    seen: dict[str, str] = {}
    for run in runs:
        node = run.headers[0].hardware
        device = seen.setdefault(node.name, node.device.name)
        if device != node.device.name:
            raise ConfigError(
                f"--records {run.path}: {node.name} is {node.device.name} here and {device} in another record; "
                f"give the records of one of them"
            )
