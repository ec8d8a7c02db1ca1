"""What a rank of the fullest stage of a layout holds, term by term (tp/plan/footprint.py)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from analysis.planner.degrees import Degrees, layers_of, replica_batch
from analysis.planner.layout import Choice, Memory, MemoryTerm
from analysis.planner.request import Request
from tp.case import Case, Phase, Recompute, Strategy, Workload
from tp.hardware import Node
from tp.model import ModelShape
from tp.plan.footprint import RESERVE_BYTES, Stage, stage_bytes, stage_elements
from tp.plan.memory import HoldingKind, bytes_by_kind
from tp.plan.shards import misfit, token_misfit
from tp.units import Dtype

Held = dict[HoldingKind, int]


def layer_case(
    model: ModelShape,
    strategy: Strategy,
    tp: int,
    *,
    phase: Phase,
    batch: int,
    length: int,
    dtype: Dtype,
    recompute: Recompute = "none",
) -> Case:
    """A layer; in decode with one token a sequence and `length` of context."""
    seq = 1 if phase == "decode" else length
    workload = Workload(phase=phase, batch=batch, seq=seq, context=length, dtype=dtype)
    return Case(block="block", model=model, strategy=strategy, tp=tp, workload=workload, recompute=recompute)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holder:
    """What layers hold, each asked for once."""

    request: Request
    _known: dict[Case, Held] = field(default_factory=dict)

    def memory(self, degrees: Degrees, choice: Choice) -> Memory | None:
        """Of the fullest stage; None where the choice cannot cut the tokens."""
        stages = self.stages(degrees, choice)
        found = self._trained(degrees, choice) if self.request.phase == "train" else self._served(degrees, choice)
        if found is None:
            return None
        case, held = found
        terms = {index: stage_bytes(case, held, stage) for index, stage in stages.items()}
        fullest = max(terms, key=lambda index: sum(terms[index].values()))
        known: dict[MemoryTerm, int] = {term: size for term, size in terms[fullest].items() if size}
        return Memory(terms=known | {"reserve": RESERVE_BYTES}, stage=fullest, capacity=self.request.memory_bytes)

    def elements(self, degrees: Degrees, choice: Choice) -> int:
        """Weights of a rank of the stage that has most."""
        case = self._training_layer(degrees, choice)
        return max(stage_elements(case, self._held(case), stage) for stage in self.stages(degrees, choice).values())

    def read_bytes(self, degrees: Degrees, choice: Choice) -> int:
        """Weights that a token of decode reads on a rank of the stage that reads most: all but the embedding."""
        case = self._training_layer(degrees, choice)
        stages = [replace(stage, is_first=False) for stage in self.stages(degrees, choice).values()]
        return max(stage_bytes(case, self._held(case), stage)["weights"] for stage in stages)

    def stages(self, degrees: Degrees, choice: Choice) -> dict[int, Stage]:
        """Those that may be the fullest, by index."""
        _, pp, dp = degrees
        request = self.request
        many = replica_batch(request, dp) // choice.micro_batch if request.phase == "train" else 1
        layers = layers_of(request.model, pp, request.phase)
        return telling_stages(layers, many, state_shards=dp if request.optimizer == "sharded" else 1)

    def _training_layer(self, degrees: Degrees, choice: Choice) -> Case:
        request = self.request
        return layer_case(
            request.model,
            choice.strategy,
            degrees[0],
            phase="train",
            batch=choice.micro_batch,
            length=request.seq,
            dtype=request.dtype,
            recompute=choice.recompute,
        )

    def _trained(self, degrees: Degrees, choice: Choice) -> tuple[Case, Held] | None:
        case = self._training_layer(degrees, choice)
        return None if token_misfit(case) else (case, self._held(case))

    def _served(self, degrees: Degrees, choice: Choice) -> tuple[Case, Held] | None:
        """The cache of all sequences at their longest; the workspace of the wider of a prompt and a decode pass."""
        tp, pp, dp = degrees
        request, share = self.request, replica_batch(self.request, dp)
        prompts = layer_case(
            request.model,
            choice.strategy,
            tp,
            phase="prefill",
            batch=choice.micro_batch,
            length=request.seq,
            dtype=request.dtype,
        )
        pace = -(-share // pp)
        token = Workload(phase="decode", batch=pace, seq=1, context=request.max_context, dtype=request.dtype)
        tokens = replace(prompts, workload=token)
        if token_misfit(prompts) or token_misfit(tokens):
            return None
        everyone = replace(tokens, workload=replace(tokens.workload, batch=share))
        widest = replace(tokens, workload=replace(tokens.workload, batch=max(pace, choice.micro_batch)))
        held = dict(self._held(everyone))
        held["workspace"] = max(self._held(each)["workspace"] for each in (prompts, tokens))
        return widest, held

    def _held(self, case: Case) -> Held:
        if case not in self._known:
            self._known[case] = bytes_by_kind(case, device="cuda")
        return self._known[case]


def telling_stages(layers: Sequence[int], many: int, *, state_shards: int = 1) -> dict[int, Stage]:
    """Of stages of so many layers those that may be the fullest, by index: the first, the second and the last.

    Under 1F1B stage i keeps what min(pp - i, M) micro-batches saved (Narayanan et al. 2021, section 2.2.1), so a stage
    in the middle holds no more than the one before it, of as many layers.
    """
    pp = len(layers)
    return {
        index: Stage(
            num_layers=layers[index],
            is_first=index == 0,
            is_last=index == pp - 1,
            in_flight=min(pp - index, many),
            state_shards=state_shards,
        )
        for index in sorted({0, min(1, pp - 1), pp - 1})
    }


def fewest_stages(
    model: ModelShape,
    node: Node,
    tp: int = 1,
    *,
    strategy: Strategy = "sequence",
    recompute: Recompute = "full",
    seq: int = 4096,
    micro_batch: int = 1,
    dtype: Dtype = "bf16",
) -> int | None:
    """The least pp that trains the model at dp 1 with as many micro-batches in flight as 1F1B keeps; None if none does.

    Layers are cut as `layers_of` does. At dp 1 the optimiser is whole on its ranks, sharded or not.
    """
    if misfit(model, "block", strategy, tp) is not None or node.device.memory_bytes is None:
        return None
    case = layer_case(
        model, strategy, tp, phase="train", batch=micro_batch, length=seq, dtype=dtype, recompute=recompute
    )
    if token_misfit(case) is not None:
        return None
    held = bytes_by_kind(case, device="cuda")
    for pp in range(1, model.num_layers + 1):
        stages = telling_stages(layers_of(model, pp), pp).values()
        fullest = max(sum(stage_bytes(case, held, stage).values()) for stage in stages)
        if fullest + RESERVE_BYTES <= node.device.memory_bytes:
            return pp
    return None
