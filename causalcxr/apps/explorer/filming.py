"""The twin's image, made by one thread in the background: with progress, and stopped at will.

A table must not wait for an image. So images are made one after the other by a single thread that
gives way to all others, and whoever waits for one is told how many network evaluations are done.
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

from causalcxr.apps.explorer.question import Question, Visit
from causalcxr.common.errors import CausalCXRError, CohortError, ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.image import ImageEquation, ImageMechanism
from causalcxr.mechanisms.image_equation import Chunk
from causalcxr.radit.codec import Pixels
from causalcxr.scm.prediction import bind
from causalcxr.scm.support import equal

__all__ = ["Darkroom", "Take", "films", "gives_way"]

_KEPT = 32  # patients whose image noise is remembered
_PREVIEW = 3  # evaluations between two previews
_NICE = 10  # how far the thread gives way, where the system lets a thread do so

Tell = Callable[[dict[str, Any]], None]
# Evaluations done of how many, and what the image will look like as far as is known, or None.
Tick = Callable[[int, int, np.ndarray | None], None]


class _Stopped(Exception):
    """The image is wanted no longer."""


@dataclass(eq=False)
class Take:
    """Images that somebody waits for: the same patient, one question each.

    Args:
        visit: The patient and the model.
        questions: One image each.
        tell: Gets events, from another thread: {"ahead"}, {"step", "steps"} with "preview",
            {"image"} with "number", at last {"done"} or {"error"}.
    """

    visit: Visit
    questions: Sequence[Question]
    tell: Tell
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Say that nobody waits any more; the thread goes on with the next within a step."""
        self.stopped.set()


class Darkroom:
    """Make images in the order in which they are asked for, in one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "films", initializer=gives_way)
        self._noise: OrderedDict[tuple, Tensor] = OrderedDict()
        self._waiting = 0
        self._lock = threading.Lock()

    def submit(self, take: Take) -> None:
        """Put a take in the queue, and tell it how many are before it."""
        with self._lock:
            take.tell({"ahead": self._waiting})
            self._waiting += 1
        self._pool.submit(self._work, take)

    def close(self) -> None:
        """Let go of the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, take: Take) -> None:
        try:
            self._make(take)
        except _Stopped:
            pass
        except CausalCXRError as error:
            take.tell({"error": str(error)})
        except Exception as error:
            take.tell({"error": f"the image could not be made ({type(error).__name__})"})
            raise
        finally:
            with self._lock:
                self._waiting -= 1

    def _make(self, take: Take) -> None:
        def tick(step: int, steps: int, preview: np.ndarray | None) -> None:
            if take.stopped.is_set():
                raise _Stopped
            take.tell({"step": step, "steps": steps, "preview": preview})

        if take.stopped.is_set():
            raise _Stopped
        for number, image in enumerate(films(take.visit, take.questions, tick, self._noise)):
            take.tell({"number": number, "image": image})
        while len(self._noise) > _KEPT:
            self._noise.popitem(last=False)
        take.tell({"done": True})


def films(
    visit: Visit,
    questions: Sequence[Question],
    tick: Tick | None = None,
    kept: OrderedDict[tuple, Tensor] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the twin's image under each question, (H, W) float64 between 0 and 1.

    It is what `SCM.counterfactual` gives, but for rounding: the network sees one image at a time
    rather than sixteen. The way to noise is gone once, whatever is asked afterwards.

    Args:
        visit: The patient, with an image, and the model.
        questions: One image each.
        tick: Called after each evaluation of the network; what it raises ends the work.
        kept: Where the noise of images is looked up and put.

    Raises:
        CohortError: If the patient has no image.
        ModelError: If the model has no equation of an image, or one of another size.
        InterventionError: As `SCM.predict` does.
        MechanismError: If the solver did not converge.
    """
    factual, kept = _factual(visit), OrderedDict() if kept is None else kept
    twins = [visit.twin(question) for question in questions]
    acted = [visit.model.do(question.action, hold=question.hold) for question in questions]
    moved = [_moved(visit, twin) for twin in twins]
    reel = _Reel(tick or (lambda *_: None))
    mechanism = _watched(visit.model.fitted[visit.model.graph.image].mechanism, reel)
    facts = bind(mechanism, visit.noise.columns)
    reel.steps = _expected(
        facts, [m._reached for m, some in zip(acted, moved, strict=True) if some]
    )
    for twin, model, some in zip(twins, acted, moved, strict=True):
        if not some:
            yield factual[0, 0].numpy()
            continue
        noise = _noise(visit, facts.reaching(model._reached), factual, kept, reel)
        columns = {name: torch.from_numpy(column) for name, column in twin.items()}
        reel.shows = isinstance(mechanism.codec, Pixels)
        made = bind(mechanism, columns).reaching(model._reached).predict(noise)
        reel.shows = False
        yield np.clip(made.numpy()[0, 0], 0, 1)


def _factual(visit: Visit) -> Tensor:
    """Return the factual image, (1, 1, H, W), float64."""
    graph, images = visit.model.graph, visit.patient.images
    if graph.image is None or graph.image not in visit.model.fitted:
        raise ModelError("the model has no equation of an image; the table is all that it knows")
    if images is None or not images.available[0]:
        raise CohortError("this record has no image; choose one that has, or look at the table")
    size = visit.model.fitted[graph.image].mechanism.image_size
    if images.size != size:
        raise ModelError(
            f"the image is {images.size[0]} x {images.size[1]} pixels, the model's are {size[0]} "
            f"x {size[1]}; load the cohort with size={size[0]}"
        )
    return torch.from_numpy(images[0].astype(np.float64))


def _moved(visit: Visit, twin: Mapping[str, np.ndarray]) -> bool:
    """Return whether a parent of the image is another than in the facts."""
    graph, facts = visit.model.graph, visit.noise.columns
    return not all(equal(facts[p].numpy(), twin[p]).all() for p in graph.parents(graph.image))


@dataclass
class _Reel:
    """Count the evaluations of a network, and show what becomes of the image."""

    tick: Tick
    steps: int = 0
    done: int = 0
    shows: bool = False

    def __call__(self, net: nn.Module, given: tuple, velocity: Tensor) -> None:
        """Note one evaluation: v at (x, t), from which the image is x + (1 - t) v."""
        self.done += 1
        preview = None
        if self.shows and self.done % _PREVIEW == 0:
            x, t = given[:2]
            image = x + (1 - t[0]) * velocity
            preview = ((image[0, 0].float().cpu().numpy() + 1) / 2).clip(0, 1)
        self.tick(self.done, max(self.steps, self.done), preview)


def _watched(mechanism: ImageMechanism, reel: _Reel) -> ImageMechanism:
    """Return an equation that shares its weights, works on one image at a time and counts."""
    net, seen = copy(mechanism.net), copy(mechanism)
    # Copies share all but these: hooks of their own, and so no other thread's evaluations.
    net._forward_hooks = OrderedDict()
    seen._modules = dict(mechanism._modules) | {"net": net}
    seen.chunk = Chunk(1, mechanism.chunk.half)
    net.register_forward_hook(reel)
    return seen


class _Blank:
    """A network that says nothing, to count how often it would be asked."""

    def __init__(self, net: nn.Module) -> None:
        self.config, self._home, self.asked = net.config, next(net.parameters()), 0

    def parameters(self) -> Iterator[Tensor]:
        return iter([self._home])

    def embed_condition(self, columns: Mapping[str, Tensor], rows: int) -> str:
        return ""  # anything but None, which would stand for no guidance

    def __call__(self, x: Tensor, t: Tensor, condition: str) -> Tensor:
        self.asked += 1
        return torch.zeros_like(x)


def _expected(facts: ImageEquation, reached: Sequence[Collection[str]]) -> int:
    """Return how many evaluations some images take, the way to noise gone once for each guide."""
    if not reached:
        return 0
    legs = {_guide(facts.reaching(names)): _legs(facts.reaching(names)) for names in reached}
    ways = [_guide(facts.reaching(names)) for names in reached]
    return sum(there for there, _ in legs.values()) + sum(legs[way][1] for way in ways)


def _legs(equation: ImageEquation) -> tuple[int, int]:
    """Return how often the network is asked on the way to noise, and on the way back."""
    blank = _Blank(equation.net)
    solving = replace(equation.solving, chunk=Chunk(1))
    dry = type(equation)(blank, equation.parents, solving, Pixels())
    dry.image = dry.latent  # an image that is all latents, so that no codec is asked
    noise = dry.abduct(torch.zeros(1, *dry.latent), Draws(np.zeros(1, np.uint64)))
    there = blank.asked
    dry.predict(noise)
    return there, blank.asked - there


def _guide(equation: ImageEquation) -> frozenset[str]:
    """Return what the way to noise depends on beside the facts."""
    return equation.solving.guided if equation.solving.uses_guidance else frozenset()


def _noise(
    visit: Visit,
    equation: ImageEquation,
    factual: Tensor,
    kept: OrderedDict[tuple, Tensor],
    reel: _Reel,
) -> Tensor:
    """Return the noise of the patient's image, found once."""
    key = (visit, _guide(equation))
    if key not in kept:
        draws = visit.noise.draws.on(visit.model.graph.image)
        kept[key] = equation.abduct(factual, draws)
    elif not reel.done:
        reel.steps -= _legs(equation)[0]
    kept.move_to_end(key)
    return kept[key]


def gives_way() -> None:
    """Let this thread give way to all others, and use half of the cores."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
