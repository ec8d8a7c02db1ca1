"""Plans made for tests, and what they read as: every op as part/kind, with a stroke in the backward."""

from tp.case import Block, Case, Phase, Recompute, Strategy, Workload
from tp.model import ModelShape, load_model
from tp.plan.build import build_plan
from tp.plan.ops import AttentionCore, Backend, Collective, Elementwise, Gemm, Op, Plan
from tp.units import Dtype

LLAMA = load_model("llama2-70b")  # h 8192, a 64, a_kv 8, d 128, f 28672 with a gate, rope, no bias
MEGATRON = load_model("megatron-22b")  # h 6144, a 64, a_kv 64, d 96, f 24576, learned positions, a bias everywhere
GPT3 = load_model("gpt3-175b")  # h 12288, a 96, a_kv 96, d 128, f 49152, learned positions, a bias everywhere

NORM_BACKWARD = "norm/norm_backward' norm/residual'"


def case_of(
    model: ModelShape,
    strategy: Strategy,
    tp: int,
    *,
    block: Block = "attention",
    phase: Phase = "prefill",
    batch: int = 1,
    seq: int = 4096,
    context: int | None = None,
    dtype: Dtype = "bf16",
    chunks: int = 1,
    recompute: Recompute = "none",
) -> Case:
    """A case; in decode one token a sequence, `context` or else `seq` tokens long."""
    workload = Workload(
        phase=phase, batch=batch, seq=1 if phase == "decode" else seq, context=context or seq, dtype=dtype
    )
    return Case(
        block=block, model=model, strategy=strategy, tp=tp, workload=workload, chunks=chunks, recompute=recompute
    )


def plan_of(
    model: ModelShape,
    strategy: Strategy,
    tp: int,
    *,
    backend: Backend = "nccl",
    block: Block = "attention",
    phase: Phase = "prefill",
    batch: int = 1,
    seq: int = 4096,
    context: int | None = None,
    dtype: Dtype = "bf16",
    chunks: int = 1,
    recompute: Recompute = "none",
) -> Plan:
    """The plan of a case."""
    case = case_of(
        model,
        strategy,
        tp,
        block=block,
        phase=phase,
        batch=batch,
        seq=seq,
        context=context,
        dtype=dtype,
        chunks=chunks,
        recompute=recompute,
    )
    return build_plan(case, backend=backend)


def word(op: Op) -> str:
    """An op as part/kind, with a stroke in the backward."""
    match op:
        case Gemm():
            text = f"{op.part}/{op.layout}"
        case AttentionCore():
            text = f"{op.part}/attention"
        case Elementwise():
            text = f"{op.part}/{op.kind}"
        case Collective():
            text = op.kind
    return text + ("'" if op.direction == "backward" else "")


def words(plan: Plan) -> str:
    return " ".join(word(op) for op in plan.ops)


def by_word(plan: Plan, name: str) -> list[Op]:
    """The ops that read `name`, of which there is at least one."""
    found = [op for op in plan.ops if word(op) == name]
    assert found, f"no {name} in {words(plan)}"
    return found


def ring_gather(product: str, *, tp: int = 8) -> str:
    """One chunk a rank goes round while the one at hand is multiplied; the last is sent nowhere."""
    send = "send_recv'" if product.endswith("'") else "send_recv"
    return f"{send} {product} " * (tp - 1) + product


def ring_scatter(product: str, add: str, *, tp: int = 8) -> str:
    """Each rank adds its own product to what came and sends the sum on; the last sum is its own."""
    return f"{product} send_recv " + f"{product} {add} send_recv " * (tp - 2) + f"{product} {add}"


def ring_both(part: str, *, tp: int = 8) -> str:
    """The input comes round and the sums of its gradient go round; the weight gradient hides the last of them."""
    product, add = f"{part}/nn'", f"{part}/residual'"
    later = f"send_recv' {product} {add} send_recv' " * (tp - 2)
    return f"{part}/concat' send_recv' {product} send_recv' {later}{product} {part}/tn' {add}"
