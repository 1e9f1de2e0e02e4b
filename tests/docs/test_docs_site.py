"""The documentation builds without warnings, has no dead link, and loads nothing from outside."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

import causalcxr as cx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
CHROMIUM = Path(os.environ.get("CAUSALCXR_CHROMIUM", "/usr/bin/chromium"))
SWITCHES = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"]
SWITCHES += ["disable-background-networking", "disable-component-update", "disable-sync"]
# Elements whose content is part of the page, unlike links.
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
(FIVE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PACKAGES = ("graph", "cohort", "scm", "audit", "metrics", "sources", "mechanisms")


# Lines of code that are wider than their box, so that readers would have to scroll.
CUT_CODE = """() => [...document.querySelectorAll("article pre > code")]
  .filter((code) => code.scrollWidth > code.clientWidth + 1)
  .map((code) => code.innerText.split("\\n").reduce((a, b) => a.length > b.length ? a : b))"""


class Page(HTMLParser):
    """A built page: its anchors, links, loaded files and text."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.words = {""}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in LOADED and attributes.get(LOADED[tag]) and attributes.get("rel") != "canonical":
            self.loaded.append(attributes[LOADED[tag]])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, and the completed build."""
    for name in NEEDED:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed; pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return folder, build


@pytest.fixture(scope="module")
def pages(built):
    folder, _ = built
    return {path: Page(path) for path in folder.rglob("*.html")}


def local(path, link):
    """Return the file and the anchor that a link of a page leads to, None if outside."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    return target, unquote(parts.fragment)


def verbs(group, words="causalcxr"):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def nav_pages(entry):
    if isinstance(entry, str):
        yield entry
    else:
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_pages(each)


def python_of(name):
    """Return the Python of a page, without doctests."""
    blocks = re.findall(r"```python\n(?!>>>)(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL)
    assert blocks
    return "\n".join(blocks)


def test_site_builds_without_warnings(built):
    _, build = built
    output = build.stdout + build.stderr
    assert build.returncode == 0, output[-3000:]
    assert not re.findall(r"^(?:WARNING|ERROR).*", output, re.MULTILINE)


def test_no_link_is_dead(pages):
    checked, dead = 0, []
    for path, page in pages.items():
        # The page for missing pages can be shown anywhere, so its links start at the root.
        for link in [] if path.name == "404.html" else page.links + page.loaded:
            if destination := local(path, link):
                target, place = destination
                anchors = pages[target].anchors if target in pages else {""}
                checked += 1
                if not target.is_file() or place not in anchors:
                    dead.append(f"{path.name}: {link}")
    assert dead == []
    assert checked > 2000


def test_nothing_is_loaded_from_other_hosts(built, pages):
    folder, _ = built
    loaded = [(path.name, link) for path, page in pages.items() for link in page.loaded]
    outside = [each for each in loaded if urlsplit(each[1]).scheme not in ("", "data")]
    assert outside == []
    assert len(loaded) > 100
    for style in folder.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", text), style.name


def test_reference_has_every_verb_and_option(pages, built):
    import typer

    from causalcxr.apps.cli.main import app

    text = " ".join("".join(pages[built[0] / "command-line.html"].words).split())
    commands = list(verbs(typer.main.get_command(app)))
    assert len(commands) > 20
    assert [words for words, _ in commands if f"{words} " not in text] == []
    options = {
        each.opts[0] for _, command in commands for each in command.params if not each.hidden
    }
    assert [each for each in options if each.startswith("--") and each not in text] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_reference_has_every_public_name(package, pages, built):
    module = importlib.import_module(f"causalcxr.{package}")
    page = pages[built[0] / "api" / f"{package}.html"]
    shown = {place.rpartition(".")[2] for place in page.anchors if place.startswith("causalcxr.")}
    public = {
        name
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value)
    }
    assert public
    assert sorted(public - shown) == []


def test_first_page_of_the_reference_has_every_name(pages, built):
    words = "".join(pages[built[0] / "api/causalcxr.html"].words)
    assert [name for name in cx.__all__ if f"cx.{name}" not in words] == ["__version__"]


def test_every_page_is_reached_from_the_first(pages, built):
    folder, _ = built
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = [name for entry in yaml.safe_load(text)["nav"] for name in nav_pages(entry)]
    reached, ahead = set(), [folder / "index.html"]
    while ahead:
        path = ahead.pop()
        if path in pages and path not in reached:
            reached.add(path)
            ahead += [target[0] for link in pages[path].links if (target := local(path, link))]
    files = {
        folder / name.replace("README.md", "index.md").replace(".md", ".html") for name in named
    }
    assert len(files) == len(named) > 30
    assert files - reached == set()
    assert {path for path in pages if path.name != "404.html"} - reached == set()


def test_pages_from_outside_docs_are_complete(pages, built):
    for name, source in [
        ("benchmarks/RESULTS.html", "benchmarks/RESULTS.md"),
        ("benchmarks/LOG.html", "benchmarks/LOG.md"),
        ("changelog.html", "CHANGELOG.md"),
    ]:
        shown = "".join(pages[built[0] / name].words)
        lines = (ROOT / source).read_text(encoding="utf-8").splitlines()
        heads = [line.lstrip("# ").strip() for line in lines if line.startswith("## ")]
        assert heads
        assert [head for head in heads if re.sub(r"[\[\]`]", "", head) not in shown] == []
        assert len(shown) > 0.8 * sum(map(len, lines))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 390])
def test_site_works_from_disk_without_network(built, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    output, requested = [], []
    with sync_api.sync_playwright() as play:
        switches = [f"--{each}" for each in SWITCHES]
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=switches)
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        page = context.new_page()
        page.on("console", lambda message: output.append(message.text))
        page.on("pageerror", lambda error: output.append(str(error)))
        page.on("request", lambda one: requested.append(one.url))
        for path in sorted(built[0].rglob("*.html")):
            name = path.relative_to(built[0]).as_posix()
            page.goto(path.as_uri())
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name
            if width > 1000:
                assert page.evaluate(CUT_CODE) == [], name
        page.keyboard.press("/")
        page.keyboard.type("recanting witness")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        assert "Ask a model" in page.inner_text(".md-search-result__list")
        browser.close()
    assert output == []
    assert [
        url for url in requested if urlsplit(url).scheme not in ("file", "data", "about")
    ] == []
    assert len(requested) > 20


def test_readme_has_one_picture_two_commands_five_lines():
    assert len(README.splitlines()) < 60
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).is_file()] == []
    assert picture in links
    commands = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 2
    assert set(commands) <= set(rules)
    assert len(FIVE.splitlines()) == 5


@pytest.mark.slow
def test_five_lines_of_the_readme_write_a_picture(
    tmp_path,
):
    (tmp_path / "five.py").write_text(FIVE, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "five.py"], cwd=tmp_path, env=env, check=True)
    assert done.returncode == 0
    with Image.open(tmp_path / "men.png") as picture:
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.slow
def test_page_on_your_data_works_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = re.findall(r"```yaml\n(.*?)```", (DOCS / "your-data.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "clinic.yaml").write_text(drawn[0], encoding="utf-8")
    names = {}
    exec(python_of("your-data.md"), names)
    smokers, never = names["smokers"].table, names["never"].table
    assert (never["smoker"] == "no").all()
    # The table was made with .02 + .004 (age - 20) among smokers, .02 among others.
    before, after = ((each["emphysema"] == "P").mean() for each in (smokers, never))
    assert before == pytest.approx(0.02 + 0.004 * (smokers["age"].mean() - 20), abs=0.04)
    assert after == pytest.approx(0.02, abs=0.015)
    assert cx.Graph.parse(f"{drawn[0].rstrip()}\n{drawn[1]}").image == "Image"


def test_pages_on_pairs_and_edits_work_as_written(expert, phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = phantoms.select("Sex == 'F' and Age == Age").head(40)
    names = {"model": expert, "patients": phantoms, "women": few, "cx": cx}
    exec(python_of("counterfactuals.md"), names)
    assert names["same"].table.equals(names["men"].table)
    assert len(names["many"]) == 50 * 40
    assert (names["older"].table["Age"] - few.table["Age"]).eq(10).all()
    exec(python_of("editing.md"), names)
    kept = {
        name for name, one in expert.fitted.items()
        if names["changed"].fitted[name].hash == one.hash
    }  # fmt: skip
    assert set(expert.fitted) - kept == {"View", "Pneumothorax"}
    assert names["again"].graph == names["edited"]


def test_citation_page_agrees_with_the_citation_file():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = (DOCS / "cite.md").read_text(encoding="utf-8")
    work = cited["references"][0]
    assert f"{{{cited['version']}}}" in page
    for words in (cited["title"], work["title"], str(work["year"])):
        assert words in page
    names = [each["family-names"] for each in work["authors"]]
    assert " and ".join(names) in page
    pinned = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert cited["version"] == pinned[1]
