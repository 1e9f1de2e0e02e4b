"""Rendering of twins in one background thread, with progress, and stopped on request.

A table must not wait for an image. So images are rendered one after the other by a single thread
of low priority, which reports how many evaluations of the network are done.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from causalcxr.apps.explorer.question import AbductedPatient, Question
from causalcxr.common.errors import CausalCXRError, CohortError, ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.image import ImageEquation, ImageMechanism
from causalcxr.mechanisms.image_equation import Chunk
from causalcxr.radit.codec import Pixels
from causalcxr.scm.prediction import bind
from causalcxr.scm.support import equal

__all__ = ["RenderJob", "RenderQueue", "lower_priority", "render_twins"]

_KEPT = 2**25  # numbers of image noise that are kept: 256 MiB
_PREVIEW = 3  # evaluations between two previews
_NICE = 10  # priority of the thread, where the system has one for each thread

Report = Callable[[dict[str, Any]], None]
# Evaluations done, evaluations expected, and a preview of the image or None.
Tick = Callable[[int, int, np.ndarray | None], None]


class _Stopped(Exception):
    """The job was stopped."""


@dataclass(eq=False)
class RenderJob:
    """Images of one patient to render, one for each question.

    Args:
        abducted: The patient and the model.
        questions: One image each.
        report: Called with events, from another thread: {"ahead"}, {"step", "steps"} with
            "preview", {"image"} with "number", at last {"done"} or {"error"}.
    """

    abducted: AbductedPatient
    questions: Sequence[Question]
    report: Report
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Stop the job; the thread takes the next one within an evaluation of the network."""
        self.stopped.set()


class RenderQueue:
    """Render images in the order of the requests, in one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "rendering", initializer=lower_priority)
        self._noise: OrderedDict[tuple, Tensor] = OrderedDict()
        self._waiting = 0
        self._lock = threading.Lock()

    def submit(self, job: RenderJob) -> None:
        """Queue a job, and report how many are before it."""
        with self._lock:
            job.report({"ahead": self._waiting})
            self._waiting += 1
        self._pool.submit(self._work, job)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, job: RenderJob) -> None:
        try:
            self._render(job)
        except _Stopped:
            pass
        except CausalCXRError as error:
            job.report({"error": str(error)})
        except Exception as error:
            job.report({"error": f"rendering the image failed ({type(error).__name__})"})
            raise
        finally:
            with self._lock:
                self._waiting -= 1

    def _render(self, job: RenderJob) -> None:
        # The only place where a running job can stop: between two evaluations of the network.
        def tick(step: int, steps: int, preview: np.ndarray | None) -> None:
            if job.stopped.is_set():
                raise _Stopped
            job.report({"step": step, "steps": steps, "preview": preview})

        if job.stopped.is_set():
            raise _Stopped
        # Each image is reported as soon as it is ready.
        twins = render_twins(job.abducted, job.questions, tick, self._noise)
        for number, image in enumerate(twins):
            job.report({"number": number, "image": image})
        while sum(noise.numel() for noise in self._noise.values()) > _KEPT:
            self._noise.popitem(last=False)
        job.report({"done": True})


def render_twins(
    abducted: AbductedPatient,
    questions: Sequence[Question],
    tick: Tick | None = None,
    kept: OrderedDict[tuple, Tensor] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the twin's image under each question, (H, W) float64 between 0 and 1.

    The images equal those of `SCM.counterfactual` up to rounding: here the network processes one
    image at a time, there sixteen. The image's noise is abducted once for all questions.

    Args:
        abducted: The patient, with an image, and the model.
        questions: One image each.
        tick: Called after each evaluation of the network; an exception from it ends the work.
        kept: A cache of the noise of images.

    Raises:
        CohortError: If the patient has no image, or one that is smaller than the model's.
        ModelError: If the model has no equation for an image.
        InterventionError: As `SCM.predict` does.
        MechanismError: If the solver does not converge.
    """
    factual, kept = _factual(abducted), OrderedDict() if kept is None else kept
    fitted = abducted.model.fitted[abducted.model.graph.image].mechanism
    # Refuses an image that is smaller than the model's.
    resampling = Resampling(tuple(factual.shape[-2:]), fitted.image_size)
    # Action: the twin's table, and whether a parent of the image differs from the facts.
    twins = [abducted.twin(question) for question in questions]
    models = [abducted.model.do(question.action, hold=question.hold) for question in questions]
    changed = [_image_parents_change(abducted, twin) for twin in twins]
    # The number of evaluations is known in advance, for the progress.
    counter = _EvaluationCounter(tick or (lambda *_: None), resampling.visible)
    mechanism = _counted(fitted, counter)
    facts = bind(mechanism, abducted.noise.columns)
    counter.steps = _expected(
        facts, [m._reached for m, is_new in zip(models, changed, strict=True) if is_new]
    )
    for twin, model, is_new in zip(twins, models, changed, strict=True):
        # No parent of the image changes, so the twin's image is the factual one.
        if not is_new:
            yield factual[0, 0].numpy()
            continue
        # Abduction and prediction of the image; previews show the latter.
        noise = _noise(abducted, facts.reaching(model._reached), factual, kept, counter)
        columns = {name: torch.from_numpy(column) for name, column in twin.items()}
        counter.has_previews = isinstance(mechanism.codec, Pixels)
        equation = bind(mechanism, columns).reaching(model._reached).sized(*factual.shape[-2:])
        image = equation.predict(noise)
        counter.has_previews = False
        yield np.clip(image.numpy()[0, 0], 0, 1)


def _factual(abducted: AbductedPatient) -> Tensor:
    """Return the factual image, (1, 1, H, W), float64."""
    graph, images = abducted.model.graph, abducted.patient.images
    if graph.image is None or graph.image not in abducted.model.fitted:
        raise ModelError("the model has no equation for an image; only the table is available")
    if images is None or not images.available[0]:
        raise CohortError("this record has no image; choose one with an image, or use the table")
    return torch.from_numpy(images[0].astype(np.float64))


def _image_parents_change(abducted: AbductedPatient, twin: Mapping[str, np.ndarray]) -> bool:
    """Return whether a parent of the image differs from its factual value."""
    graph, facts = abducted.model.graph, abducted.noise.columns
    return not all(equal(facts[p].numpy(), twin[p]).all() for p in graph.parents(graph.image))


@dataclass
class _EvaluationCounter:
    """Count the evaluations of a network, and send previews at the size of the model."""

    tick: Tick
    visible: tuple[slice, slice]
    steps: int = 0
    done: int = 0
    has_previews: bool = False

    def __call__(self, net: nn.Module, args: tuple, velocity: Tensor) -> None:
        """Count one evaluation: v at (x, t), which predicts the image x + (1 - t) v."""
        self.done += 1
        preview = None
        if self.has_previews and self.done % _PREVIEW == 0:
            x, t = args[:2]
            # Follow the velocity straight to the image at t = 1.
            image = x + (1 - t[0]) * velocity
            # From [-1, 1] to grey values.
            preview = ((image[0, 0][self.visible].float().cpu().numpy() + 1) / 2).clip(0, 1)
        self.tick(self.done, max(self.steps, self.done), preview)


def _counted(mechanism: ImageMechanism, counter: _EvaluationCounter) -> ImageMechanism:
    """Return an equation with shared weights that processes one image at a time and counts."""
    net, counted = copy(mechanism.net), copy(mechanism)
    # The copy has its own hooks, so that it does not count evaluations of other threads.
    net._forward_hooks = OrderedDict()
    counted._modules = dict(mechanism._modules) | {"net": net}
    counted.chunk = Chunk(1, mechanism.chunk.half)
    net.register_forward_hook(counter)
    return counted


class _CountingNetwork:
    """A network that returns zero and counts its evaluations."""

    def __init__(self, net: nn.Module) -> None:
        self.config, self._parameter, self.count = net.config, next(net.parameters()), 0

    def parameters(self) -> Iterator[Tensor]:
        return iter([self._parameter])

    def embed_condition(self, columns: Mapping[str, Tensor], rows: int) -> str:
        return ""  # None would mean no guidance

    def __call__(self, x: Tensor, t: Tensor, condition: str) -> Tensor:
        self.count += 1
        return torch.zeros_like(x)


def _expected(facts: ImageEquation, reached: Sequence[Collection[str]]) -> int:
    """Return the evaluations for some images: one abduction per guidance, one prediction each."""
    if not reached:
        return 0
    # Abduction is shared by images of equal guidance, prediction by none.
    equations = [facts.reaching(names) for names in reached]
    counts = {_guidance(equation): _evaluations(equation) for equation in equations}
    abductions = sum(abduction for abduction, _ in counts.values())
    return abductions + sum(counts[_guidance(equation)][1] for equation in equations)


def _evaluations(equation: ImageEquation) -> tuple[int, int]:
    """Return how many evaluations abduction takes, and how many prediction."""
    # A dry run with a network that costs nothing.
    counting = _CountingNetwork(equation.net)
    solving = replace(equation.solving, chunk=Chunk(1))
    dry = type(equation)(counting, equation.parents, solving, Pixels())
    dry.image = dry.latent  # the image is its own latent, so that no codec is needed
    noise = dry.abduct(torch.zeros(1, *dry.latent), Draws(np.zeros(1, np.uint64)))
    abduction = counting.count
    dry.predict(noise)
    return abduction, counting.count - abduction


def _guidance(equation: ImageEquation) -> frozenset[str]:
    """Return what abduction depends on besides the facts."""
    return equation.solving.guided if equation.solving.uses_guidance else frozenset()


def _noise(
    abducted: AbductedPatient,
    equation: ImageEquation,
    factual: Tensor,
    kept: OrderedDict[tuple, Tensor],
    counter: _EvaluationCounter,
) -> Tensor:
    """Return the noise of the patient's image, abducted once."""
    key = (abducted, _guidance(equation))
    if key not in kept:
        draws = abducted.noise.draws.on(abducted.model.graph.image)
        kept[key] = equation.sized(*factual.shape[-2:]).abduct(factual, draws)
    # The noise is already known, so fewer evaluations are expected.
    elif not counter.done:
        counter.steps -= _evaluations(equation)[0]
    kept.move_to_end(key)
    return kept[key]


def lower_priority() -> None:
    """Lower the priority of this thread, and use half of the cores."""
    # Half of the cores stay free, so that tables are answered while an image is rendered.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
