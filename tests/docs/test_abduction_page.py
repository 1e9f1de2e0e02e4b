"""The pages on abduction: their code runs, their pictures exist, figures are closed forms."""

import doctest
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from scipy.stats import norm as normal

from causalcxr import do

DOCS = Path(__file__).parents[2] / "docs"
# In the order in which they are read: the code of each goes on from the one before.
PAGES = {
    name: (DOCS / name).read_text(encoding="utf-8")
    for name in ("abduction.md", "concepts/coupling.md", "questions.md")
}


@pytest.fixture(scope="module")
def traps():
    spec = importlib.util.spec_from_file_location("traps", DOCS / "traps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_code_of_the_pages_gives_the_printed_output():
    blocks = re.findall(r"```python\n(>>>.*?)```", "".join(PAGES.values()), re.DOTALL)
    assert len(blocks) > 8
    case = doctest.DocTestParser().get_doctest("".join(blocks), {}, "abduction.md", None, 0)
    told: list[str] = []
    found = doctest.DocTestRunner().run(case, out=told.append)
    assert found.attempted > 30
    assert not found.failed, "".join(told)


def test_every_short_question_has_a_result(expert, phantoms):
    code = re.search(r"```python\n(.*?)```", PAGES["questions.md"], re.DOTALL)[1]
    few = phantoms.select("Sex == 'F'").head(40)
    names = {"model": expert, "patients": phantoms, "women": few, "do": do}
    exec(code, names)
    assert names["effect"].about["kind"] == "path"
    assert set(names["chances"].method.values()) == {"exact"}
    assert names["bounds"].table["width"].max() > 0.1
    assert len(names["filled"]) == 20 * 40
    assert not names["filled"].table.isna().any().any()


def test_linked_pictures_and_pages_exist():
    links = [
        (DOCS / name).parent / link.partition("#")[0]
        for name, page in PAGES.items()
        for link in re.findall(r"\]\(([^)]+)\)", page)
        if "://" not in link
    ]
    assert len(links) >= 6
    assert [link for link in links if not link.is_file()] == []


@pytest.mark.parametrize(("p", "q"), [(0.2, 0.5), (0.6, 0.3)])
def test_each_way_to_abduct_has_the_error_of_its_closed_form(traps, p, q):
    found = traps.measured(p, q, n=100_000)
    near = {"abs": 0.008}
    up = max(0, q - p) / (1 - p)
    assert found["noise drawn from its cell (exact)"] == pytest.approx((1, q, up), **near)
    assert found["one point a level"] == pytest.approx((1, p, 0), **near)
    # x~ = 2 Phi(u + shift): a fact 0 becomes 1 where its lift is above 2 Phi(shift - shift*).

    edge = 2 * normal.cdf(normal.ppf(p) - normal.ppf(q))
    rises, falls = max(0.0, 1 - edge), max(0.0, edge - 1)
    twin = (1 - p) * rises + p * (1 - falls)
    assert found["an even lift"] == pytest.approx((1, twin, rises), **near)
    stray = normal.cdf(-0.5 / 0.3)
    assert found["a lift that leaves the cell"][0] == pytest.approx(1 - stray, **near)
    # Of a fact with probability r, a loser stays below the winner with 1 / (1 + (1 - r)^2).
    stays = [1 / (1 + (1 - r) ** 2) for r in (1 - p, p)]
    back = (1 - p) * stays[0] + p * stays[1]
    assert found["Gumbels truncated at the noise"][0] == pytest.approx(back, **near)


@pytest.mark.slow
def test_pictures_are_deterministic(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    for name, draw in figures.FIGURES.items():
        (page, told), (again, retold) = draw(), draw()
        assert page.png() == again.png(), name
        assert told == retold or str(told) == str(retold)
