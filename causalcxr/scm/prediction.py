"""Prediction: one pass down the graph from noise to values; unchanged parents keep a value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.random_numbers import Draws
from causalcxr.common.threads import filled, over_rows
from causalcxr.graph.edge_paths import Edge
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention
from causalcxr.images.resampling import Resampling, at_a_time
from causalcxr.images.synthetic_mark import same_when_written
from causalcxr.mechanisms import Equation, Mechanism
from causalcxr.scm.model_images import ModelImages
from causalcxr.scm.support import require_support

__all__ = ["LatentNoise", "Noise", "Prediction", "bind", "fixed_values", "same_bits"]

_ALL = slice(None)
_TWIN = ", counterfactual"


@dataclass(frozen=True)
class Noise:
    """The exogenous noise of a cohort, and the factual values that it reproduces.

    Args:
        values: Per tabular variable, (n,) or (n, k), NaN where the value was missing. The noise of
            an image is abducted when the twin's image is computed: it is as large as the image.
        cohort: The factual records, or None for noise from the prior.
        columns: The factual values, (n,) each; empty for noise from the prior.
        draws: The random numbers of the records.
        index: The ids of the n rows.
        equations: The hash of each equation that the noise belongs to.
    """

    values: Mapping[str, Tensor]
    cohort: Cohort | None
    columns: Mapping[str, Tensor]
    draws: Draws
    index: pd.Index
    equations: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def factual(self) -> bool:
        """Whether it was abducted from records, rather than sampled from the prior."""
        return self.cohort is not None

    def rows(self, rows: np.ndarray | slice) -> "Noise":
        """Return the noise of some of the rows."""
        values = {name: value[rows] for name, value in self.values.items()}
        columns = {name: column[rows] for name, column in self.columns.items()}
        draws, index = self.draws.rows(rows), self.index[rows]
        return replace(self, values=values, columns=columns, draws=draws, index=index)

    def variable(self, name: str, rows: np.ndarray | slice = _ALL) -> Tensor:
        """Return the noise of one variable in some rows."""
        return self.values[name][rows]


@dataclass(frozen=True)
class LatentNoise(Noise):
    """The noise of records, abducted when it is used, so that the rest costs nothing.

    Args:
        mechanisms: The equations that abduct.
    """

    mechanisms: Mapping[str, Mechanism] = field(default_factory=dict)

    def variable(self, name: str, rows: np.ndarray | slice = _ALL) -> Tensor:
        """Abduct the noise of one variable in some rows."""
        mechanism = self.mechanisms[name]
        facts = {p.name: self.columns[p.name][rows] for p in mechanism.parents}
        draws = self.draws.on(name).rows(rows)
        return mechanism(facts).abduct(self.columns[name][rows], draws)

    def abducted(self) -> Noise:
        """Return the noise of all variables.

        Raises:
            MechanismError: If a variable cannot have its value.
        """
        values = over_rows(len(self), self._abduct)
        return Noise(values, self.cohort, self.columns, self.draws, self.index, self.equations)

    def _abduct(self, rows: np.ndarray | slice) -> dict[str, Tensor]:
        block = self.rows(rows)
        return {name: block.variable(name) for name in self.mechanisms}


def bind(mechanism: Mechanism, columns: Mapping[str, Tensor]) -> Equation:
    """Return an equation with its parents bound, from columns that include them."""
    return mechanism({parent.name: columns[parent.name] for parent in mechanism.parents})


def fixed_values(
    graph: Graph,
    support: Mapping[str, int],
    action: BoundIntervention | None,
    held: Iterable[str],
    noise: Noise,
) -> dict[str, Tensor]:
    """Return the value of every variable that is set or held, (n,) each.

    Args:
        graph: The graph.
        support: What `count_support` returned.
        action: The intervention, if any.
        held: Variables that keep their factual value.
        noise: The noise of n rows; distributions are sampled from its random numbers.

    Raises:
        InterventionError: If a value does not fit, or no training record has it.
    """
    values = {name: noise.columns[name] for name in held}
    if not action:
        return values
    missing = torch.full((len(noise),), torch.nan, dtype=torch.float64)
    factual = {name: noise.columns.get(name, missing).numpy() for name in action.names}
    chosen = action.values(factual, noise.draws, noise.index)
    require_support(graph, support, action, chosen, factual)
    return values | {name: torch.from_numpy(value) for name, value in chosen.items()}


class _TableRows:
    """The values of some rows, some variables set or held; see `Prediction`."""

    def __init__(
        self,
        graph: Graph,
        mechanisms: Mapping[str, Mechanism],
        noise: Noise,
        *,
        recompute: bool,
        edges: Mapping[Edge, Tensor],
    ) -> None:
        self.graph, self.mechanisms, self.noise = graph, mechanisms, noise
        self.recompute, self.edges = recompute, edges
        self.columns: dict[str, Tensor] = {}
        self._changed: dict[str, Tensor] = {}

    def descend(self, fixed: Mapping[str, Tensor]) -> None:
        """Compute the values of every tabular variable, parents first."""
        for name in self.graph.order:
            if not self.graph[name].is_image:
                self.columns[name] = fixed[name] if name in fixed else self._value(name)

    def _value(self, name: str) -> Tensor:
        has_equation = name in self.mechanisms
        # Samples: every value comes from its equation.
        if not self.noise.factual:
            if has_equation:
                return self._predicted(name, _ALL)
            return torch.full((len(self.noise),), torch.nan, dtype=torch.float64)
        # Twins: the factual value stays in the rows where no parent changed.
        moved = self._moved(name)
        if has_equation and (self.recompute or moved.all()):
            return self._predicted(name, _ALL)
        if not moved.any():
            return self.noise.columns[name]
        value, rows = self.noise.columns[name].clone(), filled(moved.nonzero()[:, 0].numpy())
        value[rows] = self._predicted(name, rows) if has_equation else torch.nan
        return value

    def _predicted(self, name: str, rows: np.ndarray | slice) -> Tensor:
        return self._at(name, rows).predict(self.noise.variable(name, rows))

    def _moved(self, name: str) -> Tensor:
        """Return in which rows a parent changed, shape (n,)."""
        moved = torch.zeros(len(self.noise), dtype=torch.bool)
        for parent in self.graph[name].parents:
            # A path may pass another value along this edge than the parent's own.
            passed = self.edges.get((parent, name))
            if passed is not None:
                moved |= ~same_bits(passed, self.noise.columns[parent])
                continue
            # Each parent is compared once, however many children it has.
            if parent not in self._changed:
                self._changed[parent] = ~same_bits(
                    self.columns[parent], self.noise.columns[parent]
                )
            moved |= self._changed[parent]
        return moved

    def _at(self, name: str, rows: np.ndarray | slice) -> Equation:
        """Return an equation bound to the values that its edges pass, in some rows."""
        passed = {p: self.edges.get((p, name), self.columns[p]) for p in self.graph[name].parents}
        return bind(self.mechanisms[name], {p: column[rows] for p, column in passed.items()})


class Prediction(_TableRows):
    """Compute the values that noise gives under the equations, some variables set or held.

    A variable's factual value stays, bit for bit, in each row where none of its parents changed.
    An edge can pass another value than that of its tail: the head's equation then uses it for this
    parent, and the tail's other children do not. A block of rows goes down the whole graph before
    the next one, on as many threads as torch may use.

    Args:
        graph: The graph.
        mechanisms: The equations; a variable without one keeps its observed value, and is missing
            in the rows where a parent changed.
        noise: The noise of n rows.
        fixed: The variables that are set or held, (n,) each.
        recompute: Compute every value anew, also where no parent changed.
        edges: The edges that pass a value of their own, (n,) each.
        reached: The variables that are set and their descendants; see `Equation.reaching`.
    """

    def __init__(
        self,
        graph: Graph,
        mechanisms: Mapping[str, Mechanism],
        noise: Noise,
        fixed: Mapping[str, Tensor],
        *,
        recompute: bool = False,
        edges: Mapping[Edge, Tensor] | None = None,
        reached: Iterable[str] = (),
    ) -> None:
        super().__init__(graph, mechanisms, noise, recompute=recompute, edges=dict(edges or {}))
        self.reached = frozenset(reached)

        def block(rows: np.ndarray | slice) -> dict[str, Tensor]:
            passed = {edge: value[rows] for edge, value in self.edges.items()}
            part = noise.rows(rows)
            world = _TableRows(graph, mechanisms, part, recompute=recompute, edges=passed)
            world.descend({name: value[rows] for name, value in fixed.items()})
            return world.columns

        self.columns = over_rows(len(noise), block)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The value of every tabular variable, (n,) each, float64."""
        return {name: column.numpy() for name, column in self.columns.items()}

    def cohort(self, note: str) -> Cohort:
        """Return the twins of the factual records, or the samples, with a note on what is set.

        Raises:
            CohortError: If the factual images are smaller than the model's.
        """
        factual = self.noise.cohort
        if factual is None:
            # Without factual records the twins are samples.
            samples = Cohort.from_columns(
                self.graph, self.arrays, self.noise.index, source="model"
            )
            return samples.with_images(self.images()).described("model", f"sampled: {note}")
        facts = {name: column.numpy() for name, column in self.noise.columns.items()}
        images = self.images()
        if images is not None:
            note = f"{note}{self._image_note()}"
        twins = factual.with_columns(self.graph, self.arrays, facts).with_images(images)
        return twins.described(f"{twins.source.removesuffix(_TWIN)}{_TWIN}", note)

    def _image_note(self) -> str:
        """Return how the images of twins are computed, for the notes."""
        solving = getattr(self.mechanisms[self.graph.image], "solving", None)
        return "" if solving is None else f"; coupling of the images: {solving}"

    def images(self) -> ModelImages | None:
        """Return the images of twins or of samples, computed when they are read.

        Returns:
            None where the model has no equation of an image, or the factual records have none.

        Raises:
            CohortError: If the factual images are smaller than the model's.
        """
        name = self.graph.image
        if name is None or name not in self.mechanisms:
            return None
        mechanism = self.mechanisms[name]
        size = mechanism.image_size
        # Samples: every row has an image.
        if not self.noise.factual:
            all_rows = np.ones(len(self.noise), dtype=bool)
            return ModelImages(lambda rows: self._sampled(name, rows), all_rows, size)
        # Twins: only records with an image have one.
        factual = self.noise.cohort.images
        if factual is None or not factual.available.any():
            return None
        # Refuses images that are smaller than the model's.
        native = Resampling(factual.size, size).native
        # Twins are computed only where a parent of the image changed.
        moved = self._moved(name).numpy() | self.recompute
        images = ModelImages(
            lambda rows: self._twins(name, rows, moved),
            factual.available,
            native,
            lambda rows: self._own(images, rows, moved),
            factual,
        )
        return images

    def _own(self, images: ModelImages, rows: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return which images are the patients' own: real, and unchanged when written, (k,)."""
        factual = self.noise.cohort.images
        own = ~factual.select(rows).synthetic
        todo = np.flatnonzero(own & moved[rows])
        step = at_a_time(images.size)
        for start in range(0, len(todo), step):
            part = todo[start : start + step]
            own[part] = same_when_written(images[rows[part]], factual[rows[part]])
        return own

    def _at_facts(self, name: str, rows: np.ndarray) -> Equation:
        """Return an equation bound to the factual values of its parents, in some rows."""
        facts = {p: self.noise.columns[p][rows] for p in self.graph[name].parents}
        return bind(self.mechanisms[name], facts)

    def _sampled(self, name: str, rows: np.ndarray) -> np.ndarray:
        equation = self._at(name, rows).reaching(self.reached)
        noise = equation.sample_noise(self.noise.draws.on(name).rows(rows))
        return equation.predict(noise).numpy()

    def _twins(self, name: str, rows: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return some images, (k, 1, H, W): the factual one where no parent changed."""
        images = self.noise.cohort.images[rows].astype(np.float64)
        some = moved[rows]
        if some.any():
            draws = self.noise.draws.on(name).rows(rows[some])
            # Abduction under the factual parents, prediction under those of the twins.
            facts, parents = self._at_facts(name, rows[some]), self._at(name, rows[some])
            factual, twin = (
                equation.reaching(self.reached).sized(*images.shape[-2:])
                for equation in (facts, parents)
            )
            noise = factual.abduct(torch.from_numpy(images[some]), draws)
            images[some] = twin.predict(noise).numpy()
        return images


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Return where two columns are equal bit for bit; missing is equal to missing."""
    return (a == b) | (a.isnan() & b.isnan())
