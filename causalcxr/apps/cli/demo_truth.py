"""How near the demo's twins are to the true twins of the phantom, in figures and in words."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from causalcxr.audit.attribute_reader import AttributeReader, image_features
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention
from causalcxr.images.shrunk_images import shrunk
from causalcxr.metrics.truth import truth_errors, truth_table
from causalcxr.sources.phantom import possible_twins

__all__ = ["demo_reader", "print_scores", "score_twins"]

Score = Mapping[str, Any]

_TRAINING = 600  # phantoms that train the classifier
_PIXELS = 64  # along each side of the images that the classifier reads
_DRAWS = 3  # possible twins of each patient, for the ceiling
_MANY_ANSWERS = 0.5  # a ceiling from which the radiograph hardly determines the twin


def demo_reader(graph: Graph, actions: list[Intervention], seed: int) -> AttributeReader:
    """Return a classifier of the variables that the interventions set.

    It is trained on phantoms of another seed, whose findings do not depend on their causes.
    """
    names = {name for action in actions for name in action.bind(graph).names}
    training = Cohort.load("phantom", n=_TRAINING, seed=seed + 1, size=_PIXELS, randomised=1)
    discrete = [name for name in graph.tabular if name in names and graph[name].is_discrete]
    return AttributeReader.fit(training, graph, discrete, features=_features)


def score_twins(
    compared: Comparison, true: Cohort, action: Intervention, graph: Graph, reader: AttributeReader
) -> dict[str, Any]:
    """Compare the images of phantoms' twins with the true ones.

    Args:
        compared: The records with images, beside their twins.
        true: Their true twins.
        action: The intervention.
        graph: The graph of the model.
        reader: From `demo_reader`.

    Returns:
        The mean absolute difference between twin and true twin, and between factual image and true
        twin (the error of a copy); their ratio with its 95 % interval; the same for the ceiling,
        see `causalcxr.sources.phantom.possible_twins`; the shares of twins, true twins and factual
        images in which the classifier reads the value that was set.
    """
    factual, twins = compared.factual, compared.counterfactual
    own = _relative_error([twins], true, factual)
    possible = [possible_twins(factual, true, seed=draw) for draw in range(_DRAWS)]
    ceiling = _relative_error(possible, true, factual)
    sides = {"twins": twins, "true twins": true, "factual": factual}
    return {
        "intervention": action.describe(),
        "patients": len(factual),
        "twin_to_truth": own["error"],
        "factual_to_truth": own["copy"],
        "ratio": own["ratio"],
        "ratio_95": own["95"],
        "ceiling": ceiling["ratio"],
        "ceiling_95": ceiling["95"],
        "read": {
            side: _share_read(each, true, action, graph, reader) for side, each in sides.items()
        },
        "auroc": {
            name: float(reader.quality[name])
            for name in action.bind(graph).names
            if name in reader.levels
        },
    }


def print_scores(scores: list[Score]) -> None:
    """Print the scores as a table, what its columns mean, and a sentence on each row."""
    table = Table(box=None, title="The twins beside the true twins", title_justify="left")
    for heading in ("intervention", "error (95 %)", "ceiling", "twins", "true", "before"):
        table.add_column(heading, justify="left" if heading == "intervention" else "right")
    for score in scores:
        low, high = score["ratio_95"]
        error = f"{_figure(score['ratio'])} ({_figure(low)} to {_figure(high)})"
        shares = [_share(score["read"][side]) for side in ("twins", "true twins", "factual")]
        table.add_row(score["intervention"], error, _figure(score["ceiling"]), *shares)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    quality = {name: value for score in scores for name, value in score["auroc"].items()}
    read = ", ".join(f"{name} {value:.2f}" for name, value in quality.items())
    console.print(
        "  error: the distance from twin to true twin, over that from the unchanged radiograph;\n"
        "    0 is the true twin, 1 is no better than changing nothing.\n"
        "  ceiling: the error of a perfect model, which knows everything that the radiograph\n"
        "    shows, and draws at random what it does not show.\n"
        "  twins, true, before: the share of twins, true twins and unchanged radiographs in\n"
        f"    which a classifier finds the value that was set (its AUROC: {read})."
    )
    for score in scores:
        console.print(f"  {score['intervention']}: {explained(score)}")


def explained(score: Score) -> str:
    """Return what a score means, in one or two sentences.

    Example:
        >>> explained({"ratio": 0.75, "ratio_95": [0.7, 0.8], "ceiling": 0.0})[:59]
        'the twins go 25 % of the way from the radiographs to the tr'
    """
    low, high = score["ratio_95"]
    if low is None:
        return "too few patients for an interval; give a larger --n."
    if high < 1:
        way = f"go {1 - score['ratio']:.0%} of the way from the radiographs to the true twins"
    elif low > 1:
        way = "are further from the true twins than the unchanged radiographs are"
    else:
        way = "are about as far from the true twins as the unchanged radiographs are"
    if score["ceiling"] < _MANY_ANSWERS:
        possible = f"a perfect model would go {1 - score['ceiling']:.0%} of the way"
        return f"the twins {way}; {possible}.".replace("%", " %")
    text = (
        f"the twins {way}. There are many true answers here, since the radiograph shows neither "
        "the place nor the size of what is added: even a perfect model has an error of "
        f"{score['ceiling']:.2f}, so judge these twins by the share in which it is found."
    )
    return text.replace("%", " %")


def _relative_error(twins: list[Cohort], true: Cohort, factual: Cohort) -> dict[str, Any]:
    """Return the error of twins, that of a copy, and their ratio with its 95 % interval."""
    images, people = (true.images[:], factual.images[:]), factual.patients
    errors = [truth_errors(each.images[:], *images, patients=people) for each in twins]
    row = truth_table(pd.concat(errors)).iloc[0]
    numbers = {name: _number(row[name]) for name in ("error", "copy", "normalised", "low", "high")}
    return {
        "error": numbers["error"],
        "copy": numbers["copy"],
        "ratio": numbers["normalised"],
        "95": [numbers["low"], numbers["high"]],
    }


def _share_read(
    cohort: Cohort, true: Cohort, action: Intervention, graph: Graph, reader: AttributeReader
) -> float | None:
    """Return the share of images in which the values that were set are read; None for numbers."""
    names = [name for name in action.bind(graph).names if name in reader.levels]
    if not names:
        return None
    probabilities, columns = reader.read(cohort), true.columns(graph)
    hits = []
    for name in names:
        levels = np.array(graph[name].levels)[columns[name].astype(int)]
        positions = [reader.levels[name].index(level) for level in levels]
        hits.append(probabilities[name].to_numpy()[np.arange(len(levels)), positions] > 0.5)
    return float(np.mean(np.all(hits, axis=0)))


def _features(cohort: Cohort) -> np.ndarray:
    """Return the bundled features of images, all at the size that the classifier reads."""
    return image_features(cohort.with_images(shrunk(cohort.images, (_PIXELS, _PIXELS))))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}".replace("%", " %")
