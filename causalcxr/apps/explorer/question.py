"""One patient, one question: the values of the twin and their probabilities."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.prediction import Noise
from causalcxr.scm.questions.probabilities import level_distributions
from causalcxr.scm.questions.twin_network import TwinNetwork
from causalcxr.scm.scm import SCM

__all__ = [
    "DRAWS",
    "AbductedPatient",
    "LevelProbability",
    "Line",
    "Question",
    "TwinAnswer",
    "worded_value",
]

DRAWS = 100  # posterior samples, where a probability cannot be enumerated
_SPREAD = 50  # posterior samples of a number
_MISSING = "missing"


@dataclass(frozen=True)
class Question:
    """Hold which variables are set, and which keep their factual value.

    Args:
        settings: Variable -> level or number.
        hold: Descendants of the set variables that keep their factual value.
        beyond_range: Allow values outside range or support; the answer records it.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    hold: tuple[str, ...] = ()
    beyond_range: bool = False

    @property
    def action(self) -> Intervention:
        """The intervention.

        Raises:
            InterventionError: If a value is invalid.
        """
        return do(self.settings, beyond_range=self.beyond_range)

    def with_setting(self, name: str, value: Any) -> "Question":
        """Return the same question with one more variable set, which is then not held."""
        hold = tuple(other for other in self.hold if other != name)
        return Question({**self.settings, name: value}, hold, self.beyond_range)

    def code(self, model: str, cohort: str, rows: str) -> str:
        """Return the line of Python that gives the same twin.

        Args:
            model: The Python that loads the model.
            cohort: The Python that loads the cohort.
            rows: The argument of `at`, as Python.

        Example:
            >>> Question({"Sex": "M"}, ("View",)).code("model", "patients", "[17]")
            "model.counterfactual(patients.at([17]), do({'Sex': 'M'}), hold=['View'])"
        """
        hold = f", hold={list(self.hold)!r}" if self.hold else ""
        beyond = ", beyond_range=True" if self.beyond_range else ""
        action = f"do({dict(self.settings)!r})" if self.settings else "None"
        return f"{model}.counterfactual({cohort}.at({rows}), {action}{hold}{beyond})"


@dataclass(frozen=True)
class LevelProbability:
    """P(twin = level | everything observed of the patient)."""

    level: str
    probability: float


@dataclass(frozen=True)
class Line:
    """Hold the factual value and the twin's value of one variable.

    Args:
        name: The variable.
        mark: "set", "held", "changed" or "same".
        factual: Its factual value in words.
        twin: The twin's value, of the posterior sample that the image shows.
        chances: The probability of each level, for a discrete variable that can change.
        method: Of the probabilities: "exact" or "draws"; "" if there are none.
        error: Their largest standard error, 0 if exact.
        spread: The 5th and 95th percentile over samples, for a number that can change.
    """

    name: str
    mark: str
    factual: str
    twin: str
    chances: tuple[LevelProbability, ...] = ()
    method: str = ""
    error: float = 0.0
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class TwinAnswer:
    """Hold the values of the twin, one line for each variable in the graph's order.

    Args:
        question: The question.
        words: The question in words, such as `do(Sex=M), held: View`.
        lines: One for each variable.
        image_changes: Whether a parent of the image changes, and so the image.
    """

    question: Question
    words: str
    lines: tuple[Line, ...]
    image_changes: bool

    @property
    def marks(self) -> dict[str, str]:
        """The marks of the variables that were set, held or changed."""
        return {line.name: line.mark for line in self.lines if line.mark != "same"}

    def to_json(self) -> dict[str, Any]:
        """Return the answer with the keys of the downloaded file."""
        question = asdict(self.question) | {"settings": dict(self.question.settings)}
        lines = [asdict(line) for line in self.lines]
        # "films" is the key of version 0.1.0: files that were downloaded keep their format.
        return {
            "words": self.words,
            "question": question,
            "lines": lines,
            "films": self.image_changes,
        }


class AbductedPatient:
    """Answer questions about one patient with noise that is abducted once.

    Args:
        model: A fitted model.
        patient: One record, with or without an image.
        seed: Of the posterior sample.

    Raises:
        CohortError: If there is not exactly one record, or the graph lacks one of its values.

    Example:
        >>> from causalcxr.graph import Graph
        >>> import pandas as pd
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
        >>> abducted = AbductedPatient(SCM(graph).fit(Cohort(table)), Cohort(table).head(1))
        >>> [(line.name, line.mark) for line in abducted.ask(Question({"Sex": "M"})).lines]
        [('Sex', 'set'), ('Edema', 'same')]
    """

    def __init__(self, model: SCM, patient: Cohort, seed: int = 0) -> None:
        if len(patient) != 1:
            raise CohortError(f"{len(patient)} records; choose one patient")
        self.model, self.patient, self.seed = model, patient, seed
        self._table = patient.with_images(None)

    @cached_property
    def noise(self) -> Noise:
        """The noise of the record, without that of its image."""
        return self.model.abduct(self._table, seed=self.seed)

    @property
    def synthetic(self) -> bool:
        """Whether the record's image is synthetic; False if it has none."""
        images = self.patient.images
        return images is not None and bool(images.synthetic[0])

    @property
    def facts(self) -> dict[str, str]:
        """Every variable's factual value in words."""
        columns = self.noise.columns
        return {
            name: worded_value(self.model.graph[name], float(columns[name][0]))
            for name in self.model.graph.tabular
        }

    def twin(self, question: Question) -> dict[str, np.ndarray]:
        """Return the twin's values, name -> (1,): numbers, or positions of levels.

        Raises:
            InterventionError: As `SCM.do` and `SCM.predict` do.
        """
        acted = self.model.do(question.action, hold=question.hold)
        return acted.predict(self.noise).columns(self.model.graph, beyond_range=True)

    def ask(self, question: Question, *, draws: int = DRAWS) -> TwinAnswer:
        """Return the twin's value of every variable, with probabilities.

        Args:
            question: The variables that are set and held.
            draws: Posterior samples, where a probability cannot be enumerated.

        Raises:
            InterventionError: As `SCM.do` and `SCM.predict` do.
        """
        graph = self.model.graph
        # Abduction, action, prediction; then the distributions of what can change.
        twin, network = self.twin(question), self.network(question)
        targets = [name for name in network.moving if graph[name].is_discrete]
        distributions = level_distributions(network, targets, self.noise.draws, draws)
        numbers = [name for name in network.moving if not graph[name].is_discrete]
        spreads = self._spreads(question, numbers)
        action = question.action.bind(graph)
        held = {graph.find(name) for name in question.hold}
        # One line for each variable.
        lines = []
        for name in graph.tabular:
            fact, value = float(self.noise.columns[name][0]), float(twin[name][0])
            # NaN differs from itself, but missing on both sides is no change.
            is_changed = fact != value and not (np.isnan(fact) and np.isnan(value))
            mark = "set" if name in action.names else "held" if name in held else ""
            words = [worded_value(graph[name], code) for code in (fact, value)]
            lines.append(
                Line(
                    name,
                    mark or ("changed" if is_changed else "same"),
                    *words,
                    **_probabilities(graph[name].levels, distributions.get(name)),
                    spread=spreads.get(name),
                )
            )
        # The image changes only through its parents.
        changed = {line.name for line in lines if line.factual != line.twin}
        parents = set(graph.parents(graph.image)) if graph.image else set()
        held_words = f", held: {', '.join(sorted(held))}" if held else ""
        words = (action.describe() if action else "nothing is set") + held_words
        return TwinAnswer(question, words, tuple(lines), bool(changed & parents))

    def network(self, question: Question) -> TwinNetwork:
        """Return the twin of the record as a Bayesian network."""
        acted = self.model.do(question.action, hold=question.hold)
        return TwinNetwork.from_model(acted, self.noise)

    def _spreads(self, question: Question, names: Iterable[str]) -> dict[str, tuple]:
        """Return the 5th and the 95th percentile of numbers over posterior samples."""
        names = list(names)
        if not names:
            return {}
        acted = self.model.do(question.action, hold=question.hold)
        noise = self.model.abduct(self._table, draws=_SPREAD, seed=self.seed)
        columns = acted.predict(noise).columns(self.model.graph, beyond_range=True)
        # Quantiles of finite samples only.
        finite = {name: columns[name][np.isfinite(columns[name])] for name in names}
        return {
            name: tuple(float(q) for q in np.quantile(values, [0.05, 0.95]))
            for name, values in finite.items()
            if len(values)
        }


def worded_value(variable: Any, code: float) -> str:
    """Return a value in words: a level, a number with its unit, or "missing".

    Example:
        >>> from causalcxr.graph.variables import Variable
        >>> worded_value(Variable("Age", "continuous", unit="year"), 61.0)
        '61 year'
    """
    if np.isnan(code):
        return _MISSING
    if variable.is_discrete:
        return variable.levels[int(code)]
    return f"{code:.4g}{' ' + variable.unit if variable.unit else ''}"


def _probabilities(
    levels: tuple[str, ...], distribution: tuple[torch.Tensor, torch.Tensor, str] | None
) -> dict[str, Any]:
    """Return the probabilities of a line; none if the twin's value is certainly missing."""
    if distribution is None or distribution[0][0].isnan().all():
        return {}
    values, error, method = distribution
    chances = tuple(
        LevelProbability(level, float(p)) for level, p in zip(levels, values[0], strict=True)
    )
    return {"chances": chances, "method": method, "error": float(error[0].nan_to_num().max())}
