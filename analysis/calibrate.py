"""Measured ops become a calibration: a curve for every kind and key, and further ones for other sources."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from analysis.fitting.attention import attention_candidates
from analysis.fitting.candidates import choose
from analysis.fitting.collective import MIN_SIZES, fit_rank_law
from analysis.fitting.gemm import gemm_candidates, refit_candidates
from analysis.fitting.overheads import fit_overheads
from analysis.fitting.rows import MIN_ROWS, Rows, require_usable, stack
from analysis.fitting.size import between_sizes, fit_size, scaled_pass, share_between
from analysis.fitting.validate import describe
from analysis.inputs import Inputs
from analysis.load import Run
from analysis.measured import RECORDS, Measured
from tp.cost.calibrated import CALIBRATION_VERSION, LAYERS, CalibratedTheory, Calibration
from tp.cost.collective import RankLaw
from tp.cost.curves.attention import AttentionCurve
from tp.cost.curves.gemm import GemmCurve, TileGemm
from tp.cost.curves.size import SizeCurve
from tp.cost.priors import prior_attention, prior_elementwise, prior_gemm
from tp.errors import ConfigError
from tp.hardware import Device
from tp.plan.ops import AttentionCore, Collective, Elementwise, Gemm, Op
from tp.schema import to_json

Tell = Callable[[str], None]
O = TypeVar("O", Gemm, AttentionCore, Elementwise, Collective)  # noqa: E741

# Bands of the interval: rows of a product, bytes of a message or a pass.
ROW_BANDS: Final = (64.0, 256.0)
BYTE_BANDS: Final = (2e5, 8e6)
# More rows say nothing new of a curve, and a Gaussian process over them takes the cube of their number.
MOST_ROWS: Final = 1000
# Rows of another source that are enough to fit the main curve's efficiency anew.
LEAST_REFIT_ROWS: Final = 5


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
    fitting = Fitting(device=device, compact=compact, tell=tell)
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
    )
    return replace(calibration, overheads=fit_overheads(inputs.runs, CalibratedTheory(calibration=calibration)))


def groups_of(rows: Sequence[Measured], kind: type[O]) -> list[Group]:
    """Rows of a kind by key and source; main is what covers the most keys, of several that with the most rows."""
    of_kind = [row for row in rows if isinstance(row.op, kind)]
    weight = {
        label: (len({row.key for row in members}), len(members))
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
        for group in groups:
            base = self._base(curves, group)
            if base is not None:
                if len(group.members) < LEAST_REFIT_ROWS:
                    self._too_few(group, LEAST_REFIT_ROWS)
                    continue
                rows, candidates = self._rows(group, Gemm), refit_candidates(base, len(group.members))
            else:
                rows = self._usable(group, Gemm)
                candidates = gemm_candidates(prior_gemm(self.device, rows.op.dtype), residuals=not self.compact)
            curve, errors = choose(rows, candidates, lambda c, r: c.seconds(r.op))
            fit = describe(rows.sizes, errors, edges=ROW_BANDS)
            curves[group.name] = replace(curve, fit=fit, sources=group.sources)
        return curves

    def attention(self, groups: Sequence[Group]) -> dict[str, AttentionCurve]:
        curves: dict[str, AttentionCurve] = {}
        for group in groups:
            rows = self._usable(group, AttentionCore)
            backward = rows.op.direction == "backward"
            prior = prior_attention(self.device, rows.op.dtype, backward=backward) if rows.op.causal else None
            candidates = attention_candidates(prior, residuals=not self.compact)
            curve, errors = choose(rows, candidates, lambda c, r: c.seconds(r.op))
            curves[group.name] = replace(curve, fit=describe(rows.sizes, errors, edges=()), sources=group.sources)
        return curves

    def elementwise(self, groups: Sequence[Group]) -> dict[str, SizeCurve]:
        curves: dict[str, SizeCurve] = {}
        enough = [group for group in groups if len(group.members) >= MIN_ROWS]
        for group in groups:
            rows = self._rows(group, Elementwise)
            expected = prior_elementwise(self.device, rows.op)
            if group not in enough and expected is not None:
                # The kernel's share of the memory's rate, on the data sheet's rule.
                curves[group.name] = replace(scaled_pass(rows, expected), sources=group.sources)
            elif group not in enough:
                self._usable(group, Elementwise)
        return curves | self._sized({group: self._usable(group, Elementwise) for group in enough})

    def collectives(self, groups: Sequence[Group]) -> dict[str, SizeCurve]:
        return self._sized({group: self._usable(group, Collective) for group in groups})

    def _sized(self, groups: Mapping[Group, Rows[Collective] | Rows[Elementwise]]) -> dict[str, SizeCurve]:
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

    def _base(self, curves: dict[str, GemmCurve], group: Group) -> TileGemm | None:
        """The curve whose parameters another source's rows fit anew: on one machine a few are enough for that."""
        main = [curve for name, curve in curves.items() if "#" not in name and isinstance(curve, TileGemm)]
        return max(main, key=lambda curve: curve.fit.rows) if main and self._is_other(group, main) else None

    def _is_other(self, group: Group, main: Sequence[TileGemm]) -> bool:
        return not any(set(group.sources) & set(curve.sources) for curve in main) and group.label != RECORDS

    def _usable(self, group: Group, kind: type[O]) -> Rows[O]:
        rows = self._rows(group, kind)
        require_usable(rows, f"{kind_name(kind)} {group.name}")
        return rows

    def _rows(self, group: Group, kind: type[O]) -> Rows[O]:
        members = group.members
        if len(members) > MOST_ROWS:
            chosen = np.random.default_rng(0).permutation(len(members))[:MOST_ROWS]
            members = tuple(members[i] for i in sorted(chosen))
            self.tell(f"{kind_name(kind)} {group.name}: fitted to {MOST_ROWS} of its {len(group.members)} rows")
        return stack([row.op for row in members], [row.seconds for row in members])  # type: ignore[misc]

    def _too_few(self, group: Group, least: int) -> None:
        self.tell(
            f"gemm {group.name}: {len(group.members)} rows of another source are too few to fit anew; "
            f"left out, give at least {least}"
        )


def rank_laws(groups: Sequence[Group]) -> dict[str, RankLaw]:
    """A law over size and rank count for every collective of the main source that has several counts."""
    laws = {}
    for key, members in _by(
        [row for group in groups if group.main for row in group.members if row.nodes == 1],
        lambda row: f"{row.op.part}/{row.op.dtype}",
    ).items():
        rows = np.array([_point(row.op, row.seconds) for row in members])
        kind, counts = key.split("/")[0], np.unique(rows[:, 1])
        enough = all(len(np.unique(rows[rows[:, 1] == n, 0])) >= MIN_SIZES for n in counts)
        if len(counts) > 1 and enough and kind != "send_recv":
            laws[key] = fit_rank_law(rows, kind=kind, name=f"collective {key}")  # type: ignore[arg-type]
    return laws


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
                    f"{run.path}: its times are not comparable ({header.oversubscribed}); measure with fewer ranks"
                )


def write_calibration(calibration: Calibration, out: Path) -> None:
    """Write the file that `--calibration` reads; ConfigError when it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(to_json(calibration, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); name another file") from error


def _by(rows: Sequence[Measured], of: Callable[[Measured], str]) -> dict[str, list[Measured]]:
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for row in rows:
        groups[of(row)].append(row)
    return dict(groups)
