"""The numbers of the logs in tests/data/nccl_tests, written down by hand: file, flags, what it is of, and its rows.

A row is size, count, type, redop, root, and of each placement time, algbw, busbw and wrong; "" where the log says N/A.
"""

from dataclasses import dataclass
from typing import Any, Final

Half = tuple[float, float, float, float | str]
Line = tuple[int, int, str, str, str, Half, Half]


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """One table of a file."""

    file: str
    flags: dict[str, Any]
    hardware: str
    nodes: int
    gpus: int
    library: str
    collective: str
    lines: tuple[Line, ...]


UNSTATED: Final = "NCCL (version not stated), fp32, nccl-tests"
F: Final = "float"
EXCERPTS: Final = (
    Excerpt(
        file="gtx1080-four-tests-2020.log",
        flags={},
        hardware="GeForce GTX 1080",
        nodes=1,
        gpus=2,
        library=UNSTATED,
        collective="all_reduce",
        lines=(
            (65536, 16384, F, "sum", "", (127.6, 0.51, 0.51, 0), (127.8, 0.51, 0.51, 0)),
            (134217728, 33554432, F, "sum", "", (154639, 0.87, 0.87, 0), (157295, 0.85, 0.85, 0)),
        ),
    ),
    Excerpt(
        file="gtx1080-four-tests-2020.log",
        flags={},
        hardware="GeForce GTX 1080",
        nodes=1,
        gpus=2,
        library=UNSTATED,
        collective="all_gather",
        lines=(
            (65536, 8192, F, "", "", (85.14, 0.38, 0.38, 0), (84.49, 0.39, 0.39, 0)),
            (134217728, 16777216, F, "", "", (87825, 0.76, 0.76, 0), (85704, 0.78, 0.78, 0)),
        ),
    ),
    Excerpt(
        file="gtx1080-four-tests-2020.log",
        flags={},
        hardware="GeForce GTX 1080",
        nodes=1,
        gpus=2,
        library=UNSTATED,
        collective="broadcast",
        lines=((65536, 16384, F, "", "0", (79.90, 0.82, 0.82, 0), (80.69, 0.81, 0.81, 0)),),
    ),
    Excerpt(
        file="gtx1080-four-tests-2020.log",
        flags={},
        hardware="GeForce GTX 1080",
        nodes=1,
        gpus=2,
        library=UNSTATED,
        collective="reduce",
        lines=((8, 2, F, "sum", "0", (24.91, 0, 0, 0), (36.37, 0, 0, 0)),),
    ),
    Excerpt(
        file="a100-reduce-2021.log",
        flags={"collective": "reduce"},
        hardware="A100-SXM4-40GB",
        nodes=1,
        gpus=8,
        library=UNSTATED,
        collective="reduce",
        lines=(
            (0, 0, F, "sum", "0", (36.90, 0, 0, ""), (36.47, 0, 0, "")),
            (4, 1, F, "sum", "0", (35.40, 0, 0, ""), (35.59, 0, 0, "")),
        ),
    ),
    Excerpt(
        file="v100-broadcast-2021.log",
        flags={},
        hardware="Tesla V100-PCIE-16GB",
        nodes=2,
        gpus=2,
        library="NCCL 2.9.6 (nccl-tests, fp32, 2 processes)",
        collective="broadcast",
        lines=((8, 2, F, "", "0", (45.82, 0, 0, ""), (38.17, 0, 0, "")),),
    ),
    Excerpt(
        file="unnamed-256-gpus-2021.log",
        flags={"gpus": 256, "nodes": 16, "hardware": "V100"},
        hardware="V100",
        nodes=16,
        gpus=256,
        library="NCCL 2.8.4 (nccl-tests, fp32)",
        collective="all_reduce",
        lines=(
            (33554432, 8388608, F, "sum", "", (1464.2, 22.92, 45.65, ""), (1458.1, 23.01, 45.84, "")),
            (67108864, 16777216, F, "sum", "", (2659.1, 25.24, 50.28, ""), (3014.6, 22.26, 44.35, "")),
            (536870912, 134217728, F, "sum", "", (16129, 33.29, 66.31, ""), (14383, 37.33, 74.36, "")),
        ),
    ),
    Excerpt(
        file="t4-tagged-2022.log",
        flags={"collective": "all_reduce"},
        hardware="Tesla T4",
        nodes=2,
        gpus=2,
        library="NCCL 2.12.7 (nccl-tests, fp32, 2 processes)",
        collective="all_reduce",
        lines=(
            (0, 0, F, "sum", "-1", (6.36, 0, 0, 0), (6.40, 0, 0, 0)),
            (4, 1, F, "sum", "-1", (65.70, 0, 0, 0), (64.84, 0, 0, 0)),
            (33554432, 8388608, F, "sum", "-1", (11390, 2.95, 2.95, 0), (11419, 2.94, 2.94, 0)),
            (1073741824, 268435456, F, "sum", "-1", (344981, 3.11, 3.11, 0), (344454, 3.12, 3.12, 0)),
        ),
    ),
    Excerpt(
        file="mi250x-float-errors-2023.log",
        flags={"gpus": 16, "nodes": 1, "hardware": "MI250X"},
        hardware="MI250X",
        nodes=1,
        gpus=16,
        library=UNSTATED,
        collective="all_reduce",
        lines=(
            (8, 2, F, "sum", "", (25.06, 0, 0, 4e-7), (25.95, 0, 0, 4e-7)),
            (256, 64, F, "sum", "", (29.09, 0.01, 0.02, 1e-7), (29.33, 0.01, 0.02, 1e-7)),
            (1024, 256, F, "sum", "", (31.25, 0.03, 0.06, 4e-7), (16.80, 0.06, 0.11, 2e-7)),
        ),
    ),
    Excerpt(
        file="rtx4090-one-gpu-2023.log",
        flags={},
        hardware="rtx-4090",
        nodes=1,
        gpus=1,
        library=UNSTATED,
        collective="all_gather",
        lines=((33554432, 8388608, F, "none", "-1", (18.48, 1816.16, 0, 0), (0.05, 619657.10, 0, 0)),),
    ),
    Excerpt(
        file="a40-sendrecv-2024.log",
        flags={"collective": "send_recv"},
        hardware="NVIDIA A40",
        nodes=2,
        gpus=2,
        library=UNSTATED,
        collective="send_recv",
        lines=(
            (256, 64, F, "sum", "-1", (34.24, 0.01, 0.01, 0), (33.65, 0.01, 0.01, "")),
            (512, 128, F, "sum", "-1", (34.24, 0.01, 0.01, 0), (34.15, 0.01, 0.01, "")),
            (1024, 256, F, "sum", "-1", (34.24, 0.03, 0.03, 0), (31.11, 0.03, 0.03, "")),
            (4096, 1024, F, "sum", "-1", (30.74, 0.13, 0.13, 0), (30.69, 0.13, 0.13, "")),
        ),
    ),
    Excerpt(
        file="h100-wrong-2024.log",
        flags={"gpus": 2, "nodes": 2, "hardware": "h100-sxm"},
        hardware="h100-sxm",
        nodes=2,
        gpus=2,
        library=UNSTATED,
        collective="all_reduce",
        lines=(
            (8, 2, F, "sum", "-1", (130.1, 0, 0, 0), (118.6, 0, 0, 0)),
            (262144, 65536, F, "sum", "-1", (325.1, 0.81, 0.81, 0), (325.3, 0.81, 0.81, 0)),
            (524288, 131072, F, "sum", "-1", (663.1, 0.79, 0.79, 237858), (569.4, 0.92, 0.92, 238038)),
        ),
    ),
    Excerpt(
        file="h100-debug-inside-rows-2024.log",
        flags={"gpus": 24, "nodes": 3, "hardware": "h100-sxm", "collective": "all_reduce"},
        hardware="h100-sxm",
        nodes=3,
        gpus=24,
        library=UNSTATED,
        collective="all_reduce",
        lines=(
            (4096, 1024, F, "sum", "-1", (76.11, 0.05, 0.10, 0), (75.38, 0.05, 0.10, 0)),
            (536870912, 134217728, F, "sum", "-1", (190101, 2.82, 5.41, 0), (189960, 2.83, 5.42, 0)),
        ),
    ),
    Excerpt(
        file="h20-alltoall-2025.log",
        flags={"collective": "all_to_all"},
        hardware="NVIDIA H20-3e",
        nodes=1,
        gpus=8,
        library=UNSTATED,
        collective="all_to_all",
        lines=(
            (1048576, 32768, F, "none", "-1", (58.14, 18.04, 15.78, 0), (57.87, 18.12, 15.85, "")),
            (2097152, 65536, F, "none", "-1", (58.94, 35.58, 31.14, 0), (58.10, 36.10, 31.58, "")),
            (4194304, 131072, F, "none", "-1", (59.35, 70.67, 61.84, 0), (59.23, 70.81, 61.96, "")),
        ),
    ),
    Excerpt(
        file="h200-two-labels-2025.log",
        flags={"collective": "all_gather"},
        hardware="h200-sxm",
        nodes=2,
        gpus=16,
        library=UNSTATED,
        collective="all_gather",
        lines=(
            (1024, 16, F, "none", "-1", (28.39, 0.04, 0.03, 0), (28.07, 0.04, 0.03, 0)),
            (16777216, 262144, F, "none", "-1", (116.2, 144.43, 135.41, 0), (114.9, 146.00, 136.87, 0)),
            (8589934592, 134217728, F, "none", "-1", (24724, 347.44, 325.72, 0), (24214, 354.75, 332.58, 0)),
        ),
    ),
    Excerpt(
        file="mi250x-srun-2025.log",
        flags={"gpus": 32, "nodes": 4, "hardware": "MI250X"},
        hardware="MI250X",
        nodes=4,
        gpus=32,
        library=UNSTATED,
        collective="all_gather",
        lines=(
            (65536, 512, F, "none", "-1", (107.5, 0.61, 0.59, 0), (105.6, 0.62, 0.60, 0)),
            (2097152, 16384, F, "none", "-1", (70248, 0.03, 0.03, 0), (73593, 0.03, 0.03, 0)),
            (16777216, 131072, F, "none", "-1", (1071.2, 15.66, 15.17, 0), (1057.5, 15.86, 15.37, 0)),
            (4294967296, 33554432, F, "none", "-1", (44904, 95.65, 92.66, 0), (44867, 95.73, 92.74, 0)),
        ),
    ),
    Excerpt(
        file="mi300x-rccl-2025.log",
        flags={"collective": "all_reduce"},
        hardware="mi300x",
        nodes=1,
        gpus=8,
        library="RCCL (version not stated), fp32, rccl-tests",
        collective="all_reduce",
        lines=((8388608, 2097152, F, "sum", "-1", (91.10, 92.08, 161.14, 0), (94.94, 88.36, 154.63, 0)),),
    ),
    Excerpt(
        file="gfx1151-broadcast-2025.log",
        flags={"gpus": 2, "nodes": 2, "hardware": "gfx1151"},
        hardware="gfx1151",
        nodes=2,
        gpus=2,
        library=UNSTATED,
        collective="broadcast",
        lines=(
            (262144, 65536, F, "none", "0", (43.00, 6.10, 6.10, 0), (42.86, 6.12, 6.12, 0)),
            (8388608, 2097152, F, "none", "0", (1189.1, 7.05, 7.05, 0), (1170.7, 7.17, 7.17, 0)),
            (134217728, 33554432, F, "none", "0", (18781, 7.15, 7.15, 0), (18756, 7.16, 7.16, 0)),
        ),
    ),
    Excerpt(
        file="gb300-collapsed-2026.log",
        flags={},
        hardware="NVIDIA GB300",
        nodes=2,
        gpus=8,
        library="NCCL 2.28.9 (nccl-tests, fp32, 8 processes)",
        collective="all_gather",
        lines=(
            (4096, 128, F, "none", "-1", (28.51, 0.14, 0.13, 0), (27.71, 0.15, 0.13, 0)),
            (524288, 16384, F, "none", "-1", (152.25, 3.44, 3.01, 0), (54.79, 9.57, 8.37, 0)),
            (17179869184, 536870912, F, "none", "-1", (42091.7, 408.15, 357.13, 0), (40243.2, 426.90, 373.54, 0)),
        ),
    ),
    Excerpt(
        file="gb10-newest-2026.log",
        flags={},
        hardware="NVIDIA GB10",
        nodes=2,
        gpus=2,
        library="NCCL 2.31.2 (nccl-tests, fp32, 2 processes)",
        collective="all_reduce",
        lines=(
            (8192, 2048, F, "sum", "-1", (35.15, 0.23, 0.23, 0), (30.33, 0.27, 0.27, 0)),
            (16384, 4096, F, "sum", "-1", (31.67, 0.52, 0.52, 0), (30.75, 0.53, 0.53, 0)),
            (65536, 16384, F, "sum", "-1", (67.93, 0.96, 0.96, 0), (64.71, 1.01, 1.01, 0)),
        ),
    ),
    Excerpt(
        file="reconstructed-2.18.json",
        flags={},
        hardware="h100-sxm",
        nodes=2,
        gpus=16,
        library="NCCL 2.28.9 (nccl-tests, fp32, 2 processes)",
        collective="all_reduce",
        lines=(
            (1048576, 262144, F, "sum", "-1", (31.25, 33.554432, 62.91456, 0), (30.5, 34.379541, 64.461639, "")),
            (8388608, 2097152, F, "sum", "-1", (64, 131.072, 245.76, 0), (62.75, 133.682996, 250.655618, "")),
        ),
    ),
)
