"""The explorer in a browser: keyboard only, refresh, reconnect, hostile words, nothing outside."""

# ruff: noqa: F811 (fixtures are imported)

import io
import json
import signal
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import pytest
from explorers import HOSTILE, Served, patients
from PIL import Image

from causalcxr.cohort import Cohort
from causalcxr.graph import Graph
from causalcxr.images.synthetic_mark import MARK
from causalcxr.scm import SCM

pytest.importorskip("nicegui")
from browsers import CONTRAST, PHONE, Person, browser, playwright, shots  # noqa: F401

_WAIT = 60_000
# The grey value at the centre of each image pixel of a canvas.
_GREYS = """(canvas) => {
  const n = 64, w = canvas.width, t = w / n;
  const data = canvas.getContext("2d").getImageData(0, 0, w, w).data;
  const found = [];
  for (let y = 0; y < n; y += 1) for (let x = 0; x < n; x += 1)
    found.push(data[4 * (Math.floor((y + .5) * t) * w + Math.floor((x + .5) * t))]);
  return found;
}"""


class User(Person):
    """A user of the explorer."""

    def __init__(self, browser, server, request=None, **device):
        self.port = server.port
        link = server.link + (f"#{quote(json.dumps(request))}" if request else "")
        super().__init__(browser, link, timeout=_WAIT, **device)
        self.sees(".answer", "changed downstream")

    def sees(self, selector, text):
        place = self.page.locator(selector, has_text=text).first
        playwright.expect(place).to_be_visible(timeout=_WAIT)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, name):
        """Press Tab until something of this name has the focus."""
        for _ in range(150):
            self.press("Tab")
            if self.focused() == name:
                return
        raise AssertionError(f"Tab never came to {name!r}; it is at {self.focused()!r}")

    def focused(self):
        return self.page.evaluate(
            "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
        )

    def greys(self, number):
        canvas = self.page.locator(".trio canvas").nth(number)
        return np.array(canvas.evaluate(_GREYS)).reshape(64, 64)

    def told(self):
        """Return what the table says of facts and twin, and the line of Python."""
        rows = "all => all.map(r => [...r.children].slice(0, 4).map(c => c.innerText))"
        table = self.page.locator(".answer tbody tr").evaluate_all(rows)
        return table, self.page.locator(".download .code").inner_text()

    def contrast(self):
        header = CONTRAST.replace('querySelector("main")', 'querySelector("header")')
        return min(super().contrast(), min(self.page.evaluate(header)))

    def kept_to_itself(self):
        hosts = {
            urlsplit(url).netloc for url in self.requests if not url.startswith(("data", "blob"))
        }
        assert hosts == {f"127.0.0.1:{self.port}"}
        ours = "Canvas2D: Multiple readback"  # of a test that looks at greys
        assert [text for text in self.messages if not text.startswith(ours)] == []
        assert self.page.evaluate("window.hurt") is None


@pytest.mark.slow
def test_keyboard_sets_a_variable_and_survives_a_refresh(
    browser,
    world,
    shots,
):
    user = User(browser, world["server"])
    page, cohort = user.page, patients(6)
    row = int(np.flatnonzero(cohort.table["Pleural Effusion"] == "N")[0])
    user.press("Tab")
    assert user.focused() == "Skip to the page"
    labels = page.locator(".thumbs button").evaluate_all("all => all.map(b => b.ariaLabel)")
    user.tab_to(labels[row])
    user.press("Enter")
    user.sees("#choose-title + .cx-note", f"{row};")
    user.tab_to("Pleural Effusion P")
    user.press("Space")
    user.sees(".answer", "do(Pleural Effusion=P)")
    user.sees(".radiographs", "The twin's image is ready.")
    user.sees(".answer td .tag", "set")
    page.locator(".answer .range").first.wait_for()
    playwright.expect(page.locator(".graph [data-name='Pleural Effusion']")).to_have_attribute(
        "data-mark", "set"
    )
    # What is on the canvas are the greys of the file, and those of the blend.
    user.tab_to("Smooth")
    user.press("Enter")
    expected = np.floor(cohort.images[row][0, 0] * 255 + 0.5)
    assert np.abs(user.greys(0) - expected).max() <= 1
    assert np.abs(user.greys(1) - user.greys(0)).max() > 20
    twin = user.greys(1)
    page.locator("[aria-label='Blend from the factual image to the twin']").focus()
    user.press("Home")
    user.sees(".trio figcaption", "Factual")
    page.wait_for_timeout(100)
    assert (user.greys(1) == user.greys(0)).all()
    user.press("End")
    # The graph leads to the control; hold keeps what is downstream.
    page.locator(".graph [data-name='Site']").focus()
    user.press("Enter")
    focused = "document.activeElement.closest('[data-variable]').dataset.variable"
    assert page.evaluate(focused) == "Site"
    user.tab_to("Hold Site")
    user.press("Enter")
    user.sees(".answer", "held: Site")
    page.locator("[data-variable='Age'] input").focus()
    user.press("ArrowRight")
    user.sees(".answer", "Age=")
    user.sees(".radiographs", "The twin's image is ready.")
    before = user.told()
    page.screenshot(path=shots / "desktop.png", full_page=True)
    assert user.contrast()[0] >= 4.5
    page.reload()
    user.sees(".radiographs", "The twin's image is ready.")
    assert user.told() == before
    assert not (twin == user.greys(0)).all()
    user.kept_to_itself()


@pytest.mark.slow
def test_downloads_and_doses_work(browser, world):
    request = {"model": "small", "who": {"cohort": "patients", "row": 1},
             "set": {"Sex": "M", "Age": 20}, "hold": ["View"], "beyond": False}  # fmt: skip
    user = User(browser, world["server"], request)
    user.sees(".radiographs", "The twin's image is ready.")
    page, files = user.page, {}
    for kind in ("PNG", "DICOM", "JSON", "Python"):
        with page.expect_download(timeout=_WAIT) as found:
            page.get_by_role("button", name=kind, exact=True).click()
        files[found.value.suggested_filename] = found.value.path().read_bytes()
    assert sorted(files) == [f"causalcxr-pair.{end}" for end in ("json", "png", "py", "zip")]
    with Image.open(io.BytesIO(files["causalcxr-pair.png"])) as picture:
        assert picture.text["Comment"] == MARK
    told = json.loads(files["causalcxr-pair.json"])
    assert told["words"] == "do(Sex=M, Age=20), held: View"
    assert told["python"] == page.locator(".download .code").inner_text()
    page.locator(".dose button").click()
    user.sees(".dose", "the same noise at every dose")
    is_painted = page.locator(".dose canvas").evaluate_all("all => all.map(c => c.width > 60)")
    assert len(is_painted) >= 3
    assert all(is_painted)
    user.kept_to_itself()


@pytest.mark.slow
def test_hostile_names_are_shown_as_text(browser, world):
    user = User(browser, world["server"])
    page = user.page
    page.locator(".choose select").first.select_option("hostile.csv")
    user.sees(".thumbs .label", HOSTILE)
    page.locator(".thumbs button").first.click()
    user.sees("#choose-title + .cx-note", HOSTILE)
    user.sees(".radiographs", "no image")
    page.get_by_role("button", name="All variables").click()
    user.sees(".answer td", HOSTILE)
    content = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(content, "PNG")
    name = HOSTILE.replace("/", "") + ".png"
    file = {"name": name, "mimeType": "image/png", "buffer": content.getvalue()}
    page.locator("input[type=file]").set_input_files(file)
    user.sees("#choose-title + .cx-note", name)
    user.sees(
        ".cx-warn", "The image model was trained on enriched phantom, not on an uploaded file"
    )
    page.get_by_role("button", name="Pleural Effusion N", exact=True).click()  # a fact
    page.get_by_role("button", name="Set variables", exact=True).click()
    page.get_by_role("button", name="Pleural Effusion P", exact=True).click()
    user.sees(".answer", "do(Pleural Effusion=P)")
    user.sees(".radiographs", "The twin's image is ready.")
    assert np.abs(user.greys(0) - np.arange(4096).reshape(64, 64) / 16).max() <= 3
    broken = {"name": name, "mimeType": "image/png", "buffer": b"<script>"}
    page.locator("input[type=file]").set_input_files(broken)
    user.sees(".choose .cx-warn", "a HTML or XML file")
    refused = "Failed to load resource: the server responded with a status of 422"
    user.messages = [text for text in user.messages if not text.startswith(refused)]
    user.kept_to_itself()


@pytest.mark.slow
def test_browser_blocks_requests_to_other_hosts(browser, world):
    user, reached = User(browser, world["server"]), []
    user.page.route("**://outside.example/**", lambda route: reached.append(route.abort()))
    tried = user.page.evaluate(
        """() => fetch("http://outside.example/x").then(() => "sent", (e) => e.name)"""
    )
    assert tried == "TypeError"
    assert any("Content Security Policy" in text for text in user.messages)
    assert reached == []


@pytest.mark.slow
def test_phone_fits_the_screen_and_works_by_touch(
    browser,
    world,
    shots,
):
    user = User(browser, world["server"], **PHONE)
    page = user.page
    page.locator(".thumbs button").nth(2).tap()
    user.sees("#choose-title + .cx-note", "2;")
    page.get_by_role("button", name="View LATERAL", exact=False).last.tap()
    user.sees(".answer", "View=LATERAL")
    user.sees(".radiographs", "The twin's image is ready.")
    page.screenshot(path=shots / "phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = page.locator("main button:visible").evaluate_all(
        "all => all.filter(b => b.offsetHeight < 44 && !b.matches('.link')).map(b => b.innerText)"
    )
    assert small == []
    assert user.contrast()[0] >= 4.5
    user.kept_to_itself()


@pytest.mark.slow
def test_page_continues_when_the_server_is_back(browser, world):
    user = User(browser, world["server"])
    page = user.page
    page.get_by_role("button", name="Sex M", exact=True).click()
    user.sees(".answer", "do(Sex=M)")
    world["server"].stop(signal.SIGKILL)
    page.get_by_role("button", name="Pleural Effusion P", exact=True).click()
    user.sees(".cx-warn", "The server does not respond. Trying again…")
    port = world["server"].port
    world["server"] = Served(world["folder"], "small", "patients", "hostile.csv", port=port)
    # NiceGUI may reload the page; the address holds the question.
    user.sees(".answer", "do(Sex=M, Pleural Effusion=P)")
    user.sees(".radiographs", "The twin's image is ready.")
    assert page.locator(".cx-warn", has_text="does not respond").count() == 0


@pytest.mark.slow  # a server and a model of its own
def test_variables_named_like_object_members_work(browser, tmp_path):
    names = ["constructor", "toString", "valueOf"]
    graph = Graph.parse(
        "name: names\nvariables: {constructor: {type: binary, levels: [A, B]}, toString: {type: "
        "binary, levels: [N, P], parents: [constructor]}, valueOf: {type: continuous, range: [0, "
        "10], parents: [toString]}}"
    )
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"constructor": ["A", "B"] * 100, "toString": ["N", "N", "P", "P"] * 50,
         "valueOf": rng.uniform(1, 9, 200).round(3)}
    )  # fmt: skip
    SCM(graph).fit(Cohort(table), progress=False).save(tmp_path / "names")
    table.to_csv(tmp_path / "names.csv", index_label="record")
    server = Served(tmp_path, "names", "names.csv")
    try:
        user = User(browser, server)
        assert user.page.locator(".variables .name").all_inner_texts() == names
        assert user.page.locator(".variables li.set").count() == 0
        observed = user.page.locator(".variables .fact").all_inner_texts()
        assert observed == ["A", "N", str(float(f"{table['valueOf'][0]:.4g}"))]
        user.page.get_by_label("constructor B", exact=True).click()
        user.sees(".answer", "do(constructor=B)")
        user.page.get_by_label("Hold toString").click()
        user.sees(".answer", "held: toString")
        user.page.locator(".beyond input").check()
        slider = user.page.locator("li[data-variable=valueOf] input[type=range]")
        slider.fill("12")
        user.sees(".answer", "valueOf=12")
        assert user.page.locator(".cx-warn").count() == 0
        user.page.reload()
        user.sees(".answer", "do(constructor=B, valueOf=12), held: toString")
        assert not [line for line in user.messages if "rror" in line]
        user.context.close()
    finally:
        server.stop()
