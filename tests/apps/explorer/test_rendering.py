"""Rendering of twins in the explorer: equal to the model's, with progress, in a queue."""

import queue
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from explorers import GRAPH, fitted, patients

from causalcxr.apps.explorer.question import AbductedPatient, Question
from causalcxr.apps.explorer.rendering import RenderJob, RenderQueue, render_twins
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.common.threads import one_thread
from causalcxr.graph import Graph
from causalcxr.images.images import ArrayImages
from causalcxr.scm import SCM

SICK = Question({"Pleural Effusion": "P"})


@pytest.fixture(scope="module")
def model():
    copied = deepcopy(fitted())
    copied.fitted["Image"].mechanism.chunk.size = 2  # instead of 16 images at a time, for speed
    return copied


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


def test_rendered_twin_equals_the_counterfactual_up_to_rounding(model, patient):
    questions = [SICK, Question({"Sex": "M", "Age": 20})]
    made = list(render_twins(AbductedPatient(model, patient), questions))
    for image, question in zip(made, questions, strict=True):
        twin = model.counterfactual(patient, question.action).images[0][0, 0]
        assert np.abs(image - twin).max() < 2e-6
        assert np.abs(twin - patient.images[0][0, 0]).max() > 0.05


def test_unchanged_parents_return_the_factual_image_bit_exact(model, patient):
    ticks = []
    [image] = render_twins(
        AbductedPatient(model, patient), [Question({"Site": "B"})], lambda *t: ticks.append(t)
    )
    assert (image == patient.images[0][0, 0]).all()
    assert ticks == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"solver_steps": 3, "method": "reversible"}, marks=pytest.mark.slow),
        {"solver_steps": 3, "method": "leapfrog"},
        {"solver_steps": 2, "method": "midpoint"},
        {"solver_steps": 2, "method": "reversible", "guidance": 1.5},
    ],
    ids=str,
)
def test_progress_counts_to_the_expected_evaluations(model, patient, options):
    other, ticks, kept = with_options(model, **options), [], OrderedDict()
    abducted = AbductedPatient(other, patient)
    list(render_twins(abducted, [SICK], lambda *t: ticks.append(t[:2]), kept))
    steps = ticks[0][1]
    assert ticks == [(k, steps) for k in range(1, steps + 1)]
    again = []
    list(render_twins(abducted, [SICK], lambda *t: again.append(t[:2]), kept))
    # The way to noise is known: about half of the evaluations are left.
    assert again == [(k, again[0][1]) for k in range(1, again[0][1] + 1)]
    assert len(again) < 0.7 * len(ticks)


def test_previews_approach_the_image(model, patient):
    shown = []
    [image] = render_twins(
        AbductedPatient(model, patient), [SICK], lambda *t: t[2] is not None and shown.append(t[2])
    )
    errors = [np.abs(preview - image).mean() for preview in shown]
    assert len(shown) >= 2
    assert errors[-1] < errors[0]
    assert errors[-1] < 0.1


def test_stopped_job_lets_the_next_one_run(model, patient):
    render_queue, events = RenderQueue(), queue.Queue()
    abducted = AbductedPatient(model, patient)
    first = RenderJob(abducted, [SICK], lambda event: events.put(("first", event)))
    second = RenderJob(
        abducted, [Question({"Sex": "M"})], lambda event: events.put(("second", event))
    )
    first.stop()
    with one_thread():
        render_queue.submit(first)
        render_queue.submit(second)
        received = []
        while not received or "done" not in received[-1][1]:
            received.append(events.get(timeout=60))
    render_queue.close()
    assert not any("image" in event for who, event in received if who == "first")
    assert [event["ahead"] for who, event in received if "ahead" in event] in ([0, 1], [0, 0])
    images = [event["image"] for who, event in received if "image" in event]
    twin = model.counterfactual(patient, {"Sex": "M"}).images[0][0, 0]
    assert len(images) == 1
    assert np.abs(images[0] - twin).max() < 2e-6


def test_solver_failure_is_reported(model, patient):
    render_queue, events = RenderQueue(), queue.Queue()
    name = model.graph.image
    wild = with_options(model, solver_steps=2)
    net = wild.fitted[name].mechanism.net
    with one_thread():
        for weights in net.parameters():
            weights.requires_grad_(False).mul_(50.0)
        render_queue.submit(RenderJob(AbductedPatient(wild, patient), [SICK], events.put))
        received = [events.get(timeout=60)]
        while "error" not in received[-1] and "done" not in received[-1]:
            received.append(events.get(timeout=60))
    render_queue.close()
    assert "the solver did not converge" in received[-1]["error"]


def test_missing_image_or_equation_is_refused(model, patient):
    with pytest.raises(CohortError, match="this record has no image"):
        list(render_twins(AbductedPatient(model, patient.with_images(None)), [SICK]))
    small = patient.with_images(ArrayImages(np.zeros((1, 32, 32), np.uint8)))
    with pytest.raises(CohortError, match="32 x 32 pixels, smaller than the model's 64 x 64"):
        list(render_twins(AbductedPatient(model, small), [SICK]))
    graph = model.graph.without_variable("Image")
    bare = model.with_graph(graph)
    with pytest.raises(ModelError, match="no equation for an image"):
        list(render_twins(AbductedPatient(bare, patient), [SICK]))


def test_counting_leaves_no_hook_on_the_model(model, patient):
    net = model.fitted["Image"].mechanism.net
    list(render_twins(AbductedPatient(model, patient), [replace(SICK)]))
    assert not net._forward_hooks
    assert model.fitted["Image"].mechanism.chunk.size == 2
