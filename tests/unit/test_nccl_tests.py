"""Logs of nccl-tests: real ones of many ages give the numbers that they print, broken ones an error and no wrong row.

`tests/data/nccl_tests/README.md` says where the logs are from, `nccl_numbers.py` holds what they say.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.measured.tables import read_table
from analysis.nccl_tests.check import contradiction, gpus_that_agree, printed_range
from analysis.nccl_tests.heading import version_of
from analysis.nccl_tests.parts import Heading, Placement, Rank, Row, Sweep
from analysis.nccl_tests.rows import Told, read_log
from analysis.nccl_tests.spelling import REDUCTIONS, SHARED
from analysis.nccl_tests.streams import read_streams
from analysis.nccl_tests.text import read_text
from analysis.nccl_tests.write import number_text, render
from analysis.verbs.export import export
from analysis.verbs.import_ import import_
from tests.unit.nccl_numbers import EXCERPTS, Excerpt
from tests.unit.record_factory import header, op_result, write_run
from tp.errors import ConfigError
from tp.plan.ops import COLLECTIVE_KINDS, CollectiveKind, bus_factor

pytestmark = pytest.mark.unit

DATA = Path(__file__).resolve().parents[1] / "data" / "nccl_tests"
HEAD = """# Collective test starting: all_reduce_perf
# nThread 1 nGpus 2 minBytes 8 maxBytes 64 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1 validation: 1 graph: 0
#
# Using devices
#  Rank  0 Group  0 Pid     11 on      node1 device  0 [0x18] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid     11 on      node1 device  1 [0x2a] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
"""
ROWS = """\
     1048576        262144     float     sum      -1    20.00   52.43   52.43      0    21.00   49.93   49.93      0
     2097152        524288     float     sum      -1    40.00   52.43   52.43      0    41.00   51.15   51.15      0
"""
FOOT = """# Out of bounds values : 0 OK
# Avg bus bandwidth    : 51.485
#
# Collective test concluded: all_reduce_perf
"""
LOG = HEAD + ROWS + FOOT


def read(path: Path, told: Told | None = None) -> list[dict[str, str | int]]:
    return read_log(path, told or Told(), tell=lambda problem: None)


def read_lines(tmp_path: Path, text: str, told: Told | None = None) -> list[dict[str, str | int]]:
    path = tmp_path / "a.log"
    path.write_bytes(text.encode())
    return read(path, told)


def refused(tmp_path: Path, text: str, told: Told | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        read_lines(tmp_path, text, told)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=lambda each: f"{each.file}-{each.collective}")
def test_a_published_log_gives_the_numbers_it_prints(excerpt: Excerpt) -> None:
    rows = [row for row in read(DATA / excerpt.file, Told(**excerpt.flags)) if row["collective"] == excerpt.collective]
    expected = [
        (size, count, dtype, redop, root, placement, in_place, half[0], half[1], half[2], half[3])
        for size, count, dtype, redop, root, *halves in excerpt.lines
        for placement, in_place, half in zip(("out_of_place", "in_place"), ("no", "yes"), halves, strict=True)
    ]
    found = [
        (
            *(row[name] for name in ("bytes", "count", "type", "redop", "root", "placement", "in_place")),
            *(float(row[name]) for name in ("time_us", "algbw_gbytes_per_s", "busbw_gbytes_per_s")),
            float(row["wrong"]) if row["wrong"] != "" else "",
        )
        for row in rows
    ]
    assert found == expected
    whole = {(r["hardware"], r["nodes"], r["gpus"], r["library"], r["collective"], r["source"]) for r in rows}
    assert whole == {(excerpt.hardware, excerpt.nodes, excerpt.gpus, excerpt.library, excerpt.collective, excerpt.file)}


def test_every_log_has_its_numbers_or_is_refused() -> None:
    read_here = {excerpt.file for excerpt in EXCERPTS} | {"v100-mixed-2022.log", "README.md"}
    assert {path.name for path in DATA.iterdir()} == read_here
    text = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in read_here - {"README.md"})


def test_processes_that_ran_tests_of_their_own_are_told_apart_or_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v100-mixed-2022.log, line 9: rank 0 is listed again: .*MPI=1"):
        read(DATA / "v100-mixed-2022.log")
    one, other = LOG.splitlines(), LOG.replace("Pid     11", "Pid     99").splitlines()
    mixed = [f"{label}: {line}" for pair in zip(one, other, strict=True) for label, line in enumerate(pair)]
    rows = read_lines(tmp_path, "\n".join(mixed) + "\n")
    assert [row["bytes"] for row in rows] == 2 * [1048576, 1048576, 2097152, 2097152]


@pytest.mark.parametrize(
    "label",
    [
        "[1,0]<stdout>:",
        "[1,0]<stdout>: ",
        "Mon Nov 23 07:44:20 2026[1,0]<stdout>:",
        "Mon Nov 23 07:44:20 2026<stdout>:",
        "[prterun-host-12@1,0]<stdout>: ",
        "0: ",
        " 0: ",
        "00: ",
        "[0] ",
        "[pod/nccl-launcher-x2/main] ",
        "2026-11-23T07:44:20.123456789Z stdout F ",
        "2026-11-23T07:44:20.123456789Z stdout F [1,0]<stdout>:",
        "[2026-11-23 07:44:20] ",
        "(head, rank=0, pid=3808) [1,0]<stdout>:",
        "node-17: ",
        "launcher-0  | ",
        "\x1b[32m[0]\x1b[0m ",
    ],
)
def test_labels_of_launchers_come_off(tmp_path: Path, label: str) -> None:
    expected = read_lines(tmp_path, LOG)
    assert read_lines(tmp_path, "".join(f"{label}{line}\n" for line in LOG.splitlines())) == expected
    assert len(expected) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\x1b[1m" + text.replace("\n", "\x1b[0m\n\x1b[1m"),
        lambda text: "\n".join("\t".join(line.split()) for line in text.splitlines()) + "\n",
        lambda text: "\n".join(" ".join(line.split()) for line in text.splitlines()) + "\n",
        lambda text: text.replace("#", ""),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace("     2097152", "WARNING: Open MPI accepted a TCP connection\n     2097152"),
    ],
)
def test_what_editors_and_terminals_do_to_a_log_changes_nothing(tmp_path: Path, change: object) -> None:
    assert callable(change)
    text = change(LOG)
    told = Told() if "wrong" in text and "#wrong" in text else None
    if told is None:
        text = text.replace("wrong", "#wrong")
    assert read_lines(tmp_path, text) == read_lines(tmp_path, LOG)


def test_debug_lines_inside_a_row_are_taken_out(tmp_path: Path) -> None:
    debug = "node1:11:11 [0] NCCL INFO AllReduce: opCount 1f sendbuff 0x7f count 262144 datatype 7 op 0 root 0"
    warn = "\n[2026-11-23 07:44:20] node1:11:30 [1] transport/net.cc:12 NCCL WARN 3 of 4 rails are up"
    row = ROWS.splitlines()[0]
    pieces = [row[:52], row[52:84], row[84:]]
    for inside in (debug, f"{debug}\n{debug}", warn, f"NCCL version 2.27.3+cuda12.9\n{debug}"):
        text = LOG.replace(row, f"{inside}\n".join(pieces))
        rows = read_lines(tmp_path, text)
        library = rows[0].pop("library")
        assert library in ("NCCL (version not stated), fp32, nccl-tests", "NCCL 2.27.3 (nccl-tests, fp32, 1 process)")
        assert [row["time_us"] for row in rows] == ["20.00", "21.00", "40.00", "41.00"]


def test_a_host_that_begins_with_digits_is_told_from_the_cell_before_it(tmp_path: Path) -> None:
    row = ROWS.splitlines()[0]
    text = LOG.replace(row, row[:84] + "10-0-0-1:11:11 [0] NCCL INFO x\n" + row[84:]).replace("node1", "10-0-0-1")
    assert [each["wrong"] for each in read_lines(tmp_path, text)] == ["0"] * 4


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("  21.00   49.93   49.93      0", "  21.00   49.93", 11, "the row is torn: 11 of its 13 columns"),
        ("   52.43   52.43      0    21.00", "   52.4x   52.43      0    21.00", 11, "'52.4x' stands where"),
        ("     1048576        262144", "     10485x6        262144", 11, "'10485x6' stands where"),
        ("    20.00   52.43", "    20.00   54.43", 11, "algbw is 54.43 GB/s, but 1048576 bytes in 20.00 us are not"),
        ("    20.00   52.43", "    25.00   52.43", 11, "algbw is 52.43 GB/s, but 1048576 bytes in 25.00 us are not"),
        (
            "   52.43   52.43      0    21.00",
            "   52.43   78.64      0    21.00",
            11,
            "no all_reduce over 2 GPUs has; 4 GP",
        ),
        ("     1048576        262144", "     1048576        262143", 11, "262143 elements of float are not"),
        ("    float     sum", "    float    none", 11, "redop is none"),
        ("     1048576 ", "2048\n     1048576 ", 11, "numbers that belong to no row"),
        ("   busbw #wrong\n", "   busbw\n", 9, "the header of the table is cut short"),
        ("   busbw #wrong     time", "   busbw #wrong     tim", 9, "the header has other columns"),
        ("    time   algbw", " cputime   algbw", 9, "those of the CPU"),
        ("#  Rank  1 Group", "#  Rank  2 Group", 6, "rank 2 comes where rank 1 should"),
        ("#  Rank  1 Group  0 Pid     11 on      node1 device  1", "#  Rank  1 Gro", 6, "is cut short"),
        ("starting: all_reduce_perf", "starting: all_red", 1, "names no known test"),
    ],
)
def test_a_broken_line_is_named_with_its_remedy(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in LOG
    message = refused(tmp_path, LOG.replace(old, new, 1))
    assert message.startswith(f"a.log, line {line}: ") and words in message and ";" in message


def test_a_log_without_rows_or_header_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "hello\n").startswith("a.log: holds no table of nccl-tests; ")
    assert refused(tmp_path, HEAD + FOOT).startswith("a.log, line 9: the table has no rows; ")
    assert refused(tmp_path, ROWS).startswith("a.log, line 1: a row without the header of its columns above it; ")
    nccl1 = (
        "#  bytes             N    type      op     time  algbw  busbw      res\n    10000000      10000000    char\n"
    )
    assert "holds no table" in refused(tmp_path, nccl1)


def test_a_log_that_does_not_say_enough_asks_for_flags(tmp_path: Path) -> None:
    unnamed = LOG.replace("# Collective test starting: all_reduce_perf\n", "").replace("concluded: all_reduce", "x")
    assert "line 8: nothing above the table says which collective it is; give --collective" in refused(
        tmp_path, unnamed
    )
    assert read_lines(tmp_path, "$ ./build/all_reduce_perf -b 8 -g 2\n" + unnamed) == read_lines(tmp_path, LOG)
    assert "--collective all_gather: " in refused(tmp_path, LOG, Told(collective="all_gather"))
    without = "".join(line for line in LOG.splitlines(keepends=True) if "Rank" not in line and "nThread" not in line)
    message = refused(tmp_path, without)
    assert "no line above the table lists the ranks (busbw over algbw fits 2 GPUs); give --gpus, of several" in message
    assert "no all_reduce over 4 GPUs has; 2 GPUs would" in refused(
        tmp_path, without, Told(gpus=4, nodes=1, hardware="x")
    )
    assert "--gpus 4: the ranks above " in refused(tmp_path, LOG, Told(gpus=4))
    # What flags need not say is told, and taken as one node of an unknown device.
    told = list[str]()
    (tmp_path / "without.log").write_text(without, encoding="utf-8")
    rows = read_log(tmp_path / "without.log", Told(gpus=2), tell=told.append)
    assert {(row["hardware"], row["gpus"], row["nodes"]) for row in rows} == {("unknown", 2, 1)} and len(told) == 2
    assert "how many nodes; taken as 1, --nodes" in told[0] and "names the device; unknown" in told[1]
    cut = LOG.replace("#  Rank  1 Group  0 Pid     11 on      node1 device  1", "#  Rank  1 Gro")
    assert {(row["gpus"], row["nodes"]) for row in read_lines(tmp_path, cut, Told(gpus=2))} == {(2, 1)}
    other = LOG.replace("[0x2a] NVIDIA H100 80GB HBM3", "[0x2a] NVIDIA L40S")
    assert "ranks of several devices" in refused(tmp_path, other)
    assert {row["hardware"] for row in read_lines(tmp_path, other, Told(hardware="mine"))} == {"mine"}


def test_one_process_with_all_gpus_needs_no_ranks(tmp_path: Path) -> None:
    text = "".join(line for line in LOG.splitlines(keepends=True) if "Rank" not in line)
    rows = read_lines(tmp_path, text, Told(hardware="x"))
    assert {(row["gpus"], row["nodes"]) for row in rows} == {(2, 1)}


def test_what_powershell_redirects_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(LOG.encode("utf-16"))
    assert read(path) == read_lines(tmp_path, LOG)


def test_several_tests_in_a_file_keep_their_headers(tmp_path: Path) -> None:
    killed = HEAD.replace("all_reduce", "broadcast")
    gathered = LOG.replace("all_reduce", "all_gather").replace("     sum", "    none")
    for old, new in (("262144", "131072"), ("524288", "262144"), ("  52.43      0", "  26.21      0")):
        gathered = gathered.replace(old, new)
    gathered = gathered.replace("  49.93      0", "  24.97      0").replace("  51.15      0", "  25.57      0")
    path, told = tmp_path / "a.log", list[str]()
    path.write_text(LOG + killed + gathered + "* this is no comment of the tests *\n", encoding="utf-8")
    rows = read_log(path, Told(), tell=told.append)
    assert [row["collective"] for row in rows] == 4 * ["all_reduce"] + 4 * ["all_gather"]
    assert told == [f"{path}, line 25: the table has no rows; left out"]


def test_groups_of_split_communicators_are_one_collective_each(tmp_path: Path) -> None:
    extra = [line for line in HEAD.splitlines(keepends=True) if "Rank" in line]
    more = (
        "".join(extra).replace("Rank  0 Group  0", "Rank  2 Group  1").replace("Rank  1 Group  0", "Rank  3 Group  1")
    )
    rows = read_lines(tmp_path, LOG.replace(extra[1], extra[1] + more.replace("node1", "node2")))
    assert {(row["gpus"], row["nodes"]) for row in rows} == {(2, 1)}


def test_extra_columns_are_passed_over(tmp_path: Path) -> None:
    """-I adds columns behind each placement, -T the time of day behind the row."""
    stamped = LOG.replace("busbw #wrong\n", "busbw #wrong           timestamp\n")
    stamped = "".join(
        f"{line}  2026-11-23 07:44:20\n" if line.startswith("     ") else f"{line}\n" for line in stamped.splitlines()
    )
    assert read_lines(tmp_path, stamped) == read_lines(tmp_path, LOG)
    columns, cells = "   i_min    i_max    i_p99    i_cv%", "   19.00    23.00    22.90     2.00"
    per_pass = LOG.replace("busbw #wrong", f"busbw #wrong{columns}").replace("      0", f"      0{cells}")
    assert read_lines(tmp_path, per_pass) == read_lines(tmp_path, LOG)


def test_tables_of_one_placement(tmp_path: Path) -> None:
    first = "".join(line[:84] + "\n" for line in ROWS.splitlines())
    rows = read_lines(tmp_path, HEAD + first + FOOT)
    assert [(row["placement"], row["time_us"]) for row in rows] == [
        ("out_of_place", "20.00"),
        ("out_of_place", "40.00"),
    ]
    second = "".join(line[:52] + 32 * " " + line[84:] + "\n" for line in ROWS.splitlines())
    rows = read_lines(tmp_path, HEAD + second + FOOT)
    assert [(row["placement"], row["time_us"]) for row in rows] == [("in_place", "21.00"), ("in_place", "41.00")]
    assert "line 12: the row is torn" in refused(tmp_path, HEAD + ROWS[:-33] + "\n" + FOOT)


def test_what_is_broken_can_be_left_out_and_is_told(tmp_path: Path) -> None:
    path, told = tmp_path / "a.log", list[str]()
    path.write_text(
        HEAD + ROWS.replace("   52.43   52.43      0    21.00", "   52.43   99.43      0    21.00") + "    419"
    )
    rows = read_log(path, Told(skip_broken=True), tell=told.append)
    assert [row["bytes"] for row in rows] == [2097152, 2097152]
    assert [line.removeprefix(f"{path}, ").split(":")[0] for line in told] == ["line 13", "line 11", "line 9"]
    assert "the table has no end" in told[-1]


@given(st.integers(0, 4 * 10**9), st.sampled_from([(7, 1), (6, 1000)]))
def test_a_number_lies_where_its_print_says(value_thousandths: int, form: tuple[int, int]) -> None:
    value = value_thousandths / 1000 / form[1]
    low, high = printed_range(number_text(value, width=form[0]))
    assert low - 1e-9 * value <= value <= high + 1e-9 * value


def test_rounding_of_the_print_is_understood() -> None:
    assert printed_range("52.43") == pytest.approx((52.425, 52.435))
    assert printed_range("374425") == (374424.5, 374425.5)
    assert printed_range("1.2e+07") == pytest.approx((1.15e7, 1.25e7))
    assert number_text(14977.1, width=7) == "14977.1" and number_text(4366.46, width=7) == "4366.46"
    assert number_text(374425.2, width=7) == "374425" and number_text(1.23e8, width=7) == "1.2e+08"
    assert [version_of(code) for code in (2804, 20906, 22703, 23102)] == ["2.8.4", "2.9.6", "2.27.3", "2.31.2"]


def test_the_factor_tells_the_number_of_gpus() -> None:
    row = example_row(size=1 << 30, time="1000.0", algbw="1073.74", busbw="1879.05")
    assert gpus_that_agree([row], "all_reduce") == (8,)
    assert gpus_that_agree([row], "broadcast") == ()
    assert contradiction(row, "all_reduce", 8) is None and contradiction(row, "all_reduce", 4) is not None


def example_row(*, size: int, time: str, algbw: str, busbw: str) -> Row:
    return Row(
        place="line 1",
        size=size,
        count=size // 4,
        type="float",
        redop="sum",
        root="-1",
        placement="out_of_place",
        time=time,
        algbw=algbw,
        busbw=busbw,
        wrong="0",
    )


def test_the_json_file_of_a_killed_run(tmp_path: Path) -> None:
    text = (DATA / "reconstructed-2.18.json").read_text(encoding="utf-8")
    whole = read(DATA / "reconstructed-2.18.json")
    cut = text[: text.index('"size":8388608') + 60]
    assert refused(tmp_path, cut).startswith("a.log, result 2: the file ends inside it: the run was killed")
    rows = read_lines(tmp_path, cut, Told(skip_broken=True))
    assert [row["time_us"] for row in rows] == [row["time_us"] for row in whole[:2]]
    assert "holds no results" in refused(tmp_path, text[:100])
    assert "result 1: algbw is" in refused(tmp_path, text.replace('"time":31.25', '"time":32.25'))
    assert "result 1: cannot be read" in refused(tmp_path, text.replace('"count":262144,', ""))


# A test with its rows, as any collective over any number of ranks may give.
@st.composite
def made_tests(draw: st.DrawFn) -> Sweep:
    kind: CollectiveKind = draw(st.sampled_from(COLLECTIVE_KINDS))
    ranks = draw(st.integers(2, 9))
    rows = list[Row]()
    for _ in range(draw(st.integers(1, 4))):
        count = ranks * draw(st.integers(1, 1 << 28))
        both = draw(st.sampled_from([("out_of_place",), ("in_place",), ("out_of_place", "in_place")]))
        rows += [made_row(draw, kind, ranks, count, placement) for placement in both]
    listed = tuple(
        Rank(place="", number=n, group=0, pid=n, host=f"host{n % 2}", device="NVIDIA L40S") for n in range(ranks)
    )
    return Sweep(place="", heading=Heading(collective=kind, ranks=listed), rows=tuple(rows), ended=True)


def made_row(draw: st.DrawFn, kind: CollectiveKind, ranks: int, count: int, placement: str) -> Row:
    microseconds = draw(st.floats(0.5, 9e6))
    algbw = count * 4 / microseconds / 1e3
    place: Placement = "in_place" if placement == "in_place" else "out_of_place"
    return Row(
        place="",
        size=count * 4,
        count=count // ranks if kind in SHARED else count,
        type="float",
        redop="sum" if kind in REDUCTIONS else "none",
        root="-1",
        placement=place,
        time=number_text(microseconds, width=7),
        algbw=number_text(algbw, width=6),
        busbw=number_text(algbw * bus_factor(kind, ranks), width=6),
        wrong=draw(st.sampled_from(["", "0", "12"])),
    )


def fields(row: Row) -> tuple[object, ...]:
    cells = (row.time, row.algbw, row.busbw, row.wrong)
    return (row.size, row.count, row.type, row.redop, row.root, row.placement, *cells)


@settings(max_examples=40, deadline=None)
@given(made_tests())
def test_what_is_written_is_read_back(made: Sweep) -> None:
    log = read_text("".join(f"{line}\n" for line in render(made)))
    assert log.faults == () and len(log.sweeps) == 1
    assert [fields(row) for row in log.sweeps[0].rows] == [fields(row) for row in made.rows]
    assert [rank.host for rank in log.sweeps[0].heading.ranks] == [rank.host for rank in made.heading.ranks]
    ranks = len(made.heading.ranks)
    assert [contradiction(row, made.heading.collective, ranks) for row in log.sweeps[0].rows] == [None] * len(made.rows)


@settings(max_examples=80, deadline=None)
@given(made_tests(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_line_that_is_cut_never_gives_a_wrong_row(made: Sweep, which: int, at: int) -> None:
    check_cut("".join(f"{line}\n" for line in render(made)), which, at)


@pytest.mark.parametrize("which", range(len(LOG.splitlines())))
def test_no_cut_of_a_common_log_gives_a_wrong_row(which: int) -> None:
    for at in range(1, len(LOG.splitlines()[which])):
        check_cut(LOG, which, at)


def test_a_count_that_lost_digits_is_no_count(tmp_path: Path) -> None:
    counted = LOG.replace("49.93      0\n", "49.93    128\n").replace("51.15      0\n", "51.15     64\n")
    assert [row["wrong"] for row in read_lines(tmp_path, counted)] == ["0", "128", "0", "64"]
    for digits, cut in (("    128\n", "    12\n"), ("    128\n", "    1\n"), ("     64\n", "     6\n")):
        assert "the row ends before its last column: digits are lost" in refused(tmp_path, counted.replace(digits, cut))
    # Where the spaces are lost, only the end of the file tells.
    collapsed = "\n".join(" ".join(line.split()) for line in (HEAD + ROWS).splitlines())
    assert "digits are lost" in refused(tmp_path, collapsed)
    for which in (10, 11):
        for at in range(1, 117):
            check_cut(counted, which, at)


def check_cut(text: str, which: int, at: int) -> None:
    """Cut one line, to more than the sign of a comment: fewer rows and a fault, or the rows that were there."""
    lines = text.splitlines()
    number = which % len(lines)
    kept = lines[number][: at % max(len(lines[number]), 1)]
    if not kept.strip(" #"):
        return  # a line that is gone, which nothing tells
    cut = "".join(f"{line}\n" for line in [*lines[:number], kept, *lines[number + 1 :]])
    whole, found = read_text(text), read_text(cut)
    before = [fields(row) for test in whole.sweeps for row in test.rows]
    after = [fields(row) for test in found.sweeps for row in test.rows]
    assert all(row in before for row in after)
    faults = [*found.faults, *(fault for test in found.sweeps for fault in test.heading.faults)]
    assert after == before or faults
    if not faults and found.sweeps:
        assert found.sweeps[0].heading.collective == whole.sweeps[0].heading.collective
        assert len(found.sweeps[0].heading.ranks) == len(whole.sweeps[0].heading.ranks)


def test_lines_keep_their_numbers_whatever_is_in_front() -> None:
    streams = read_streams("[1,0]<stdout>: a\nplain\n[1,1]<stdout>:b\n[1,0]<stdout>: c\n")
    assert {label: [line.number for line in lines] for label, lines in streams.items() if label} == {
        "[1,0]<stdout>:": [1, 4],
        "[1,1]<stdout>:": [3],
    }
    assert [line.text for line in streams["[1,0]<stdout>:"]] == ["a", "c"]


def test_the_table_is_one_that_calibrate_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, told = tmp_path / "table.csv", list[str]()
    logs = [str(DATA / name) for name in ("gb300-collapsed-2026.log", "reconstructed-2.18.json")]
    import_(["nccl-tests", *logs, "--out", str(out), "--link", "NVLink"])
    shown = capsys.readouterr().out
    assert "all_gather" in shown and "3 out of place, 3 in place" in shown and "373.54 GB/s" in shown
    command = f"calibrate {out} --select 'hardware=NVIDIA GB300' --hardware NAME_OR_FILE.toml --out calibration.json"
    assert f"python -m analysis {command}" in shown
    rows = read_table(out, select={"hardware": frozenset(["h100-sxm"])}, tell=told.append)
    assert [(row.seconds, row.nodes, row.key) for row in rows[:1]] == [(31.25e-6, 2, "all_reduce/16x2/bf16")]
    assert len(rows) == 4 and not told
    chosen = {"hardware": frozenset(["h100-sxm"]), "placement": frozenset(["in_place"])}
    assert len(read_table(out, select=chosen, tell=told.append)) == 2


def test_collectives_that_no_plan_has_are_left_out_by_calibrate(tmp_path: Path) -> None:
    out, told = tmp_path / "table.csv", list[str]()
    log = DATA / "t4-tagged-2022.log"
    import_(["nccl-tests", str(log), "--collective", "all_reduce", "--hardware", "t4", "--out", str(out)])
    assert len(read_table(out, select={}, tell=told.append)) == 6
    assert told == [f"{out}: 2 rows are no op that is modelled (collectives of other kinds, or of no bytes); left out"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "what to read is missing; name one of nccl-tests, torch-profiler"),
        (["ncl-tests"], "did you mean nccl-tests?"),
        (["nccl-tests"], "no file given"),
        (["nccl-tests", "a.log"], "--out: is missing"),
        (["nccl-tests", "a.log", "--out", "a.txt"], "is no .csv file"),
        (["nccl-tests", "a.csv", "--out", "a.csv"], "is one of the files to read"),
        (["nccl-tests", "a.log", "a.log", "--out", "b.csv"], "is given twice"),
        (["nccl-tests", "a.log", "--out", "b.csv", "--gpus", "two"], "--gpus two: not a positive whole number"),
        (["nccl-tests", "a.log", "--out", "b.csv", "--collective", "allreduce"], "did you mean all_reduce?"),
        (["nccl-tests", "nowhere.log", "--out", "b.csv"], "nowhere.log: cannot be read"),
    ],
)
def test_flags_that_cannot_be_used_are_refused(args: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        import_(args)
    assert words in str(error.value)


def test_records_are_written_as_nccl_tests_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "r.jsonl", header(), op_result(4096, 100e-6), op_result(1 << 20, 1e-3))
    export(["nccl-tests", str(run.path), "--out", "-"])
    text = capsys.readouterr().out
    assert "# Collective test starting: all_reduce_perf" in text and "# tpbench: backend gloo, r.jsonl" in text
    row = (
        "        4096          1024     float     sum      -1      N/A     N/A     N/A     N/A   100.00    0.04    0.04"
    )
    assert f"{row}     N/A\n" in text
    path = tmp_path / "r.log"
    export(["nccl-tests", str(run.path), "--out", str(path)])
    rows = read(path)
    assert [(row["bytes"], row["time_us"], row["in_place"], row["gpus"]) for row in rows] == [
        (4096, "100.00", "yes", 2),
        (1 << 20, "1000.00", "yes", 2),
    ]
    assert {row["library"] for row in rows} == {"gloo (version not stated), fp32, tpbench"}
    with pytest.raises(ConfigError, match=r"layout is missing"):
        export([])
    with pytest.raises(ConfigError, match=r"holds no collective timed alone"):
        export(["nccl-tests", str(write_run(tmp_path / "e.jsonl", header()).path), "--out", "-"])
