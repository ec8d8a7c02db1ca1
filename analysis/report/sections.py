"""What stands where on the page: its sections with their figures and tables, in the order of a reader's questions."""

from dataclasses import dataclass
from typing import Final

from analysis.report.content import Content
from analysis.show.claims import show_claims
from analysis.show.collectives import show_collectives
from analysis.show.memory import show_memory
from analysis.show.outcomes import show_checks, show_errors, show_unmeasured
from analysis.show.parts import show_parts
from analysis.show.products import show_products
from analysis.show.rates import show_crossings, show_rates
from analysis.show.scaling import show_scaling
from analysis.show.strategies import show_strategies
from analysis.show.table import Display
from analysis.show.trust import show_trust
from analysis.show.warnings import trust_warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class Titled:
    """A table under a heading of its own, or under its section's; and what to say where it is empty."""

    name: str
    shown: Display
    empty: str
    heading: bool = True
    wide: bool = False
    """Whether its words wrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, the figures below it by name, then tables."""

    slug: str
    title: str
    tables: tuple[Titled, ...]
    figures: tuple[str, ...] = ()
    intro: str = ""
    warnings: tuple[str, ...] = ()


# By section the names of its figures; one that has nothing to show is not drawn.
FIGURES_OF: Final = {
    "predicted": ("measured-against-predicted", "error-by-part"),
    "time": ("time-against-tp", "efficiency-against-rate"),
    "strategies": ("strategies-side-by-side",),
    "collectives": ("busbw-against-size",),
    "roofline": ("roofline",),
    "memory": ("memory-by-kind",),
    "trust": ("machine-state",),
}
_NO_TIME: Final = "No case has a time."
_ONE_LINK: Final = "Measured over one link only; scripts/netsweep measures several."


def sections(content: Content) -> tuple[Section, ...]:
    """The sections of measured things; environment, method and commands follow them."""
    frames = content.frames
    parts = frames["parts"]
    incomparable = parts[~parts["comparable"].astype(bool)].groupby(["record", "case"]).ngroups
    return (
        Section(
            slug="predicted",
            title="Measured against predicted",
            figures=FIGURES_OF["predicted"],
            tables=(
                Titled(
                    name="Error by part",
                    shown=show_errors(frames["errors"], left_out=incomparable),
                    empty="No comparable case has both a measured and a predicted time.",
                ),
                Titled(name="Part by part", shown=show_parts(parts), empty="No case has a figure."),
            ),
        ),
        Section(
            slug="time",
            title="Where the time goes",
            figures=FIGURES_OF["time"],
            tables=(
                _bare("Time against TP degree", show_scaling(frames["scaling"]), _NO_TIME),
                Titled(name="Efficiency against link rate", shown=show_rates(frames["rates"]), empty=_ONE_LINK),
                Titled(name="Where splitting stops paying", shown=show_crossings(frames["crossings"]), empty=_ONE_LINK),
            ),
        ),
        Section(
            slug="strategies",
            title="Strategies side by side",
            figures=FIGURES_OF["strategies"],
            tables=(_bare("Strategies side by side", show_strategies(frames["strategies"]), _NO_TIME),),
        ),
        *_machine(content),
        Section(
            slug="checks",
            title="Checks against the unsharded block",
            tables=(
                _bare("Checks against the unsharded block", show_checks(frames["checks"]), "No case was checked."),
            ),
        ),
        Section(
            slug="unmeasured",
            title="Failed, skipped and unfinished",
            tables=(
                _bare("Failed, skipped and unfinished", show_unmeasured(frames["unmeasured"]), "None.", wide=True),
            ),
        ),
    )


def _machine(content: Content) -> tuple[Section, ...]:
    """What the machine does beside the layers: links, products, memory, its state, and what is claimed of it."""
    trust = show_trust(dict(content.frames))
    return (
        Section(
            slug="collectives",
            title="Collectives: bus bandwidth against size",
            figures=FIGURES_OF["collectives"],
            tables=(
                _bare(
                    "Collectives alone",
                    show_collectives(content.frames["collectives"]),
                    "No collective was timed alone: measure bench/collectives.py, or import logs of nccl-tests.",
                ),
            ),
        ),
        Section(
            slug="roofline",
            title="Roofline",
            figures=FIGURES_OF["roofline"],
            tables=(_bare("Matrix products", show_products(content.frames["products"]), "No product has a time."),),
        ),
        Section(
            slug="memory",
            title="Memory",
            figures=FIGURES_OF["memory"],
            tables=(
                _bare("Memory of a rank", show_memory(content.frames["strategies"]), "No case says what it holds."),
            ),
        ),
        Section(
            slug="trust",
            title="Skew, throttling and how far the numbers can be trusted",
            intro="How the ranks took part, when they came to their collectives, what compute and communication did to "
            "each other, what was seen on the wire, and the state of the machine meanwhile: the worst first.",
            warnings=trust_warnings(content.frames),
            figures=FIGURES_OF["trust"],
            tables=tuple(Titled(name=each.title, shown=each.shown, empty=each.empty) for each in trust),
        ),
        Section(
            slug="claims",
            title="Claims",
            tables=(
                _bare("Claims", show_claims(content.rulings), "No claim is measured by these records.", wide=True),
            ),
        ),
    )


def _bare(name: str, shown: Display, empty: str, *, wide: bool = False) -> Titled:
    return Titled(name=name, shown=shown, empty=empty, heading=False, wide=wide)
