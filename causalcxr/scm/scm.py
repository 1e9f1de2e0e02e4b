"""The structural causal model: fit, sample, abduct, act, predict."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import GraphError, InterventionError, ModelError, brief
from causalcxr.common.progress import Progress
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.common.threads import over_rows
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.graph.graph import Graph
from causalcxr.graph.intervention_values import needs_fact
from causalcxr.graph.interventions import BoundIntervention, do
from causalcxr.mechanisms import Equation
from causalcxr.scm import saved_model as model_folder
from causalcxr.scm.fitting import Fitted, TrainingData, adapted, fit_one, stale_reason
from causalcxr.scm.prediction import LatentNoise, Noise, Prediction, bind, settled
from causalcxr.scm.question_methods import Questions
from causalcxr.scm.support import count_support

__all__ = ["SCM", "Noise"]


class SCM(Questions):
    """A structural causal model over an expert graph.

    A model does not change: `fit`, `do` and `with_graph` return another that shares what it can.

    Args:
        graph: The expert graph.

    Attributes:
        graph: The expert graph.
        fitted: The learned equations, and where each comes from.
        support: How many training records have each level, and each pair of levels.
        trained_on: Where the training records came from.
        unseen: The variables that training never observed: they have no equation.

    Example:
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> cohort = Cohort(pd.DataFrame({"Sex": ["F", "M", "M", "F"] * 10}))
        >>> model = SCM(graph).fit(cohort)
        >>> model.counterfactual(cohort, do(sex="M")).table["Sex"].unique().tolist()
        ['M']
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

    def _with(self, **fields: Any) -> "SCM":
        other = object.__new__(SCM)
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
    ) -> "SCM":
        """Learn every equation that is stale; keep the others.

        Args:
            cohort: A Cohort, or a DataFrame as `Cohort` takes it. Rows of its "train" split teach,
                rows of "val" stop early; without splits they are drawn by patient.
            seed: Of weights and batches. The order of the rows does not matter.
            progress: Show how far it is; by default where it takes longer than two seconds.
            folder: Where long fits keep checkpoints, to be taken up again.

        Returns:
            A fitted model. A variable that is never observed keeps no equation: it stays missing.

        Raises:
            CohortError: If a value of the cohort is none that the graph declares.
            ModelError: If no record is there to learn from, or the images are of another size.
            MechanismError: If a loss stops being finite.
        """
        cohort = as_cohort(cohort)
        data = TrainingData.of(cohort, self.graph)
        fitted: dict[str, Fitted] = {}
        with Progress("Fitting", len(self.graph), "equations", show=progress) as equations:
            for name in self.graph.order:
                known = self.fitted.get(name)
                with Progress(name, show=progress) as training:
                    learned = fit_one(
                        self.graph,
                        name,
                        data,
                        known,
                        seed=seed,
                        folder=Path(folder) if folder else None,
                        progress=training.trained,
                    )
                if learned is not None:
                    fitted[name] = learned
                equations.add()
        if not fitted:
            names = ", ".join(list(self.graph.variables)[:6])
            raise ModelError(
                f"fit: nothing to learn: {cohort.origin or cohort.source} has no value of any "
                f"variable of graph {self.graph.name!r} ({names}); look at it with cohort show"
            )
        return self._with(
            fitted=fitted,
            support=count_support(self.graph, data.rows(data.train)),
            trained_on=cohort.source,
            unseen=frozenset(self.graph.variables) - frozenset(fitted),
        )

    def with_graph(self, graph: Graph) -> "SCM":
        """Return the model on an edited graph; `fit` then learns what the edit made stale.

        What is no part of the new graph is forgotten, and so is every intervention.

        Raises:
            ModelError: If it is not a graph.
        """
        if not isinstance(graph, Graph):
            raise ModelError(
                f"with_graph({brief(graph)}): give a Graph, such as Graph.load('file.yaml')"
            )
        fitted = {n: adapted(f, graph, n) for n, f in self.fitted.items() if n in graph.variables}
        unseen = self.unseen & frozenset(graph.variables)
        return self._with(
            graph=graph, fitted=fitted, unseen=unseen, _action=None, _held=frozenset()
        )

    @property
    def stale(self) -> dict[str, str]:
        """The equations that must be learned before they can be used, and why."""
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
                "the model has not been fitted; fit returns a new model and changes none: write "
                "model = model.fit(cohort)"
            )
        if self.stale:
            names = ", ".join(self.stale)
            raise ModelError(
                f"stale after an edit of the graph: {names}; write model = model.fit(cohort)"
            )

    # The three steps

    def abduct(
        self, cohort: Records, *, draws: int | None = None, missing: str = "keep", seed: int = 0
    ) -> Noise:
        """Return the noise that explains each record: a draw of its exact posterior.

        Args:
            cohort: Factual records: a Cohort, or a DataFrame as `Cohort` takes it.
            draws: Posterior draws for each record, told apart by the index level "draw", which is
                there for draws=1, too. None is that one draw under the index of the records.
            missing: What becomes of missing values. "keep": they stay missing. "posterior": they
                are drawn together with the noise, given all that is observed, see
                `posterior.abduct_observed`.
            seed: A record's noise depends on this, on its id and its draw, and on nothing else.

        Raises:
            CohortError: If a value is none that the graph declares.
            ModelError: If the model is not fitted, or stale; or `missing` is another word.
        """
        return self._latent(cohort, draws, missing, seed).abducted()

    def _latent(self, cohort: Records, draws: int | None, missing: str, seed: int) -> LatentNoise:
        """Return the noise of records, found where it is asked for; see `abduct`."""
        cohort = as_cohort(cohort)
        self._check_ready()
        check_options(self.graph, draws=draws, missing=missing, seed=seed)
        if missing == "posterior":
            from causalcxr.scm.posterior import complete_observed  # it stands on this class

            cohort = complete_observed(self, cohort, draws=draws, seed=seed).cohort
        elif missing != "keep":
            raise ModelError(f"missing={missing!r}; it is 'keep' or 'posterior'")
        elif draws is not None:
            cohort = cohort.repeat(draws)
        columns = self._columns(cohort)
        numbers = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
        mechanisms = {name: self.fitted[name].mechanism for name in self._learned}
        parts = ({}, cohort, columns, numbers, cohort.index, self._hashes)
        return LatentNoise(*parts, mechanisms=mechanisms)

    def do(
        self,
        action: Action = None,
        /,
        *,
        hold: str | Iterable[str] = (),
        beyond_range: bool = False,
        **values: Any,
    ) -> "SCM":
        """Return the model in which some variables are set by hand; the weights are shared.

        Args:
            action: What `causalcxr.do` returned, or names and values; or write `do(sex="M")`.
            hold: Variables, or one, that keep their factual value, though they are downstream.
            beyond_range: Allow values outside range or support; it is recorded.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            InterventionError: If a name or value does not fit the graph, or a variable is set
                twice, or set and held.
        """
        check_options(self.graph, hold=hold, beyond_range=beyond_range)
        new = action_of(action, values, beyond_range).bind(self.graph)
        before = self._action.settings if self._action else {}
        if twice := [name for name in new.names if name in before]:
            raise InterventionError(f"{new.describe()}: {twice[0]!r} is set already; keep one")
        beyond = new.beyond_range or bool(self._action and self._action.beyond_range)
        merged = do({**before, **new.settings}, beyond_range=beyond).bind(self.graph)
        held = self._held | {self._held_name(name) for name in names_of(hold)}
        if both := sorted(held & set(merged.names)):
            raise InterventionError(f"{merged.describe()}: {both[0]!r} is both set and held")
        return self._with(_action=merged, _held=held)

    def predict(self, noise: Noise, *, recompute: bool = False) -> Cohort:
        """Return the cohort that this noise gives under this model.

        Args:
            noise: What `abduct` returned, of this model or of the one before `do`.
            recompute: Compute every value anew, also where no cause changed, to test that the
                noise gives the facts back.

        Raises:
            InterventionError: If training has no record of what is set, or a shift or a held
                variable has no fact to start from.
            ModelError: If the noise is of other equations, or the images of another size.
        """
        self._check_ready()
        self._check_noise(noise)
        mechanisms = {name: f.mechanism for name, f in self.fitted.items()}
        fixed = self._fixed(noise)
        prediction = Prediction(
            self.graph, mechanisms, noise, fixed, recompute=recompute, reached=self._reached
        )
        return prediction.cohort(self._told())

    def counterfactual(
        self,
        cohort: Records,
        action: Action = None,
        /,
        *,
        hold: str | Iterable[str] = (),
        draws: int | None = None,
        missing: str = "keep",
        seed: int = 0,
        recompute: bool = False,
        beyond_range: bool = False,
        **values: Any,
    ) -> Cohort:
        """Return the twins of a cohort: abduct, act, predict.

        Args:
            cohort: Factual records, with or without images: a Cohort, or a DataFrame as `Cohort`
                takes it.
            action: What is done: `do(sex="M")`, or write `sex="M"` here directly.
            hold: Variables that keep their factual value.
            draws: See `abduct`: the twins' index is (record, draw), unless it is None.
            missing: See `abduct`.
            seed: Of the posterior draws.
            recompute: See `predict`.
            beyond_range: See `do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            CausalCXRError: As `do`, `abduct` and `predict` do.
        """
        check_options(
            self.graph, hold=hold, draws=draws, missing=missing, seed=seed, recompute=recompute
        )
        check_options(self.graph, beyond_range=beyond_range)
        many = action_of(action, values, beyond_range).repeat(draws or 1)
        acted = self.do(many, hold=hold)
        noise = self._latent(cohort, draws, missing, seed)
        return acted.predict(noise, recompute=recompute)

    def sample(self, n: int, *, seed: int = 0) -> Cohort:
        """Return n new records, images included, from the model with its interventions.

        Args:
            n: How many. The first k of n are the k of a smaller sample.
            seed: Another seed, other records.

        Raises:
            ModelError: If the model is not fitted, or n is below 1.
            InterventionError: If an intervention needs a fact: a shift, a function, a held value.
        """
        self._check_ready()
        check_options(self.graph, seed=seed)
        if n < 1:
            raise ModelError(f"sample: n is {n}; ask for one record at least")
        index = pd.RangeIndex(n, name="record")
        draws = Draws(record_keys(index), seed)
        nothing = {n: torch.full((1,), torch.nan).double() for n in self.graph.tabular}
        values = {
            name: self._equation(name, nothing).sample_noise(draws.on(f"{name} sample"))
            for name in self._learned
        }
        return self.predict(Noise(values, None, {}, draws, index, self._hashes))

    def log_prob(self, cohort: Records) -> pd.DataFrame:
        """Return the log-density or log-mass of every value given its parents, NaN where missing.

        Raises:
            CohortError: If a value is none that the graph declares.
            ModelError: If the model is not fitted, or stale.
        """
        self._check_ready()
        cohort = as_cohort(cohort)
        columns = self._columns(cohort)

        def block(rows: np.ndarray | slice) -> dict[str, Tensor]:
            part = {name: column[rows] for name, column in columns.items()}
            return {
                name: self._equation(name, part).log_prob(part[name]) for name in self._learned
            }

        table = over_rows(len(cohort), block)
        return pd.DataFrame({name: t.numpy() for name, t in table.items()}, index=cohort.index)

    # On disk

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder; a kill at any moment leaves the one before readable.

        Raises:
            ModelError: If the model is not fitted or stale, or the folder holds something else or
                cannot be written.
        """
        self._check_ready()
        return model_folder.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> "SCM":
        """Read a saved model.

        Raises:
            ModelError: If there is none, or it is damaged, tampered with or of another version.
        """
        fields = model_folder.load(Path(folder))
        return cls(fields["graph"])._with(**fields)

    def __repr__(self) -> str:
        act = f", {self._action.describe()}" if self._action else ""
        known = f"{len(self.fitted)} of {len(self.graph)} equations fitted"
        return f"SCM({self.graph.name}: {known}{act})"

    # How it is done

    @property
    def _learned(self) -> list[str]:
        return [name for name in self.graph.tabular if name in self.fitted]

    @property
    def _hashes(self) -> dict[str, str]:
        return {name: self.fitted[name].hash for name in self._learned}

    def _columns(self, cohort: Cohort) -> dict[str, Tensor]:
        return {name: torch.from_numpy(c) for name, c in cohort.columns(self.graph).items()}

    def _equation(self, name: str, columns: Mapping[str, Tensor]) -> Equation:
        return bind(self.fitted[name].mechanism, columns)

    def _held_name(self, name: str) -> str:
        """Return the canonical name of a variable to hold."""
        try:
            found = self.graph.find(name)
        except GraphError as error:
            raise InterventionError(f"hold {name!r}: {error}") from None
        if self.graph[found].is_image:
            raise InterventionError(f"hold {name!r}: the image is the outcome; hold its causes")
        return found

    def _told(self) -> str:
        """Return what is done, for the cohort's notes."""
        if not self._action:
            return "no intervention"
        beyond = ", beyond range" if self._action.beyond_range else ""
        held = f", held: {', '.join(sorted(self._held))}" if self._held else ""
        return f"{self._action.describe()}{beyond}{held}"

    def _check_noise(self, noise: Noise) -> None:
        mine, theirs = self._hashes, noise.equations
        if other := [n for n in sorted({*mine, *theirs}) if mine.get(n) != theirs.get(n)]:
            raise ModelError(
                f"this noise is of other equations than the model's: {', '.join(other)}; "
                "call abduct(cohort) of this model"
            )

    def _fixed(self, noise: Noise) -> dict[str, Tensor]:
        """Return what is set or held, per record."""
        if not noise.factual:
            self._check_needs_no_fact()
        return settled(self.graph, self.support, self._action, self._held, noise)

    @property
    def _reached(self) -> set[str]:
        """Return what is intervened on and its descendants, but for what is held."""
        acted = set(self._action.names) if self._action else set()
        below = {each for name in acted for each in self.graph.descendants(name)}
        return (acted | below) - self._held

    def _check_needs_no_fact(self) -> None:
        if self._held:
            name = min(self._held)
            raise InterventionError(f"hold {name!r}: a sample has no factual value to hold")
        for name, value in (self._action.settings if self._action else {}).items():
            if needs_fact(value):
                raise InterventionError(
                    f"{self._action.describe()}: a sample has no factual {name!r} to start from; "
                    "set it to a value, or ask for counterfactuals"
                )
