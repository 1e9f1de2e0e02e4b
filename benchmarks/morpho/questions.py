"""What is asked of every image model of digits: three interventions, and none."""

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
    """An intervention, the digits it is asked of, and their true twins.

    Args:
        name: What is done.
        names: What the intervention reaches.
        few: The digits.
        twins: Their true twins.
        learned: The twins' variables by the learned equations, without images.
    """

    name: str
    names: frozenset[str]
    few: Cohort
    twins: Cohort
    learned: Cohort

    @property
    def factual(self) -> np.ndarray:
        """The images of the digits, (n, 1, H, W)."""
        return self.few.images[:]

    @property
    def true(self) -> np.ndarray:
        """The images of the true twins, (n, 1, H, W)."""
        return self.twins.images[:]

    @property
    def asked(self) -> dict[str, np.ndarray]:
        """The variables of the true twins, (n,) each."""
        return self.twins.columns(GRAPH)

    def first(self, n: int) -> "Question":
        """Return the question asked of some of the digits."""
        parts = (each.head(n) for each in (self.few, self.twins, self.learned))
        return Question(self.name, self.names, *parts)

    def edits(self, model: Model) -> tuple[Edit, Edit, Edit]:
        """Return what makes twins of images, what undoes it, and the null intervention."""
        before, after = (
            model(parents(each)).reaching(self.names) for each in (self.few, self.learned)
        )
        return edits(before, after, Draws(record_keys(self.few.records), 0, "Image"))


def questions(n: int, table: SCM, seed: int = 102) -> Iterator[Question]:
    """Return the three interventions, each to values of other digits of the same population.

    Args:
        n: Digits.
        table: The learned equations of the variables.
        seed: Of the digits that are asked about; those whose values they get have the next one.
    """
    few, others = load(n, seed=seed), load(n, seed=seed + 1).table
    for name in ("Thickness", "Intensity", "Digit"):
        action = do({name: others[name].to_numpy()})
        names = frozenset({name, *GRAPH.descendants(name)})
        learned = table.counterfactual(few.with_images(None), action)
        yield Question(f"do({name.lower()})", names, few, truth(few, action), learned)
