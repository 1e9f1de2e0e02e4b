"""One protocol for results: table, summary, plot, save, text, HTML; the same for all of them."""

import importlib
import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from audit_worlds import GRAPH, as_men, people
from matplotlib.text import Text

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.audit import audit_pairs
from causalcxr.audit.classifiers import FeatureClassifier
from causalcxr.audit.model_evaluation_result import Evaluation
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.shifts import prevalence
from causalcxr.audit.stressing import stress
from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.common.figure import Page
from causalcxr.common.result import Result
from causalcxr.images.synthetic_mark import MARK
from causalcxr.sources.phantom import load

HOSTILE = "<script>alert(1)</script>"
YAML = """
variables:
  Sex: {type: binary, levels: [F, M], mechanism: empirical}
  Edema: {type: binary, levels: [N, P], parents: [Sex]}
"""


class Linear:
    """An estimator that reads sex."""

    classes_ = (0, 1)

    def predict_proba(self, x: pd.DataFrame) -> np.ndarray:
        p = 0.3 + 0.4 * (x["Sex"] == "M").to_numpy()
        return np.stack([1 - p, p], 1)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    men = rng.random(400) < 0.5
    edema = rng.random(400) < np.where(men, 0.6, 0.2)
    sex, sign = np.where(men, "M", "F"), np.where(edema, "P", "N")
    return Cohort(pd.DataFrame({"Sex": sex, "Edema": sign, HOSTILE: HOSTILE}))


@pytest.fixture(scope="module")
def results(cohort) -> dict[str, object]:
    model = SCM(Graph.parse(YAML)).fit(cohort)
    images, men = people(60), do(sex="M")
    pairs = Pairs.from_cohorts(GRAPH, images, as_men(images), men)
    scorer = FeatureClassifier(Linear(), ["Sex"], target="Edema", name=HOSTILE)
    figures = {
        "question": [HOSTILE] * 2, "axiom": "composition", "measure": ["L1", "L2"],
        "value": [0.125, 0.5], "low": 0.1, "high": 0.6, "copy": 0.0, "oracle": np.nan,
    }  # fmt: skip
    about = {"model": HOSTILE}
    return {
        "Cohort": cohort,
        "Comparison": cohort.compare(model.counterfactual(cohort, men)),
        "Effect": model.effect(cohort, men),
        "Check": model.check(cohort, split="all"),
        "Probabilities": model.probabilities(cohort, men),
        "Sensitivity": model.sensitivity(cohort, men),
        "Confounding": model.confounding(cohort, men, rho=[-0.5, 0.5]),
        "Support": model.support_of(cohort, men),
        "Audit": audit_pairs(
            lambda x: x.mean((1, 2, 3)), pairs, label="Edema", by="View", bootstrap=20
        ),
        "Stress": stress(scorer, model, cohort, shifts=[prevalence("Edema", 0.5)], bootstrap=20),
        "ModelComparison": model.compare(
            model.with_graph(model.graph.remove_edge("Sex", "Edema")).fit(cohort), cohort, men
        ),
        "Evaluation": Evaluation(pd.DataFrame(figures), {}, about),
        "GraphTest": model.graph.remove_edge("Sex", "Edema").test(cohort, permutations=2),
    }


NAMES = (
    "Cohort", "Comparison", "Effect", "Check", "Probabilities", "Sensitivity", "Support", "Audit",
    "Stress", "Evaluation", "ModelComparison", "GraphTest", "Confounding",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_result_has_a_table_and_a_summary(results, name):
    result = results[name]
    assert isinstance(result, Result)
    assert type(result).__name__ == name
    assert isinstance(result.table, pd.DataFrame)
    assert isinstance(result.summary(), pd.DataFrame)
    assert len(result.summary())
    assert "\n" not in result.heading


@pytest.mark.parametrize("name", NAMES)
def test_result_is_drawn_and_written_as_png(results, name, tmp_path):
    page = results[name].plot(path=tmp_path / "picture.png")
    assert type(page) is not Page or page.axes
    assert isinstance(page, Page)
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert page._repr_png_()[:4] == b"\x89PNG"
    assert inspect.signature(results[name].plot).parameters["path"].default is None


@pytest.mark.parametrize("name", NAMES)
def test_result_is_saved_completely(results, name, tmp_path):
    folder = tmp_path / "there"
    assert results[name].save(folder) == folder
    names = {path.name for path in folder.iterdir()}
    assert any(each.endswith(".csv") for each in names)
    assert any(each.endswith(".json") for each in names)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".tmp", ".unfinished"))]


@pytest.mark.parametrize("name", NAMES)
def test_text_and_html_show_values_and_escape_names(results, name):
    result = results[name]
    text, html = str(result), result._repr_html_()
    assert text.splitlines()[0] == result.heading
    assert HOSTILE not in html
    assert "<table" in html
    first = result.summary().iloc[0]
    figure = next(value for value in first if not pd.isna(value))
    shown = f"{figure:.4g}" if isinstance(figure, float | np.floating) else str(figure)
    assert shown in html.replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.parametrize(
    "name", ["Comparison", "Effect", "Probabilities", "Sensitivity", "Confounding"]
)
def test_table_or_plot_alone_can_be_written(results, name, tmp_path):
    result = results[name]
    table = pd.read_csv(result.save(tmp_path / "t.csv"))
    assert len(table) == len(next(iter(result.tables.values())))
    assert result.save(tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


def test_result_is_not_written_over_other_files(results, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(CohortError, match="mine"):
        results["Effect"].save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_print_shows_mean_and_error_of_an_effect(results):
    effect = results["Effect"]
    row = effect.table.set_index(["variable", "level"]).loc["Edema", "P"]
    lines = str(effect).splitlines()
    assert lines[0] == "total effect of do(Sex=M) against the facts, 400 rows"
    assert lines[1].split() == ["n", "baseline", "active", "change", "se", "changed"]
    told = lines[-1].split()
    assert told[:2] == ["Edema", "P"]
    assert told[5:7] == [f"{row['change']:.4g}", f"{row['se']:.4g}"]


def test_print_shows_the_mean_of_each_level(results):
    found = results["Probabilities"]
    assert found["Edema", "P"].equals(found.table["Edema", "P"])
    assert f"{found['Edema', 'P'].mean():.4g}" in str(found)
    assert found.summary().loc[("Edema", "P"), "method"] == "exact"


def test_check_of_too_few_records_says_not_tested(cohort):
    model = SCM(Graph.parse(YAML)).fit(cohort)
    found = model.check(cohort.head(12), split="all")
    assert found.heading == "not tested: none of 2 equations, on 12 records (all)"
    assert "0 of 0" not in str(found)
    assert "12 of 12 records can be tested; 50 are needed" in str(found)
    assert found.summary()["verdict"].tolist() == ["not tested"] * 2
    assert found.plot().png()


def test_check_counts_untested_equations(cohort):
    holes = cohort.table["Edema"].where(np.arange(400) < 20)
    model = SCM(Graph.parse(YAML)).fit(cohort)
    found = model.check(Cohort(cohort.table.assign(Edema=holes)), split="all")
    assert found.heading.startswith("0 of 1 equations fail, 1 not tested, on 400 records (all);")


def texts_of(page: Page) -> list[str]:
    return [text.get_text() for text in page.findobj(Text)]


def test_plot_marks_synthetic_images():
    phantoms = load(n=3, size=32)
    assert texts_of(phantoms.plot(2)).count(MARK) == 3  # the page and both images
    real = Cohort(pd.DataFrame(index=["a", "b"]), np.zeros((2, 1, 8, 8), np.uint8))
    assert MARK not in texts_of(real.plot())


def test_dollar_signs_in_names_are_drawn(tmp_path):
    odd = Cohort(pd.DataFrame({"$a": [1.0, None], "$b^{": ["x", "y"]}))
    assert odd.plot(path=tmp_path / "p.png").png()


def test_every_result_class_documents_the_protocol():
    homes = {
        "Cohort": "cohort", "Comparison": "cohort.comparison",
        "Effect": "scm.questions.effect_result",
        "Check": "scm.questions.check_result",
        "Probabilities": "scm.questions.probabilities_result",
        "Sensitivity": "scm.questions.sensitivity",
        "Support": "scm.questions.support_result", "Audit": "audit.audit_result",
        "Stress": "audit.stress_result", "Evaluation": "audit.model_evaluation_result",
    }  # fmt: skip
    for name, home in homes.items():
        found = getattr(importlib.import_module(f"causalcxr.{home}"), name)
        for member in ("summary", "plot", "save"):
            assert inspect.getdoc(getattr(found, member)), (name, member)


@pytest.mark.slow
def test_same_audit_at_another_time_is_complete_already(results, tmp_path, capsys):
    audit = results["Audit"]
    audit.save(tmp_path / "a")
    later = replace(audit, about={**audit.about, "written": "2030-01-01T00:00:00+00:00"})
    later.save(tmp_path / "a")
    assert "complete already, nothing to do" in capsys.readouterr().err
    other = replace(audit, about={**audit.about, "classifier": "another"})
    with pytest.raises(CausalCXRError, match="holds an audit already"):
        other.save(tmp_path / "a")
