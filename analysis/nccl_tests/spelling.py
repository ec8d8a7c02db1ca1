"""How nccl-tests spells programs and dtypes, and what its two bandwidths are made of."""

import re
from typing import Final

from tp.units import Dtype

# Programs of nccl-tests and rccl-tests without their _perf, by what they measure.
COLLECTIVES: Final = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "alltoall": "all_to_all",
    "alltoallv": "all_to_all_v",
    "sendrecv": "send_recv",
    "scatter": "scatter",
    "gather": "gather",
    "hypercube": "hypercube",
}
PROGRAMS: Final = {collective: f"{program}_perf" for program, collective in COLLECTIVES.items()}
REDUCTIONS: Final = ("all_reduce", "reduce_scatter", "reduce")
# A send may say sum or none, as its age will have it.
SILENT: Final = ("send_recv",)
# Whose `count` is the share of one rank: the size is ranks times that.
SHARED: Final = ("all_gather", "reduce_scatter", "all_to_all", "scatter", "gather", "hypercube")

TYPES: Final[dict[Dtype, str]] = {"fp32": "float", "bf16": "bfloat16", "fp16": "half", "fp8": "f8e4m3"}
DTYPES: Final = {"float": "fp32", "half": "fp16", "bfloat16": "bf16", "double": "fp64"}
ITEM_BYTES: Final = {
    **dict.fromkeys(("int8", "char", "uint8", "fp8_e4m3", "fp8_e5m2", "f8e4m3", "f8e5m2"), 1),
    **dict.fromkeys(("half", "bfloat16"), 2),
    **dict.fromkeys(("int32", "int", "uint32", "float"), 4),
    **dict.fromkeys(("int64", "uint64", "double"), 8),
}

_PROGRAM: Final = re.compile(r"(?:^|[\s/'\"`=(])([a-z][a-z_]*?)_perf(?:_mpi)?(?=$|[\s'\"`),])")


def collectives_in(text: str) -> list[str]:
    """What the programs named in the text measure."""
    return [COLLECTIVES[name] for name in _PROGRAM.findall(text) if name in COLLECTIVES]


def bandwidth_factors(collective: str, ranks: int) -> tuple[tuple[float, float], ...]:
    """algbw and busbw over size / time, in each way that the tests have printed them; none for what is not known.

    Until June 2020 the algbw of an all-gather and a reduce-scatter held (n-1)/n already (NVIDIA/nccl-tests#45); that of
    the hypercube still does.
    """
    share = (ranks - 1) / ranks
    match collective:
        case "all_reduce":
            return ((1.0, 2 * share),)
        case "all_gather" | "reduce_scatter":
            return ((1.0, share), (share, share))
        case "all_to_all" | "scatter" | "gather":
            return ((1.0, share),)
        case "broadcast" | "reduce" | "send_recv":
            return ((1.0, 1.0),)
        case "hypercube":
            return ((share, share),)
        case _:
            return ()
