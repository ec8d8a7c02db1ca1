"""When a block of samples is marked and a run warned of, and what is nobody's fault."""

import pytest

from bench.harness.machine.judge import Mark, MarkKind, marks, warnings
from bench.harness.machine.reading import Facts, FactValue, Reading
from bench.harness.record.records import BlockMark
from tp.schema import from_mapping

pytestmark = pytest.mark.unit

FACTS = Facts(
    values={
        "gpu_name": "toy",
        "sm_clock_max_mhz": 2000,
        "power_limit_w": 700.0,
        "power_limit_default_w": 700.0,
        "slowdown_temperature_c": 87,
        "pcie_gen_max": 5,
        "pcie_width_max": 16,
        "nvlink_links": 18,
        "ecc_enabled": True,
        "mig_enabled": False,
        "cpu_affinity": [0, 1, 2, 3],
        "logical_cpus": 4,
        "cgroup_cpu_limit": "no limit",
    },
    unread={},
)
CALM: dict[str, float | int] = {
    "sm_clock_mhz": 1980,
    "gpu_idle": 0,
    "event_reasons": 0,
    "temperature_c": 60,
    **{f"violation_{name}_ns": 10 for name in ("power", "thermal", "sync_boost", "board_limit", "reliability")},
    "ecc_uncorrected": 0,
    "nvlink_errors": 3,
    "nvlink_active": 18,
    "pcie_gen": 5,
    "pcie_width": 16,
    "pcie_replays": 7,
    "steal_s": 100.0,
    "busy_s": 1000.0,
    "cgroup_throttled_s": 1.0,
    "cgroup_throttled_periods": 5,
}


def reading(**changes: float) -> Reading:
    return Reading(values=CALM | changes, unread={})


def facts(**changes: FactValue) -> Facts:
    return Facts(values=FACTS.values | changes, unread={})


def judged(
    before: Reading, after: Reading, *, elapsed_s: float = 10, own_cpu_s: float = 0, of: Facts = FACTS
) -> list[Mark]:
    return list(marks(before, after, elapsed_s=elapsed_s, own_cpu_s=own_cpu_s, facts=of))


def test_a_calm_machine_has_no_marks() -> None:
    assert judged(reading(), reading()) == []
    assert warnings(FACTS, reading()) == ()


def test_what_was_not_read_is_no_mark() -> None:
    empty = Reading(values={}, unread=dict.fromkeys(CALM, "GPU is lost"))
    assert judged(empty, empty) == judged(reading(), empty) == judged(empty, reading()) == []
    nothing = Facts(values={}, unread={})
    assert judged(reading(), reading(steal_s=200.0, busy_s=2000.0, sm_clock_mhz=10), of=nothing) == []


@pytest.mark.parametrize(
    ("reasons", "kind", "text"),
    [
        (0x4, "power", "SW power cap at a limit of 700 W seen before (event reason 0x4)"),
        (0x8, "hardware", "HW slowdown seen before (event reason 0x8)"),
        (0x10, "sync", "sync boost seen before (event reason 0x10)"),
        (0x20, "thermal", "SW thermal slowdown seen before (event reason 0x20)"),
        (0x40, "thermal", "HW thermal slowdown seen before (event reason 0x40)"),
        (0x80, "hardware", "HW power brake slowdown seen before (event reason 0x80)"),
    ],
)
def test_every_reason_of_throttling_has_a_name(reasons: int, kind: MarkKind, text: str) -> None:
    assert judged(reading(event_reasons=reasons), reading()) == [Mark(kind=kind, text=text)]


@pytest.mark.parametrize("reasons", [0x1, 0x2, 0x100])
def test_idleness_and_settings_are_no_throttling(reasons: int) -> None:
    assert judged(reading(event_reasons=reasons), reading(event_reasons=reasons)) == []


def test_several_reasons_at_either_end() -> None:
    found = judged(reading(event_reasons=0x4), reading(event_reasons=0x24))
    assert [mark.text for mark in found] == [
        "SW power cap at a limit of 700 W seen before and after (event reason 0x4)",
        "SW thermal slowdown seen after (event reason 0x20)",
    ]


@pytest.mark.parametrize(
    ("counter", "kind", "text"),
    [
        # 0.25 s of 10 s
        ("power", "power", "the power limit held clocks down for 250 ms, 2.50 % of the time"),
        ("thermal", "thermal", "the thermal limit held clocks down for 250 ms, 2.50 % of the time"),
        ("sync_boost", "sync", "sync boost held clocks down for 250 ms, 2.50 % of the time"),
        ("board_limit", "hardware", "the board limit held clocks down for 250 ms, 2.50 % of the time"),
        ("reliability", "hardware", "the reliability limit held clocks down for 250 ms, 2.50 % of the time"),
    ],
)
def test_a_violation_counter_that_rose(counter: str, kind: MarkKind, text: str) -> None:
    name = f"violation_{counter}_ns"
    assert judged(reading(), reading(**{name: 250_000_010})) == [Mark(kind=kind, text=text)]
    # One that was set back in between tells nothing.
    assert judged(reading(**{name: 250_000_010}), reading()) == []


def test_a_slow_clock() -> None:
    slow = Mark(kind="clock", text="SM clock 1500 MHz, 25.0 % below its maximum of 2000 MHz")
    assert judged(reading(), reading(sm_clock_mhz=1500)) == judged(reading(sm_clock_mhz=1500), reading()) == [slow]
    assert judged(reading(), reading(sm_clock_mhz=1800)) == []


def test_an_idle_clock_is_no_slow_clock() -> None:
    idle = reading(sm_clock_mhz=345, gpu_idle=1)
    assert judged(idle, idle) == []
    # Application clocks are a setting: they do not make an idle GPU a loaded one.
    assert judged(idle, reading(sm_clock_mhz=345, gpu_idle=1, event_reasons=0x2)) == []
    throttled = reading(sm_clock_mhz=345, gpu_idle=1, event_reasons=0x40)
    assert [mark.kind for mark in judged(idle, throttled)] == ["thermal", "clock"]


def test_heat() -> None:
    hot = Mark(kind="thermal", text="87 C; the GPU slows down from 87 C on")
    assert judged(reading(temperature_c=87), reading()) == [hot]
    assert judged(reading(temperature_c=86), reading()) == []


@pytest.mark.parametrize(
    ("counter", "text"),
    [
        ("ecc_uncorrected", "2 uncorrected ECC errors"),
        ("nvlink_errors", "2 NVLink errors"),
        ("pcie_replays", "2 PCIe replays"),
    ],
)
def test_errors_that_rose(counter: str, text: str) -> None:
    after = reading(**{counter: CALM[counter] + 2})
    assert judged(reading(), after) == [Mark(kind="errors", text=text)]
    assert judged(after, after) == []


def test_steal_above_a_twentieth_of_the_cpus_time() -> None:
    # 4 CPUs x 10 s x 5 % = 2 s
    assert judged(reading(), reading(steal_s=102.0)) == []
    assert judged(reading(), reading(steal_s=104.0)) == [
        Mark(kind="steal", text="the hypervisor took 4.00 s, 10.0 % of 4 CPUs' time")
    ]
    # Less than a tick on each CPU cannot be told from none.
    assert judged(reading(), reading(steal_s=100.03), elapsed_s=0.1) == []


def test_a_quota_that_held_back() -> None:
    after = reading(cgroup_throttled_s=1.25, cgroup_throttled_periods=8)
    assert judged(reading(), after) == [
        Mark(kind="quota", text="the control group's CPU limit held processes back for 250 ms in 3 periods")
    ]


def test_other_processes_by_what_the_ranks_did_not_use() -> None:
    # A tenth of a CPU for 10 s is 1 s.
    assert judged(reading(), reading(busy_s=1020.9), own_cpu_s=20) == []
    assert judged(reading(), reading(busy_s=1025.0), own_cpu_s=20) == [
        Mark(kind="others", text="other processes used 0.500 of 4 CPUs")
    ]
    # What the kernel counts of the ranks in whole ticks may be less than what they count themselves.
    assert judged(reading(), reading(busy_s=1019.0), own_cpu_s=20) == []
    assert judged(reading(), reading(busy_s=1000.03), elapsed_s=0.1) == []


def test_a_large_node_has_services() -> None:
    """One percent of 128 CPUs for 10 s is 12.8 s."""
    large = facts(logical_cpus=128)
    assert judged(reading(), reading(busy_s=1012.0), of=large) == []
    assert [mark.kind for mark in judged(reading(), reading(busy_s=1014.0), of=large)] == ["others"]


@pytest.mark.parametrize("elapsed_s", [0.0, -1.0, float("nan")])
def test_an_interval_must_be_positive(elapsed_s: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        judged(reading(), reading(), elapsed_s=elapsed_s)


@pytest.mark.parametrize(
    ("changes", "state", "lines"),
    [
        ({}, {"pcie_gen": 3}, ("PCIe is at generation 3 of 5 (an idle GPU may lower it by itself)",)),
        ({}, {"pcie_width": 8}, ("PCIe is 8 of 16 lanes wide",)),
        ({}, {"nvlink_active": 17}, ("17 of 18 NVLinks are up",)),
        ({"power_limit_w": 500.0}, {}, ("the power limit is 500 W, below the default of 700 W",)),
        ({"power_limit_w": 750.0}, {}, ()),
        ({}, {"event_reasons": 0x2}, ("application clocks are set (event reason 0x2)",)),
        ({"ecc_enabled": False}, {}, ("ECC is off",)),
        ({}, {"ecc_uncorrected": 1}, ("1 uncorrected ECC errors since the driver was loaded",)),
        (
            {"mig_enabled": True},
            {},
            ("MIG is on: what is read is the state of the whole GPU, of which the ranks have a part",),
        ),
        ({"cgroup_cpu_limit": 1.5}, {}, ("the control group allows 1.50 CPUs at a time, the affinity 4",)),
        ({"cgroup_cpu_limit": 4.0}, {}, ()),
    ],
)
def test_warnings(changes: dict[str, FactValue], state: dict[str, float], lines: tuple[str, ...]) -> None:
    assert warnings(facts(**changes), reading(**state)) == lines


def test_a_gpu_that_shows_nothing_is_a_warning_and_a_cpu_is_not() -> None:
    blind = Facts(values={}, unread={"gpu_name": "Driver Not Loaded"})
    assert warnings(blind, Reading(values={}, unread={"event_reasons": "Driver Not Loaded"})) == (
        "the GPU's state cannot be read: Driver Not Loaded",
    )
    unseen = Reading(values={}, unread={"event_reasons": "Not Supported", "violation_power_ns": "Not Supported"})
    assert warnings(FACTS, unseen) == ("throttling and some of its counters cannot be read: Not Supported",)
    assert warnings(Facts(values={}, unread={}), Reading(values={}, unread={})) == ()


def test_marks_and_readings_go_into_records() -> None:
    mark = judged(reading(), reading(steal_s=104.0))[0]
    data = {"first_round": 0, "num_rounds": 1, "rank": 0, "kind": mark.kind, "text": mark.text}
    assert from_mapping(data, BlockMark, where="here").kind == "steal"
    mixed = {"values": {"pcie_gen": 5, "power_w": 5.0}, "unread": {}}
    values = from_mapping(mixed, Reading, where="here").values
    assert [type(value) for value in values.values()] == [int, float]
