"""One task for every model: data, interventions, and the errors of the model's twins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.scm.suites import Suite

__all__ = ["Cell", "Task", "pool"]

_NORMAL_IQR = 1.349  # the interquartile range of N(0, 1)


@dataclass(frozen=True)
class Cell:
    """The errors of the twins in one variable under one intervention.

    Args:
        cause: The variable that is set.
        value: Its value: a number, or the position of a level.
        outcome: A descendant of the cause.
        rmse: Of a number: the root mean squared error in its own units; else NaN.
        scaled: The same over the standard deviation of the outcome in the training rows.
        median: The median absolute error over a standard deviation estimated from the quartiles,
            for distributions without finite variance.
        brier: Of a level: the mean squared distance of the probabilities from the true level.
        variation: Of a level: the total variation between the mean probabilities and the
            frequencies of the true twins.
    """

    cause: str
    value: float
    outcome: str
    rmse: float = np.nan
    scaled: float = np.nan
    median: float = np.nan
    brier: float = np.nan
    variation: float = np.nan


@dataclass(frozen=True)
class Task:
    """Records of a known model in three splits, and interventions.

    Args:
        suite: The model.
        parts: The values of the rows of "train", "val" and "test", (n,) each.
        noise: The true noise of the test rows.
        actions: Variable and value of each intervention.
        draws: The number of posterior samples; 1 if all variables are continuous.
        seed: Of the records and of the models.
    """

    suite: Suite
    parts: Mapping[str, Mapping[str, np.ndarray]]
    noise: Mapping[str, np.ndarray]
    actions: tuple[tuple[str, float], ...]
    draws: int
    seed: int

    @classmethod
    def draw(cls, suite: Suite, rows: tuple[int, int, int], *, seed: int, draws: int) -> "Task":
        """Draw records; `rows` are the sizes of the training, validation and test splits.

        Example:
            >>> from benchmarks.scm.suites import SUITES
            >>> task = Task.draw(SUITES["chain-nlin"], (50, 10, 5), seed=0, draws=20)
            >>> len(task.parts["test"]["x3"]), task.draws, len(task.actions)
            (5, 1, 6)
        """
        noise = suite.noise(sum(rows), seed)
        values = suite.values(noise)
        ends = np.cumsum((0, *rows))
        parts = {
            part: {name: column[a:b] for name, column in values.items()}
            for part, a, b in zip(("train", "val", "test"), ends, ends[1:], strict=False)
        }
        test = {name: u[ends[-2] :] for name, u in noise.items()}
        actions = tuple(suite.actions(parts["train"]))
        return cls(suite, parts, test, actions, draws if suite.discrete else 1, seed)

    @property
    def facts(self) -> Mapping[str, np.ndarray]:
        """The values of the test rows."""
        return self.parts["test"]

    def matrix(self, part: str) -> np.ndarray:
        """Return the rows of a part, (n, d), variables in causal order."""
        return np.stack([self.parts[part][name] for name in self.suite.nodes], 1)

    def frame(self) -> pd.DataFrame:
        """Return all rows with a column `split`; levels are positions."""
        parts = [pd.DataFrame(values).assign(split=name) for name, values in self.parts.items()]
        return pd.concat(parts, ignore_index=True)

    def oracle(self) -> Iterable[np.ndarray]:
        """Yield the twins of the true model for each action, (draws, n, d).

        It has the true equations and the true noise of numbers, and draws the noise of levels from
        the exact posterior. No model of the same records can do better on average.
        """
        training = [
            self.suite.posterior(self.facts, self.noise, draw=draw, seed=self.seed + 1)
            for draw in range(self.draws)
        ]
        for action in self.actions:
            yield np.stack([self._twins(noise, action) for noise in training])

    def copies(self) -> Iterable[np.ndarray]:
        """Yield the factual values for each action, (1, n, d), with only the cause changed."""
        names = list(self.suite.nodes)
        for name, value in self.actions:
            copy = self.matrix("test")[None].copy()
            copy[:, :, names.index(name)] = value
            yield copy

    def score(self, answers: Iterable[np.ndarray]) -> list[Cell]:
        """Compare the twins of a model with the true ones.

        Args:
            answers: For each action, the twins, (draws, n, d), variables in causal order.
        """
        cells = []
        for action, twins in zip(self.actions, answers, strict=True):
            truth = self._twins(self.noise, action)
            for name in self.suite.descendants(action[0]):
                i = list(self.suite.nodes).index(name)
                errors = (
                    self._level_errors if self.suite.nodes[name].levels else self._number_errors
                )
                cells.append(Cell(*action, name, **errors(name, twins[..., i], truth[:, i])))
        return cells

    def _twins(self, noise: Mapping[str, np.ndarray], action: tuple[str, float]) -> np.ndarray:
        values = self.suite.values(noise, dict([action]))
        return np.stack([values[name] for name in self.suite.nodes], 1)

    def _number_errors(self, name: str, twins: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        training = self.parts["train"][name]
        error = twins.mean(0) - truth
        low, high = np.percentile(training, (25, 75))
        rmse = float(np.sqrt(np.mean(error**2)))
        middle = float(np.median(np.abs(error)) / ((high - low) / _NORMAL_IQR))
        return {"rmse": rmse, "scaled": rmse / float(training.std()), "median": middle}

    def _level_errors(self, name: str, twins: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        levels = np.arange(len(self.suite.nodes[name].levels))
        p = (twins[..., None] == levels).mean(0)
        hit = truth[:, None] == levels
        brier = float(((p - hit) ** 2).sum(1).mean())
        return {
            "brier": brier,
            "variation": float(np.abs(p.mean(0) - hit.mean(0)).sum() / 2),
        }


def pool(cells: list[Cell]) -> dict[str, float]:
    """Return each measure over all cells: root mean square of errors, mean of the rest, no NaN.

    Example:
        >>> pool([Cell("a", 0.0, "b", rmse=1.0), Cell("a", 1.0, "b", rmse=7.0)])["rmse"]
        5.0
    """

    def mean(name: str, power: int) -> float:
        values = np.array([getattr(cell, name) for cell in cells])
        values = values[~np.isnan(values)]
        return float(np.mean(values**power) ** (1 / power)) if len(values) else np.nan

    powers = {"rmse": 2, "scaled": 2, "median": 1, "brier": 1, "variation": 1}
    return {name: mean(name, power) for name, power in powers.items()}
