"""One user's session on the graph page: edits, retraining, comparison, saving."""

import re
from dataclasses import dataclass

import numpy as np

from causalcxr.apps.explorer.graph_svg import graph_svg
from causalcxr.apps.explorer.retraining import Retraining, RetrainingPlan, plan_retraining
from causalcxr.apps.explorer.workspace import Workspace
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention, do, parse
from causalcxr.scm.questions.model_comparison import ModelComparison, compare
from causalcxr.scm.scm import SCM
from causalcxr.scm.training_data import TrainingData

__all__ = ["COMPARED", "EffectComparison", "GraphSession", "PlannedGraph"]

COMPARED = 1000  # patients whose twins are compared between two models
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}")


@dataclass(frozen=True)
class PlannedGraph:
    """Hold a graph, its SVG, the retraining plan, whether that is done, and the marks in use."""

    graph: Graph
    svg: str
    plan: RetrainingPlan
    done: bool
    marks: frozenset[str]


@dataclass(frozen=True)
class EffectComparison:
    """Hold an intervention in words, the variables it sets, and its effects in both models."""

    action: str
    names: tuple[str, ...]
    comparison: ModelComparison


class GraphSession:
    """Hold the edits that one user makes to the graph of a model; no other user sees them.

    Args:
        workspace: What all users share.
        name: The model to start with.

    Raises:
        ModelError: If no model has this name.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.parent: str | None = None
        self.child: str | None = None
        self.variable: str = ""
        self.value: str = ""
        self.job: Retraining | None = None
        self.open(name)

    def open(self, name: str) -> None:
        """Start again with a model.

        Raises:
            ModelError: If no model has this name, or a retraining of this user is running.
        """
        if self.running:
            raise ModelError("a retraining is running; wait until it is done, or stop it")
        self.model: SCM = self.workspace.models[name]
        self.name = name
        # The history of edits, and the position in it.
        self._graphs, self._at = [self.model.graph], 0
        self._done: dict[str, Retraining] = {}
        self._effects: dict[str, EffectComparison] = {}
        self.parent = self.child = None
        # The cohort that the model was trained on, or else the first.
        specs = {c.source: spec for spec, c in reversed(self.workspace.cohorts.items())}
        self.cohort_name = specs.get(self.model.trained_on, next(iter(self.workspace.cohorts)))
        self._data: TrainingData | None = None
        self.job, self._job_key = None, ""

    # Edits

    @property
    def graph(self) -> Graph:
        """The graph as it is edited now."""
        return self._graphs[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to redo."""
        return self._at + 1 < len(self._graphs)

    def undo(self) -> None:
        """Undo the last edit."""
        self._at = max(self._at - 1, 0)

    def redo(self) -> None:
        """Redo the edit that was undone."""
        self._at = min(self._at + 1, len(self._graphs) - 1)

    def add(self, parent: str, child: str) -> None:
        """Add an edge.

        Raises:
            GraphError: If the edge exists, closes a cycle, or starts at the image.
        """
        self._edited(self.graph.add_edge(parent, child))

    def remove(self, parent: str, child: str) -> None:
        """Remove an edge.

        Raises:
            GraphError: If the edge does not exist, or a rule needs it.
        """
        self._edited(self.graph.remove_edge(parent, child))

    def _edited(self, graph: Graph) -> None:
        self._graphs = [*self._graphs[: self._at + 1], graph]
        self._at += 1

    @property
    def has_edge(self) -> bool:
        """Whether there is an edge from the chosen parent to the chosen child."""
        is_chosen = self.parent is not None and self.child is not None
        return is_chosen and self.parent in self.graph.parents(self.child or "")

    def choose(self, name: str) -> None:
        """Choose a variable in the drawing: the parent, then the child, then a new parent."""
        name = self.graph.find(name)
        if self.parent is None or self.child is not None:
            self.parent, self.child = name, None
        elif self.parent == name:
            self.parent = None
        else:
            self.child = name

    # Retraining

    @property
    def cohort(self) -> Cohort:
        """The training cohort."""
        return self.workspace.cohort(self.cohort_name)

    def train_on(self, name: str) -> None:
        """Choose the training cohort.

        Raises:
            CohortError: If no cohort has this name.
        """
        self.workspace.cohort(name)
        self.cohort_name, self._data = name, None

    def planned_graph(self) -> PlannedGraph:
        """Draw the graph and plan the retraining. This is slow: call it in a thread."""
        graph, model = self.graph, self.model
        plan = plan_retraining(model, graph, self._training_data())
        done = self.result is not None
        # Before a retraining its equations are stale, afterwards they are changed.
        marks = dict.fromkeys(plan.retrain, "changed" if done else "stale")
        if plan.image and graph.image:
            marks[graph.image] = "stale"
        svg = graph_svg(
            graph,
            marks=marks,
            chosen=[name for name in (self.parent, self.child) if name is not None],
            added=model.graph.diff(graph).added_edges,
        )
        return PlannedGraph(graph, svg, plan, done, frozenset(marks.values()))

    def _training_data(self) -> TrainingData:
        if self._data is None:
            self._data = TrainingData.from_cohort(self.cohort, self.model.graph)
        return self._data

    def retrain(self) -> None:
        """Start to retrain the stale equations. Planning is slow: call it in a thread.

        Raises:
            ModelError: If no equation is stale, or another retraining is running.
        """
        plan = plan_retraining(self.model, self.graph, self._training_data())
        if not (plan.retrain or plan.image):
            raise ModelError("no equation is stale; edit an edge first")
        job = Retraining(self.model, plan, self._training_data(), self.workspace.fitting)
        self.job, self._job_key = job.start(), self._key

    @property
    def running(self) -> bool:
        """Whether a retraining of this user is running."""
        return self.job is not None and self.job.state == "running"

    @property
    def _key(self) -> str:
        return f"{self.graph.hash} {self.cohort_name}"

    @property
    def result(self) -> Retraining | None:
        """The completed retraining of the current graph, or None."""
        if self.job is not None and self.job.state == "done":
            self._done[self._job_key] = self.job
        return self._done.get(self._key)

    # Before and after

    def suggested(self) -> str:
        """Return a variable to set in a first comparison: the parent of the last edited edge."""
        diff = self.model.graph.diff(self.graph)
        edges = [*diff.added_edges, *diff.removed_edges]
        names = [parent for parent, _ in edges if parent in self.model.graph.tabular]
        return names[-1] if names else self.model.graph.order[0]

    def choose_intervention(self, variable: str) -> None:
        """Choose the variable to set, and a first value for it.

        Raises:
            GraphError: If the graph has no such variable.
        """
        chosen = self.model.graph[variable]
        self.variable = chosen.name
        self.value = ""
        if not chosen.is_discrete:
            column = self._training_data().columns[chosen.name]
            column = column[~np.isnan(column)]
            self.value = f"{np.quantile(column, 0.75, method='nearest'):g}" if len(column) else ""
        else:  # the rarest level of the training data changes most patients
            counts = {n: self.model.support.get(f"{chosen.name}={n}", 0) for n in chosen.levels}
            self.value = min(counts, key=lambda level: counts[level] or float("inf"))

    def intervention(self) -> Intervention:
        """Return the intervention that the two fields describe.

        Raises:
            CausalCXRError: If it is not valid for this graph.
        """
        graph = self.model.graph
        name = graph.find(self.variable)
        if graph[name].is_discrete:
            action = do({name: self.value})
        else:
            action = parse([f"{name}={self.value}"])
        action.bind(graph)
        return action

    def compare(self) -> EffectComparison:
        """Compare the twins of both models. This is slow: call it in a thread.

        Raises:
            CausalCXRError: If nothing was retrained, or the intervention is invalid.
        """
        result = self.result
        if result is None or result.model is None:
            raise ModelError("nothing to compare yet; retrain first")
        action, key = self.intervention(), self._key
        patients = self.cohort.head(COMPARED)
        comparison = compare(self.model, result.model, patients, action)
        names = tuple(action.settings)
        self._effects[key] = EffectComparison(action.describe(), names, comparison)
        return self._effects[key]

    @property
    def effect(self) -> EffectComparison | None:
        """The last comparison of the current graph, or None."""
        return self._effects.get(self._key)

    # Saving

    def free_name(self) -> str:
        """Return a name that no model has yet."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "-", self.name)[:30].strip("-.") or "model"
        stem = re.sub(r"-edited-\d+$", "", stem)
        taken = set(self.workspace.models.names)
        numbers = range(1, len(taken) + 1000)
        names = (f"{stem}-edited-{k}" for k in numbers)
        return next(
            n for n in names if n not in taken and not (self.workspace.folder / n).exists()
        )

    def use(self, name: str) -> str:
        """Save the new model in a new folder and continue with it; other users keep theirs.

        Returns:
            The folder.

        Raises:
            ModelError: If nothing was retrained, the name is invalid or taken, or the folder
                cannot be written.
        """
        result = self.result
        if result is None or result.model is None:
            raise ModelError("there is no new model yet; retrain first")
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise ModelError(
                f"name {name!r}: use at most 41 letters, digits, '_', '-' and '.', starting with "
                "a letter or digit; the name becomes a folder"
            )
        # The name must be free among the models and on the disk.
        folder = self.workspace.folder / name
        if name in self.workspace.models.names or folder.exists():
            raise ModelError(f"name {name!r} is taken; choose another")
        # Saved first, so that the page never offers a model that was not written.
        result.model.save(folder)
        self.workspace.models.add(name, result.model, f"cx.SCM.load({str(folder)!r})")
        self.open(name)
        return str(folder)
