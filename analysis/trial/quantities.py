"""What a claim's inputs may refer to: the catalogue's numbers, and what plans and estimates make of them.

A reference is the name of a quantity and its arguments, such as `peak h100-sxm bf16`. Sizes are of one layer; rates in
bytes and FLOPs a second, dense and one way.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from analysis.planner.memory import fewest_stages as fewest_stages_of
from analysis.split.balance import balance_degree
from analysis.trial.named import named
from tp import catalogue
from tp.case import BLOCKS, RECOMPUTES, STRATEGIES, Case, Phase, Workload
from tp.cost.article import as_multi_head, flops_per_byte, largest_degree
from tp.errors import ConfigError, TpbenchError
from tp.flags import choice, positive_int
from tp.hardware import load_network, load_node
from tp.model import ModelShape, load_model
from tp.plan.build import build_plan
from tp.plan.memory import bytes_by_kind
from tp.plan.ops import AttentionCore, Gemm, Plan, sum_flops
from tp.units import DTYPE_BYTES, DTYPES

# The article's sequence; what follows from it is in proportion to it, or a ratio of such.
TOKENS: Final = 4096
ELEMENT_BYTES: Final = DTYPE_BYTES["bf16"]


@cache
def quantity(reference: str, *, where: str) -> float:
    """The number that a reference stands for; ConfigError, beginning with `where`, when it stands for none."""
    try:
        function, words = named(reference, QUANTITIES)
    except ConfigError as error:
        raise ConfigError(f"{where}: input {error}") from error
    try:
        return function(*words)
    except TpbenchError as error:
        raise ConfigError(f"{where}: input {reference!r}: {error}") from error


def model(name: str, field: str) -> float:
    """A size of a model's description."""
    shape = load_model(name)
    value = getattr(shape, field, None)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{field} is no size of a model; give one such as hidden")
    return float(value)


def peak(hardware: str, dtype: str) -> float:
    """A dense peak, FLOP/s."""
    found = load_node(hardware).device.dense_peak(choice(dtype, DTYPES, flag="dtype"))
    if found is None:
        raise ConfigError(f"{hardware} states no dense {dtype} peak; add it")
    return found.flops_per_s


def link(hardware: str, name: str) -> float:
    """A link's rate one way, bytes a second."""
    rate = load_node(hardware).link(name).one_way_bytes_per_s
    if rate is None:
        raise ConfigError(f"{hardware} states no rate of {name}; add it")
    return rate


def network(name: str) -> float:
    """One port's rate one way, bytes a second."""
    rate = load_network(name).one_way_bytes_per_s
    assert rate is not None, "load_network refuses networks without a rate"
    return rate


def balance(name: str, hardware: str, over: str) -> float:
    """The degree at which a layer's products take as long as its two all-reduces over a link, or a network's port."""
    rate = network(over) if over in catalogue.names("networks") else link(hardware, over)
    return balance_degree(load_model(name), flops_per_s=peak(hardware, "bf16"), bytes_per_s=rate)


def qkv_flops_per_byte(name: str, tp: str) -> float:
    """QKV FLOPs that a rank computes over the bytes of its input; kv heads that several ranks hold, each computes."""
    return flops_per_byte(load_model(name), _degree(tp))


def article_rule(name: str, hardware: str, over: str) -> float:
    """The degree at which multi-head QKV products take as long as receiving their input: the article's rule."""
    shape = as_multi_head(load_model(name))
    return largest_degree(shape, flops_per_s=peak(hardware, "bf16"), bytes_per_s=link(hardware, over))


def qkv_weights(name: str, tp: str) -> float:
    """Elements of the QKV weights that one of `tp` ranks holds."""
    plan = build_plan(_case(load_model(name), tp=_degree(tp)), backend="nccl")
    product = next(op for op in _products(plan) if op.part == "qkv")
    return float(product.n * product.k)


def head_elements(name: str, tokens: str) -> float:
    """Elements of one head's queries, or keys, or values."""
    return float(positive_int(tokens, flag="tokens") * _core(load_model(name)).head_dim)


def z_elements(name: str, tp: str, tokens: str) -> float:
    """Elements that one rank of `columns` gives to the all-gather of Z."""
    ranks = _degree(tp)
    gather = build_plan(_case(load_model(name), tp=ranks, strategy="columns"), backend="nccl").collectives[0]
    return gather.size_bytes / ELEMENT_BYTES / ranks * positive_int(tokens, flag="tokens") / TOKENS


def core_flops(name: str, tp: str) -> float:
    """FLOPs of one rank's attention core."""
    return _core(load_model(name), tp=_degree(tp)).flops


def product_flops(name: str, block: str) -> float:
    """FLOPs of the products of a forward pass, of one token and all ranks."""
    plan = build_plan(_case(load_model(name), block=block), backend="nccl")
    return sum_flops(_products(plan)) / TOKENS


def sent_elements(name: str, block: str, strategy: str) -> float:
    """Elements that a ring of very many ranks sends from each in a forward pass, of one token.

    Of n ranks it is (n-1)/n of that, half of it of two.
    """
    plan = build_plan(_case(load_model(name), tp=2, block=block, strategy=strategy), backend="nccl")
    return 2 * plan.sent_bytes / ELEMENT_BYTES / TOKENS


def saved_bytes(name: str, strategy: str, tp: str) -> float:
    """What a rank keeps of a layer for its backward, bytes."""
    case = _case(load_model(name), tp=_degree(tp), strategy=strategy, phase="train")
    return float(bytes_by_kind(case, device="cuda")["saved"])


def fewest_stages(name: str, hardware: str, tp: str, recompute: str) -> float:
    """Pipeline stages, of `tp` devices each, that hold the whole model in training."""
    again = choice(recompute, RECOMPUTES, flag="recompute")
    found = fewest_stages_of(load_model(name), load_node(hardware), _degree(tp), recompute=again)
    if found is None:
        raise ConfigError("no number of stages holds the model")
    return float(found)


def _degree(text: str) -> int:
    return positive_int(text, flag="tp")


def _case(
    shape: ModelShape, *, tp: int = 1, block: str = "block", strategy: str = "allreduce", phase: Phase = "prefill"
) -> Case:
    return Case(
        block=choice(block, BLOCKS, flag="block"),
        model=shape,
        strategy=choice(strategy, STRATEGIES, flag="strategy"),
        tp=tp,
        workload=Workload(phase=phase, batch=1, seq=TOKENS, context=TOKENS, dtype="bf16"),
    )


def _products(plan: Plan) -> Iterator[Gemm]:
    return (op for op in plan.ops if isinstance(op, Gemm))


def _core(shape: ModelShape, *, tp: int = 1) -> AttentionCore:
    plan = build_plan(_case(shape, tp=tp), backend="nccl")
    return next(op for op in plan.ops if isinstance(op, AttentionCore))


QUANTITIES: Final[dict[str, Callable[..., float]]] = {
    function.__name__: function
    for function in (
        *(model, peak, link, network, balance, article_rule),
        *(qkv_flops_per_byte, qkv_weights, head_elements, z_elements, core_flops),
        *(product_flops, sent_elements, saved_bytes, fewest_stages),
    )
}
