"""The pages on abduction: their code runs, their pictures exist, their numbers are correct."""

import doctest
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from scipy.stats import norm as normal

from causalcxr import do

DOCS = Path(__file__).parents[2] / "docs"
# In reading order: the code of each page continues that of the page before.
PAGES = {
    name: (DOCS / name).read_text(encoding="utf-8")
    for name in ("abduction.md", "concepts/coupling.md", "concepts/confounding.md", "questions.md")
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
    messages: list[str] = []
    result = doctest.DocTestRunner().run(case, out=messages.append)
    assert result.attempted > 30
    assert not result.failed, "".join(messages)


def test_every_short_question_has_a_result(expert, phantoms):
    code = re.search(r"```python\n(.*?)```", PAGES["questions.md"], re.DOTALL)[1]
    women = phantoms.select("Sex == 'F'").head(40)
    names = {"model": expert, "patients": phantoms, "women": women, "do": do}
    exec(code, names)
    assert names["effect"].about["kind"] == "path"
    assert set(names["chances"].method.values()) == {"exact"}
    assert names["bounds"].table["width"].max() > 0.1
    assert len(names["hidden"].tipping)
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
    results = traps.measured(p, q, n=100_000)
    near = {"abs": 0.008}
    up = max(0, q - p) / (1 - p)
    assert results["noise drawn from its cell (exact)"] == pytest.approx((1, q, up), **near)
    assert results["one point per level"] == pytest.approx((1, p, 0), **near)
    # x~ = 2 Phi(u + shift): a fact 0 becomes 1 where x~ is above 2 Phi(shift - shift*).
    edge = 2 * normal.cdf(normal.ppf(p) - normal.ppf(q))
    rises, falls = max(0.0, 1 - edge), max(0.0, edge - 1)
    twin = (1 - p) * rises + p * (1 - falls)
    assert results["uniform dequantisation"] == pytest.approx((1, twin, rises), **near)
    stray = normal.cdf(-0.5 / 0.3)
    assert results["normal dequantisation"][0] == pytest.approx(1 - stray, **near)
    # For a fact of probability r, the loser stays below the winner with 1 / (1 + (1 - r)^2).
    stays = [1 / (1 + (1 - r) ** 2) for r in (1 - p, p)]
    back = (1 - p) * stays[0] + p * stays[1]
    assert results["Gumbels truncated at the noise"][0] == pytest.approx(back, **near)


@pytest.mark.slow
def test_pictures_are_deterministic(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    for name, draw in figures.FIGURES.items():
        (page, numbers), (again, repeated_numbers) = draw(), draw()
        assert page.png() == again.png(), name
        assert numbers == repeated_numbers or str(numbers) == str(repeated_numbers)
