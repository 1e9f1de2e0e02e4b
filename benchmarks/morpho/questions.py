"""The questions to every image model of digits: three interventions, and the null intervention."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.morpho.models import Model, parents
from benchmarks.morpho.world import GRAPH, load, truth
from benchmarks.peers.editing import Edit, edits
from causalcxr import SCM, Cohort, do
from causalcxr.common.random_numbers import Draws, record_keys

__all__ = ["Question", "questions"]


@dataclass(frozen=True, eq=False)
class Question:
    """An intervention, the digits it is applied to, and their true twins.

    Args:
        name: Of the intervention.
        names: The variables that are set, and their descendants.
        digits: The records.
        twins: Their true twins.
        learned: The twins' variables by the fitted equations, without images.
    """

    name: str
    names: frozenset[str]
    digits: Cohort
    twins: Cohort
    learned: Cohort

    @property
    def factual(self) -> np.ndarray:
        """The images of the digits, (n, 1, H, W)."""
        return self.digits.images[:]

    @property
    def true(self) -> np.ndarray:
        """The images of the true twins, (n, 1, H, W)."""
        return self.twins.images[:]

    @property
    def target(self) -> dict[str, np.ndarray]:
        """The variables of the true twins, (n,) each."""
        return self.twins.columns(GRAPH)

    def first(self, n: int) -> "Question":
        """Return the question for the first n digits."""
        parts = (each.head(n) for each in (self.digits, self.twins, self.learned))
        return Question(self.name, self.names, *parts)

    def edits(self, model: Model) -> tuple[Edit, Edit, Edit]:
        """Return functions for the twins, for the way back, and for the null intervention."""
        before, after = (
            model(parents(each)).reaching(self.names) for each in (self.digits, self.learned)
        )
        return edits(before, after, Draws(record_keys(self.digits.records), 0, "Image"))


def questions(n: int, table: SCM, seed: int = 102) -> Iterator[Question]:
    """Return the three interventions, each to the values of other digits of the population.

    Args:
        n: Number of digits.
        table: The fitted equations of the variables.
        seed: Of the digits; the digits whose values they get have the next seed.
    """
    digits, other_digits = load(n, seed=seed), load(n, seed=seed + 1).table
    for name in ("Thickness", "Intensity", "Digit"):
        action = do({name: other_digits[name].to_numpy()})
        names = frozenset({name, *GRAPH.descendants(name)})
        learned = table.counterfactual(digits.with_images(None), action)
        yield Question(f"do({name.lower()})", names, digits, truth(digits, action), learned)
