"""The structural causal model: fit, sample, abduct, act, predict."""

from collections.abc import Iterable
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import GraphError, InterventionError, ModelError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.graph.intervention_values import needs_fact
from causalcxr.graph.interventions import do
from causalcxr.scm.learned_model import LearnedModel
from causalcxr.scm.prediction import LatentNoise, Noise, Prediction, fixed_values
from causalcxr.scm.question_methods import Questions

__all__ = ["SCM", "Noise"]


class SCM(LearnedModel, Questions):
    """A structural causal model over an expert graph.

    A model does not change: `fit`, `do` and `with_graph` return a new one that shares what it can.

    Args:
        graph: The expert graph.

    Attributes:
        graph: The expert graph.
        fitted: The learned equations, and where each comes from.
        support: The number of training records with each level, and with each pair of levels.
        trained_on: The source of the training records.
        unseen: The variables that training never observed: they have no equation.

    Example:
        >>> from causalcxr import Graph
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> cohort = Cohort(pd.DataFrame({"Sex": ["F", "M", "M", "F"] * 10}))
        >>> model = SCM(graph).fit(cohort)
        >>> model.counterfactual(cohort, do(sex="M")).table["Sex"].unique().tolist()
        ['M']
    """

    # The three steps

    def abduct(
        self, cohort: Records, *, draws: int | None = None, missing: str = "keep", seed: int = 0
    ) -> Noise:
        """Return the exogenous noise of each record: a sample of its exact posterior.

        Args:
            cohort: Factual records: a Cohort, or a DataFrame as `Cohort` takes it.
            draws: Posterior samples per record, numbered by the index level "draw" (with draws=1,
                too). None gives the first of them under the index of the records.
            missing: "keep": missing values stay missing. "posterior": they are sampled together
                with the noise, given all that is observed, see `posterior.abduct_observed`.
            seed: A record's noise depends on this, on its id and its draw, and on nothing else.

        Raises:
            CohortError: If a value is none that the graph declares.
            ModelError: If the model is not fitted, or stale; or `missing` is another word.
        """
        return self._latent(cohort, draws, missing, seed).abducted()

    def _latent(self, cohort: Records, draws: int | None, missing: str, seed: int) -> LatentNoise:
        """Return the noise of records, abducted when it is used; see `abduct`."""
        cohort = as_cohort(cohort)
        self._check_ready()
        check_options(self.graph, draws=draws, missing=missing, seed=seed)
        # Fill in missing values first, so that their noise is abducted like any other.
        if missing == "posterior":
            from causalcxr.scm.posterior import complete_observed  # it stands on this class

            cohort = complete_observed(self, cohort, draws=draws, seed=seed).cohort
        elif missing != "keep":
            raise ModelError(f"missing={missing!r}: use 'keep' or 'posterior'")
        elif draws is not None:
            cohort = cohort.repeat(draws)
        columns = self._columns(cohort)
        # Random numbers belong to records by name, whatever their order or number.
        numbers = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
        mechanisms = {name: self.fitted[name].mechanism for name in self._learned}
        return LatentNoise(
            {}, cohort, columns, numbers, cohort.index, self._hashes, mechanisms=mechanisms
        )

    def do(
        self,
        action: Action = None,
        /,
        *,
        hold: str | Iterable[str] = (),
        beyond_range: bool = False,
        **values: Any,
    ) -> Self:
        """Return the model under an intervention; the weights are shared.

        Args:
            action: What `causalcxr.do` returned, or names and values; or write `do(sex="M")`.
            hold: Variables, or one, that keep their factual value, though they are descendants.
            beyond_range: Allow values outside range or support; the notes record it.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            InterventionError: If a name or value does not fit the graph, or a variable is set
                twice, or set and held.
        """
        check_options(self.graph, hold=hold, beyond_range=beyond_range)
        # Merge with the interventions that the model is under already.
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
            recompute: Compute every value anew, also where no parent changed, to test that the
                noise reproduces the factual values.

        Raises:
            InterventionError: If no training record has the value that is set, or a shift or a
                held variable has no factual value.
            ModelError: If the noise belongs to other equations.
            CohortError: If the images are smaller than the model's.
        """
        self._check_ready()
        self._check_noise(noise)
        prediction = Prediction(
            self.graph,
            self._mechanisms,
            noise,
            self._fixed(noise),
            recompute=recompute,
            reached=self._reached,
        )
        return prediction.cohort(self._described())

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
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            hold: Variables that keep their factual value.
            draws: See `abduct`: the twins' index is (record, draw), unless it is None.
            missing: See `abduct`.
            seed: Of the posterior samples.
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
            n: How many. The first k of them are the sample of size k.
            seed: Of all random numbers.

        Raises:
            ModelError: If the model is not fitted, or n is below 1.
            InterventionError: If an intervention needs a factual value: a shift, a function, or a
                held variable.
        """
        self._check_ready()
        check_options(self.graph, seed=seed)
        if n < 1:
            raise ModelError(f"sample: n is {n}; give at least 1")
        index = pd.RangeIndex(n, name="record")
        draws = Draws(record_keys(index), seed)
        # The noise does not depend on parents: one row of missing parents is enough.
        no_parents = {n: torch.full((1,), torch.nan).double() for n in self.graph.tabular}
        values = {
            name: self._equation(name, no_parents).sample_noise(draws.on(f"{name} sample"))
            for name in self._learned
        }
        return self.predict(Noise(values, None, {}, draws, index, self._hashes))

    def __repr__(self) -> str:
        act = f", {self._action.describe()}" if self._action else ""
        fitted = f"{len(self.fitted)} of {len(self.graph)} equations fitted"
        return f"SCM({self.graph.name}: {fitted}{act})"

    def _held_name(self, name: str) -> str:
        """Return the canonical name of a variable to hold."""
        try:
            canonical = self.graph.find(name)
        except GraphError as error:
            raise InterventionError(f"hold {name!r}: {error}") from None
        if self.graph[canonical].is_image:
            raise InterventionError(f"hold {name!r}: the image is the outcome; hold its parents")
        return canonical

    def _described(self) -> str:
        """Return the intervention in words, for the cohort's notes."""
        if not self._action:
            return "no intervention"
        beyond = ", beyond range" if self._action.beyond_range else ""
        held = f", held: {', '.join(sorted(self._held))}" if self._held else ""
        return f"{self._action.describe()}{beyond}{held}"

    def _check_noise(self, noise: Noise) -> None:
        mine, theirs = self._hashes, noise.equations
        if other := [n for n in sorted({*mine, *theirs}) if mine.get(n) != theirs.get(n)]:
            raise ModelError(
                f"noise: it belongs to other equations than the model's: {', '.join(other)}; "
                "call abduct(cohort) of this model"
            )

    def _fixed(self, noise: Noise) -> dict[str, Tensor]:
        """Return the values that are set or held, (n,) each."""
        if not noise.factual:
            self._check_needs_no_fact()
        return fixed_values(self.graph, self.support, self._action, self._held, noise)

    @property
    def _reached(self) -> set[str]:
        """Return the variables that are set and their descendants, without those that are held."""
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
                    "set it to a value, or use counterfactual(cohort, ...)"
                )
