"""The structural causal model: fit, sample, abduct, act, predict."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr import model_folder
from causalcxr.cohort import Cohort
from causalcxr.errors import InterventionError, ModelError
from causalcxr.fitting import Fitted, TrainingData, fit_one
from causalcxr.fitting_progress import FitProgress
from causalcxr.graph import Graph
from causalcxr.interventions import BoundIntervention, Intervention, do
from causalcxr.model_images import ModelImages
from causalcxr.noise import Draws, record_keys
from causalcxr.support import count_support, require_support

__all__ = ["SCM", "Noise"]


@dataclass(frozen=True)
class Noise:
    """The exogenous noise of a cohort, and the facts that it explains.

    Args:
        values: Per tabular variable, (n,) or (n, k), NaN where the value was missing. The noise of the image is found when
            a twin's image is asked for: it is as large as the image.
        cohort: The factual records, or None for noise from the prior.
        columns: The factual values, empty for noise from the prior.
        draws: The random numbers of the records.
    """

    values: Mapping[str, Tensor]
    cohort: Cohort | None
    columns: Mapping[str, Tensor]
    draws: Draws
    index: pd.Index


class SCM:
    """A structural causal model over an expert graph.

    A model does not change: `fit`, `do` and `with_graph` return another that shares what it can.

    Args:
        graph: The expert graph.

    Example:
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> cohort = Cohort(pd.DataFrame({"Sex": ["F", "M", "M", "F"] * 10}))
        >>> model = SCM(graph).fit(cohort)
        >>> model.counterfactual(cohort, do(sex="M")).table["Sex"].unique().tolist()
        ['M']
    """

    def __init__(self, graph: Graph) -> None:
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
        cohort: Cohort,
        *,
        seed: int = 0,
        progress: bool | None = None,
        folder: str | Path | None = None,
    ) -> "SCM":
        """Learn every equation that is stale; keep the others.

        Args:
            cohort: Rows of its "train" split teach, rows of "val" stop early; without splits they are drawn by patient.
            seed: Of weights and batches. The order of the rows does not matter.
            progress: Show a bar; by default on a terminal only.
            folder: Where long fits keep checkpoints, to be taken up again.

        Returns:
            A fitted model. A variable that is never observed keeps no equation: it stays missing.
        """
        data = TrainingData.of(cohort, self.graph)
        fitted: dict[str, Fitted] = {}
        with FitProgress(self.graph.order, show=progress) as bar:
            for name in self.graph.order:
                learned = fit_one(
                    self.graph, name, data, self.fitted.get(name), seed=seed,
                    folder=Path(folder) if folder else None, progress=bar.step,
                )
                if learned is not None:
                    fitted[name] = learned
                bar.done(name, known=learned is self.fitted.get(name))
        columns = {name: column[data.train] for name, column in data.columns.items()}
        support = count_support(self.graph, columns)
        return self._with(
            fitted=fitted,
            support=support,
            trained_on=cohort.source,
            unseen=frozenset(self.graph.variables) - frozenset(fitted),
        )

    def with_graph(self, graph: Graph) -> "SCM":
        """Return the model on an edited graph; `fit` then learns what the edit made stale."""
        return self._with(graph=graph, _action=None, _held=frozenset())

    @property
    def stale(self) -> dict[str, str]:
        """The equations that must be learned before they can be used, and why."""
        reasons = {}
        for name in self.graph.order:
            if name in self.fitted:
                if self.fitted[name].equation != self.graph.equation_hash(name):
                    reasons[name] = "its declaration or its parents changed since it was fitted"
            elif name not in self.unseen:
                reasons[name] = "it has not been fitted"
        return reasons

    def _check_ready(self) -> None:
        if not self.fitted:
            raise ModelError("the model has not been fitted; call fit(cohort) first")
        if self.stale:
            names = ", ".join(self.stale)
            raise ModelError(f"stale after an edit of the graph: {names}; call fit(cohort) again")

    # The three steps

    def abduct(self, cohort: Cohort, *, seed: int = 0) -> Noise:
        """Return the noise that explains each record: a draw of its exact posterior.

        Args:
            cohort: Factual records; rows of several draws (`Cohort.repeat`) get noise of their own.
            seed: A record's noise depends on this, on its id and its draw, and on nothing else.
        """
        self._check_ready()
        columns = {k: torch.from_numpy(v) for k, v in cohort.columns(self.graph).items()}
        draws = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
        with torch.no_grad():
            values = {
                name: self._equation(name, columns).abduct(columns[name], draws.on(name))
                for name in self.graph.tabular
                if name in self.fitted
            }
        return Noise(values, cohort, columns, draws, cohort.index)

    def do(
        self,
        action: Intervention | None = None,
        /,
        *,
        hold: Iterable[str] = (),
        beyond_range: bool = False,
        **values: Any,
    ) -> "SCM":
        """Return the model in which some variables are set by hand; the weights are shared.

        Args:
            action: What `causalcxr.do` returned, or write `do(sex="M")` here directly.
            hold: Variables that keep their factual value, though they are downstream.
            beyond_range: Allow values outside range or support; it is recorded.
            values: Names and values, as in `causalcxr.do`.
        """
        before = dict(self._action.settings) if self._action else {}
        new = action or do(beyond_range=beyond_range, **values)
        beyond = new.beyond_range or bool(self._action and self._action.beyond_range)
        bound = new.bind(self.graph)
        if twice := [name for name in bound.names if name in before]:
            raise InterventionError(f"{bound.describe()}: {twice[0]!r} is set already; keep one")
        merged = do({**before, **bound.settings}, beyond_range=beyond).bind(self.graph)
        held = self._held | {self.graph.find(name) for name in hold}
        if both := sorted(held & set(merged.names)):
            raise InterventionError(f"{merged.describe()}: {both[0]!r} is both set and held")
        return self._with(_action=merged, _held=frozenset(held))

    def predict(self, noise: Noise, *, recompute: bool = False) -> Cohort:
        """Return the cohort that this noise gives under this model.

        Args:
            noise: What `abduct` returned, of this model or of the one before `do`.
            recompute: Compute every value anew, also where no cause changed, to test that the noise gives the facts back.
        """
        self._check_ready()
        old = noise.columns
        fixed = self._settings(noise)
        new: dict[str, Tensor] = {}
        changed: dict[str, Tensor] = {}
        with torch.no_grad():
            for name in self.graph.order:
                if self.graph[name].is_image:
                    continue
                new[name] = self._value(name, noise, fixed, new, changed, recompute)
                changed[name] = ~_same(new[name], old[name]) if old else torch.ones(1, dtype=bool)
        columns = {name: column.numpy() for name, column in new.items()}
        if noise.cohort is None:
            twins = Cohort.from_columns(self.graph, columns, noise.index, source="model")
        else:
            twins = noise.cohort.with_columns(self.graph, columns)
        images = self._images(noise, new, changed, recompute)
        note = self._action.describe() if self._action else "no intervention"
        return twins.with_images(images).described(f"{twins.source}, counterfactual", note)

    def counterfactual(
        self,
        cohort: Cohort,
        action: Intervention | None = None,
        /,
        *,
        hold: Iterable[str] = (),
        draws: int | None = None,
        seed: int = 0,
        recompute: bool = False,
        **values: Any,
    ) -> Cohort:
        """Return the twins of a cohort: abduct, act, predict.

        Args:
            cohort: Factual records, with or without images.
            action: What is done: `do(sex="M")`, or write `sex="M"` here directly.
            hold: Variables that keep their factual value.
            draws: Posterior draws for each record, told apart by the index level "draw".
            seed: Of the posterior draws.
            recompute: See `predict`.
            values: Names and values, as in `causalcxr.do`.
        """
        acted = self.do(action, hold=hold, **values)
        return acted.predict(
            self.abduct(cohort.repeat(draws) if draws else cohort, seed=seed), recompute=recompute
        )

    def sample(self, n: int, *, seed: int = 0) -> Cohort:
        """Return n new records, images included, from the model with its interventions."""
        self._check_ready()
        index = pd.RangeIndex(n, name="record")
        draws = Draws(record_keys(index), seed)
        nothing = {name: torch.full((n,), torch.nan).double() for name in self.graph.tabular}
        values = {
            name: self._equation(name, nothing).sample_noise(draws.on(name))
            for name in self.graph.tabular
            if name in self.fitted
        }
        return self.predict(Noise(values, None, {}, draws, index))

    def log_prob(self, cohort: Cohort) -> pd.DataFrame:
        """Return the log-density or log-mass of every value given its parents, NaN where missing."""
        self._check_ready()
        columns = {k: torch.from_numpy(v) for k, v in cohort.columns(self.graph).items()}
        with torch.no_grad():
            table = {
                name: self._equation(name, columns).log_prob(columns[name]).numpy()
                for name in self.graph.tabular
                if name in self.fitted
            }
        return pd.DataFrame(table, index=cohort.index)

    # On disk

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder, so that a kill at any moment leaves the one before readable."""
        return model_folder.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> "SCM":
        """Read a saved model; refuse one that is damaged, tampered with or of another version."""
        return cls.__new__(cls)._with(**model_folder.load(Path(folder)), _action=None, _held=frozenset())

    def __repr__(self) -> str:
        act = f", {self._action.describe()}" if self._action else ""
        return f"SCM({self.graph.name}: {len(self.fitted)} of {len(self.graph)} equations fitted{act})"

    # How it is done

    def _equation(self, name: str, columns: Mapping[str, Tensor]) -> Any:
        mechanism = self.fitted[name].mechanism
        return mechanism({p: columns[p] for p in self.graph[name].parents})

    def _settings(self, noise: Noise) -> dict[str, Tensor]:
        """Return what is set or held, per record."""
        held = {name: noise.columns[name] for name in self._held if noise.columns}
        if not self._action:
            return held
        n = len(noise.index)
        factual = {k: v.numpy() for k, v in noise.columns.items()}
        values = self._action.values(factual or {"": np.full(n, np.nan)})
        require_support(self.graph, self.support, self._action, values)
        return held | {name: torch.from_numpy(value) for name, value in values.items()}

    def _value(
        self,
        name: str,
        noise: Noise,
        fixed: Mapping[str, Tensor],
        new: Mapping[str, Tensor],
        changed: Mapping[str, Tensor],
        recompute: bool,
    ) -> Tensor:
        """Return one variable under the model: set, or computed in the rows whose causes changed."""
        n = len(noise.index)
        if name in fixed:
            return fixed[name].expand(n)
        parents = self.graph[name].parents
        if name not in noise.values:
            return noise.columns[name] if noise.columns else torch.full((n,), torch.nan).double()
        if not noise.columns or recompute:
            return self._equation(name, new).predict(noise.values[name])
        rows = torch.zeros(n, dtype=bool)
        for parent in parents:
            rows |= changed[parent]
        if not rows.any():
            return noise.columns[name]
        some = {p: new[p][rows] for p in parents}
        value = noise.columns[name].clone()
        value[rows] = self._equation(name, some).predict(noise.values[name][rows])
        return value

    def _images(
        self, noise: Noise, new: Mapping[str, Tensor], changed: Mapping[str, Tensor], recompute: bool
    ) -> ModelImages | None:
        """Return the images of the twins, or of samples, computed when they are asked for."""
        name = self.graph.image
        if name is None or name not in self.fitted:
            return None
        mechanism = self.fitted[name].mechanism
        parents, size = self.graph[name].parents, (mechanism.config.resolution,) * 2
        n = len(noise.index)

        def equation(columns: Mapping[str, Tensor], rows: np.ndarray) -> Any:
            return mechanism({p: columns[p][rows] for p in parents})

        if noise.cohort is None:

            def sample(rows: np.ndarray) -> np.ndarray:
                bound = equation(new, rows)
                return bound.predict(bound.sample_noise(noise.draws.on(name).rows(rows))).numpy()

            return ModelImages(sample, np.ones(n, dtype=bool), size)
        films = noise.cohort.images
        if films is None:
            return None
        if films.size != size:
            raise ModelError(
                f"the cohort's images are {films.size[0]} x {films.size[1]} pixels, the model's are {size[0]} x {size[1]};"
                f" load the cohort with size={size[0]}"
            )
        moved = torch.zeros(n, dtype=bool)
        for parent in parents:
            moved |= changed[parent]
        moved = moved.numpy() | recompute

        def twin(rows: np.ndarray) -> np.ndarray:
            out = films[rows].astype(np.float64)
            some = rows[moved[rows]]
            if len(some):
                u = equation(noise.columns, some).abduct(torch.from_numpy(films[some]))
                out[moved[rows]] = equation(new, some).predict(u).numpy()
            return out

        return ModelImages(twin, films.available, size)


def _same(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | (a.isnan() & b.isnan())
