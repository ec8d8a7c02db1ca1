"""Plans, estimates and memory over grids: at every point what one case has, whatever model, split and workload."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan_factory import LLAMA
from tp.case import BLOCKS, PHASES, STRATEGIES, Block, Case, Phase, Recompute, Workload
from tp.cost.article import ArticleTheory
from tp.cost.choose import choose_chunks
from tp.cost.datasheet import DatasheetTheory
from tp.cost.grid import GridPricer
from tp.cost.overheads import NONE, Overheads
from tp.cost.theory import OpEstimate, PartEstimate, Theory, TheoryName, estimate_plan
from tp.hardware import load_node
from tp.model import ModelShape
from tp.plan.build import build_plan
from tp.plan.footprint import ADAM_BYTES, fits, model_bytes, whole_layer
from tp.plan.grid import Points, make_points, over_grid, spread, template_plan, template_tokens
from tp.plan.memory import HOLDING_KINDS, HoldingKind, bytes_by_kind, held_bytes, plan_memory
from tp.plan.ops import AttentionCore, Backend, Op
from tp.plan.shards import token_misfit
from tp.units import GB, Dtype

pytestmark = pytest.mark.unit

NODE = load_node("h100-sxm")
DATASHEET = DatasheetTheory(node=NODE, link=NODE.link())


@st.composite
def models(draw: st.DrawFn) -> ModelShape:
    kv = draw(st.sampled_from((1, 2, 8)))
    return replace(
        LLAMA,
        hidden=draw(st.sampled_from((64, 96, 1000))),
        num_heads=kv * draw(st.sampled_from((8, 24))),
        num_kv_heads=kv,
        head_dim=draw(st.sampled_from((8, 12, 64))),
        ffn_width=draw(st.sampled_from((64, 2816))),
        gated=draw(st.booleans()),
        norm=draw(st.sampled_from(("rms", "layer"))),
        position=draw(st.sampled_from(("rope", "learned"))),
        bias=draw(st.sampled_from(("none", "qkv", "all"))),
        tied_embeddings=draw(st.booleans()),
        vocab_size=draw(st.sampled_from((1000, 32003))),
    )


@st.composite
def grids(draw: st.DrawFn, phases: tuple[Phase, ...] = PHASES) -> tuple[Case, Points]:
    """A case and a few workloads of its phase and dtype, some of which its strategy may be unable to cut."""
    strategy, phase, block = draw(st.sampled_from(STRATEGIES)), draw(st.sampled_from(phases)), draw(BLOCK)
    tp = draw(st.sampled_from((1, 2, 4, 8)))
    kept: list[Recompute] = ["none", "full"] if block == "ffn" else ["none", "selective", "full"]
    batches = draw(st.lists(st.integers(1, 70), min_size=1, max_size=3, unique=True))
    lengths = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=3, unique=True))
    cut = draw(st.sampled_from((1, tp, 4 * tp)))
    dtype: Dtype = draw(st.sampled_from(("fp32", "bf16") if phase == "train" else ("bf16", "fp8")))
    return (
        Case(
            block=block,
            model=draw(models()),
            strategy=strategy,
            tp=tp,
            workload=Workload(phase=phase, batch=1, seq=1, context=1, dtype=dtype),
            chunks=draw(st.integers(1, 3)) if strategy == "overlap" and tp > 1 else 1,
            recompute=draw(st.sampled_from(kept)) if phase == "train" else "none",
        ),
        make_points(
            [cut * batch for batch in batches] if phase == "decode" else batches,
            [cut * length for length in lengths],
            decodes=phase == "decode",
        ),
    )


BLOCK: st.SearchStrategy[Block] = st.sampled_from(BLOCKS)
BACKENDS: st.SearchStrategy[Backend] = st.sampled_from(("nccl", "gloo"))


def at(case: Case, points: Points, index: int) -> Case:
    """The one case at a point."""
    batch, seq, context = (int(each[index]) for each in (points.batch, points.seq, points.context))
    return replace(case, workload=replace(case.workload, batch=batch, seq=seq, context=context))


def op_at(op: Op, points: Points, index: int) -> Op:
    """A spread op with the numbers of one point."""
    where = index if isinstance(op, AttentionCore) else int(points.where[index])
    found = {field.name: getattr(op, field.name) for field in fields(op)}
    return replace(op, **{name: int(v[where]) for name, v in found.items() if isinstance(v, np.ndarray)})


@given(grids(), BACKENDS, st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_a_template_spread_is_the_plan_of_every_point(grid: tuple[Case, Points], backend: Backend, times: int) -> None:
    case, points = grid
    tokens = times * template_tokens([case])
    template = template_plan(case, tokens, backend=backend)
    ops = [spread(op, tokens, points) for op in template.ops]
    for index in range(len(points)):
        one = at(case, points, index)
        if token_misfit(one) is None:
            assert tuple(op_at(op, points, index) for op in ops) == build_plan(one, backend=backend).ops


def test_points_are_every_batch_with_every_length() -> None:
    points = make_points([2, 1], [8, 16])
    assert len(points) == 4
    assert [*zip(points.batch.tolist(), points.seq.tolist(), strict=True)] == [(2, 8), (2, 16), (1, 8), (1, 16)]
    assert points.tokens.tolist() == [8, 16, 32]
    assert points.gathered(points.tokens).tolist() == [16, 32, 8, 16]
    decode = make_points([3], [8, 16], decodes=True)
    assert (decode.seq.tolist(), decode.context.tolist(), decode.tokens.tolist()) == ([1, 1], [8, 16], [3])


@dataclass(frozen=True)
class Spiked:
    """A theory with intervals, start-up times and sizes beyond which it extrapolates; `without` has no price."""

    without: str = ""
    startup_s: float = 1e-6
    name: TheoryName = "calibrated"
    bounds: bool = False
    overheads: Overheads = NONE

    def price(self, op: Op) -> OpEstimate | None:
        if op.op == self.without:
            return None
        rate = 1e9 if op.op == "collective" else 1e13
        size = op.flops + (op.sent_bytes if op.op == "collective" else op.moved_bytes)
        seconds = self.startup_s + size / rate
        return OpEstimate(seconds=seconds, low_s=seconds * 0.9, high_s=seconds * 1.2, extrapolated=size > 1e9)


THEORIES: list[Theory] = [
    DATASHEET,
    ArticleTheory(node=NODE, link=NODE.link()),
    Spiked(),
    Spiked(startup_s=1e-4),
    Spiked(without="attention"),
    replace(Spiked(without="attention"), bounds=True),
]


def number(value: object, index: int) -> object:
    return value[index] if isinstance(value, np.ndarray) else value


def same(found: PartEstimate, expected: PartEstimate, index: int) -> None:
    for name in ("seconds", "low_s", "high_s"):
        seconds = getattr(expected, name)
        # Sums in another order, and what is left of them where compute hides all but nothing.
        near = None if seconds is None else pytest.approx(seconds, rel=1e-12, abs=1e-14)
        assert number(getattr(found, name), index) == near, name
    assert number(found.extrapolated, index) == expected.extrapolated


@given(grids(), BACKENDS, st.sampled_from(THEORIES), st.booleans())
@settings(deadline=None, max_examples=150)
def test_an_estimate_over_a_grid_is_that_of_every_point(
    grid: tuple[Case, Points], backend: Backend, theory: Theory, chooses: bool
) -> None:
    case, points = grid
    chooses = chooses and case.strategy == "overlap" and case.tp > 1
    case = replace(case, chunks=1) if chooses else case
    pricer = GridPricer(
        theory=theory, backend=backend, points=points, template=(8 if chooses else 1) * template_tokens([case])
    )
    parts = template_plan(case, template_tokens([case]), backend=backend).parts
    found = pricer.estimate(case, [*parts, "compute", "communication", "serial", "total"], choose_chunks=chooses)
    for index in range(len(points)):
        one = at(case, points, index)
        assert found.divides[index] == (token_misfit(one) is None)
        if not found.divides[index]:
            continue
        if chooses:
            one = replace(one, chunks=choose_chunks(one, [theory], backend=backend))
        assert found.chunks[index] == one.chunks
        expected = estimate_plan(build_plan(one, backend=backend), theory)
        assert set(found.parts) == {part.part for part in expected.parts}
        for part in expected.parts:
            same(found.parts[part.part], part, index)


def test_what_families_share_is_priced_once() -> None:
    priced = []

    @dataclass(frozen=True)
    class Counting(Spiked):
        def price(self, op: Op) -> OpEstimate | None:
            priced.append(op)
            return super().price(op)

    workload = Workload(phase="prefill", batch=1, seq=1, context=1, dtype="bf16")
    case = Case(block="block", model=LLAMA, strategy="allreduce", tp=8, workload=workload)
    pricer = GridPricer(theory=Counting(), backend="nccl", points=make_points([1, 2], [64]), template=8)
    pricer.estimate(case, ["total"], choose_chunks=False)
    before = len(priced)
    pricer.estimate(replace(case, strategy="sequence"), ["total"], choose_chunks=False)
    # Its norms and residuals are of an eighth of the tokens, and its collectives are others; no product is new.
    assert {op.op for op in priced[before:]} == {"elementwise", "collective"}
    assert len(priced) - before == 4


@given(grids(), st.sampled_from(("cpu", "cuda")))
@settings(deadline=None, max_examples=150)
def test_memory_over_a_grid_is_that_of_every_point(grid: tuple[Case, Points], device: str) -> None:
    case, points = grid
    found = bytes_by_kind(over_grid(case, points), device=device)  # type: ignore[arg-type]
    whole = model_bytes(over_grid(case, points), found)
    for index in range(len(points)):
        one = at(case, points, index)
        if token_misfit(one) is None:
            holdings = plan_memory(one, device=device)  # type: ignore[arg-type]
            by_kind = {kind: held_bytes(holdings, kind) for kind in HOLDING_KINDS}
            assert {kind: number(size, index) for kind, size in found.items()} == by_kind
            assert number(whole, index) == model_bytes(one, by_kind)


def whole(phase: Phase, *, dtype: Dtype = "bf16", tp: int = 8, model: ModelShape = LLAMA) -> tuple[Case, int]:
    seq = 1 if phase == "decode" else 4096
    workload = Workload(phase=phase, batch=2, seq=seq, context=4096, dtype=dtype)
    case = Case(block="attention", model=model, strategy="allreduce", tp=tp, workload=workload)
    layer = whole_layer(case)
    assert layer is not None and layer.block == "block"
    return layer, model_bytes(layer, layer_bytes(layer))


def layer_bytes(layer: Case) -> dict[HoldingKind, int]:
    return bytes_by_kind(layer, device="cuda")


def test_a_model_that_decodes_holds_its_weights_and_its_cache() -> None:
    case, held = whole("decode")
    # Keys and values of 2 sequences of 4096 tokens, one head of 128 a rank, in 80 layers.
    cache = 80 * 2 * 2 * 4096 * 128 * 2
    # Every parameter of the 69.0e9 an eighth, but for the norms, which each rank holds whole.
    norms = (2 * 80 + 1) * 8192
    weights = 2 * ((LLAMA.num_parameters - norms) // 8 + norms)
    logits = 2 * 4000 * 4
    assert held == cache + weights + logits + layer_bytes(case)["workspace"]


def test_a_model_that_trains_holds_its_optimiser() -> None:
    assert ADAM_BYTES == {2: 12, 4: 8}
    for dtype, bytes_each in (("bf16", 2 + 2 + 12), ("fp32", 4 + 4 + 8)):
        case, held = whole("train", dtype=dtype, tp=1)  # type: ignore[arg-type]
        layer = layer_bytes(case)
        stream = 2 * 4096 * 8192 * case.workload.element_bytes
        logits = 2 * 4096 * 32000 * 4
        states = LLAMA.num_parameters * bytes_each
        assert held == states + 80 * layer["saved"] + layer["workspace"] + 2 * stream + logits


def test_what_fits_leaves_room_for_the_context() -> None:
    assert fits(78 * GB, 80e9, device="cuda")
    assert not fits(78 * GB + 1, 80e9, device="cuda")
    assert fits(80 * GB, 80e9, device="cpu")


def test_a_model_whose_layers_cannot_be_split_has_no_size() -> None:
    odd = replace(LLAMA, ffn_width=28671)
    workload = Workload(phase="prefill", batch=1, seq=8, context=8, dtype="bf16")
    case = Case(block="attention", model=odd, strategy="allreduce", tp=8, workload=workload)
    assert whole_layer(case) is None
