"""The report of an audit in a browser: no error, no request, nothing that overflows, printable."""

from pathlib import Path

import pytest
from test_audit_report import audited, evil, paired

from causalcxr.audit.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER.exists(), reason="there is no chromium here"),
]
SWITCHES = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"]
SWITCHES += ["disable-background-networking", "disable-component-update", "disable-sync"]
OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')]
    .filter(e => e.getClientRects().length && !e.closest('.scroll, .skip'))
    .filter(e => e.getBoundingClientRect().right > wide + 1)
    .map(e => e.tagName + '.' + e.className);
}"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_report(audited(paired()), tmp_path_factory.mktemp("browser") / "report.html")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=str(BROWSER), args=[f"--{switch}" for switch in SWITCHES]
        )
        yield found
        found.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def seen(request, browser, path):
    """A page that is open, with what it said and asked for."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(path.as_uri())
    yield page, said, asked
    page.close()


def test_page_opens_without_errors_or_requests(seen, path):
    page, said, asked = seen
    page.wait_for_load_state("networkidle")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_only_tables_scroll_sideways(seen):
    page, *_ = seen
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(OVERFLOW) == []
    boxes = "[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, e.scrollWidth])"
    widths = page.evaluate(boxes)
    assert len(widths) > 10
    assert all(own <= page.viewport_size["width"] for own, _ in widths)


def test_images_and_figures_are_large_enough(seen):
    page, *_ = seen
    images = page.evaluate("[...document.images].map(e => [e.complete, e.naturalWidth, e.width])")
    assert len(images) == 1 + 3 * (6 + 3)
    assert all(done and natural >= 256 and width > 80 for done, natural, width in images)
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure svg[aria-labelledby]')]"
        ".map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert len(sizes) >= 6
    assert all(width > 300 and height > 150 for width, height in sizes)


def test_contents_link_scrolls_to_its_section(seen):
    page, *_ = seen
    page.click("nav.contents a[href='#effects']")
    top = page.evaluate("document.getElementById('effects').getBoundingClientRect().top")
    assert -2 <= top <= 40


def test_print_shows_whole_tables(browser, path, tmp_path):
    page = browser.new_page(viewport={"width": 695, "height": 1000})  # A4 less its margins
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    tables = page.evaluate(
        "[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(tables) <= 696
    assert page.locator("details table").count() == 1
    hidden = "[...document.querySelectorAll('details table')].map(e => e.checkVisibility())"
    assert page.evaluate(hidden) == [True]
    written = page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    page.close()
    assert written.startswith(b"%PDF")
    assert 8 <= written.count(b"/Type /Page\n") <= 40


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_names_run_no_script(browser, tmp_path, width):
    path = write_report(evil(), tmp_path / "evil.html")
    page = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(path.as_uri(), wait_until="networkidle")
    assert (said, asked) == ([], [path.as_uri()])
    assert page.evaluate(OVERFLOW) == []
    assert "<script>alert(1)</script>" in page.inner_text("h1")
    page.close()
