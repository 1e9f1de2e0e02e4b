"""What a model learns: its equations, fitted one by one, kept while nothing they need changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import ModelError, brief
from causalcxr.common.progress import Progress
from causalcxr.common.threads import over_rows
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention
from causalcxr.mechanisms import Equation, Mechanism
from causalcxr.scm import saved_model
from causalcxr.scm.fitting import Fitted, adapted, fit_one, stale_reason
from causalcxr.scm.prediction import bind
from causalcxr.scm.support import count_support
from causalcxr.scm.training_data import TrainingData

__all__ = ["LearnedModel"]


class LearnedModel:
    """The graph and the learned equations of an `SCM`: fitting, likelihood, and the saved folder.

    Args:
        graph: The expert graph.
    """

    def __init__(self, graph: Graph) -> None:
        if not isinstance(graph, Graph):
            raise ModelError(
                f"SCM({brief(graph)}): give a Graph, such as SCM(Graph.load('cxr7')); a saved "
                "model is read by SCM.load(folder)"
            )
        self.graph = graph
        self.fitted: Mapping[str, Fitted] = {}
        self.support: Mapping[str, int] = {}
        self.trained_on = ""
        self.unseen: frozenset[str] = frozenset()
        self._action: BoundIntervention | None = None
        self._held: frozenset[str] = frozenset()

    def _with(self, **fields: Any) -> Self:
        """Return a copy with some attributes replaced; the others are shared."""
        other = object.__new__(type(self))
        other.__dict__ = self.__dict__ | fields
        return other

    # Learning

    def fit(
        self,
        cohort: Records,
        *,
        seed: int = 0,
        progress: bool | None = None,
        folder: str | Path | None = None,
    ) -> Self:
        """Fit every equation that is stale, and keep the others.

        Args:
            cohort: A Cohort, or a DataFrame as `Cohort` takes it. Rows of its "train" split are
                used for training, rows of "val" for early stopping; without splits, patients are
                assigned at random.
            seed: Of weights and batches. The order of the rows does not matter.
            progress: Show a progress bar; by default if a fit takes longer than two seconds.
            folder: For the checkpoints of long fits, which then resume.

        Returns:
            A fitted model. A variable that is never observed has no equation and stays missing.

        Raises:
            CohortError: If the graph does not declare a value of the cohort.
            ModelError: If there is no training record, or the images differ in size.
            MechanismError: If a loss stops being finite.
        """
        cohort = as_cohort(cohort)
        # Sort and split the rows, then fit the equations in the order of the graph.
        data = TrainingData.from_cohort(cohort, self.graph)
        fitted = self._fit_each(data, seed, progress, Path(folder) if folder else None)
        if not fitted:
            names = ", ".join(list(self.graph.variables)[:6])
            raise ModelError(
                f"fit: nothing to learn: {cohort.origin or cohort.source} has no value of any "
                f"variable of graph {self.graph.name!r} ({names}); check it with cohort show"
            )
        # A new model: this one keeps its equations.
        return self._with(
            fitted=fitted,
            support=count_support(self.graph, data.rows(data.train)),
            trained_on=cohort.source,
            unseen=frozenset(self.graph.variables) - frozenset(fitted),
        )

    def _fit_each(
        self, data: TrainingData, seed: int, progress: bool | None, folder: Path | None
    ) -> dict[str, Fitted]:
        """Return the equation of each observed variable, fitted or kept."""
        fitted: dict[str, Fitted] = {}
        with Progress("Fitting", len(self.graph), "equations", show=progress) as equations:
            for name in self.graph.order:
                previous = self.fitted.get(name)
                with Progress(name, show=progress) as training:
                    equation = fit_one(
                        self.graph,
                        name,
                        data,
                        previous,
                        seed=seed,
                        folder=folder,
                        progress=training.trained,
                    )
                if equation is not None:
                    fitted[name] = equation
                equations.add()
        return fitted

    def with_graph(self, graph: Graph) -> Self:
        """Return the model on an edited graph; `fit` then fits what the edit made stale.

        Equations of variables that the new graph lacks are dropped, and so are interventions.

        Raises:
            ModelError: If it is not a graph.
        """
        if not isinstance(graph, Graph):
            raise ModelError(
                f"with_graph({brief(graph)}): give a Graph, such as Graph.load('file.yaml')"
            )
        # Equations of variables that the new graph has, on its declarations.
        fitted = {n: adapted(f, graph, n) for n, f in self.fitted.items() if n in graph.variables}
        unseen = self.unseen & frozenset(graph.variables)
        return self._with(
            graph=graph, fitted=fitted, unseen=unseen, _action=None, _held=frozenset()
        )

    @property
    def stale(self) -> dict[str, str]:
        """The equations that must be fitted before they can be used, and why."""
        reasons = {}
        for name in self.graph.order:
            if name in self.fitted:
                if why := stale_reason(self.fitted[name], self.graph, name):
                    reasons[name] = why
            elif name not in self.unseen:
                reasons[name] = "it has not been fitted"
        return reasons

    def _check_ready(self) -> None:
        if not self.fitted:
            raise ModelError(
                "the model has not been fitted; fit returns a new model: write "
                "model = model.fit(cohort)"
            )
        if self.stale:
            names = ", ".join(self.stale)
            raise ModelError(
                f"stale after an edit of the graph: {names}; write model = model.fit(cohort)"
            )

    # Likelihood

    def log_prob(self, cohort: Records) -> pd.DataFrame:
        """Return the log-density or log-mass of each value given its parents, NaN where missing.

        Raises:
            CohortError: If the graph does not declare a value.
            ModelError: If the model is not fitted, or stale.
        """
        self._check_ready()
        cohort = as_cohort(cohort)
        columns = self._columns(cohort)

        def block(rows: np.ndarray | slice) -> dict[str, Tensor]:
            # Image equations have no density: `_learned` names the tabular ones.
            part = {name: column[rows] for name, column in columns.items()}
            return {
                name: self._equation(name, part).log_prob(part[name]) for name in self._learned
            }

        table = over_rows(len(cohort), block)
        return pd.DataFrame({name: t.numpy() for name, t in table.items()}, index=cohort.index)

    # The saved folder

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder; a killed process leaves the previous model readable.

        Raises:
            ModelError: If the model is not fitted or is stale, or the folder holds something else
                or cannot be written.
        """
        self._check_ready()
        return saved_model.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a saved model.

        Raises:
            ModelError: If there is none, or it is damaged, was changed, or has another version.
        """
        fields = saved_model.load(Path(folder))
        return cls(fields["graph"])._with(**fields)

    # For the other parts of the model

    @property
    def _learned(self) -> list[str]:
        return [name for name in self.graph.tabular if name in self.fitted]

    @property
    def _mechanisms(self) -> dict[str, Mechanism]:
        return {name: fitted.mechanism for name, fitted in self.fitted.items()}

    @property
    def _hashes(self) -> dict[str, str]:
        return {name: self.fitted[name].hash for name in self._learned}

    def _columns(self, cohort: Cohort) -> dict[str, Tensor]:
        return {name: torch.from_numpy(c) for name, c in cohort.columns(self.graph).items()}

    def _equation(self, name: str, columns: Mapping[str, Tensor]) -> Equation:
        return bind(self.fitted[name].mechanism, columns)
