"""Retraining what an edit of the graph made stale, in a thread, while others go on working."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

from causalcxr.apps.explorer.graph_likelihood import HeldOut, held_out
from causalcxr.common.errors import CausalCXRError, ModelError, brief
from causalcxr.graph.diff import declaration
from causalcxr.graph.graph import Graph
from causalcxr.scm.fitting import Fitted, fit_one
from causalcxr.scm.recipe import recipe_changes
from causalcxr.scm.scm import SCM
from causalcxr.scm.support import count_support
from causalcxr.scm.training_data import TrainingData

__all__ = ["Retraining", "RetrainingPlan", "Step", "plan_retraining", "retrain"]

_BUSY = "another retraining is running in this explorer; wait until it is done, then try again"
_STOPPED = "stopped as asked: nothing was changed"


@dataclass(frozen=True)
class Step:
    """How far an equation is.

    Args:
        variable: Whose equation.
        epoch: The epochs done; 0 where it has just begun.
        epochs: The most that there can be; it may stop early.
        loss: The validation loss, where an epoch is done.
        done: Whether the equation is ready.
    """

    variable: str
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    done: bool = False


@dataclass(frozen=True)
class RetrainingPlan:
    """What would be learned anew, and why.

    Args:
        graph: The graph that would be learned: the edited one, without the image where the edit
            makes the image's equation stale.
        retrain: The variables whose equation would be learned, in order, and why.
        kept: The variables whose equation stays as it is.
        image: Why the image is left out; empty where it is not.
        seed: Of weights and batches.
    """

    graph: Graph
    retrain: Mapping[str, str]
    kept: tuple[str, ...]
    image: str
    seed: int


def plan_retraining(model: SCM, graph: Graph, data: TrainingData) -> RetrainingPlan:
    """Return what a graph, and the data to learn from, make stale of a fitted model.

    An image's equation takes hours on a GPU, so it is never learned here: it is left out where it
    is stale, and the tables remain.

    Args:
        model: The model before.
        graph: The edited graph.
        data: What there is to learn from.
    """
    stale = model.with_graph(graph).stale
    image = stale.get(graph.image or "", "")
    wanted = graph.without_variable(graph.image) if image and graph.image else graph
    seeds = Counter(each.seed for each in model.fitted.values()).most_common(1)
    seed = seeds[0][0] if seeds else 0
    reasons = {name: stale.get(name, "") for name in wanted.order}
    for name in wanted.tabular:
        if name in model.fitted and name in model.graph.variables:
            reasons[name] = _changes(model.fitted[name], wanted, name, data, seed) or reasons[name]
    retrain = {name: why for name, why in reasons.items() if why}
    kept = tuple(n for n in wanted.order if n in model.fitted and n not in retrain)
    return RetrainingPlan(wanted, retrain, kept, image, seed)


def retrain(
    model: SCM,
    plan: RetrainingPlan,
    data: TrainingData,
    *,
    tell: Callable[[Step], None] | None = None,
    stopped: Event | None = None,
) -> SCM:
    """Return the model with what a plan names learned anew, and nothing else touched.

    Args:
        model: The model before; it stays as it is, whatever happens here.
        plan: What `plan_retraining` returned for these data.
        data: What to learn from.
        tell: Called at the beginning and the end of each equation, and after each epoch.
        stopped: Where this is set, the next epoch is the last.

    Raises:
        ModelError: If it was stopped.
        MechanismError: If a loss stops being finite.
    """
    edited = model.with_graph(plan.graph)
    fitted: dict[str, Fitted] = {}
    for name in plan.graph.order:
        known: Fitted | None = edited.fitted.get(name)
        if name in plan.retrain:
            known = _learned(plan, name, data, known, tell or (lambda step: None), stopped)
        if known is not None:
            fitted[name] = known
    after = copy.copy(edited)
    after.fitted = fitted
    after.support = count_support(plan.graph, data.rows(data.train))
    after.trained_on = data.cohort.source
    after.unseen = frozenset(plan.graph.variables) - frozenset(fitted)
    return after


def _learned(
    plan: RetrainingPlan,
    name: str,
    data: TrainingData,
    known: Fitted | None,
    tell: Callable[[Step], None],
    stopped: Event | None,
) -> Fitted | None:
    """Learn one equation; an exception from its own progress is what stops it."""

    def progress(epoch: int, epochs: int, loss: float) -> None:
        if stopped is not None and stopped.is_set():
            raise ModelError(_STOPPED)
        if epoch:
            tell(Step(name, epoch, epochs, loss))

    progress(0, 0, 0.0)
    tell(Step(name))
    learned = fit_one(plan.graph, name, data, known, seed=plan.seed, progress=progress)
    tell(Step(name, done=True))
    return learned


def _changes(known: Fitted, graph: Graph, name: str, data: TrainingData, seed: int) -> str:
    """Return in words what differs from what an equation was learned from; often nothing."""
    was = known.recipe
    if not was:
        return ""
    now = {**was, **declaration(graph, name), "seed": seed}
    if was["records"]:  # otherwise no record entered
        columns = {n: data.fingerprint([n]) for n in sorted({name, *graph.parents(name)})}
        read = set(was["columns"])
        columns = {n: digest for n, digest in columns.items() if n in read}
        now |= {"records": data.record_fingerprint(), "columns": {**was["columns"], **columns}}
    return "; ".join(recipe_changes(was, now))


class Retraining:
    """Retrain in a thread of its own, and set the model before beside the one after.

    Args:
        model: The model before.
        plan: What is learned.
        data: What to learn from.
        lock: Held while this runs: one retraining at a time.

    Attributes:
        state: `running`, `done`, `stopped` or `failed`.
        steps: The last step of each equation that has begun.
        error: One line, where it failed or was stopped.
        model: The new model, once it is done.
        held_out: How well the changed equations predict records that did not teach them.
    """

    def __init__(self, model: SCM, plan: RetrainingPlan, data: TrainingData, lock: Lock) -> None:
        self.before, self.plan, self._data, self._lock = model, plan, data, lock
        self._stopped = Event()
        self.state, self.error = "running", ""
        self.steps: Mapping[str, Step] = {}
        self.model: SCM | None = None
        self.held_out: HeldOut | None = None

    def start(self) -> "Retraining":
        """Begin, and return at once.

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
        """Ask it to stop after the epoch that it is at."""
        self._stopped.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped.is_set()

    def _run(self) -> None:
        try:
            model = retrain(
                self.before, self.plan, self._data, tell=self._tell, stopped=self._stopped
            )
            self.held_out = held_out(self.before, model, self._data)
            self.model, self.state = model, "done"
        except CausalCXRError as fault:
            self.error, self.state = str(fault), "stopped" if self.stopping else "failed"
        except Exception as fault:  # a thread that dies silently would leave the page waiting
            self.error = f"unexpected {type(fault).__name__}: {brief(fault)}; nothing was changed"
            self.state = "failed"
        finally:
            self._lock.release()

    def _tell(self, step: Step) -> None:
        self.steps = {**self.steps, step.variable: step}  # whole or not at all for a reader
