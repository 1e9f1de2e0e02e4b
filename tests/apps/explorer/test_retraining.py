"""Retraining after an edit: only stale equations, in a thread, one at a time."""

import time
from threading import Event, Lock

import numpy as np
import pandas as pd
import pytest
import torch
from graph_worlds import SMALL, records, small_workspace

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.apps.explorer.graph_charts import effect_chart, likelihood_chart
from causalcxr.apps.explorer.graph_html import (
    effect_html,
    held_out_html,
    plan_html,
    progress_html,
)
from causalcxr.apps.explorer.graph_session import GraphSession
from causalcxr.apps.explorer.held_out_likelihood import held_out
from causalcxr.apps.explorer.retraining import Retraining, plan_retraining, retrain
from causalcxr.common.errors import CohortError, GraphError, InterventionError, ModelError
from causalcxr.scm.training_data import TrainingData

pytest.importorskip("nicegui")  # these modules are of the explorer, which comes with it

EDITED = SMALL.add_edge("Site", "Edema")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return records()


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(SMALL).fit(cohort)


@pytest.fixture(scope="module")
def data(cohort) -> TrainingData:
    return TrainingData.from_cohort(cohort, SMALL)


@pytest.fixture(scope="module")
def after(model, data) -> SCM:
    return retrain(model, plan_retraining(model, EDITED, data), data)


def waited(job: Retraining) -> Retraining:
    for _ in range(600):
        if job.state != "running":
            return job
        time.sleep(0.05)
    raise AssertionError("it did not end within 30 s")


# What would be retrained


def test_added_edge_makes_only_its_child_stale(model, data):
    plan = plan_retraining(model, EDITED, data)
    assert plan.retrain == {"Edema": "edge Site -> Edema added"}
    assert plan.retrain == {n: "; ".join(why) for n, why in SMALL.diff(EDITED).reasons.items()}
    assert plan.kept == ("Sex", "Site", "View", "Finding")
    assert (plan.image, plan.seed) == ("", 0)
    assert plan_retraining(model, SMALL, data).retrain == {}


def test_other_records_make_their_equations_stale(model):
    other = TrainingData.from_cohort(records(seed=1), SMALL)
    plan = plan_retraining(model, EDITED, other)
    assert plan.retrain["Edema"] == "edge Site -> Edema added; data of Edema, Sex changed"
    assert plan.retrain["View"] == "data of Edema, View changed"
    fewer = TrainingData.from_cohort(records().head(600), SMALL)
    told = plan_retraining(model, EDITED, fewer).retrain
    assert told["View"] == "the training records changed"
    assert "Finding" in told


def test_edge_to_the_image_leaves_the_image_out():
    graph = Graph.load("mini")
    patients = Cohort.load("phantom", n=60, seed=0)
    quick = graph
    for name in ("Age", "Sex"):
        quick = quick.with_variable(quick[name].replace(mechanism="empirical"))
    for name in ("View", "Pleural Effusion"):
        spec = {"kind": "discrete", "epochs": 1}
        quick = quick.with_variable(quick[name].replace(mechanism=spec))
    model = SCM(quick).fit(patients)
    data = TrainingData.from_cohort(patients, quick)
    plan = plan_retraining(model, quick.remove_edge("Age", "Image"), data)
    assert plan.image == "edge Age -> Image removed"
    assert plan.retrain == {}
    assert plan.graph.image is None
    after = retrain(model, plan, data)
    assert all(after.fitted[n] is model.fitted[n] for n in plan.graph)
    assert set(after.counterfactual(patients.head(5), sex="M").table["Sex"]) == {"M"}
    assert "tables only, no images" in plan_html(plan)
    # Where the image's own equation stands, it stays what it was.
    kept = plan_retraining(model, quick.add_edge("Sex", "View"), data)
    assert set(kept.retrain) == {"View"}
    assert retrain(model, kept, data).fitted["Image"] is model.fitted["Image"]


# Retraining


def test_retrained_model_equals_a_fit_of_the_library(model, cohort, after):
    expected = model.with_graph(EDITED).fit(cohort, progress=False)
    assert after.stale == {}
    assert {n: f.hash for n, f in after.fitted.items()} == {
        n: f.hash for n, f in expected.fitted.items()
    }
    assert [n for n in SMALL if after.fitted[n] is not model.fitted[n]] == ["Edema"]
    mine, theirs = (m.fitted["Edema"].mechanism.state_dict() for m in (after, expected))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert after.support == expected.support
    assert (after.trained_on, after.unseen) == (expected.trained_on, expected.unseen)
    assert model.graph == SMALL  # the model before is as it was
    assert model.stale == {}


def test_each_epoch_of_stale_equations_is_reported(model, data):
    steps = []
    plan = plan_retraining(model, EDITED.remove_edge("Edema", "View"), data)
    retrain(model, plan, data, report=steps.append)
    assert list(dict.fromkeys(step.variable for step in steps)) == ["Edema", "View"]
    edema = [step for step in steps if step.variable == "Edema"]
    assert (edema[0].epoch, edema[0].done, edema[-1].done) == (0, False, True)
    epochs = [step.epoch for step in edema[1:-1]]
    assert epochs == list(range(1, len(epochs) + 1))
    assert 1 <= len(epochs) <= 8
    assert {step.epochs for step in edema[1:-1]} == {8}
    assert all(0 < step.loss < 1 for step in edema[1:-1])


def test_stop_ends_after_the_next_epoch(model, data):
    stopped, steps = Event(), []

    def report(step):
        steps.append(step)
        if step.epoch == 2:
            stopped.set()

    plan = plan_retraining(model, EDITED, data)
    with pytest.raises(ModelError, match="stopped on request: nothing was changed"):
        retrain(model, plan, data, report=report, stopped=stopped)
    assert [step.epoch for step in steps] == [0, 1, 2]
    assert model.stale == {}


def test_second_retraining_waits_for_the_lock(model, data):
    lock, plan = Lock(), plan_retraining(model, EDITED, data)
    first = Retraining(model, plan, data, lock).start()
    with pytest.raises(ModelError, match="another retraining is running in this explorer; try"):
        Retraining(model, plan, data, lock).start()
    assert waited(first).state == "done"
    assert first.model.fitted["Edema"].reason == "edge Site -> Edema added"
    assert not lock.locked()
    assert "ready" in progress_html(first)
    assert waited(Retraining(model, plan, data, lock).start()).state == "done"


def test_infinite_loss_fails_in_one_line(model, data):
    wild = {"kind": "discrete", "epochs": 8, "lr": 1e38}
    graph = EDITED.with_variable(EDITED["Edema"].replace(mechanism=wild))
    lock = Lock()
    job = Retraining(model, plan_retraining(model, graph, data), data, lock).start()
    assert waited(job).state == "failed"
    assert "variable 'Edema'" in job.error
    assert "\n" not in job.error
    assert job.model is None
    assert not lock.locked()


def test_unexpected_error_is_reported(model, data):
    plan = plan_retraining(model, EDITED, data)
    broken = TrainingData(data.cohort, {"Sex": data.columns["Sex"]}, data.train, data.val)
    lock = Lock()
    job = waited(Retraining(model, plan, broken, lock).start())
    assert (job.state, lock.locked()) == ("failed", False)
    assert job.error.startswith("unexpected KeyError: ")


# Before and after


def test_held_out_gain_is_the_mutual_information(model, after, data):
    found = held_out(model, after, data)
    assert (found.split, found.records) == ("val", len(data.val))
    assert list(found.table.index) == ["Edema"]
    row = found.table.loc["Edema"]
    part = data.cohort.at(data.val)
    by_hand = (after.log_prob(part) - model.log_prob(part))["Edema"]
    assert row["difference"] == pytest.approx(by_hand.mean(), abs=1e-9)
    assert row["error"] == pytest.approx(by_hand.std() / np.sqrt(len(part)), rel=1e-6)
    # The mutual information of edema and site, in nats.
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.5, 0.9])
    entropy = lambda x: -x * np.log(x) - (1 - x) * np.log(1 - x)  # noqa: E731
    information = entropy(p @ q) - p @ entropy(q)
    assert information == pytest.approx(0.1754, abs=0.0001)
    assert row["difference"] == pytest.approx(information, abs=2 * row["error"] + 0.01)
    assert row["after"] - row["before"] == pytest.approx(row["difference"])


def test_repeated_records_do_not_shrink_the_error(model, after, cohort):
    table = cohort.table
    twice = pd.concat([table, table], ignore_index=True)
    patients = np.tile([f"p{k}" for k in range(len(table))], 2)
    splits = np.tile(np.where(np.arange(len(table)) % 4, "train", "test"), 2)
    doubled = Cohort(twice, patients=patients, splits=splits)
    once = Cohort(table, splits=splits[: len(table)])
    one, two = (
        held_out(model, after, TrainingData.from_cohort(c, SMALL)) for c in (once, doubled)
    )
    assert (one.split, two.split) == ("test", "test")
    assert two.records == 2 * one.records == 600
    a, b = one.table.loc["Edema"], two.table.loc["Edema"]
    assert b["difference"] == pytest.approx(a["difference"])
    assert b["error"] == pytest.approx(a["error"])


def test_impossible_values_are_counted_and_left_out(model, cohort):
    table = cohort.table
    table.loc[:99, "Finding"] = np.where(table.loc[:99, "Edema"] == "P", "N", "P")
    splits = np.where(np.arange(len(table)) < 200, "test", "train")
    data = TrainingData.from_cohort(Cohort(table, splits=splits), SMALL)
    rule = {"kind": "derived", "rule": "none_of"}
    turned = SMALL.with_variable(SMALL["Finding"].replace(mechanism=rule))
    after = retrain(model, plan_retraining(model, turned, data), data)
    row = held_out(model, after, data).table.loc["Finding"]
    assert (row["impossible_before"], row["impossible_after"]) == (100, 100)
    assert row["n"] == 0
    assert "Finding: 100 values were impossible before" in held_out_html(
        held_out(model, after, data)
    )


def test_charts_are_drawn_to_scale():
    table = pd.DataFrame(
        {"difference": [0.2, -0.1], "error": [0.0, 0.0], "n": [9, 9]}, index=["A", "B"]
    )
    svg = likelihood_chart(table)
    a, b = (float(part.split('"')[0]) for part in svg.split('cx="')[1:])
    zero = float(svg.split('class="zero" x1="')[1].split('"')[0])
    assert (a - zero) / (zero - b) == pytest.approx(2, rel=0.01)
    assert 'aria-label="Log-likelihood of held-out values, after minus before. A: +0.200' in svg
    assert likelihood_chart(table.assign(difference=np.nan)) == ""
    shares = pd.DataFrame({"changed_before": [0.0, 0.4], "changed_after": [0.8, np.nan]})
    svg = effect_chart(shares.set_axis(["A", "<b>"]))
    assert 'data-before="0.0000" data-after="0.8000"' in svg
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


# The session of a user


@pytest.fixture
def world(model, cohort, tmp_path):
    return small_workspace(model, cohort, tmp_path / "models")


def test_edits_are_undone_and_redone(world):
    session = GraphSession(world, "small")
    session.add("Site", "Edema")
    session.remove("Sex", "Edema")
    edited = session.graph
    for parent, child, words in (
        ("View", "Edema", "cycle"),
        ("View", "Site", "kind 'empirical' is for roots"),
        ("Site", "Edema", "is in graph 'small' already"),
        ("Nobody", "Edema", "no variable 'Nobody'"),
    ):
        with pytest.raises(GraphError, match=words):
            session.add(parent, child)
        assert session.graph is edited
    session.undo()
    assert session.graph == EDITED
    assert (session.can_undo, session.can_redo) == (True, True)
    session.redo()
    assert session.graph is edited
    session.undo()
    session.add("Sex", "View")
    assert not session.can_redo
    assert "# a comment that survives" in session.graph.to_yaml()


def test_clicks_choose_parent_then_child(world):
    session = GraphSession(world, "small")
    told = []
    for name in ("Sex", "View", "Site", "Site"):
        session.choose(name)
        told.append((session.parent, session.child))
    assert told == [("Sex", None), ("Sex", "View"), ("Site", None), (None, None)]
    picture = session.planned_graph()
    assert picture.svg.count('role="button"') == 5
    assert picture.marks == frozenset()


def test_comparison_shows_the_effect_of_the_edge(world):
    session = GraphSession(world, "small")
    session.add("Site", "Edema")
    with pytest.raises(ModelError, match="nothing to compare yet"):
        session.compare()
    assert session.planned_graph().marks == {"stale"}
    session.retrain()
    waited(session.job)
    assert session.planned_graph().marks == {"changed"}
    session.choose_intervention(session.suggested())
    assert (session.variable, session.value) == ("Site", "C")  # the rarest that training saw
    effect = session.compare()
    table = effect.comparison.table
    assert table.loc["Edema", "changed_before"] == 0
    negative = (session.cohort.head(1000).table["Edema"] == "N").mean()
    assert 0.4 < table.loc["Edema", "changed_after"] <= negative
    html = effect_html(effect)
    assert "do(Site=C)" in html
    assert f"{table.loc['Edema', 'changed_after']:.1%}" in html
    # Another edit has no result yet; undone, the result is there again.
    session.add("Sex", "View")
    assert session.result is None
    session.undo()
    assert session.effect is effect


def test_invalid_intervention_is_refused(world):
    session = GraphSession(world, "small")
    session.choose_intervention("Site")
    session.value = "Z"
    with pytest.raises(InterventionError, match="Site"):
        session.intervention()
    session.value = "B"
    assert session.intervention().describe() == do(Site="B").describe()


def test_new_model_is_saved_and_used_by_one_user(world):
    session, other = GraphSession(world, "small"), GraphSession(world, "small")
    with pytest.raises(ModelError, match="no new model yet"):
        session.use("mine")
    with pytest.raises(ModelError, match="no equation is stale"):
        session.retrain()
    session.add("Site", "Edema")
    session.retrain()
    with pytest.raises(ModelError, match="wait until it is done"):
        session.open("small")
    new = waited(session.job).model
    for bad in ("../up", "", "small", ".hidden", "a" * 50, "a/b"):
        with pytest.raises(ModelError, match="name "):
            session.use(bad)
    assert session.free_name() == "small-edited-1"
    folder = session.use("mine")
    assert (session.name, session.model, session.can_undo) == ("mine", new, False)
    assert world.models.names == ("small", "mine")
    assert world.models.first == "small"
    assert other.model is not new
    assert other.graph == SMALL
    loaded = SCM.load(folder)
    assert loaded.graph == EDITED
    sexes = (m.counterfactual(records(50), site="C", seed=3).table for m in (loaded, new))
    pd.testing.assert_frame_equal(*sexes)
    # It can be edited again, from where it stands: the old edge is nothing new.
    session.add("Sex", "View")
    assert session.planned_graph().plan.retrain == {"View": "edge Sex -> View added"}


def test_training_cohort_can_be_chosen(model, cohort, tmp_path):
    world = small_workspace(model, cohort, tmp_path)
    other = records(seed=3).described("elsewhere")
    world = type(world)(world.models, {"other": other, "world": cohort}, tmp_path)
    session = GraphSession(world, "small")
    assert session.cohort_name == "world"
    session.train_on("other")
    assert "View" in session.planned_graph().plan.retrain
    with pytest.raises(CohortError, match="no cohort 'nowhere'"):
        session.train_on("nowhere")
    assert session.cohort_name == "other"
