"""The reader study in a browser: keyboard only, refresh, two readers at once, nothing outside."""

# ruff: noqa: F811 (fixtures are imported)

import signal
from urllib.parse import urlsplit

import pytest
from PIL import Image
from reader_studies import PAPER, Served, paper_plan, served, small_study

from causalcxr.apps.study.analysis import analyse_responses
from causalcxr.apps.study.answers import read_answers
from causalcxr.apps.study.report import write_report
from causalcxr.apps.study.responses import responses
from causalcxr.apps.study.simulate import simulate

pytest.importorskip("nicegui")
from browsers import PHONE, Person, browser, playwright, shots  # noqa: F401

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="window.hurt=1">'


class Reader(Person):
    """A reader of a study."""

    def __init__(self, browser, link, **device):
        super().__init__(browser, link, **device)
        self.page.wait_for_selector("main")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def sees(self, selector, text):
        place = self.page.locator(selector, has_text=text).first
        playwright.expect(place).to_be_visible()

    def answer(self, at, of, *keys):
        self.sees(".progress", f"{at} of {of}")
        self.loaded()
        self.press(*keys)

    def loaded(self):
        self.page.wait_for_function(
            "[...document.querySelectorAll('.radiographs img')]"
            ".every(i => i.complete && i.naturalWidth)"
        )


def test_keyboard_completes_both_presentations(browser, tmp_path, shots):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=4, readers=[HOSTILE, "Ben"], title=HOSTILE)
    with served(folder) as server:
        reader = Reader(browser, server.links[0])
        reader.sees("h1", HOSTILE)
        reader.sees("h2", "Before you begin")
        reader.page.screenshot(path=shots / "start.png")
        assert reader.contrast()[0] >= 4.5
        reader.press("Enter")
        reader.answer(1, 4, "ArrowLeft", "5")
        reader.page.screenshot(path=shots / "trial.png")
        assert reader.contrast()[0] >= 4.5
        reader.press("Enter")
        reader.answer(2, 4, "2", "1")
        reader.page.reload()  # the choice was not sent: it is asked again
        reader.answer(2, 4, "1", "4", "Escape", "2", "3", "ArrowLeft", "Enter")
        reader.answer(3, 4, "Enter", "ArrowRight", "Enter", "2")  # nothing goes on half answered
        reader.sees(".progress", "3 of 4")
        reader.press("p")
        reader.sees("h2", "Paused")
        assert reader.page.locator(".radiographs img").count() == 0
        reader.page.screenshot(path=shots / "paused.png")
        reader.press("Enter", "Enter")
        reader.answer(4, 4, "1", "1", "Enter")
        reader.sees("h2", "Time for a break")
        reader.page.screenshot(path=shots / "break.png")
        reader.page.reload()
        reader.sees("h2", "Time for a break")
        reader.press("Enter")
        for at in range(1, 5):
            reader.sees(".progress", "part 2 of 2")
            reader.answer(at, 4, "ArrowRight", str(at), "Enter")
        reader.sees("h2", "Thank you")
        reader.page.screenshot(path=shots / "done.png")
        assert reader.contrast()[0] >= 4.5
        reader.page.reload()
        reader.sees("h2", "Thank you")
        assert reader.page.evaluate("window.hurt") is None
        assert reader.messages == []
        hosts = {urlsplit(url).netloc for url in reader.requests if not url.startswith("data:")}
        assert hosts == {f"127.0.0.1:{server.port}"}
    kept = read_answers(folder, plan, 0)
    assert [(a.choice, a.confidence) for a in kept] == [
        (0, 5), (0, 3), (1, 2), (0, 1), (1, 1), (1, 2), (1, 3), (1, 4),
    ]  # fmt: skip
    assert all(0 < a.seen_ms <= a.server_ms for a in kept)
    assert read_answers(folder, plan, 1) == []


def test_browser_blocks_requests_to_other_hosts(browser, tmp_path):
    folder = tmp_path / "s"
    small_study(folder, trials=2, readers=1)
    with served(folder) as server:
        reader = Reader(browser, server.links[0])
        reached = []
        reader.page.route("**://outside.example/**", lambda route: reached.append(route.abort()))
        tried = reader.page.evaluate(
            """() => fetch("http://outside.example/x").then(() => "sent", (e) => e.name)"""
        )
        assert tried == "TypeError"
        assert any("Content Security Policy" in text for text in reader.messages)
        assert reached == []


def test_readers_and_tabs_are_independent(browser, tmp_path):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=4, readers=2, presentations=1, kind="single")
    with served(folder) as server:
        ada, ben = (Reader(browser, link) for link in server.links)
        again = Reader(browser, server.links[0])
        for reader in (ada, ben, again):
            reader.press("Enter")
        ada.sees(".ask", "real or synthetic")
        ada.answer(1, 4, "1", "1", "Enter")
        ben.answer(1, 4, "2", "5", "Enter")
        again.answer(1, 4, "2", "2", "Enter")  # answered in the other tab: the first stands
        again.answer(2, 4, "2", "2", "Enter")
        ada.answer(2, 4, "1", "4", "Enter")
        for reader in (ada, ben):
            for at in (2, 3, 4) if reader is ben else (3, 4):
                reader.answer(at, 4, "ArrowLeft", "3", "Enter")
            reader.sees("h2", "Thank you")
        assert [r.messages for r in (ada, ben, again)] == [[], [], []]
    first = [(a.choice, a.confidence) for a in read_answers(folder, plan, 0)]
    assert first == [(0, 1), (1, 2), (0, 3), (0, 3)]
    assert [a.choice for a in read_answers(folder, plan, 1)] == [1, 0, 0, 0]


def test_answer_is_sent_again_after_a_restart(browser, tmp_path):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=3, readers=1, presentations=1)
    server = Served(folder)
    reader = Reader(browser, server.links[0])
    reader.press("Enter")
    reader.answer(1, 3, "1", "2", "Enter")
    reader.answer(2, 3)
    server.stop(signal.SIGKILL)
    reader.press("2", "5", "Enter")
    reader.sees(".trouble", "Your answer is not saved yet")
    server = Served(folder, server.port)
    try:
        # NiceGUI loads the page anew; until then, or after it, the answer arrives.
        reader.page.wait_for_function(
            "document.querySelector('main')?.innerText.includes('3 of 3')", timeout=30_000
        )
        reader.answer(3, 3, "1", "1", "Enter")
        reader.sees("h2", "Thank you")
    finally:
        server.stop()
    kept = [(a.choice, a.confidence) for a in read_answers(folder, plan, 0)]
    assert kept == [(0, 2), (1, 5), (0, 1)]


def test_pixels_are_exact_and_of_equal_size(browser, tmp_path):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=2, readers=1)
    with served(folder) as server:
        reader = Reader(browser, server.links[0])
        reader.press("Enter")
        reader.answer(1, 2)
        image = reader.page.locator(".radiographs img").first
        box = image.bounding_box()
        assert box["width"] == box["height"]
        times = box["width"] / 16
        assert times == int(times) >= 20
        picture = tmp_path / "first.png"
        picture.write_bytes(image.screenshot())
        with Image.open(picture) as seen:
            greys = [seen.convert("RGB").getpixel(((x + 0.5) * times, (y + 0.5) * times))
                     for y in range(16) for x in range(16)]  # fmt: skip
        shown = plan.shown(plan.readers[0], 0).images[0]
        with Image.open(folder / "images" / f"{shown}.png") as film:
            assert greys == [(v, v, v) for v in film.tobytes()]
        reader.press("+", "+")
        larger = image.bounding_box()["width"] / 16
        assert larger == int(larger) >= 2 * times
        frame = reader.page.locator(".frame").first
        before = frame.evaluate("f => [f.scrollLeft, f.scrollTop]")
        reader.press("Shift+ArrowRight", "Shift+ArrowDown")
        after = frame.evaluate("f => [f.scrollLeft, f.scrollTop]")
        assert all(b > a for a, b in zip(before, after, strict=True))
        assert reader.page.evaluate("document.documentElement.scrollWidth") == 1440
        reader.press("0")
        assert image.bounding_box()["width"] == box["width"]
        alts = reader.page.locator(".radiographs img").evaluate_all("all => all.map(i => i.alt)")
        assert alts == ["Radiograph of question 1, first of two",
                        "Radiograph of question 1, second of two"]  # fmt: skip
        # The Tab key reaches what can be done, and shows where it is.
        reader.press("Tab")
        outline = reader.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        assert reader.messages == []


def test_phone_fits_the_screen_and_works_by_touch(browser, tmp_path, shots):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=2, readers=[HOSTILE], presentations=1, title=HOSTILE)
    with served(folder) as server:
        reader = Reader(browser, server.links[0], **PHONE)
        page = reader.page
        page.screenshot(path=shots / "phone-start.png")
        page.get_by_role("button", name="Begin").tap()
        for at in (1, 2):
            reader.answer(at, 2)
            width, height = page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            )
            assert (width, height) == (390, 844)
            small = page.locator("main button").evaluate_all(
                "all => all.filter(b => b.offsetHeight < 44).map(b => b.innerText)"
            )
            assert small == []
            page.get_by_role("button", name="Radiograph 2 is real").tap()
            page.get_by_role("button", name="likely").tap()
            page.screenshot(path=shots / f"phone-{at}.png")
            assert reader.contrast()[0] >= 4.5
            page.get_by_role("button", name="Next").tap()
        reader.sees("h2", "Thank you")
        assert reader.messages == []
    kept = [(a.choice, a.confidence) for a in read_answers(folder, plan, 0)]
    assert kept == [(1, 3), (1, 3)]


def test_report_shows_its_figures_and_contacts_no_host(browser, tmp_path, shots):
    plan = paper_plan(names=(HOSTILE, "Ben", "Chiara"), strata=[{"View": "AP"}, {"View": "PA"}])
    found = analyse_responses(plan, responses(plan, simulate(plan, PAPER, seed=1)))
    file = write_report(found, tmp_path / "out")
    page, asked, said = browser.new_page(viewport={"width": 1100, "height": 900}), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    widths = page.locator("img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert len(widths) == 4
    assert min(widths) > 200
    assert page.evaluate("window.hurt") is None
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}
    assert said == []
    page.screenshot(path=shots / "report.png", full_page=True)
