"""Measured ops become a calibration: a curve for every kind and key, and further ones for other sources."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from analysis.fitting.attention import attention_candidates
from analysis.fitting.candidates import Candidate, choose
from analysis.fitting.collective import MIN_SIZES, fit_rank_law
from analysis.fitting.gemm import gemm_candidates, refit_candidates
from analysis.fitting.overheads import fit_overheads
from analysis.fitting.rows import MIN_ROWS, O, Rows, require_different, require_positive, stack, too_few
from analysis.fitting.size import between_sizes, fit_size, scaled_pass, share_between
from analysis.fitting.validate import describe
from analysis.load import Run
from analysis.measured.op import Measured
from analysis.measured.read import Inputs
from tp.cost.calibrated import CALIBRATION_VERSION, CalibratedTheory, Calibration
from tp.cost.collective import RankLaw
from tp.cost.curves.attention import AttentionCurve
from tp.cost.curves.gemm import GemmCurve, TileGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.lookup import LAYERS
from tp.cost.priors import prior_attention, prior_elementwise, prior_gemm
from tp.errors import ConfigError
from tp.hardware import Device
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm, Op
from tp.schema import to_json

Tell = Callable[[str], None]

# Bands of the interval: rows of a product, bytes of a message or a pass.
ROW_BANDS: Final = (64.0, 256.0)
BYTE_BANDS: Final = (2e5, 8e6)
# More rows say nothing new of a curve, and a Gaussian process over them takes the cube of their number.
MOST_ROWS: Final = 1000
LEFT_OUT: Final = "; left out"
# Rows of another source that are enough to fit the main curve's efficiency anew.
LEAST_REFIT_ROWS: Final = 5
# So many have a curve of their own, if that is better.
LEAST_OWN_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that one curve is fitted to."""

    key: str
    main: bool
    """Whether they are of the source that has most to say of their kind."""
    label: str
    members: tuple[Measured, ...]

    @property
    def name(self) -> str:
        """The key in the calibration."""
        return self.key if self.main else f"{self.key}#{self.label}"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted({row.source for row in self.members} - {""}))


def fit_inputs(
    inputs: Inputs,
    device: Device,
    *,
    sources: Iterable[str],
    citations: Mapping[str, str] | None = None,
    compact: bool = False,
    tell: Tell,
) -> Calibration:
    """Fit every curve that the rows allow; ConfigError when they allow none, or not the one that they are of.

    `compact` leaves out what is interpolated between the rows, so that the file holds parameters alone.
    """
    rows = inputs.rows
    if not rows:
        raise ConfigError("no op timed alone; measure with bench/gemm.py and bench/collectives.py, or give tables")
    told = list[str]()
    fitting = Fitting(device=device, compact=compact, tell=told.append)
    collectives, known = groups_of(rows, Collective), {row.source for row in rows}
    calibration = Calibration(
        schema_version=CALIBRATION_VERSION,
        hardware=device.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(sources),
        gemm=fitting.gemm(groups_of(rows, Gemm)),
        attention=fitting.attention(groups_of(rows, AttentionCore)),
        elementwise=fitting.elementwise(groups_of(rows, Elementwise)),
        collectives=fitting.collectives(collectives),
        rank_laws=rank_laws(collectives),
        citations={source: cited for source, cited in (citations or {}).items() if source in known},
        networks=_networks(rows),
    )
    if not (calibration.gemm or calibration.attention or calibration.elementwise or calibration.collectives):
        raise ConfigError(next(note for note in told if note.endswith(LEFT_OUT)).removesuffix(LEFT_OUT))
    for note in told:
        tell(note)
    return replace(calibration, overheads=fit_overheads(inputs.runs, CalibratedTheory(calibration=calibration)))


def groups_of(rows: Sequence[Measured], kind: type[O]) -> list[Group]:
    """Rows of a kind by key and source; main is what covers the most keys, of several that with the most rows."""
    of_kind = [row for row in rows if isinstance(row.op, kind)]
    weight = {
        label: (len({row.key for row in members}), len(members), label)
        for label, members in _by(of_kind, lambda row: row.group).items()
    }
    groups = []
    for key, members in _by(of_kind, lambda row: row.key).items():
        by_label = _by(members, lambda row: row.group)
        main = max(by_label, key=lambda label: weight[label])
        for label, own in by_label.items():
            # Of a kind that was measured alone too, layer rows are another source, whatever their dtype.
            aside = label == LAYERS and len(weight) > 1
            groups.append(Group(key=key, main=label == main and not aside, label=label, members=tuple(own)))
    # Main curves first: those of other sources are fitted from them.
    return sorted(groups, key=lambda group: not group.main)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """Fits the groups of each kind."""

    device: Device
    compact: bool
    tell: Tell

    def gemm(self, groups: Sequence[Group]) -> dict[str, GemmCurve]:
        curves: dict[str, GemmCurve] = {}
        labels: dict[str, str] = {}
        for group in groups:
            base = _largest(curve for name, curve in curves.items() if labels[name] != group.label)
            rows = self._usable(group, Gemm, least=LEAST_REFIT_ROWS if base else MIN_ROWS)
            if rows is None:
                continue
            curve, errors = choose(rows, self._gemm_candidates(rows, base), lambda c, r: c.seconds(r.op))
            fit = describe(rows.sizes, errors, edges=ROW_BANDS)
            curves[group.name], labels[group.name] = replace(curve, fit=fit, sources=group.sources), group.label
        return curves

    def _gemm_candidates(self, rows: Rows[Gemm], base: TileGemm | None) -> list[Candidate[Gemm, GemmCurve]]:
        own = gemm_candidates(prior_gemm(self.device, rows.op.dtype), residuals=not self.compact)
        if base is None:
            return own
        anew = refit_candidates(base, len(rows))
        return [*anew, *own] if len(rows) >= LEAST_OWN_ROWS else anew

    def attention(self, groups: Sequence[Group]) -> dict[str, AttentionCurve]:
        curves: dict[str, AttentionCurve] = {}
        for group in groups:
            rows = self._usable(group, AttentionCore)
            if rows is None:
                continue
            backward = rows.op.direction == "backward"
            prior = prior_attention(self.device, rows.op.dtype, backward=backward) if rows.op.causal else None
            candidates = attention_candidates(prior, residuals=not self.compact)
            curve, errors = choose(rows, candidates, lambda c, r: c.seconds(r.op))
            curves[group.name] = replace(curve, fit=describe(rows.sizes, errors, edges=()), sources=group.sources)
        return curves

    def elementwise(self, groups: Sequence[Group]) -> dict[str, SizeCurve]:
        scaled: dict[str, SizeCurve] = {}
        enough: dict[Group, Rows[Elementwise]] = {}
        expected = prior_elementwise(self.device)
        for group in groups:
            rows = self._rows(group, Elementwise)
            if expected is not None and too_few(rows, group.name) is not None:
                require_positive(rows, group.name)
                # The kernel's share of the memory's rate, on the data sheet's rule.
                scaled[group.name] = replace(scaled_pass(rows, expected), sources=group.sources)
            elif self._are_usable(rows, group, Elementwise):
                enough[group] = rows
        return scaled | self._sized(enough)

    def collectives(self, groups: Sequence[Group]) -> dict[str, SizeCurve]:
        usable = {group: self._usable(group, Collective) for group in groups}
        return self._sized({group: rows for group, rows in usable.items() if rows is not None})

    def _sized(
        self, groups: Mapping[Group, Rows[Collective]] | Mapping[Group, Rows[Elementwise]]
    ) -> dict[str, SizeCurve]:
        """A curve has a dozen rows; those of one source say together how far off such curves are between them."""

        def fit(part: Rows[Collective] | Rows[Elementwise]) -> SizeCurve:
            return fit_size(part, corrected=not self.compact)

        errors = {group: between_sizes(rows, fit) for group, rows in groups.items()}
        curves = {}
        for group, rows in groups.items():
            pool = [errors[other] for other in groups if other.label == group.label]
            sizes, alone, pairs = (np.concatenate(arrays) for arrays in zip(*pool, strict=True))
            share = 1.0 if self.compact else share_between(alone, pairs)
            described = describe(rows.sizes, errors[group][1], edges=BYTE_BANDS, pool=(sizes, share * alone))
            curves[group.name] = replace(fit(rows), fit=described, sources=group.sources)
        return curves

    def _usable(self, group: Group, kind: type[O], *, least: int = MIN_ROWS) -> Rows[O] | None:
        """The rows of a group; None, and told, when they are too few; ConfigError when they are wrong."""
        rows = self._rows(group, kind)
        return rows if self._are_usable(rows, group, kind, least=least) else None

    def _are_usable(self, rows: Rows[O], group: Group, kind: type[O], *, least: int = MIN_ROWS) -> bool:
        name = f"{kind_name(kind)} {group.name}"
        if (reason := too_few(rows, name, least=least)) is not None:
            self.tell(f"{reason}{LEFT_OUT}")
            return False
        require_different(rows, name)
        return True

    def _rows(self, group: Group, kind: type[O]) -> Rows[O]:
        members = group.members
        if len(members) > MOST_ROWS:
            chosen = np.random.default_rng(0).permutation(len(members))[:MOST_ROWS]
            members = tuple(members[i] for i in sorted(chosen))
            self.tell(f"{kind_name(kind)} {group.name}: fitted to {MOST_ROWS} of its {len(group.members)} rows")
        return stack([row.op for row in members], [row.seconds for row in members])  # type: ignore[misc]


def _largest(curves: Iterable[GemmCurve]) -> TileGemm | None:
    """The curve that other sources are fitted from: on one machine a few of their rows are enough for that."""
    return max((curve for curve in curves if isinstance(curve, TileGemm)), key=lambda c: c.fit.rows, default=None)


def rank_laws(groups: Sequence[Group]) -> dict[str, RankLaw]:
    """A law over size and rank count for every collective of which one source has several counts."""
    laws = {}
    alike = _by([row for group in groups for row in group.members if row.nodes == 1], _kind_and_dtype)
    for key, everyone in alike.items():
        # Of one source alone: two differ by more than a law can say of rank counts.
        by_source = _by(everyone, lambda row: row.group)
        members = max(by_source.values(), key=lambda rows: (len({row.key for row in rows}), len(rows)))
        rows = np.array([_point(row.op, row.seconds) for row in members])
        kind, counts = key.split("/")[0], np.unique(rows[:, 1])
        enough = all(len(np.unique(rows[rows[:, 1] == n, 0])) >= MIN_SIZES for n in counts)
        if len(counts) > 1 and enough and kind != "send_recv":
            laws[key] = fit_rank_law(rows, kind=kind, name=f"collective {key}")  # type: ignore[arg-type]
    return laws


def _networks(rows: Sequence[Measured]) -> dict[str, float]:
    """The rates of the networks that collectives went over; ConfigError for one name of two rates."""
    found: dict[str, float] = {}
    for row in rows:
        network = row.network
        if row.nodes == 1 or network is None or network.one_way_bytes_per_s is None:
            continue
        if found.setdefault(network.name, network.one_way_bytes_per_s) != network.one_way_bytes_per_s:
            raise ConfigError(f"the network {network.name} has two rates in the records; name them apart")
    return found


def _kind_and_dtype(row: Measured) -> str:
    return f"{row.op.part}/{row.op.dtype}"


def _point(op: Op, seconds: float) -> tuple[float, float, float]:
    assert isinstance(op, Collective)
    return float(op.size_bytes), float(op.num_ranks), seconds


def kind_name(kind: type[object]) -> str:
    """The word for a kind of op."""
    return {Gemm: "gemm", AttentionCore: "attention", Elementwise: "elementwise", Collective: "collective"}[kind]


def require_comparable(runs: Sequence[Run]) -> None:
    """ConfigError for records whose times mean nothing for other runs."""
    for run in runs:
        for header in run.headers:
            if header.oversubscribed is not None:
                raise ConfigError(
                    f"{run.path}: its times are not comparable ({header.oversubscribed}); measure with fewer ranks, or "
                    "add --shared-cores for estimates of runs that share them alike"
                )


def write_calibration(calibration: Calibration, out: Path) -> None:
    """Write the file that `--calibration` reads; ConfigError when it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(to_json(calibration, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error}); name another file") from error


def _by(rows: Sequence[Measured], of: Callable[[Measured], str]) -> dict[str, list[Measured]]:
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for row in rows:
        groups[of(row)].append(row)
    return dict(groups)
