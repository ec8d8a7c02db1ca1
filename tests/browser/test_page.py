"""The page in a real Chromium: it asks for nothing, sorts, filters, and can be read by everyone."""

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from analysis.report.content import read_content
from analysis.report.page import MAX_ROWS, render
from analysis.report.write import write_report
from tests.unit.record_factory import (
    TOY,
    FixedTheory,
    header,
    observation,
    op_result,
    planned,
    result,
    telemetry,
    write_run,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; scripts/setup --dev")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.solo,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium"),
]

HOSTILE = "<img src=x onerror=alert(1)><script>alert('x')</script>&\"'"
WIDTHS = (360, 768, 1440)
# WCAG 2.2, success criterion 1.4.3: contrast of text, 3 of large text.
LEAST_CONTRAST = 4.5


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class Seen:
    """What the browser said and asked for."""

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages: one with every section and a model of a hostile name, one with more rows than a page shows at once."""
    where = tmp_path_factory.mktemp("page")
    model = replace(TOY, name=HOSTILE)
    plans = [planned(FixedTheory(), model=model, strategy=s, tp=tp) for s in ("allreduce", "sequence") for tp in (1, 2)]
    totals = (8e-3, 4e-3, 900e-6, 6e-3)
    ends = [result(plan, total_s=t, observed=observation(plan)) for plan, t in zip(plans, totals, strict=True)]
    ops = [op_result(1 << power, 2e-6 + 2**power / 1e10) for power in range(10, 24)]
    write_run(where / "small.jsonl", header(), *plans, telemetry(*plans), *ends, *ops)
    write_report([where / "small.jsonl"], where / "small", mixed=False)
    many = [planned(FixedTheory(), seq=8 * (i + 1), tp=1) for i in range(60)]
    write_run(
        where / "many.jsonl", header(), *many, *(result(plan, total_s=(i + 1) * 3e-4) for i, plan in enumerate(many))
    )
    content = read_content([where / "many.jsonl"], mixed=False, tell=lambda problem: None)
    (where / "many.html").write_text(render(content, [], out=where, files=[]), encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Any, url: str, seen: Seen | None = None, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.set_default_timeout(20_000)
    if seen is not None:
        page.on("console", lambda message: seen.messages.append(message.text))
        page.on("pageerror", lambda error: seen.messages.append(str(error)))
        page.on("dialog", lambda dialog: seen.messages.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def small(browser: Any, address: str) -> Iterator[tuple[Any, Seen]]:
    seen = Seen()
    page = opened(browser, f"{address}/small/report.html", seen, viewport={"width": 1440, "height": 900})
    yield page, seen
    page.close()


def table(page: Any, name: str) -> Any:
    return page.locator(".data").filter(has=page.locator(f'[aria-label="{name}"]'))


def column(page: Any, name: str, place: int) -> list[str]:
    """The cells of a column, as far as they are shown, without the titles of groups."""
    rows = table(page, name).locator("tbody tr:not(.group)")
    cells: list[str] = rows.evaluate_all(f"rows => rows.map(row => row.cells[{place}].firstChild?.textContent ?? '')")
    return cells


def seconds(text: str) -> float:
    number, unit = text.split(" ")
    return float(number) * {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]


def test_it_asks_for_nothing_and_says_nothing(small: tuple[Any, Seen], address: str) -> None:
    page, seen = small
    page.wait_for_load_state("networkidle")
    assert seen.messages == []
    assert seen.requests == [f"{address}/small/report.html"]


def test_the_policy_stops_any_other_script(small: tuple[Any, Seen]) -> None:
    """What keeps scripts of names out is not escaping alone."""
    page, _ = small
    page.evaluate(
        "() => { const made = document.createElement('script'); made.textContent = 'window.ran = 1'; "
        "document.body.append(made); }"
    )
    assert page.evaluate("() => window.ran") is None
    page.reload()


def test_a_name_that_holds_markup_is_shown_as_text(small: tuple[Any, Seen]) -> None:
    page, _ = small
    assert HOSTILE in page.locator("h1").inner_text()
    assert HOSTILE in table(page, "Part by part").locator(".group").first.inner_text()
    assert page.locator("main img").count() == 0
    table(page, "Part by part").get_by_role("searchbox").fill("onerror")
    assert HOSTILE in table(page, "Part by part").locator(".group").first.inner_text()
    assert page.locator("main img").count() == 0
    table(page, "Part by part").get_by_role("searchbox").fill("")


def test_a_click_sorts_by_what_numbers_mean(small: tuple[Any, Seen]) -> None:
    """900 us come before 4 ms; a second click turns it round, a third brings the groups back."""
    page, _ = small
    name = "Time against TP degree"
    before = column(page, name, 2)
    button = table(page, name).locator("thead th").nth(2).get_by_role("button")
    button.click()
    ascending = [seconds(text) for text in column(page, name, 2)]
    assert ascending == sorted(ascending) and len(ascending) == 4 and ascending[0] == pytest.approx(900e-6)
    assert table(page, name).locator("thead th").nth(2).get_attribute("aria-sort") == "ascending"
    assert table(page, name).locator(".group").count() == 0 and HOSTILE in table(page, name).inner_text()
    button.click()
    assert [seconds(text) for text in column(page, name, 2)] == ascending[::-1]
    button.click()
    assert column(page, name, 2) == before and table(page, name).locator(".group").count() == 1


def test_the_keyboard_sorts_too(small: tuple[Any, Seen]) -> None:
    page, _ = small
    button = table(page, "Error by part").locator("thead th").nth(2).get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert table(page, "Error by part").locator("thead th").nth(2).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('th').cellIndex") == 3
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_sizes_and_rates_are_sorted_by_their_units(small: tuple[Any, Seen]) -> None:
    page, _ = small
    heading = table(page, "Collectives alone").locator("thead th").first
    heading.get_by_role("button").click()
    heading.get_by_role("button").click()
    sizes = column(page, "Collectives alone", 0)
    assert sizes[0] == "8.39 MB" and sizes[-1] == "1.02 kB"


def test_ranges_dashes_and_thousands_are_sorted_as_what_they_say(small: tuple[Any, Seen]) -> None:
    """The first number with its own unit counts; what has none is last, whichever way."""
    page, _ = small
    shown = ["900 us – 1.2 ms", "-", "1.1 – 1.3 ms", "4,400 FLOP/B", "2 of 8", "-5.0 %", "1.00 GB"]
    page.evaluate(
        """(cells) => {
          const box = document.createElement("div");
          const rows = cells.map((cell, at) => `<tr><th scope="row">${at}</th><td class="figures">${cell}</td></tr>`);
          box.innerHTML = '<div class="scroll" aria-label="made up"><table><thead><tr><th>a</th>' +
            `<th class="figures">b</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
          box.className = "data"; box.dataset.rows = cells.length;
          document.querySelector("main").append(box); window.sortable(box);
        }""",
        shown,
    )
    button = table(page, "made up").locator("thead th").nth(1).get_by_role("button")
    button.click()
    assert column(page, "made up", 0) == ["5", "0", "2", "4", "3", "6", "1"]
    button.click()
    assert column(page, "made up", 0) == ["6", "3", "4", "2", "0", "5", "1"]
    page.reload()


def test_typing_filters(small: tuple[Any, Seen]) -> None:
    page, _ = small
    box = table(page, "Part by part")
    box.get_by_role("searchbox").fill("sequence total")
    assert set(column(page, "Part by part", 0)) == {"total"}
    assert box.get_by_role("status").inner_text() == f"2 of {box.get_attribute('data-rows')} rows"
    box.get_by_role("searchbox").fill("nothing of the kind")
    assert column(page, "Part by part", 0) == []
    box.get_by_role("searchbox").fill("")
    assert len(column(page, "Part by part", 0)) == int(box.get_attribute("data-rows"))


def test_rows_beyond_the_first_are_found_and_shown(browser: Any, address: str) -> None:
    page = opened(browser, f"{address}/many.html")
    box = table(page, "Part by part")
    total = int(box.get_attribute("data-rows"))
    assert total > MAX_ROWS and len(column(page, "Part by part", 0)) == MAX_ROWS
    box.get_by_role("searchbox").fill("seq 480, total")
    assert column(page, "Part by part", 0) == ["total"] and "seq 480" in box.inner_text()
    box.get_by_role("searchbox").fill("")
    box.get_by_role("button", name=re.compile("Show .* more")).click()
    assert len(column(page, "Part by part", 0)) == min(2 * MAX_ROWS, total)
    # No row is lost, none doubled, where a group lies across the first rows and the rest.
    box.get_by_role("searchbox").fill("total")
    assert len(column(page, "Part by part", 0)) == 60 and box.locator(".group").count() == 60
    page.close()


def test_without_scripts_the_page_is_whole(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/many.html")
    assert f"The first {MAX_ROWS} of" in page.locator("main").inner_text()
    assert page.locator("button, input").count() == 0
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(small: tuple[Any, Seen], width: int) -> None:
    """Tables and figures scroll inside of their own regions."""
    page, _ = small
    page.set_viewport_size({"width": width, "height": 800})
    wide = page.evaluate(
        """() => {
          const room = document.documentElement.clientWidth;
          const own = (node) => node.closest(".scroll, pre") && !node.matches(".scroll, pre");
          const over = [...document.querySelectorAll("body *")].filter(
            (node) => !own(node) && node.getBoundingClientRect().right > room + 0.5);
          return [document.documentElement.scrollWidth - room, over.map((node) => node.outerHTML.slice(0, 80))];
        }"""
    )
    assert wide == [0, []]


CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = channels(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const words = [...document.querySelectorAll("body *")].filter((node) => [...node.childNodes].some(
    (child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim()) && node.checkVisibility() &&
    !node.closest("script, style, defs, metadata"));
  return words.map((node) => {
    const style = getComputedStyle(node);
    const [a, b] = [light(channels(node instanceof SVGElement ? style.fill : style.color)), light(behind(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 40)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_in_both_schemes(small: tuple[Any, Seen], scheme: str) -> None:
    page, _ = small
    page.emulate_media(color_scheme=scheme)
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    found = page.evaluate(CONTRAST)
    assert len(found) > 200 and any("ms" in text for _, text in found)
    assert [text for ratio, text in found if ratio < LEAST_CONTRAST] == []


def test_the_reader_can_choose_the_scheme(small: tuple[Any, Seen]) -> None:
    page, _ = small
    page.emulate_media(color_scheme="light")
    button = page.get_by_role("button", name=re.compile("Colours"))
    papers = []
    for _ in range(3):
        papers.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        button.click()
    assert papers == ["rgb(255, 255, 255)", "rgb(255, 255, 255)", "rgb(21, 24, 28)"]
    assert button.inner_text() == "Colours: system"


def test_figures_have_a_text_of_their_own(small: tuple[Any, Seen]) -> None:
    page, _ = small
    figures = page.locator("figure svg[role=img]")
    names = figures.evaluate_all(
        "all => all.map((svg) => document.getElementById(svg.getAttribute('aria-labelledby')).textContent)"
    )
    assert len(names) == 7 and all(len(name.split()) > 10 for name in names)


def test_on_paper_there_is_no_tool_and_no_scrolling(small: tuple[Any, Seen]) -> None:
    page, _ = small
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".tools").first.is_visible() is False
    assert page.evaluate("() => getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")


def test_the_checks_can_fail(small: tuple[Any, Seen]) -> None:
    """Grey words, a wide element and a fetched image are seen."""
    page, seen = small
    page.emulate_media(media="screen", color_scheme="light")
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<p style=\"color:#999\">faint words</p>')")
    assert ["faint words"] == [text for ratio, text in page.evaluate(CONTRAST) if ratio < LEAST_CONTRAST]
    asked = len(seen.messages)
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">')")
    page.wait_for_timeout(200)
    assert len(seen.messages) > asked  # refused by the page's policy, and told
