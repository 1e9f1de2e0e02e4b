"""Axioms of counterfactual images, one figure per record; `summary` gives means with intervals.

References:
    Measuring axiomatic soundness of counterfactual image models (Monteiro et al.),
    arXiv:2303.01274: composition, reversibility, effectiveness.
    Mitigating attribute amplification in counterfactual image generation (Xia et al.),
    arXiv:2403.09422.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.metrics.inputs import Array, read_images, same_length
from causalcxr.metrics.similarity import l1

__all__ = [
    "amplification",
    "composition_errors",
    "effectiveness",
    "output_change",
    "reversibility_errors",
    "target_errors",
]

#: Takes images (n, 1, H, W), returns images of the same shape.
Edit = Callable[[np.ndarray], np.ndarray]
#: Takes two sets of images, returns the distance of each pair, (n,).
Distance = Callable[[Array, Array], np.ndarray]
Outputs = Mapping[str, Array]


def composition_errors(
    images: Array, null: Edit, *, cycles: Sequence[int] = (1, 10), distance: Distance = l1
) -> dict[int, np.ndarray]:
    """Return the distance of images from themselves after repeated null interventions.

    Args:
        images: Factual ones, (n, 1, H, W).
        null: Abducts and predicts under do(a = observed), with everything computed anew.
        cycles: The numbers of repetitions to report.
        distance: Between pairs of images.

    Raises:
        CausalCXRError: If a number of cycles is below 1, or null changes the shape of images.

    Example:
        >>> by_cycle = composition_errors(np.zeros((2, 4, 4)), lambda x: x + 0.01)
        >>> {k: errors.round(6).tolist() for k, errors in by_cycle.items()}
        {1: [0.01, 0.01], 10: [0.1, 0.1]}
    """
    if not cycles or min(cycles) < 1:
        raise CausalCXRError(f"cycles {tuple(cycles)}: give numbers of at least 1")
    first = current = read_images("images", images)
    errors = {}
    # Distances from the first image, so that errors add up over the cycles.
    for k in range(1, max(cycles) + 1):
        current = _edited("null", null, current)
        if k in cycles:
            errors[k] = distance(first, current)
    return {k: errors[k] for k in cycles}


def reversibility_errors(
    images: Array, forth: Edit, back: Edit, *, cycles: int = 1, distance: Distance = l1
) -> np.ndarray:
    """Return the distance of images from themselves after an intervention and its inverse, (n,).

    Args:
        images: Factual ones, (n, 1, H, W).
        forth: Returns their twins under do(a').
        back: Returns the twins of these under do(a = observed).
        cycles: The number of repetitions.
        distance: Between pairs of images.

    Raises:
        CausalCXRError: If cycles is below 1, or a function changes the shape of images.

    Example:
        >>> x = np.full((1, 2, 2), 0.5)
        >>> reversibility_errors(x, lambda x: x * 0.5, lambda x: x * 1.5).tolist()
        [0.125]
    """
    if cycles < 1:
        raise CausalCXRError(f"cycles {cycles}: give at least 1")
    first = current = read_images("images", images)
    # Each cycle starts from the image that the last one returned.
    for _ in range(cycles):
        current = _edited("back", back, _edited("forth", forth, current))
    return distance(first, current)


@rows_by_id("predicted", "target")
def target_errors(predicted: Array, target: Array) -> np.ndarray:
    """Return the errors of a predictor's outputs against their targets, (n,); NaN if missing.

    Args:
        predicted: Numbers (n,): the error is |predicted - target|. Or scores of levels (n, k): the
            error is 0 where the target has the highest score, and 1 elsewhere.
        target: Numbers, or positions of levels, (n,).

    Raises:
        CausalCXRError: If shapes do not fit, or a target is not a level.

    Example:
        >>> target_errors(np.array([50.0, 60.0]), np.array([52.0, 60.0])).tolist()
        [2.0, 0.0]
        >>> target_errors(np.array([[0.3, 0.7], [0.6, 0.4]]), np.array([1, 1])).tolist()
        [0.0, 1.0]
    """
    outputs, targets = (np.asarray(each, dtype=np.float64) for each in (predicted, target))
    if targets.ndim != 1 or outputs.ndim not in (1, 2) or len(outputs) != len(targets):
        raise CausalCXRError(
            f"predicted: shape {outputs.shape} beside targets of {targets.shape}; give (n,) or "
            "(n, k)"
        )
    if outputs.ndim == 1:
        return np.abs(outputs - targets)
    # Predicted levels count columns: a target must be one of them.
    given = targets[~np.isnan(targets)]
    is_level = (given >= 0) & (given < outputs.shape[1]) & (given % 1 == 0)
    if not is_level.all():
        raise CausalCXRError(
            f"target {given[~is_level][0]:g} is none of the {outputs.shape[1]} levels, which "
            "count from 0"
        )
    # The most probable level against the target.
    missing = np.isnan(targets) | np.isnan(outputs).any(1)
    return np.where(missing, np.nan, outputs.argmax(1) != targets)


@rows_by_id("predicted", "target", "patients", "copy", "oracle")
def effectiveness(
    predicted: Outputs,
    target: Outputs,
    patients: Array | Sequence[object] | None = None,
    *,
    copy: Outputs | None = None,
    oracle: Outputs | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often twins show the values that were set, one row per variable.

    Args:
        predicted: Variable -> outputs on twins, see `target_errors`; of predictors that were not
            used in training the model.
        target: Variable -> its values in the twins.
        patients: The patient of each row, (n,).
        copy: Outputs on the factual images: the result of changing nothing.
        oracle: Outputs on the true twins: the result of a perfect model with these predictors.
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Returns:
        Columns `variable`, `measure` ("hit rate" or "absolute error"), `value`, `low`, `high`,
        `n`, `patients`, `copy`, `oracle`; the last two are NaN where not given.

    Raises:
        CausalCXRError: If a variable has no target, or as `target_errors` does.

    Example:
        >>> table = effectiveness({"Sex": np.eye(2)}, {"Sex": np.array([1, 1])})
        >>> table[["measure", "value"]].values.tolist()
        [['hit rate', 0.5]]
    """
    rows = []
    for name, outputs in predicted.items():
        if name not in target:
            raise CausalCXRError(
                f"effectiveness: {name!r} has no target; give one or leave it out"
            )
        # Two dimensions are probabilities of levels, one is a number.
        levels = np.ndim(outputs) == 2
        row: dict[str, object] = {
            "variable": name,
            "measure": "hit rate" if levels else "absolute error",
        }
        scores = _score(outputs, target[name], levels)
        row |= asdict(mean_interval(scores, patients, draws=draws, level=level, seed=seed))
        # For comparison: the result of changing nothing, and that of a perfect model.
        for column, other in (("copy", copy), ("oracle", oracle)):
            is_given = other is not None and name in other
            scores = _score(other[name], target[name], levels) if is_given else np.array([])
            row[column] = _mean(scores)
        rows.append(row)
    return pd.DataFrame(rows)


@rows_by_id("before", "after")
def output_change(before: Array, after: Array) -> np.ndarray:
    """Return the change of a predictor's outputs, (n,).

    Args:
        before: Numbers (n,): |after - before|. Or probabilities of levels (n, k): half the sum of
            |after - before|, the total variation.
        after: Likewise.

    Example:
        >>> output_change(np.array([[0.2, 0.8]]), np.array([[0.5, 0.5]])).round(6).tolist()
        [0.3]
    """
    one, two = (np.asarray(each, dtype=np.float64) for each in (before, after))
    same_length(before=one, after=two)
    apart = np.abs(two - one)
    return apart.sum(1) / 2 if apart.ndim == 2 else apart


@rows_by_id("factual", "twin", "null", "patients")
def amplification(
    factual: Outputs,
    twin: Outputs,
    null: Outputs,
    patients: Array | Sequence[object] | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the change of predictors of variables that the intervention should not change.

    Args:
        factual: Variable -> outputs on factual images, see `output_change`. Only variables that
            are neither set nor descendants of those that are.
        twin: Likewise on the twins.
        null: Likewise on the twins of do(a = observed), with everything computed anew: the change
            that is due to the solver.
        patients: The patient of each row, (n,).
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Returns:
        Columns `variable`; `change`, the mean under the intervention; `floor`, that of the null;
        `excess`, their difference, with `low` and `high`; `n`, `patients`.

    Raises:
        CausalCXRError: If a variable is missing on one side, or shapes differ.

    Example:
        >>> at = {"View": np.array([0.1, 0.9])}
        >>> table = amplification(at, {"View": np.array([0.3, 0.8])}, at)
        >>> table[["change", "floor", "excess"]].round(6).values.tolist()
        [[0.15, 0.0, 0.15]]
    """
    rows = []
    for name, before in factual.items():
        if absent := [side for side, has in (("twin", twin), ("null", null)) if name not in has]:
            raise CausalCXRError(
                f"amplification: no outputs of {name!r} on {absent[0]} images; give them"
            )
        # What the null intervention changes is the floor of the predictor's noise.
        moved, floor = (output_change(before, side[name]) for side in (twin, null))
        excess = mean_interval(moved - floor, patients, draws=draws, level=level, seed=seed)
        row = {"variable": name, "change": _mean(moved), "floor": _mean(floor)}
        interval = asdict(excess)
        rows.append(row | {"excess": interval.pop("value")} | interval)
    return pd.DataFrame(rows)


def _edited(name: str, edit: Edit, images: np.ndarray) -> np.ndarray:
    edited = read_images(name, edit(images))
    same_length(images=images, **{name: edited})
    return edited


def _score(outputs: Array, target: Array, levels: bool) -> np.ndarray:
    errors = target_errors(outputs, target)
    return 1 - errors if levels else errors


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there is none."""
    given = values[~np.isnan(values)]
    return float(given.mean()) if len(given) else float("nan")
