"""How questions are asked: values by name, options told apart from variables, mistakes."""

import inspect

import numpy as np
import pandas as pd
import pytest

import causalcxr as cx
from causalcxr import SCM, Cohort, Graph, Shift, do
from causalcxr import audit as audit_function
from causalcxr.audit import audit_pairs, make_pairs
from causalcxr.audit import stress as stress_function
from causalcxr.audit.classifiers import FeatureClassifier
from causalcxr.audit.shifts import severity
from causalcxr.common.errors import GraphError, InterventionError, ModelError
from causalcxr.graph.arguments import actions_of
from causalcxr.graph.interventions import parse

GRAPH = Graph.parse(
    """
variables:
  Sex: {type: binary, levels: [F, M], mechanism: empirical}
  Age: {type: continuous, unit: year, range: [0, 105], resolution: 1, mechanism: empirical}
  Effusion: {type: binary, parents: [Sex]}
  Seed: {type: binary, mechanism: empirical}
  Hold: {type: binary, mechanism: empirical}
  Draws: {type: binary, parents: [Seed]}
  Missing: {type: binary, mechanism: empirical}
  Recompute: {type: binary, mechanism: empirical}
  Beyond Range: {type: binary, mechanism: empirical}
"""
)
OPTIONS = ("seed", "hold", "draws", "missing", "recompute", "beyond_range")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {name: rng.choice(GRAPH[name].levels, 120) for name in GRAPH.tabular if name != "Age"}
    )
    table["Age"] = rng.integers(20, 90, 120).astype(float)
    return Cohort(table)


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(GRAPH).fit(cohort)


QUESTIONS = ("effect", "probabilities", "sensitivity", "confounding", "support_of")


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_takes_variables_by_name(model, cohort, question):
    ask = getattr(model, question)
    tables = [ask(cohort, do(sex="M")), ask(cohort, {"Sex": "M"}), ask(cohort, sex="M")]
    first, *others = (
        table if isinstance(table, pd.DataFrame) else table.table for table in tables
    )
    for other in others:
        pd.testing.assert_frame_equal(first, other)


def test_compare_and_pairs_take_variables_by_name(model, cohort):
    same = model.compare(model, cohort, sex="M")
    assert same.twins.counterfactual.table["Sex"].unique().tolist() == ["M"]
    pairs = make_pairs(model, cohort, sex="M")
    assert set(pairs.twin.table["Sex"]) == {"M"}


@pytest.mark.parametrize("option", OPTIONS)
def test_level_for_an_option_is_refused_with_the_remedy(model, cohort, option):
    name = GRAPH.find(option)
    remedy = rf"to set the variable '{name}', write do\({{'{name}': 'P'}}\)"
    with pytest.raises(InterventionError, match=remedy):
        model.counterfactual(cohort, **{option: "P"})
    assert set(model.counterfactual(cohort, do({name: "P"})).table[name]) == {"P"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_ignores_a_variable_called_seed(model, cohort, question):
    with pytest.raises(InterventionError, match=r"write do\({'Seed': 'P'}\)"):
        getattr(model, question)(cohort, do(sex="M"), seed="P")
    with pytest.raises(InterventionError, match=r"write do\({'Hold': 'P'}\)"):
        getattr(model, question)(cohort, do(sex="M"), hold="P")
    with pytest.raises(InterventionError, match=r"write do\({'Seed': 'P'}\)"):
        model.compare(model, cohort, do(sex="M"), seed="P")


def test_sample_and_do_do_not_ignore_seed_and_hold(model):
    with pytest.raises(InterventionError, match=r"write do\({'Seed': 'P'}\)"):
        model.sample(3, seed="P")
    with pytest.raises(InterventionError, match=r"write do\({'Hold': 'P'}\)"):
        model.do(hold="P")
    with pytest.raises(InterventionError, match=r"write do\({'beyond_range': 'P'}\)"):
        do(beyond_range="P")


def test_option_of_a_wrong_type_is_refused():
    graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
    cohort = Cohort(pd.DataFrame({"Sex": ["F", "M"] * 20}))
    model = SCM(graph).fit(cohort)
    with pytest.raises(InterventionError, match=r"^seed='P': the option seed is a whole number$"):
        model.counterfactual(cohort, sex="M", seed="P")


def test_hold_as_text_is_one_name(model, cohort):
    held = model.counterfactual(cohort, sex="M", hold="Effusion")
    assert held.table["Effusion"].equals(cohort.table["Effusion"])
    listed = model.counterfactual(cohort, sex="M", hold=["Effusion"])
    pd.testing.assert_frame_equal(held.table, listed.table)
    for question in QUESTIONS[1:]:
        getattr(model, question)(cohort, sex="M", hold="Effusion")
    with pytest.raises(InterventionError, match=r"'Effusoin' is not one; did you mean 'Effusion'"):
        model.counterfactual(cohort, sex="M", hold="Effusoin")


def test_effect_holds_a_variable_on_both_sides(model, cohort):
    free = model.effect(cohort, sex="M").table.set_index(["variable", "level"])["changed"]
    held = model.effect(cohort, sex="M", hold="Effusion").table.set_index(["variable", "level"])
    assert free["Effusion", "P"] > 0
    assert held.loc[("Effusion", "P"), "changed"] == 0


def test_variables_as_text_is_one_name(model, cohort):
    found = model.probabilities(cohort, sex="M", variables="Effusion")
    assert set(found.table.columns.get_level_values(0)) == {"Effusion"}
    assert list(model.sensitivity(cohort, sex="M", variables="Effusion").changes.index) == [
        "Effusion"
    ]


@pytest.mark.parametrize("value", [True, np.True_, [True] * 120])
def test_true_for_a_finding_is_refused_with_its_levels(model, cohort, value):
    with pytest.raises(InterventionError, match=r"level True.*: the levels are N, P"):
        model.counterfactual(cohort, effusion=value)
    with pytest.raises(InterventionError, match=r"value True.*: give a finite number"):
        model.counterfactual(cohort, age=value)


def test_signed_text_is_refused_with_shift(model, cohort):
    with pytest.raises(InterventionError, match=r"write Shift\(10\) to add it"):
        model.counterfactual(cohort, age="+10")
    with pytest.raises(InterventionError, match=r"write Shift\(-5\) to add it"):
        do(age=["-5"] * 120).bind(GRAPH)
    older = model.counterfactual(cohort.head(5), age=Shift(10)).table["Age"]
    assert (older == cohort.head(5).table["Age"] + 10).all()


@pytest.mark.parametrize("value", ["60", " 60 ", "6e1", np.str_("60"), ["60"] * 120])
def test_number_as_text_is_refused(model, cohort, value):
    with pytest.raises(InterventionError, match="write the number 60, without quotes"):
        model.counterfactual(cohort, age=value)
    with pytest.raises(InterventionError, match="write the number 60, without quotes"):
        model.counterfactual(cohort, age=lambda a: "60")


def test_command_line_reads_numbers_and_shifts(model, cohort):
    few = cohort.head(5)
    assert set(model.counterfactual(few, parse(["age=60"])).table["Age"]) == {60.0}
    assert parse(["age=60"]).bind(GRAPH).to_json()["do"] == {"Age": 60.0}
    older = model.counterfactual(few, parse(["age=+10"])).table["Age"]
    assert (older == few.table["Age"] + 10).all()
    coded = Graph.parse("variables: {Grade: {type: ordinal, levels: ['01', '1', '+2']}}")
    assert parse(["grade=01"]).bind(coded).settings["Grade"] == "01"
    assert parse(["grade=+2"]).bind(coded).settings["Grade"] == "+2"


def test_path_in_place_of_a_graph_or_model_is_refused():
    with pytest.raises(GraphError, match=r"write Graph.load\('graph.yaml'\)"):
        Graph("graph.yaml")
    with pytest.raises(ModelError, match=r"SCM\(Graph.load\('cxr7'\)\)"):
        SCM("cxr7")


def test_unused_fit_is_explained(cohort):
    model = SCM(GRAPH)
    model.fit(cohort)
    asked = (model.counterfactual, model.effect, model.probabilities, model.sensitivity)
    for ask in (*asked, model.support_of):
        with pytest.raises(ModelError, match=r"fit returns a new model: write model = model.fit"):
            ask(cohort, sex="M")
    for ask in (model.check, model.log_prob, model.abduct):
        with pytest.raises(ModelError, match=r"fit returns a new model: write model = model.fit"):
            ask(cohort)


# Names that stand for variables, or for fields of a declaration: data, not options.
DATA = {"values", "shares", "fields", "kwargs"}


def is_ours(method: object) -> bool:
    return str(getattr(method, "__module__", "")).startswith("causalcxr")


def public_callables() -> dict[str, object]:
    """Return the functions, classes and methods that a user calls, by name."""
    package = __import__("importlib").import_module("causalcxr.audit")
    homes = {f"cx.{name}": getattr(cx, name) for name in cx.__all__ if name != "__version__"}
    homes |= {f"audit.{name}": getattr(package, name) for name in package.__all__}
    homes |= {"audit_pairs": audit_pairs}
    found = {name: each for name, each in homes.items() if callable(each)}
    for name, each in list(found.items()):
        if inspect.isclass(each):
            methods = inspect.getmembers(each, callable)
            ours = [(k, m) for k, m in methods if not k.startswith("_") and is_ours(m)]
            found |= {f"{name}.{key}": method for key, method in ours}
    return found


def test_public_signatures_show_their_options():
    hidden = []
    for name, each in public_callables().items():
        try:
            parameters = inspect.signature(each).parameters.values()
        except ValueError:  # what is built in has none
            continue
        hidden += [
            f"{name}(**{p.name})"
            for p in parameters
            if p.kind is p.VAR_KEYWORD and p.name not in DATA
        ]
    assert not hidden


def test_audit_and_stress_are_functions_with_help():
    assert cx.audit is audit_function
    assert cx.stress is stress_function
    for function in (cx.audit, cx.stress):
        assert inspect.isfunction(function)
        told = inspect.signature(function).parameters
        assert {"label", "by", "threshold", "measures", "bootstrap", "seed"} <= set(told)
        documented = [p for p in told if f"{p}: " in function.__doc__ or p == "values"]
        assert documented == list(told)
    import causalcxr.audit.shifts

    assert causalcxr.audit is cx.audit
    assert inspect.isfunction(causalcxr.audit)


def test_name_as_text_is_not_split_into_letters(cohort):
    class Never:
        classes_ = (0, 1)

        def predict_proba(self, x: pd.DataFrame) -> np.ndarray:
            return np.column_stack([x["Age"] * 0 + 1, x["Age"] * 0])

    assert FeatureClassifier(Never(), "Age").scores(cohort).tolist() == [0.0] * 120
    assert severity(1, "Effusion").findings == ("Effusion",)


def test_single_question_need_not_be_a_list():
    assert [str(each) for each in actions_of(do(sex="M"))] == ["do(sex=M)"]
    assert [str(each) for each in actions_of({"sex": "M"})] == ["do(sex=M)"]
    assert [str(each) for each in actions_of([{"sex": "M"}, do(age=60)])] == [
        "do(sex=M)",
        "do(age=60)",
    ]


def test_with_graph_refuses_a_path(model):
    with pytest.raises(ModelError, match=r"give a Graph, such as Graph.load\('file.yaml'\)"):
        model.with_graph("cxr7.yaml")
