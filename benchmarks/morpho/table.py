"""The table of the digits: how good counterfactuals are, by the literature's definitions and ours.

References:
    Measuring axiomatic soundness of counterfactual image models (Monteiro et al.),
    arXiv:2303.01274: composition, effectiveness, reversibility.
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (De Sousa Ribeiro et al.),
    arXiv:2306.15764: these on digits whose intensity follows from their thickness.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks.morpho.measure import Ruler
from benchmarks.morpho.models import Model, image_model, table_model
from benchmarks.morpho.questions import Question, questions
from benchmarks.morpho.world import load
from benchmarks.peers.editing import Edit
from causalcxr.common.files import atomic_write
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import l1, mean_interval, truth_errors
from causalcxr.metrics.axioms import composition_errors

__all__ = ["FULL", "QUICK", "Judge", "Sizes", "pictured", "tabulated"]

_TRUTH, _COPY = "error", "copy"


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Args:
        minutes: Of the processor, for each image model.
        taught: Digits that teach them, and the equations of the variables.
        ruler: Digits that calibrate the measurements.
        asked: Digits an intervention.
        cycled: Digits that go through cycles.
        cycles: After how many of them they are looked at.
    """

    minutes: float
    taught: int
    ruler: int
    asked: int
    cycled: int
    cycles: tuple[int, ...] = (1, 10)


FULL, QUICK = Sizes(9.0, 20_000, 2000, 96, 8), Sizes(0.1, 1000, 300, 6, 2, (1, 2))


class Judge:
    """Ask every image model the same questions.

    Args:
        asked: The questions.
        ruler: Measures their images.
        cycled: Digits that go through cycles.
        cycles: After how many of them they are looked at.
    """

    def __init__(
        self,
        asked: Iterable[Question],
        ruler: Ruler,
        *,
        cycled: int,
        cycles: Sequence[int] = (1, 10),
    ) -> None:
        self.questions, self.ruler = tuple(asked), ruler
        self.cycled, self.cycles = cycled, tuple(cycles)

    def ask(self, model: Model) -> pd.DataFrame:
        """Return a row a question, measure and digit: `question`, `measure`, `value`."""
        parts = []
        for question in self.questions:
            parts.append(self.judged(question, question.edits(model)[0](question.factual)))
            few = question.first(self.cycled)
            forth, back, null = few.edits(model)
            # Back after forth is a null too; so ten cycles hold the first one.
            parts += self._cycled(question.name, few, lambda x, f=forth, b=back: b(f(x)))
        parts += self._cycled("null", few, null)
        return pd.concat(parts, ignore_index=True)

    def _cycled(self, name: str, few: Question, null: Edit) -> list[pd.DataFrame]:
        """Return how far digits are from themselves after each number of cycles."""
        errors = composition_errors(few.factual, null, cycles=self.cycles, distance=_grey)
        return [_long(name, f"L1, {k}", each) for k, each in errors.items()]

    def judged(self, question: Question, images: np.ndarray) -> pd.DataFrame:
        """Return what is measured of twins, whoever made them."""
        found = truth_errors(images, question.true, question.factual)
        measured = self.ruler.errors(images, question.asked)
        values = {_TRUTH: found["error"], _COPY: found["copy"], **measured}
        return pd.concat([_long(question.name, name, each) for name, each in values.items()])

    def kept(self, name: str, model: Model, weights: str, folder: Path) -> pd.DataFrame:
        """Return a model's answers, from a folder where they are there.

        Args:
            name: The model's.
            model: The model.
            weights: A hash of its weights.
            folder: Where answers are kept, under a hash of weights, questions and measurements.
        """
        place = folder / f"{name.lower().replace(' ', '-')}-{self._key(weights)}.json"
        if not place.exists():
            atomic_write(place, json.dumps(self.ask(model).to_dict("list")))
        return pd.DataFrame(json.loads(place.read_text()))

    def _key(self, weights: str) -> str:
        digest = hashlib.sha256(f"{weights} {self.cycled} {self.cycles}".encode())
        for question in self.questions:
            measured = self.ruler.errors(question.factual, question.asked).values()
            learned = question.learned.table.to_csv().encode()
            for part in (question.factual, question.true, *measured):
                digest.update(part.tobytes())
            digest.update(learned)
        return digest.hexdigest()[:8]


def summarised(images: str, found: pd.DataFrame) -> list[Row]:
    """Return a row a question: means with 95 % intervals over digits.

    Args:
        images: Whose twins these are.
        found: What `Judge` gave.
    """
    rows: list[Row] = []
    for name, part in found.groupby("question", sort=False):
        by = {measure: each["value"].to_numpy() for measure, each in part.groupby("measure")}
        row: Row = {"intervention": name, "images": images}
        if _TRUTH in by:
            row |= {
                "truth": _told(by[_TRUTH], over=by[_COPY]),
                "thickness, px": _told(by["Thickness"]),
                "intensity": _told(by["Intensity"]),
                "digit right": _told(1 - by["Digit"]),
            }
        row |= {key: _told(by[key]) for key in sorted(by, key=len) if key.startswith("L1, ")}
        rows.append(row)
    return rows


def tabulated(names: Iterable[str], sizes: Sizes, folder: Path) -> tuple[list[Row], Judge]:
    """Train what is not trained, ask, and return the rows, and who asked.

    Args:
        names: Image models, see `benchmarks.peers.families.FAMILIES`.
        sizes: How much is done.
        folder: Where weights and answers are kept; what is there is not done again.
    """
    judge = judging(sizes, folder)
    answers = {"copy": _all(judge, true=False)}
    figures: list[Row] = []
    for name in names:
        model, weights, how = trained(name, sizes, folder)
        answers[name] = judge.kept(name, model, weights, folder / "answers")
        told = f"{how['parameters']:,} parameters, {how['steps']:,} steps"
        figures.append({"intervention": "training", "images": f"{name}: {told}"})
    answers["true twins"] = _all(judge, true=True)
    rows = [row for name, found in answers.items() for row in summarised(name, found)]
    order = {q.name: k for k, q in enumerate(judge.questions)}
    rows = sorted(rows, key=lambda row: order.get(str(row["intervention"]), len(order)))
    return [*rows, *_intensities(judge), *figures], judge


def judging(sizes: Sizes, folder: Path) -> Judge:
    """Return the judge: questions about held-out digits, and a ruler made of others."""
    asked = questions(sizes.asked, table_model(sizes.taught, folder))
    ruler = Ruler.of(load(sizes.ruler, seed=302))
    return Judge(asked, ruler, cycled=sizes.cycled, cycles=sizes.cycles)


def trained(name: str, sizes: Sizes, folder: Path) -> tuple[Model, str, dict[str, float]]:
    """Return an image model of the table; see `image_model`."""
    return image_model(name, records=sizes.taught, minutes=sizes.minutes, folder=folder)


def _all(judge: Judge, *, true: bool) -> pd.DataFrame:
    """Return what copies of the digits are told, or their true twins."""
    parts = (judge.judged(q, q.true if true else q.factual) for q in judge.questions)
    return pd.concat(list(parts), ignore_index=True)


def _intensities(judge: Judge) -> list[Row]:
    """Return how near the learned counterfactual intensities are to the true ones."""
    rows: list[Row] = []
    for question in judge.questions:
        before, after, true = (
            each.table["Intensity"].to_numpy()
            for each in (question.few, question.learned, question.twins)
        )
        if question.name == "do(thickness)":
            for whose, value in (("copy", before), ("learned equation", after)):
                row = {"intervention": question.name, "images": f"no image, {whose}"}
                rows.append({**row, "intensity": _told(np.abs(value - true))})
    return rows


def _grey(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 255 * l1(images, others)


def _long(question: str, measure: str, values: Iterable[float]) -> pd.DataFrame:
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame({"question": question, "measure": measure, "value": values})


def _told(values: np.ndarray, over: np.ndarray | None = None) -> str:
    """Return a mean, or a ratio of sums, and its 95 % bootstrap interval, in words."""
    found = mean_interval(values, over=over)
    digits = 3 if found.value < 10 else 1
    return f"{found.value:.{digits}f} ({found.low:.{digits}f}-{found.high:.{digits}f})"


def pictured(judge: Judge, models: dict[str, Model], path: Path, shown: int = 4) -> None:
    """Draw digits, true twins, those of models, and how far these are from the true ones."""
    sheet, captions = [], []
    for question in (each.first(shown) for each in judge.questions):
        panels = {question.name: question.factual, "true twin": question.true}
        for name, model in models.items():
            made = question.edits(model)[0](question.factual)
            panels |= {name: made, f"|{name} - true|": np.abs(made - question.true)}
        for row in range(shown):
            sheet += [np.asarray(each[row], dtype=np.float32) for each in panels.values()]
            captions += list(panels)
    contact_sheet(np.stack(sheet), captions, columns=2 + 2 * len(models), path=path)
