"""One user's edits of a graph: what was done, what can be undone, what came of it."""

import re
from dataclasses import dataclass

import numpy as np

from causalcxr.apps.explorer.graph_svg import graph_svg
from causalcxr.apps.explorer.retraining import Retraining, RetrainingPlan, plan_retraining
from causalcxr.apps.explorer.workbench import Workbench
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention, do, parse
from causalcxr.scm.questions.model_comparison import ModelComparison, compare_models
from causalcxr.scm.scm import SCM
from causalcxr.scm.training_data import TrainingData

__all__ = ["COMPARED", "Effect", "GraphDesk", "Picture"]

COMPARED = 1000  # patients whose twins two models are compared on
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}")


@dataclass(frozen=True)
class Picture:
    """A graph as it is shown: its SVG, what is retrained, whether that is done, the marks."""

    graph: Graph
    svg: str
    plan: RetrainingPlan
    done: bool
    marks: frozenset[str]


@dataclass(frozen=True)
class Effect:
    """What an intervention does before and after: in words, what it sets, and the comparison."""

    action: str
    names: tuple[str, ...]
    comparison: ModelComparison


class GraphDesk:
    """Hold what one user does to the graph of one model; no other user sees it.

    Args:
        bench: What all users share.
        name: The model to begin with.

    Raises:
        ModelError: If there is no such model.
    """

    def __init__(self, bench: Workbench, name: str) -> None:
        self.bench = bench
        self.parent: str | None = None
        self.child: str | None = None
        self.variable: str = ""
        self.value: str = ""
        self.job: Retraining | None = None
        self.open(name)

    def open(self, name: str) -> None:
        """Begin anew with a model.

        Raises:
            ModelError: If there is none of this name, or a retraining of this user is running.
        """
        if self.running:
            raise ModelError("a retraining is running: wait until it is done, or stop it")
        self.model: SCM = self.bench.models[name]
        self.name = name
        self._graphs, self._at = [self.model.graph], 0
        self._done: dict[str, Retraining] = {}
        self._effects: dict[str, Effect] = {}
        self.parent = self.child = None
        known = {c.source: spec for spec, c in reversed(self.bench.cohorts.items())}
        self.cohort_name = known.get(self.model.trained_on, next(iter(self.bench.cohorts)))
        self._data: TrainingData | None = None
        self.job, self._job_key = None, ""

    # Edits

    @property
    def graph(self) -> Graph:
        """The graph as it is edited now."""
        return self._graphs[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit that was taken back."""
        return self._at + 1 < len(self._graphs)

    def undo(self) -> None:
        """Take the last edit back."""
        self._at = max(self._at - 1, 0)

    def redo(self) -> None:
        """Do again what was taken back."""
        self._at = min(self._at + 1, len(self._graphs) - 1)

    def add(self, parent: str, child: str) -> None:
        """Add an edge.

        Raises:
            GraphError: If it is there already, or closes a cycle, or the image would be a cause.
        """
        self._edited(self.graph.add_edge(parent, child))

    def remove(self, parent: str, child: str) -> None:
        """Remove an edge.

        Raises:
            GraphError: If it is not there, or a rule needs it.
        """
        self._edited(self.graph.remove_edge(parent, child))

    def _edited(self, graph: Graph) -> None:
        self._graphs = [*self._graphs[: self._at + 1], graph]
        self._at += 1

    @property
    def has_edge(self) -> bool:
        """Whether the chosen parent is one of the chosen child."""
        chosen = self.parent is not None and self.child is not None
        return chosen and self.parent in self.graph.parents(self.child or "")

    def point(self, name: str) -> None:
        """Choose a variable in the drawing: first the parent, then the child, then anew."""
        name = self.graph.find(name)
        if self.parent is None or self.child is not None:
            self.parent, self.child = name, None
        elif self.parent == name:
            self.parent = None
        else:
            self.child = name

    # What would be retrained, and retraining

    @property
    def cohort(self) -> Cohort:
        """What is learned from."""
        return self.bench.cohort(self.cohort_name)

    def learn_from(self, name: str) -> None:
        """Choose the cohort to learn from.

        Raises:
            CohortError: If there is none of this name.
        """
        self.bench.cohort(name)
        self.cohort_name, self._data = name, None

    def picture(self) -> Picture:
        """Draw the graph and plan the retraining. This takes a while: ask for it in a thread."""
        graph, model = self.graph, self.model
        plan = plan_retraining(model, graph, self._material())
        done = self.result is not None
        marks = dict.fromkeys(plan.retrain, "changed" if done else "stale")
        if plan.image and graph.image:
            marks[graph.image] = "stale"
        svg = graph_svg(
            graph,
            marks=marks,
            chosen=[name for name in (self.parent, self.child) if name is not None],
            added=model.graph.diff(graph).added_edges,
        )
        return Picture(graph, svg, plan, done, frozenset(marks.values()))

    def _material(self) -> TrainingData:
        if self._data is None:
            self._data = TrainingData.from_cohort(self.cohort, self.model.graph)
        return self._data

    def retrain(self) -> None:
        """Begin to learn what the edits made stale. Planning takes a while: call it in a thread.

        Raises:
            ModelError: If nothing would be learned, or another retraining is running.
        """
        plan = plan_retraining(self.model, self.graph, self._material())
        if not (plan.retrain or plan.image):
            raise ModelError("nothing is stale: edit an edge first")
        job = Retraining(self.model, plan, self._material(), self.bench.fitting)
        self.job, self._job_key = job.start(), self._key

    def settle(self) -> None:
        """Keep what a retraining came to, once it is done."""
        if self.job is not None and self.job.state == "done":
            self._done[self._job_key] = self.job

    @property
    def running(self) -> bool:
        """Whether a retraining of this user is running."""
        return self.job is not None and self.job.state == "running"

    @property
    def _key(self) -> str:
        return f"{self.graph.hash} {self.cohort_name}"

    @property
    def result(self) -> Retraining | None:
        """The retraining of the graph as it is edited now, if it is done."""
        self.settle()
        return self._done.get(self._key)

    # Before and after

    def suggested(self) -> str:
        """Return what to set for a first comparison: the parent of the last edge that changed."""
        diff = self.model.graph.diff(self.graph)
        edges = [*diff.added_edges, *diff.removed_edges]
        names = [parent for parent, _ in edges if parent in self.model.graph.tabular]
        return names[-1] if names else self.model.graph.order[0]

    def ask(self, variable: str) -> None:
        """Choose what is to be set, and a first value for it.

        Raises:
            GraphError: If there is no such variable.
        """
        chosen = self.model.graph[variable]
        self.variable = chosen.name
        self.value = ""
        if not chosen.is_discrete:
            known = self._material().columns[chosen.name]
            known = known[~np.isnan(known)]
            self.value = f"{np.quantile(known, 0.75, method='nearest'):g}" if len(known) else ""
        else:  # the rarest level that training saw: it changes most patients
            seen = {n: self.model.support.get(f"{chosen.name}={n}", 0) for n in chosen.levels}
            self.value = min(seen, key=lambda level: seen[level] or float("inf"))

    def intervention(self) -> Intervention:
        """Return what is to be done, as it stands in the two fields.

        Raises:
            CausalCXRError: If it is no intervention on this graph.
        """
        graph = self.model.graph
        name = graph.find(self.variable)
        if graph[name].is_discrete:
            action = do({name: self.value})
        else:
            action = parse([f"{name}={self.value}"])
        action.bind(graph)
        return action

    def compare(self) -> Effect:
        """Make twins under both models. This takes a while: ask for it in a thread.

        Raises:
            CausalCXRError: If nothing was retrained, or the intervention is refused.
        """
        result = self.result
        if result is None or result.model is None:
            raise ModelError("nothing to compare yet: retrain first")
        action, key = self.intervention(), self._key
        patients = self.cohort.head(COMPARED)
        found = compare_models(self.model, result.model, patients, action)
        self._effects[key] = Effect(action.describe(), tuple(action.settings), found)
        return self._effects[key]

    @property
    def effect(self) -> Effect | None:
        """The last comparison of the graph as it is edited now."""
        return self._effects.get(self._key)

    # Keeping it

    def free_name(self) -> str:
        """Return a name that no model has yet."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "-", self.name)[:30].strip("-.") or "model"
        stem = re.sub(r"-edited-\d+$", "", stem)
        taken = set(self.bench.models.names)
        numbers = range(1, len(taken) + 1000)
        names = (f"{stem}-edited-{k}" for k in numbers)
        return next(n for n in names if n not in taken and not (self.bench.folder / n).exists())

    def use(self, name: str) -> str:
        """Save the new model in a folder of its own, and go on with it; others keep theirs.

        Returns:
            The folder.

        Raises:
            ModelError: If nothing was retrained, the name is none or taken, or the folder cannot
                be written.
        """
        result = self.result
        if result is None or result.model is None:
            raise ModelError("there is no new model yet: retrain first")
        name = name.strip()
        if not _NAME.fullmatch(name):
            rule = (
                "a name has letters, digits, _, - and dots, at most 41, and begins with a letter"
            )
            raise ModelError(f"name {name!r}: {rule} or digit; it becomes a folder")
        folder = self.bench.folder / name
        if name in self.bench.models.names or folder.exists():
            raise ModelError(f"name {name!r}: it is taken; choose another")
        result.model.save(folder)
        self.bench.models.add(name, result.model, f"cx.SCM.load({str(folder)!r})")
        self.open(name)
        return str(folder)
