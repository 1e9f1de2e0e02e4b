"""The twin's image in the explorer: the model's own, with progress, one after the other."""

import queue
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from explorers import GRAPH, fitted, patients

from causalcxr.apps.explorer.filming import Darkroom, Take, films
from causalcxr.apps.explorer.question import Question, Visit
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.common.threads import one_thread
from causalcxr.graph import Graph
from causalcxr.images.images import ArrayImages
from causalcxr.scm import SCM

SICK = Question({"Pleural Effusion": "P"})


@pytest.fixture(scope="module")
def model():
    made = fitted()
    made.fitted["Image"].mechanism.chunk.size = 2  # in place of 16 images at a time, for speed
    return made


@pytest.fixture(scope="module")
def patient():
    cohort = patients(8)
    row = int(np.flatnonzero(cohort.table["Pleural Effusion"] == "N")[0])
    return cohort.at([row])


def with_options(model, **options):
    """Return the model with another way to solve the image's equation."""
    name = model.graph.image
    text = GRAPH.replace("solver_steps: 4", ", ".join(f"{k}: {v}" for k, v in options.items()))
    learned = SCM(Graph.parse(text)).fit(patients(60).with_images(None), progress=False)
    fitted_ = dict(model.fitted) | {name: learned.fitted[name]}
    return model._with(graph=learned.graph, fitted=fitted_)


def test_given_a_question_then_the_image_is_the_models_but_for_rounding(model, patient):
    questions = [SICK, Question({"Sex": "M", "Age": 20})]
    made = list(films(Visit(model, patient), questions))
    for image, question in zip(made, questions, strict=True):
        twin = model.counterfactual(patient, question.action).images[0][0, 0]
        assert np.abs(image - twin).max() < 2e-6
        assert np.abs(twin - patient.images[0][0, 0]).max() > 0.05


def test_given_nothing_that_moves_the_image_then_it_is_the_factual_one_bit_for_bit(model, patient):
    ticks = []
    [image] = films(Visit(model, patient), [Question({"Site": "B"})], lambda *t: ticks.append(t))
    assert (image == patient.images[0][0, 0]).all()
    assert ticks == []


@pytest.mark.parametrize(
    "options",
    [
        {"solver_steps": 3, "method": "reversible"},
        {"solver_steps": 3, "method": "leapfrog"},
        {"solver_steps": 2, "method": "midpoint"},
        {"solver_steps": 2, "method": "reversible", "guidance": 1.5},
    ],
    ids=str,
)
def test_given_any_solver_then_progress_counts_to_what_was_said(model, patient, options):
    other, ticks, kept = with_options(model, **options), [], OrderedDict()
    visit = Visit(other, patient)
    list(films(visit, [SICK], lambda *t: ticks.append(t[:2]), kept))
    steps = ticks[0][1]
    assert ticks == [(k, steps) for k in range(1, steps + 1)]
    again = []
    list(films(visit, [SICK], lambda *t: again.append(t[:2]), kept))
    # The way to noise is known: about half of the evaluations are left.
    assert again == [(k, again[0][1]) for k in range(1, again[0][1] + 1)]
    assert len(again) < 0.7 * len(ticks)


def test_given_a_film_in_the_making_then_previews_come_closer_to_it(model, patient):
    shown = []
    [image] = films(
        Visit(model, patient), [SICK], lambda *t: t[2] is not None and shown.append(t[2])
    )
    errors = [np.abs(preview - image).mean() for preview in shown]
    assert len(shown) >= 2
    assert errors[-1] < errors[0]
    assert errors[-1] < 0.1


def test_given_who_waits_no_longer_then_the_next_one_is_made(model, patient):
    room, told = Darkroom(), queue.Queue()
    visit = Visit(model, patient)
    first = Take(visit, [SICK], lambda event: told.put(("first", event)))
    second = Take(visit, [Question({"Sex": "M"})], lambda event: told.put(("second", event)))
    first.stop()
    with one_thread():
        room.submit(first)
        room.submit(second)
        heard = []
        while not heard or "done" not in heard[-1][1]:
            heard.append(told.get(timeout=60))
    room.close()
    assert not any("image" in event for who, event in heard if who == "first")
    assert [event["ahead"] for who, event in heard if "ahead" in event] in ([0, 1], [0, 0])
    images = [event["image"] for who, event in heard if "image" in event]
    twin = model.counterfactual(patient, {"Sex": "M"}).images[0][0, 0]
    assert len(images) == 1
    assert np.abs(images[0] - twin).max() < 2e-6


def test_given_a_model_that_does_not_converge_then_who_waits_is_told(model, patient):
    room, told = Darkroom(), queue.Queue()
    name = model.graph.image
    wild = with_options(model, solver_steps=2)
    net = wild.fitted[name].mechanism.net
    with one_thread():
        for weights in net.parameters():
            weights.requires_grad_(False).mul_(50.0)
        room.submit(Take(Visit(wild, patient), [SICK], told.put))
        heard = [told.get(timeout=60)]
        while "error" not in heard[-1] and "done" not in heard[-1]:
            heard.append(told.get(timeout=60))
    room.close()
    assert "the solver did not converge" in heard[-1]["error"]


def test_given_no_image_or_no_equation_of_one_then_one_line_says_so(model, patient):
    with pytest.raises(CohortError, match="this record has no image"):
        list(films(Visit(model, patient.with_images(None)), [SICK]))
    small = patient.with_images(ArrayImages(np.zeros((1, 32, 32), np.uint8)))
    with pytest.raises(ModelError, match="32 x 32 pixels, the model's are 64 x 64"):
        list(films(Visit(model, small), [SICK]))
    graph = model.graph.without_variable("Image")
    bare = model.with_graph(graph)
    with pytest.raises(ModelError, match="no equation of an image"):
        list(films(Visit(bare, patient), [SICK]))


def test_given_a_watched_network_then_the_models_own_has_no_hook_left(model, patient):
    net = model.fitted["Image"].mechanism.net
    list(films(Visit(model, patient), [replace(SICK)]))
    assert not net._forward_hooks
    assert model.fitted["Image"].mechanism.chunk.size == 2
