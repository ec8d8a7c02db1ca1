"""The page is whole, safe and honest: nothing fetched, names escaped, no speed where there is none."""

import csv
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.report.content import read_content
from analysis.report.page import render
from analysis.report.write import write_report
from bench.harness.record.parts import COLUMNS
from bench.harness.record.records import AnyLine, BlockMark, End
from tests.unit.record_factory import (
    TOY,
    FixedTheory,
    compute_only,
    drift,
    header,
    planned,
    result,
    scaling_run,
    write_run,
)
from tp.errors import ConfigError

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert('x')</script>&\"'"
# Tags that HTML leaves open.
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """What a browser would fetch or run, the visible text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and value and value[0] != "#":
                self.fetched.append(value)
            if name == "id" and value:
                self.ids.append(value)
            assert not name.startswith("on"), f"{tag} runs {name}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)


def report(folder: Path, *lines: AnyLine) -> tuple[Page, str]:
    """The page without its figures, which take long to draw."""
    write_run(folder / "records.jsonl", *lines)
    content = read_content([folder / "records.jsonl"], mixed=False, tell=lambda problem: None)
    text = render(content, [], out=folder / "out", files=["parts.csv"])
    return Page(text), text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a sound, a failed, a skipped and an unfinished case of a model with markup in its name."""
    where = tmp_path_factory.mktemp("report")
    model = replace(TOY, name=HOSTILE)
    plans = [planned(FixedTheory(), model=model, tp=tp) for tp in (1, 2, 4)]
    plans += [planned(FixedTheory(), model=model, strategy=s, tp=2) for s in ("columns", "sequence")]
    # 7.77 s is the time of the failed case; no page may show it.
    write_run(
        where / "records.jsonl",
        header(),
        *plans,
        result(plans[0], total_s=8e-3),
        result(plans[1], total_s=5e-3),
        result(plans[2], total_s=7.77, status="failed", reason=f"wrong: {HOSTILE}", error=1.0),
        result(plans[3], status="skipped", reason="7 tokens do not divide by 2"),
    )
    write_report([where / "records.jsonl"], where / "out", mixed=False)
    return where / "out"


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_browser_fetches_nothing_and_runs_nothing(text: str) -> None:
    page = Page(text)
    assert page.fetched == ["data:,"]
    assert not {"iframe", "img", "object", "embed", "form"} & set(page.tags)
    # One script, by its hash; a browser runs no other (tests/dist/test_page.py).
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    assert page.tags.count("script") == 1
    assert len(set(page.ids)) == len(page.ids)
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http://" not in bare and "https://" not in bare
    assert "@import" not in bare and not re.search(r"url\((?!#)", bare)


def test_names_from_files_are_text(text: str) -> None:
    assert text.count("<script") == 1
    assert HOSTILE in Page(text).text
    assert "&lt;script&gt;" in text


def test_the_sections_come_in_order(text: str) -> None:
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Measured against predicted",
        "Where the time goes",
        "Strategies side by side",
        "Collectives: bus bandwidth against size",
        "Roofline",
        "Memory",
        "Skew, throttling and how far the numbers can be trusted",
        "Claims",
        "Checks against the unsharded block",
        "Failed, skipped and unfinished",
        "Environment",
        "How it was measured",
        "How to reproduce",
    ]
    assert text.index('class="verdict"') < text.index("<h2>")


def test_a_failed_case_has_its_reason_and_no_speed(folder: Path, text: str) -> None:
    page = Page(text)
    assert "7.77 s" not in page.text
    for words in (f"wrong: {HOSTILE}", "7 tokens do not divide by 2", "the run ended before the case did"):
        assert words in page.text
    with (folder / "parts.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "failed"]
    assert rows and all(row["measured_s"] == row["low_s"] == row["high_s"] == "" for row in rows)
    assert all(float(row["estimate_s"]) > 0 for row in rows)


def test_parts_csv_has_the_stable_columns_and_figures(folder: Path) -> None:
    with (folder / "parts.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        totals = {row["tp"]: row for row in reader if row["part"] == "total" and row["strategy"] == "allreduce"}
    assert float(totals["2"]["measured_s"]) == pytest.approx(5e-3)
    assert totals["2"]["model"] == HOSTILE


def test_every_table_and_figure_lies_beside_the_page(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "arrivals.csv",
        "checks.csv",
        "collectives.csv",
        "contention.csv",
        "crossings.csv",
        "errors.csv",
        "figures",
        "memory.csv",
        "parts.csv",
        "products.csv",
        "ranks.csv",
        "rates.csv",
        "report.html",
        "scaling.csv",
        "state.csv",
        "strategies.csv",
        "traffic.csv",
        "unmeasured.csv",
    ]
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".png", ".pdf"}
    assert len(list((folder / "figures").iterdir())) == 3 * 6


def test_the_environment_names_sources_and_doubts(text: str) -> None:
    page = Page(text)
    for words in ("fp32 100 GFLOP/s dense. Source: made up. Doubt: it is a toy", "torch 2.13", "uncommitted changes"):
        assert words in page.text
    assert "Measured on CPUs over gloo: not a GPU figure." in page.text


def test_the_commands_can_be_pasted(text: str) -> None:
    page = Page(text)
    assert "torchrun --nproc-per-node 4 bench/attention.py --out 'a b.jsonl'" in page.text
    assert re.search(r"python -m analysis report \S*records\.jsonl --out \S*out", page.text)


def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    first, second = (write_report([tmp_path / "r.jsonl"], tmp_path / "out", mixed=False).read_bytes() for _ in range(2))
    assert first == second


def test_a_file_named_twice_is_one_run(tmp_path: Path) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3, 2: 5e-3})
    write_report([tmp_path / "r.jsonl", tmp_path / "." / "r.jsonl"], tmp_path / "out", mixed=False)
    assert len((tmp_path / "out" / "scaling.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_only_failed_cases(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    page, _ = report(tmp_path, header(), plan, result(plan, status="failed", reason="boom", timed=False))
    assert "None of the 1 cases has a time" in page.text and "boom" in page.text
    assert "svg" not in page.tags


def test_no_case_at_all(tmp_path: Path) -> None:
    page, _ = report(tmp_path, header())
    assert "no case of a block, but 0 ops timed alone" in page.text


def test_oversubscribed_times_carry_the_caveat(tmp_path: Path) -> None:
    plan = planned(FixedTheory())
    page, _ = report(tmp_path, header(oversubscribed="8 ranks share 4 cores"), plan, result(plan))
    assert "Times are not comparable with others: 8 ranks share 4 cores." in page.text
    assert "1 case is left out, as the times are not comparable." in page.text


def test_a_partial_prediction_is_marked(tmp_path: Path) -> None:
    plan = planned(FixedTheory(name="datasheet", speaks_of=compute_only))
    page, _ = report(tmp_path, header(), plan, result(plan))
    assert "predicted without all_reduce" in page.text
    assert "bounds that nobody beats" in page.text


def test_an_environment_of_another_shape_is_no_error(tmp_path: Path) -> None:
    odd = {"cpu": {"load_average": ["x"]}, "gpus": {"names": 7}}
    others = [{"cpu": 7, "gpus": {"names": None}}, 3]
    for number, environment in enumerate(({}, {"ranks": None}, {"ranks": [odd]}, {"ranks": others})):
        where = tmp_path / str(number)
        where.mkdir()
        page, _ = report(where, header(environment=environment))
        assert "not recorded" in page.text


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    scaling_run(tmp_path / "r.jsonl", {1: 8e-3})
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError) as caught:
            write_report([tmp_path / "r.jsonl"], out, mixed=False)
        assert re.fullmatch(rf"--out {out}: cannot be written \(.+\); name another folder", str(caught.value))


def test_unlike_runs_stand_together_only_when_asked(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for world, path in zip((2, 4), paths, strict=True):
        plan = planned(FixedTheory(), tp=world)
        write_run(path, header(world=world), plan, result(plan))
    with pytest.raises(ConfigError, match="world is 4 but .* has 2; report them apart, or add --mixed"):
        write_report(paths, tmp_path / "out", mixed=False)
    page = Page(write_report(paths, tmp_path / "out", mixed=True).read_text(encoding="utf-8"))
    assert "(--mixed)" in page.text and "--out" in page.text


def test_a_report_needs_neither_torch_nor_the_runner() -> None:
    code = (
        "import sys, analysis.report.write; print(*sorted(m for m in sys.modules if m.startswith(('torch', 'bench.'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "bench.harness",
        "bench.harness.machine",
        "bench.harness.machine.judge",
        "bench.harness.machine.reading",
        "bench.harness.record",
        "bench.harness.record.arrivals",
        "bench.harness.record.files",
        "bench.harness.record.grouping",
        "bench.harness.record.interference",
        "bench.harness.record.names",
        "bench.harness.record.parts",
        "bench.harness.record.records",
        "bench.harness.record.scan",
        "bench.harness.record.stats",
    ]


def test_what_was_lost_or_disturbed_is_a_caveat(tmp_path: Path) -> None:
    plan, lost = planned(FixedTheory()), planned(FixedTheory(), tp=4)
    marks = (BlockMark(first_round=0, num_rounds=3, rank=1, kind="steal", text="12 % of the time"),)
    end = End(written="2026-11-22T17:00:00.000+00:00", status="interrupted", reason="SIGINT")
    page, _ = report(
        tmp_path,
        header(warnings=("the governor is powersave",)),
        plan,
        replace(result(plan), marks=marks),
        result(lost),
        drift(plan, before_s=10e-3, after_s=12e-3),
        drift(plan, before_s=10e-3, after_s=10e-3),
        end,
    )
    for words in (
        f"case {lost.key} has lost the estimate written before it; left out",
        "the governor is powersave",
        f"{plan.key}: of 8 rounds 3 are marked by steal.",
        f"drift: {plan.key} took 10.00 ms at the start and 12.0 ms at the end (+20.0 %, beyond the intervals",
        "at the end (+0.0 %, within the intervals of 8 and 8 samples)",
        "The run that ended 2026-11-22T17:00:00.000+00:00 was interrupted: SIGINT.",
    ):
        assert words in page.text
    assert page.text.count("within the intervals") == 1


def test_emulated_cases_carry_the_caveat_and_their_mark(tmp_path: Path) -> None:
    plan = planned(FixedTheory(), emulated=True)
    page, text = report(tmp_path, header(world=1), plan, replace(result(plan), groups=1))
    assert "Emulated are 1 of 1 cases: one rank's compute is measured, communication estimated." in page.text
    assert text.count("<mark>emulated</mark>") == 2
