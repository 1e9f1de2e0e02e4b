"""One patient, one question: what the twin is, how probable that is, and what it rests on."""

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

__all__ = ["DRAWS", "Answer", "Chance", "Line", "Question", "Visit", "worded_value"]

DRAWS = 100  # posterior draws, where a probability cannot be enumerated
_SPREAD = 50  # posterior draws of a number
_MISSING = "missing"


@dataclass(frozen=True)
class Question:
    """What is set by hand, and what keeps its factual value.

    Args:
        settings: Variable -> level or number.
        hold: Variables that keep their factual value, though they are downstream.
        beyond_range: Allow values outside range or support; it is recorded.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    hold: tuple[str, ...] = ()
    beyond_range: bool = False

    @property
    def action(self) -> Intervention:
        """What is done.

        Raises:
            InterventionError: If a value is none that can be set.
        """
        return do(self.settings, beyond_range=self.beyond_range)

    def with_setting(self, name: str, value: Any) -> "Question":
        """Return the same question with one more variable set, which is then not held."""
        held = tuple(each for each in self.hold if each != name)
        return Question({**self.settings, name: value}, held, self.beyond_range)

    def code(self, model: str, cohort: str, rows: str) -> str:
        """Return the line of Python that asks the same.

        Args:
            model: The Python that gets the model.
            cohort: The Python that gets the cohort.
            rows: The Python that `at` takes.

        Example:
            >>> Question({"Sex": "M"}, ("View",)).code("model", "patients", "[17]")
            "model.counterfactual(patients.at([17]), do({'Sex': 'M'}), hold=['View'])"
        """
        held = f", hold={list(self.hold)!r}" if self.hold else ""
        beyond = ", beyond_range=True" if self.beyond_range else ""
        done = f"do({dict(self.settings)!r})" if self.settings else "None"
        return f"{model}.counterfactual({cohort}.at({rows}), {done}{held}{beyond})"


@dataclass(frozen=True)
class Chance:
    """How probable a level of a twin is, given all that is observed of the patient."""

    level: str
    probability: float


@dataclass(frozen=True)
class Line:
    """What becomes of one variable.

    Args:
        name: The variable.
        mark: "set", "held", "changed" or "same".
        factual: Its value in words.
        twin: The twin's: of the posterior draw that the image shows.
        chances: How probable each level is, for a variable with levels that can change.
        method: Of the probabilities: "exact" or "draws"; "" where there are none.
        error: Their largest standard error, 0 where exact.
        spread: The 5th and 95th percentile over draws, for a number that can change.
    """

    name: str
    mark: str
    factual: str
    twin: str
    chances: tuple[Chance, ...] = ()
    method: str = ""
    error: float = 0.0
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class Answer:
    """What becomes of every variable, in the graph's order.

    Args:
        question: What was asked.
        words: The same in words, such as `do(Sex=M), held: View`.
        lines: One a variable.
        films: Whether the image is another: some parent of it moved.
    """

    question: Question
    words: str
    lines: tuple[Line, ...]
    films: bool

    @property
    def values(self) -> dict[str, str]:
        """The twin's values in words, by name; where one changed, both."""
        told = {}
        for line in self.lines:
            moved = line.twin != line.factual
            told[line.name] = f"{line.factual} → {line.twin}" if moved else line.factual
        return told

    @property
    def marks(self) -> dict[str, str]:
        """What was set, held or changed, by name."""
        return {line.name: line.mark for line in self.lines if line.mark != "same"}

    def to_json(self) -> dict[str, Any]:
        """Return it as the page and the downloaded file hold it."""
        question = asdict(self.question) | {"settings": dict(self.question.settings)}
        lines = [asdict(line) for line in self.lines]
        return {"words": self.words, "question": question, "lines": lines, "films": self.films}


class Visit:
    """Put questions about one patient to one model; the noise of the record is found once.

    Args:
        model: A fitted model.
        patient: One record, with or without an image.
        seed: Of the posterior draw.

    Raises:
        CohortError: If it is not one record, or a value is none that the graph declares.

    Example:
        >>> from causalcxr.graph import Graph
        >>> import pandas as pd
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
        >>> visit = Visit(SCM(graph).fit(Cohort(table)), Cohort(table).head(1))
        >>> [(line.name, line.mark) for line in visit.ask(Question({"Sex": "M"})).lines]
        [('Sex', 'set'), ('Edema', 'same')]
    """

    def __init__(self, model: SCM, patient: Cohort, seed: int = 0) -> None:
        if len(patient) != 1:
            raise CohortError(f"{len(patient)} records; choose one patient")
        self.model, self.patient, self.seed = model, patient, seed
        self._bare = patient.with_images(None)

    @cached_property
    def noise(self) -> Noise:
        """The noise that explains the record, without its image."""
        return self.model.abduct(self._bare, seed=self.seed)

    @property
    def synthetic(self) -> bool:
        """Whether the record's image was computed; False where it has none."""
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
        """Return the twin's values as the equations read them, (1,) each.

        Raises:
            InterventionError: As `SCM.do` and `SCM.predict` do.
        """
        acted = self.model.do(question.action, hold=question.hold)
        return acted.predict(self.noise).columns(self.model.graph, beyond_range=True)

    def ask(self, question: Question, *, draws: int = DRAWS) -> Answer:
        """Return what becomes of every variable.

        Args:
            question: What is set and held.
            draws: Where a probability cannot be enumerated.

        Raises:
            InterventionError: As `SCM.do` and `SCM.predict` do.
        """
        graph = self.model.graph
        twin, network = self.twin(question), self.network(question)
        targets = [name for name in network.moving if graph[name].is_discrete]
        distributions = level_distributions(network, targets, self.noise.draws, draws)
        numbers = [name for name in network.moving if not graph[name].is_discrete]
        spreads = self._spreads(question, numbers)
        bound = question.action.bind(graph)
        held = {graph.find(name) for name in question.hold}
        lines = []
        for name in graph.tabular:
            fact, value = float(self.noise.columns[name][0]), float(twin[name][0])
            moved = fact != value and not (np.isnan(fact) and np.isnan(value))
            mark = "set" if name in bound.names else "held" if name in held else ""
            words = [worded_value(graph[name], each) for each in (fact, value)]
            lines.append(
                Line(
                    name,
                    mark or ("changed" if moved else "same"),
                    *words,
                    **_told(graph[name].levels, distributions.get(name)),
                    spread=spreads.get(name),
                )
            )
        moved_names = {line.name for line in lines if line.factual != line.twin}
        parents = set(graph.parents(graph.image)) if graph.image else set()
        told = f", held: {', '.join(sorted(held))}" if held else ""
        words = (bound.describe() if bound else "nothing is set") + told
        return Answer(question, words, tuple(lines), bool(moved_names & parents))

    def network(self, question: Question) -> TwinNetwork:
        """Return the twin of the record as a Bayesian network."""
        acted = self.model.do(question.action, hold=question.hold)
        return TwinNetwork.from_model(acted, self.noise)

    def _spreads(self, question: Question, names: Iterable[str]) -> dict[str, tuple]:
        """Return the 5th and the 95th percentile of numbers over draws."""
        names = list(names)
        if not names:
            return {}
        acted = self.model.do(question.action, hold=question.hold)
        noise = self.model.abduct(self._bare, draws=_SPREAD, seed=self.seed)
        columns = acted.predict(noise).columns(self.model.graph, beyond_range=True)
        known = {name: columns[name][np.isfinite(columns[name])] for name in names}
        return {
            name: tuple(float(q) for q in np.quantile(values, [0.05, 0.95]))
            for name, values in known.items()
            if len(values)
        }


def worded_value(variable: Any, code: float) -> str:
    """Return a value as people read it: a level, a number with its unit, or "missing".

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


def _told(
    levels: tuple[str, ...], law: tuple[torch.Tensor, torch.Tensor, str] | None
) -> dict[str, Any]:
    """Return the probabilities of a line; none where the twin's value is missing for certain."""
    if law is None or law[0][0].isnan().all():
        return {}
    values, error, method = law
    chances = tuple(Chance(level, float(p)) for level, p in zip(levels, values[0], strict=True))
    return {"chances": chances, "method": method, "error": float(error[0].nan_to_num().max())}
