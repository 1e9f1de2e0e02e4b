"""The graph page in a browser: edits, errors, retraining, two users, keyboard only."""

# ruff: noqa: F811 (fixtures are imported)

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from causalcxr import SCM, Graph

pytest.importorskip("nicegui")
from browsers import PHONE, Person, browser, playwright, shots  # noqa: F401

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server in a process of its own: its link, and the folder of new models."""
    folder = tmp_path_factory.mktemp("models")
    process = subprocess.Popen(
        [sys.executable, "-u", str(TESTS / "graph_worlds.py"), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)},
    )
    lines = [process.stdout.readline()]
    while lines[-1] and "explorer: http" not in lines[-1]:
        lines.append(process.stdout.readline())
    yield re.search(r"http://\S+/", lines[-1])[0], folder
    process.terminate()
    assert "Traceback" not in process.communicate(timeout=20)[0]


class User(Person):
    """A user of the graph page."""

    def __init__(self, browser, link, **device):
        super().__init__(browser, f"{link}graph", **(device or DESKTOP))
        self.wait_for_drawing()

    def wait_for_drawing(self):
        self.page.wait_for_selector("main .graph-svg [data-name]")

    def sees(self, text, gone=False):
        place = self.page.locator("main").get_by_text(text).first
        (playwright.expect(place).to_have_count(0) if gone else
         playwright.expect(place).to_be_visible(timeout=60_000))  # fmt: skip

    def choose(self, parent, child):
        self.page.get_by_label("Parent (cause)").select_option(parent)
        self.page.get_by_label("Child (effect)").select_option(child)

    def press(self, name):
        button = self.page.get_by_role("button", name=name, exact=True)
        playwright.expect(button).not_to_have_attribute("aria-disabled", "true")
        button.click()

    def edges(self):
        return self.page.locator(".graph-svg path[data-parent]").evaluate_all(
            "all => all.map(e => `${e.dataset.parent} -> ${e.dataset.child}`).sort()"
        )

    def leave(self, link):
        """Close, and check that no other host was contacted and the console is empty."""
        home = urlsplit(link).netloc
        others = {url for url in self.requests if urlsplit(url).netloc != home}
        assert {urlsplit(url).scheme for url in others} <= {"data", "blob"}
        assert self.messages == []
        self.context.close()


def test_edit_is_retrained_compared_saved_and_used(browser, served, shots):
    link, folder = served
    user, other = User(browser, link), User(browser, link)
    assert user.edges() == ["Edema -> Finding", "Edema -> View", "Sex -> Edema"]
    user.sees("Nothing to retrain")
    user.choose("View", "Edema")  # it would close a cycle
    user.press("Add edge")
    user.sees("cycle 'Edema' -> 'View' -> 'Edema'; remove one of these edges")
    assert len(user.edges()) == 3
    user.choose("Site", "Edema")
    user.press("Add edge")
    user.sees("(edge Site → Edema added)")
    user.sees("kept: 5")
    assert "Site -> Edema" in user.edges()
    stale = user.page.locator(".graph-svg [data-mark=stale]")
    assert stale.evaluate_all("all => all.map(e => e.dataset.name)") == ["Edema"]
    user.page.screenshot(path=shots / "graph-edited.png", full_page=True)
    assert user.contrast()[0] >= 4.5
    user.press("Retrain 1 equation")
    user.sees("The retraining is done.")
    user.sees("Mean log-likelihood per value (nats)")
    user.press("Compare")
    user.sees("under do(Site=C), from both models")
    row = user.page.get_by_role("row", name=re.compile("^Edema .*N → P"))
    cells = row.get_by_role("cell").all_inner_texts()
    assert cells[0] == "0.0%"
    assert float(cells[1].rstrip("%")) > 20
    user.page.screenshot(path=shots / "graph-compared.png", full_page=True)
    assert user.contrast()[0] >= 4.5
    user.press("Save and use this model")
    user.sees("You continue with this model; other users keep theirs.")
    assert SCM.load(folder / "small-edited-1").graph.parents("Edema") == ("Sex", "Site")
    user.sees("Nothing to retrain")
    seen = user.page.get_by_role("link", name="View patients with it").get_attribute("href")
    assert seen == "/?model=small-edited-1"
    # The other user's page is what it was, after a refresh as well.
    for _ in range(2):
        assert len(other.edges()) == 3
        playwright.expect(
            other.page.locator("label", has_text="Model").locator("select")
        ).to_have_value("small")
        other.page.reload()
        other.wait_for_drawing()
    user.leave(link)
    other.leave(link)


def test_refresh_keeps_edits_and_progress_and_stop_works(browser, served, shots):
    link, _ = served
    user, other = User(browser, link), User(browser, link)
    user.choose("Sex", "Weight")
    user.press("Add edge")
    user.press("Retrain 1 equation")
    user.sees("of at most 40, validation loss")
    user.page.screenshot(path=shots / "graph-running.png", full_page=True)
    user.page.reload()
    user.wait_for_drawing()
    user.sees("of at most 40, validation loss")
    assert "Sex -> Weight" in user.edges()
    # Meanwhile the other is not held up, but may not retrain.
    other.choose("Edema", "Weight")
    other.press("Add edge")
    other.sees("(edge Edema → Weight added)")
    other.press("Retrain 1 equation")
    other.sees("another retraining is running in this explorer; try again when it has ended")
    user.press("Stop")
    user.sees("The retraining was stopped; nothing was changed.")
    user.press("Undo")
    user.sees("Nothing to retrain")
    user.press("Redo")
    user.sees("(edge Sex → Weight added)")
    user.page.reload()
    user.wait_for_drawing()
    assert "Sex -> Weight" in user.edges()
    other.press("Retrain 1 equation")  # now nobody else is at it
    other.sees("of at most 40, validation loss")
    other.press("Stop")
    other.sees("The retraining was stopped")
    user.leave(link)
    other.leave(link)


def test_keyboard_edits_edges_and_keeps_the_focus(browser, served):
    link, _ = served
    user = User(browser, link)
    page = user.page
    focused = "document.activeElement.dataset.name ?? document.activeElement.textContent"

    def tab_to(name):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"no way to {name!r} by the tab key")

    tab_to("Sex")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-name=Sex][aria-pressed=true]")
    page.wait_for_function(f"({focused}) === 'Sex'")  # though the drawing was made anew
    tab_to("View")
    page.keyboard.press(" ")
    page.wait_for_selector("[data-name=View][aria-pressed=true]")
    tab_to("Add edge")
    page.keyboard.press("Enter")
    page.wait_for_selector("path[data-parent=Sex][data-child=View]", state="attached")
    page.wait_for_function(f"({focused}) === 'Remove edge'")
    tab_to("Undo")
    page.keyboard.press("Enter")
    page.wait_for_selector("path[data-parent=Sex][data-child=View]", state="detached")
    page.keyboard.press("Enter")  # there is nothing more to undo: nothing happens
    assert page.evaluate(focused) == "Undo"
    tab_to("Edema ✕")
    page.keyboard.press("Enter")
    page.wait_for_selector("path[data-parent=Edema][data-child=View]", state="detached")
    user.sees("(edge Edema → View removed)")
    user.leave(link)


def test_phone_fits_the_screen_and_downloads_the_graph(browser, served, shots):
    link, _ = served
    user = User(browser, link, **PHONE)
    user.choose("Sex", "View")
    user.press("Add edge")
    user.sees("(edge Sex → View added)")
    assert user.page.evaluate("document.documentElement.scrollWidth") == 390
    user.page.screenshot(path=shots / "graph-phone.png", full_page=True)
    assert user.contrast()[0] >= 4.5
    small = user.page.locator("main button:visible, main select:visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 44).map(e => e.innerText)"
    )
    assert small == []
    with user.page.expect_download() as download:
        user.press("Download the graph (YAML)")
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "small.yaml"
    assert "# a comment that survives" in text
    assert Graph.parse(text).parents("View") == ("Edema", "Sex")
    user.leave(link)
