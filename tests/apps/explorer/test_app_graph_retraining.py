"""Retraining after an edit: the touched equations and no other, in a thread, one at a time."""

import time
from threading import Event, Lock

import numpy as np
import pandas as pd
import pytest
import torch
from graph_worlds import SMALL, bench, records

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.apps.explorer.graph_charts import effect_chart, likelihood_chart
from causalcxr.apps.explorer.graph_desk import GraphDesk
from causalcxr.apps.explorer.graph_likelihood import held_out
from causalcxr.apps.explorer.graph_parts import (
    effect_html,
    held_out_html,
    plan_html,
    progress_html,
)
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


def test_given_an_edge_added_then_its_child_alone_would_be_retrained_for_the_librarys_reason(
    model, data
):
    plan = plan_retraining(model, EDITED, data)
    assert plan.retrain == {"Edema": "edge Site -> Edema added"}
    assert plan.retrain == {n: "; ".join(why) for n, why in SMALL.diff(EDITED).reasons.items()}
    assert plan.kept == ("Sex", "Site", "View", "Finding")
    assert (plan.image, plan.seed) == ("", 0)
    assert plan_retraining(model, SMALL, data).retrain == {}


def test_given_other_records_then_all_that_they_change_would_be_retrained_and_why(model):
    other = TrainingData.from_cohort(records(seed=1), SMALL)
    plan = plan_retraining(model, EDITED, other)
    assert plan.retrain["Edema"] == "edge Site -> Edema added; data of Edema, Sex changed"
    assert plan.retrain["View"] == "data of Edema, View changed"
    fewer = TrainingData.from_cohort(records().head(600), SMALL)
    told = plan_retraining(model, EDITED, fewer).retrain
    assert told["View"] == "the training records changed"
    assert "Finding" in told


def test_given_an_edge_to_the_image_then_the_image_is_left_out_and_nothing_else_is_learned():
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


def test_given_an_edit_then_the_model_is_what_the_library_itself_would_fit(model, cohort, after):
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


def test_given_a_retraining_then_each_epoch_of_what_is_learned_is_told_and_of_nothing_else(
    model, data
):
    steps = []
    plan = plan_retraining(model, EDITED.remove_edge("Edema", "View"), data)
    retrain(model, plan, data, tell=steps.append)
    assert list(dict.fromkeys(step.variable for step in steps)) == ["Edema", "View"]
    edema = [step for step in steps if step.variable == "Edema"]
    assert (edema[0].epoch, edema[0].done, edema[-1].done) == (0, False, True)
    epochs = [step.epoch for step in edema[1:-1]]
    assert epochs == list(range(1, len(epochs) + 1))
    assert 1 <= len(epochs) <= 8
    assert {step.epochs for step in edema[1:-1]} == {8}
    assert all(0 < step.loss < 1 for step in edema[1:-1])


def test_given_a_stop_then_the_next_epoch_is_the_last_and_the_model_is_as_it_was(model, data):
    stopped, steps = Event(), []

    def tell(step):
        steps.append(step)
        if step.epoch == 2:
            stopped.set()

    plan = plan_retraining(model, EDITED, data)
    with pytest.raises(ModelError, match="stopped as asked: nothing was changed"):
        retrain(model, plan, data, tell=tell, stopped=stopped)
    assert [step.epoch for step in steps] == [0, 1, 2]
    assert model.stale == {}


def test_given_two_users_then_the_second_is_told_to_wait_and_the_lock_is_given_back(model, data):
    lock, plan = Lock(), plan_retraining(model, EDITED, data)
    first = Retraining(model, plan, data, lock).start()
    with pytest.raises(ModelError, match="another retraining is running in this explorer; wait"):
        Retraining(model, plan, data, lock).start()
    assert waited(first).state == "done"
    assert first.model.fitted["Edema"].reason == "edge Site -> Edema added"
    assert not lock.locked()
    assert "ready" in progress_html(first)
    assert waited(Retraining(model, plan, data, lock).start()).state == "done"


def test_given_a_loss_that_is_not_finite_then_it_fails_in_one_line_and_gives_the_lock_back(
    model, data
):
    wild = {"kind": "discrete", "epochs": 8, "lr": 1e38}
    graph = EDITED.with_variable(EDITED["Edema"].replace(mechanism=wild))
    lock = Lock()
    job = Retraining(model, plan_retraining(model, graph, data), data, lock).start()
    assert waited(job).state == "failed"
    assert "variable 'Edema'" in job.error
    assert "\n" not in job.error
    assert job.model is None
    assert not lock.locked()


def test_given_a_fault_that_nobody_foresaw_then_the_page_hears_of_it(model, data):
    plan = plan_retraining(model, EDITED, data)
    broken = TrainingData(data.cohort, {"Sex": data.columns["Sex"]}, data.train, data.val)
    lock = Lock()
    job = waited(Retraining(model, plan, broken, lock).start())
    assert (job.state, lock.locked()) == ("failed", False)
    assert job.error.startswith("unexpected KeyError: ")


# Before and after


def test_given_a_cause_that_was_left_out_then_its_edge_gains_the_information_it_carries(
    model, after, data
):
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


def test_given_the_records_twice_then_the_error_of_the_difference_does_not_shrink(
    model, after, cohort
):
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


def test_given_values_that_a_rule_forbids_then_they_are_counted_and_left_out(model, cohort):
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


def test_given_differences_then_the_chart_places_them_to_scale():
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


# The desk of a user


@pytest.fixture
def world(model, cohort, tmp_path):
    return bench(model, cohort, tmp_path / "models")


def test_given_edits_then_they_are_undone_and_done_again_and_a_refused_one_changes_nothing(world):
    desk = GraphDesk(world, "small")
    desk.add("Site", "Edema")
    desk.remove("Sex", "Edema")
    edited = desk.graph
    for parent, child, words in (
        ("View", "Edema", "cycle"),
        ("View", "Site", "kind 'empirical' is for roots"),
        ("Site", "Edema", "is in graph 'small' already"),
        ("Nobody", "Edema", "no variable 'Nobody'"),
    ):
        with pytest.raises(GraphError, match=words):
            desk.add(parent, child)
        assert desk.graph is edited
    desk.undo()
    assert desk.graph == EDITED
    assert (desk.can_undo, desk.can_redo) == (True, True)
    desk.redo()
    assert desk.graph is edited
    desk.undo()
    desk.add("Sex", "View")
    assert not desk.can_redo
    assert "# a comment that survives" in desk.graph.to_yaml()


def test_given_a_drawing_when_it_is_pressed_then_parent_child_and_anew(world):
    desk = GraphDesk(world, "small")
    told = []
    for name in ("Sex", "View", "Site", "Site"):
        desk.point(name)
        told.append((desk.parent, desk.child))
    assert told == [("Sex", None), ("Sex", "View"), ("Site", None), (None, None)]
    picture = desk.picture()
    assert picture.svg.count('role="button"') == 5
    assert picture.marks == frozenset()


def test_given_a_retraining_then_the_comparison_shows_the_effect_that_the_edge_brought(world):
    desk = GraphDesk(world, "small")
    desk.add("Site", "Edema")
    with pytest.raises(ModelError, match="nothing to compare yet"):
        desk.compare()
    assert desk.picture().marks == {"stale"}
    desk.retrain()
    waited(desk.job)
    assert desk.picture().marks == {"changed"}
    desk.ask(desk.suggested())
    assert (desk.variable, desk.value) == ("Site", "C")  # the rarest that training saw
    effect = desk.compare()
    table = effect.comparison.table
    assert table.loc["Edema", "changed_before"] == 0
    negative = (desk.cohort.head(1000).table["Edema"] == "N").mean()
    assert 0.4 < table.loc["Edema", "changed_after"] <= negative
    html = effect_html(effect)
    assert "do(Site=C)" in html
    assert f"{table.loc['Edema', 'changed_after']:.1%}" in html
    # Another edit has no result yet; undone, the result is there again.
    desk.add("Sex", "View")
    assert desk.result is None
    desk.undo()
    assert desk.effect is effect


def test_given_what_is_no_intervention_then_one_line_says_so(world):
    desk = GraphDesk(world, "small")
    desk.ask("Site")
    desk.value = "Z"
    with pytest.raises(InterventionError, match="Site"):
        desk.intervention()
    desk.value = "B"
    assert desk.intervention().describe() == do(Site="B").describe()


def test_given_a_new_model_when_it_is_used_then_it_is_saved_and_other_users_keep_theirs(world):
    desk, other = GraphDesk(world, "small"), GraphDesk(world, "small")
    with pytest.raises(ModelError, match="no new model yet"):
        desk.use("mine")
    with pytest.raises(ModelError, match="nothing is stale"):
        desk.retrain()
    desk.add("Site", "Edema")
    desk.retrain()
    with pytest.raises(ModelError, match="wait until it is done"):
        desk.open("small")
    new = waited(desk.job).model
    for bad in ("../up", "", "small", ".hidden", "a" * 50, "a/b"):
        with pytest.raises(ModelError, match="name "):
            desk.use(bad)
    assert desk.free_name() == "small-edited-1"
    folder = desk.use("mine")
    assert (desk.name, desk.model, desk.can_undo) == ("mine", new, False)
    assert world.models.names == ("small", "mine")
    assert world.models.first == "small"
    assert other.model is not new
    assert other.graph == SMALL
    loaded = SCM.load(folder)
    assert loaded.graph == EDITED
    sexes = (m.counterfactual(records(50), site="C", seed=3).table for m in (loaded, new))
    pd.testing.assert_frame_equal(*sexes)
    # It can be edited again, from where it stands: the old edge is nothing new.
    desk.add("Sex", "View")
    assert desk.picture().plan.retrain == {"View": "edge Sex -> View added"}


def test_given_other_cohorts_then_the_models_own_comes_first_and_another_can_be_chosen(
    model, cohort, tmp_path
):
    world = bench(model, cohort, tmp_path)
    other = records(seed=3).described("elsewhere")
    world = type(world)(world.models, {"other": other, "world": cohort}, tmp_path)
    desk = GraphDesk(world, "small")
    assert desk.cohort_name == "world"
    desk.learn_from("other")
    assert "View" in desk.picture().plan.retrain
    with pytest.raises(CohortError, match="no cohort 'nowhere'"):
        desk.learn_from("nowhere")
    assert desk.cohort_name == "other"
