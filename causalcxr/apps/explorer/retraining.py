"""Retraining of equations that an edit of the graph made stale, in a background thread."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

from causalcxr.apps.explorer.held_out_likelihood import HeldOutLikelihood, held_out
from causalcxr.common.errors import CausalCXRError, ModelError, brief
from causalcxr.graph.diff import declaration
from causalcxr.graph.graph import Graph
from causalcxr.scm.fitting import Fitted, fit_one
from causalcxr.scm.recipe import recipe_changes
from causalcxr.scm.scm import SCM
from causalcxr.scm.support import count_support
from causalcxr.scm.training_data import TrainingData

__all__ = ["Retraining", "RetrainingPlan", "Step", "plan_retraining", "retrain"]

_BUSY = "another retraining is running in this explorer; try again when it has ended"
_STOPPED = "stopped on request: nothing was changed"


@dataclass(frozen=True)
class Step:
    """Hold the progress of one equation.

    Args:
        variable: The variable of the equation.
        epoch: Epochs done; 0 at the start.
        epochs: The largest number of epochs; training may stop early.
        loss: The validation loss after the epoch; NaN at the start.
        done: Whether the equation is ready.
    """

    variable: str
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    done: bool = False


@dataclass(frozen=True)
class RetrainingPlan:
    """Hold which equations would be retrained, and why.

    Args:
        graph: The graph of the new model: the edited one, without the image if the edit makes
            the image's equation stale.
        retrain: The variables whose equation would be retrained, in order, with the reason.
        kept: The variables whose equation is kept.
        image: Why the image is left out; empty if it is not.
        seed: Of weights and batches.
    """

    graph: Graph
    retrain: Mapping[str, str]
    kept: tuple[str, ...]
    image: str
    seed: int


def plan_retraining(model: SCM, graph: Graph, data: TrainingData) -> RetrainingPlan:
    """Return which equations of a fitted model an edited graph or new data make stale.

    An image's equation takes hours on a GPU, so it is never retrained here: a stale one is left
    out, and the new model has tables only.

    Args:
        model: The model before.
        graph: The edited graph.
        data: The training data.
    """
    # Stale by the graph, before the data are looked at.
    stale = model.with_graph(graph).stale
    image = stale.get(graph.image or "", "")
    target = graph.without_variable(graph.image) if image and graph.image else graph
    # The seed that most equations were fitted with, so that only stale ones differ.
    seeds = Counter(fitted.seed for fitted in model.fitted.values()).most_common(1)
    seed = seeds[0][0] if seeds else 0
    reasons = {name: stale.get(name, "") for name in target.order}
    for name in target.tabular:
        if name in model.fitted and name in model.graph.variables:
            reasons[name] = _changes(model.fitted[name], target, name, data, seed) or reasons[name]
    retrain = {name: why for name, why in reasons.items() if why}
    kept = tuple(n for n in target.order if n in model.fitted and n not in retrain)
    return RetrainingPlan(target, retrain, kept, image, seed)


def retrain(
    model: SCM,
    plan: RetrainingPlan,
    data: TrainingData,
    *,
    report: Callable[[Step], None] | None = None,
    stopped: Event | None = None,
) -> SCM:
    """Return a model with the equations of a plan retrained, and all others shared.

    Args:
        model: The model before; it does not change.
        plan: The result of `plan_retraining` for these data.
        data: The training data.
        report: Called at the start and the end of each equation, and after each epoch.
        stopped: Once this is set, the next epoch is the last.

    Raises:
        ModelError: If it was stopped.
        MechanismError: If a loss is not finite.
    """
    # In the order of the graph; equations that are not stale are shared, not copied.
    edited = model.with_graph(plan.graph)
    fitted: dict[str, Fitted] = {}
    for name in plan.graph.order:
        equation: Fitted | None = edited.fitted.get(name)
        if name in plan.retrain:
            equation = _refit(plan, name, data, equation, report or (lambda step: None), stopped)
        if equation is not None:
            fitted[name] = equation
    # A shallow copy: the model before does not change.
    after = copy.copy(edited)
    after.fitted = fitted
    after.support = count_support(plan.graph, data.rows(data.train))
    after.trained_on = data.cohort.source
    after.unseen = frozenset(plan.graph.variables) - frozenset(fitted)
    return after


def _refit(
    plan: RetrainingPlan,
    name: str,
    data: TrainingData,
    previous: Fitted | None,
    report: Callable[[Step], None],
    stopped: Event | None,
) -> Fitted | None:
    """Fit one equation; an exception from its progress callback stops it."""

    def progress(epoch: int, epochs: int, loss: float) -> None:
        if stopped is not None and stopped.is_set():
            raise ModelError(_STOPPED)
        if epoch:
            report(Step(name, epoch, epochs, loss))

    # A stop that was requested earlier takes effect here.
    progress(0, 0, 0.0)
    report(Step(name))
    refitted = fit_one(plan.graph, name, data, previous, seed=plan.seed, progress=progress)
    report(Step(name, done=True))
    return refitted


def _changes(fitted: Fitted, graph: Graph, name: str, data: TrainingData, seed: int) -> str:
    """Return what differs from the recipe of an equation, in words; "" if nothing does."""
    old = fitted.recipe
    if not old:
        return ""
    new = {**old, **declaration(graph, name), "seed": seed}
    if old["records"]:  # otherwise the equation was not learned from records
        columns = {n: data.fingerprint([n]) for n in sorted({name, *graph.parents(name)})}
        columns = {n: digest for n, digest in columns.items() if n in old["columns"]}
        new |= {"records": data.record_fingerprint(), "columns": {**old["columns"], **columns}}
    return "; ".join(recipe_changes(old, new))


class Retraining:
    """Retrain in a background thread, then compare the models before and after.

    Args:
        model: The model before.
        plan: Which equations are retrained.
        data: The training data.
        lock: Held during the retraining: one at a time.

    Attributes:
        state: `running`, `done`, `stopped` or `failed`.
        steps: The latest progress of each equation that has started.
        error: One line, if it failed or was stopped.
        model: The new model, once it is done.
        held_out: How well the changed equations predict records outside their training data.
    """

    def __init__(self, model: SCM, plan: RetrainingPlan, data: TrainingData, lock: Lock) -> None:
        self.before, self.plan, self._data, self._lock = model, plan, data, lock
        self._stopped = Event()
        self.state, self.error = "running", ""
        self.steps: Mapping[str, Step] = {}
        self.model: SCM | None = None
        self.held_out: HeldOutLikelihood | None = None

    def start(self) -> "Retraining":
        """Start the thread and return immediately.

        Raises:
            ModelError: If another retraining is running.
        """
        if not self._lock.acquire(blocking=False):
            raise ModelError(_BUSY)
        try:
            Thread(target=self._run, name="retraining", daemon=True).start()
        except BaseException:
            self._lock.release()
            raise
        return self

    def stop(self) -> None:
        """Stop after the current epoch."""
        self._stopped.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stopped.is_set()

    def _run(self) -> None:
        try:
            model = retrain(
                self.before, self.plan, self._data, report=self._report, stopped=self._stopped
            )
            self.held_out = held_out(self.before, model, self._data)
            self.model, self.state = model, "done"
        # A stop arrives as an error, too.
        except CausalCXRError as fault:
            self.error, self.state = str(fault), "stopped" if self.stopping else "failed"
        except Exception as fault:  # otherwise the page would wait for a thread that has ended
            self.error = f"unexpected {type(fault).__name__}: {brief(fault)}; nothing was changed"
            self.state = "failed"
        finally:
            # In every case, so that the next retraining can start.
            self._lock.release()

    def _report(self, step: Step) -> None:
        self.steps = {**self.steps, step.variable: step}  # replaced at once, for other threads
