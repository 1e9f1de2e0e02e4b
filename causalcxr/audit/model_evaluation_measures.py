"""The measures of a model evaluation: axioms, similarity, attributes, realism and truth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from causalcxr.audit.attribute_reader import AttributeReader, image_features
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.columns import decode
from causalcxr.graph.interventions import BoundIntervention, Intervention, do
from causalcxr.images.images import ArrayImages
from causalcxr.metrics.axioms import (
    composition_errors,
    output_change,
    reversibility_errors,
    target_errors,
)
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.metrics.fidelity import fidelity
from causalcxr.metrics.minimality import identity_kept
from causalcxr.metrics.similarity import SIMILARITIES
from causalcxr.metrics.truth import truth_errors, truth_table
from causalcxr.radit.features import Features
from causalcxr.scm.scm import SCM

__all__ = [
    "QuestionImages",
    "axiom_rows",
    "reader_rows",
    "realism_rows",
    "similarity_rows",
    "truth_rows",
]

TableRow = dict[str, object]
_FEW = 12  # records below which distances between distributions are meaningless
# The window of SSIM: smaller images have no value of it.
_SSIM_WINDOW = 11  # pixels
_DISTANCES = ("frechet", "kernel", "precision", "coverage")


@dataclass(frozen=True, eq=False)
class QuestionImages:
    """Hold the images of one intervention.

    Args:
        action: The intervention.
        cohort: The records that it changes.
        twin: Their twins.
        images: `factual`, `twin`, `null` and, for phantoms, `true`: (n, 1, H, W) each.
        reached: The variables that are set, and their descendants.
    """

    action: BoundIntervention
    cohort: Cohort
    twin: Cohort
    images: Mapping[str, np.ndarray]
    reached: frozenset[str]

    @property
    def patients(self) -> np.ndarray:
        """Patient of each record, (n,)."""
        return self.cohort.patients.to_numpy()

    def records_with(self, world: str) -> Cohort:
        """Return the records with the images of one world."""
        synthetic = self.cohort.images.synthetic | (world != "factual")
        return self.cohort.with_images(ArrayImages(self.images[world], synthetic=synthetic))


def axiom_rows(
    model: SCM,
    question: QuestionImages,
    cycles: Sequence[int],
    cycled: int,
    options: Mapping[str, int],
) -> list[TableRow]:
    """Return the rows of composition and reversibility.

    Args:
        model: A fitted model with an image.
        question: The images of one intervention.
        cycles: Numbers of null interventions in a row.
        cycled: Number of records.
        options: `draws` and `seed` of the bootstrap.
    """
    records, twin = question.cohort.head(cycled), question.twin.head(cycled)
    seed, graph = options["seed"], model.graph
    columns = records.columns(graph)  # as levels: a table may write them as 1 or True
    names = [graph.find(name) for name in question.action.names]
    factual = {name: decode(columns[name], graph[name]).tolist() for name in names}
    action = Intervention(question.action.settings, question.action.beyond_range)

    # Images go through the model again and again, with the table as observed.
    def null(images: np.ndarray) -> np.ndarray:
        noise = model.abduct(records.with_images(records.images.with_pixels(images)), seed=seed)
        return model.predict(noise, recompute=True).images[:]

    def forth(images: np.ndarray) -> np.ndarray:
        start = records.with_images(records.images.with_pixels(images))
        return model.counterfactual(start, action.among(records.index), seed=seed).images[:]

    # Back: the intervention that sets the factual values, on the twins.
    def back(images: np.ndarray) -> np.ndarray:
        start = twin.with_images(twin.images.with_pixels(images))
        return model.counterfactual(start, do(factual), seed=seed).images[:]

    # Copying the record makes no error here, and neither does a true twin: both bounds are 0.
    exact = {"copy": 0.0, "oracle": 0.0, "patients": records.patients.to_numpy()}
    images = records.images[:]
    rows = [
        _row(question, "composition", f"L1 after {k}", errors, options, **exact)
        for k, errors in composition_errors(images, null, cycles=cycles).items()
    ]
    errors = reversibility_errors(images, forth, back)
    return [*rows, _row(question, "reversibility", "L1 there and back", errors, options, **exact)]


def similarity_rows(question: QuestionImages, options: Mapping[str, int]) -> list[TableRow]:
    """Return how similar twins are to their records, a row a measure."""
    images, rows = question.images, []
    for name, similarity in SIMILARITIES.items():
        if name == "SSIM" and min(images["twin"].shape[-2:]) < _SSIM_WINDOW:
            continue
        values = _finite(similarity(images["twin"], images["factual"]))
        oracle: np.ndarray | float = np.nan
        if "true" in images:
            oracle = _finite(similarity(images["true"], images["factual"]))
        if np.isfinite(values).any():
            rows.append(_row(question, "minimality", name, values, options, oracle=oracle))
    return rows


def reader_rows(
    model: SCM,
    question: QuestionImages,
    reader: AttributeReader | CrossFittedReader,
    options: Mapping[str, int],
) -> list[TableRow]:
    """Return effectiveness on what was set, and amplification of non-descendants."""
    rows = []
    answers = {world: reader.read(question.records_with(world)) for world in question.images}
    # Effectiveness for what was set; amplification for what must not change.
    targets = question.twin.columns(model.graph, beyond_range=True)
    for name in reader.quality.index:
        # Columns of numbers have no level.
        key = name if name in reader.levels else (name, "")
        read = {world: table[key].to_numpy() for world, table in answers.items()}
        if name in question.action.names:
            rows.append(_effectiveness(model, question, reader, name, read, targets, options))
        elif name not in question.reached:
            change = {w: output_change(read["factual"], a) for w, a in read.items()}
            bounds = {"copy": change["null"], "oracle": change.get("true", np.nan)}
            measure = f"change, {name}"
            rows.append(
                _row(question, "amplification", measure, change["twin"], options, **bounds)
            )
        else:
            continue
        # A poor reader makes poor checks, so its quality stands beside them.
        rows[-1]["reader"] = float(reader.quality[name])
    return rows


def _effectiveness(
    model: SCM,
    question: QuestionImages,
    reader: AttributeReader | CrossFittedReader,
    name: str,
    read: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    options: Mapping[str, int],
) -> TableRow:
    """Return the hit rate of a level, or the absolute error of a number, that was set."""
    target, word = targets[name], "absolute error"
    if name in reader.levels:
        word = "hit rate"
        order = [model.graph[name].levels.index(level) for level in reader.levels[name]]
        target = np.array([order.index(v) if v in order else np.nan for v in target])
    errors = {world: target_errors(answers, target) for world, answers in read.items()}
    scores = {w: 1 - e for w, e in errors.items()} if name in reader.levels else errors
    bounds = {"copy": scores["factual"], "oracle": scores.get("true", np.nan)}
    return _row(question, "effectiveness", f"{word}, {name}", scores["twin"], options, **bounds)


def realism_rows(
    question: QuestionImages, options: Mapping[str, int], network: Features | None = None
) -> list[TableRow]:
    """Return identity, and distances to the images of the records or of the true twins."""
    features = {w: image_features(question.records_with(w), network) for w in question.images}
    patients, rows = question.patients, []
    if len(patients) > 1:
        # Identity: is the record of the patient the nearest one to the twin?
        kept = {
            world: identity_kept(features["factual"], features[world], patients).astype(float)
            for world in ("twin", "true")
            if world in features
        }
        oracle = kept.get("true", np.nan)
        measure = "nearest is the patient"
        rows.append(_row(question, "identity", measure, kept["twin"], options, oracle=oracle))
    # Realism: distances between distributions need enough patients.
    if len(patients) < _FEW:
        return rows
    against = "true" if "true" in features else "factual"
    distances = fidelity(features[against], features["twin"]).table.iloc[0]
    copies: Mapping[str, Any] = {}  # the copies are the records themselves
    if against == "true":
        copies = fidelity(features[against], features["factual"]).table.iloc[0]
    about = {"question": question.action.describe(), "axiom": f"realism, beside {against}"}
    counts = {"n": len(patients), "patients": len(set(patients))}
    return rows + [
        about | {"measure": m, "value": distances[m], "copy": copies.get(m, np.nan)} | counts
        for m in distances.index.intersection(_DISTANCES)
    ]


def truth_rows(question: QuestionImages, options: Mapping[str, int]) -> list[TableRow]:
    """Return the error to the true twin, and its shares inside and outside of what changes."""
    images = question.images
    # Inside the mask is what truly changes; outside, the twin should equal the record.
    mask = np.abs(images["true"] - images["factual"]) > 0
    errors = truth_errors(
        images["twin"], images["true"], images["factual"], mask=mask, patients=question.patients
    )
    rows = []
    for part in truth_table(errors, **options).itertuples():
        row = {"question": question.action.describe(), "axiom": "truth", "oracle": 0.0}
        row |= {"n": part.n, "patients": part.patients}
        # Over the error of a copy: 1 is as bad as doing nothing, 0 is the true twin.
        if part.region == "whole":
            row |= {"measure": "error over copy's", "copy": 1.0}
            row |= {"value": part.normalised, "low": part.low, "high": part.high}
        else:
            row |= {"measure": f"of it {part.region}", "value": part.of_change}
            row |= {"low": part.of_change_low, "high": part.of_change_high}
        rows.append(row)
    return rows


def _row(
    question: QuestionImages,
    axiom: str,
    measure: str,
    values: np.ndarray,
    options: Mapping[str, int],
    *,
    copy: np.ndarray | float = np.nan,
    oracle: np.ndarray | float = np.nan,
    patients: np.ndarray | None = None,
) -> TableRow:
    """Return a mean with its interval over patients, and the means of copy and oracle."""
    patients = question.patients if patients is None else patients
    interval = asdict(mean_interval(values, patients, **options))
    about = {"question": question.action.describe(), "axiom": axiom, "measure": measure}
    return about | interval | {"copy": _mean(copy), "oracle": _mean(oracle)}


def _mean(values: np.ndarray | float) -> float:
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values with NaN for infinite ones, such as the PSNR of equal images."""
    return np.where(np.isinf(values), np.nan, values)
