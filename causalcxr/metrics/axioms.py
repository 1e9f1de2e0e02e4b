"""Axioms of counterfactual images, one figure a record; `summary` gives means with intervals.

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
#: Takes two sets of images, returns how far each pair is apart, (n,).
Distance = Callable[[Array, Array], np.ndarray]
Outputs = Mapping[str, Array]


def composition_errors(
    images: Array, null: Edit, *, cycles: Sequence[int] = (1, 10), distance: Distance = l1
) -> dict[int, np.ndarray]:
    """Return how far images are from themselves after some null interventions, one on the other.

    Args:
        images: Factual ones, (n, 1, H, W).
        null: Abducts and predicts under do(a = observed), with everything computed anew.
        cycles: After how many of them.
        distance: Between pairs of images.

    Raises:
        CausalCXRError: If a number of cycles is below 1, or null gives no images of that shape.

    Example:
        >>> found = composition_errors(np.zeros((2, 4, 4)), lambda x: x + 0.01)
        >>> {k: errors.round(6).tolist() for k, errors in found.items()}
        {1: [0.01, 0.01], 10: [0.1, 0.1]}
    """
    if not cycles or min(cycles) < 1:
        raise CausalCXRError(f"cycles {tuple(cycles)}: give numbers of 1 at least")
    first = now = read_images("images", images)
    found = {}
    for k in range(1, max(cycles) + 1):
        now = _edited("null", null, now)
        if k in cycles:
            found[k] = distance(first, now)
    return {k: found[k] for k in cycles}


def reversibility_errors(
    images: Array, forth: Edit, back: Edit, *, cycles: int = 1, distance: Distance = l1
) -> np.ndarray:
    """Return how far images are from themselves after an intervention and its undoing, (n,).

    Args:
        images: Factual ones, (n, 1, H, W).
        forth: Gives their twins under do(a').
        back: Gives the twins of these under do(a = observed).
        cycles: How often.
        distance: Between pairs of images.

    Raises:
        CausalCXRError: If cycles is below 1, or a function gives no images of that shape.

    Example:
        >>> x = np.full((1, 2, 2), 0.5)
        >>> reversibility_errors(x, lambda x: x * 0.5, lambda x: x * 1.5).tolist()
        [0.125]
    """
    if cycles < 1:
        raise CausalCXRError(f"cycles {cycles}: give 1 at least")
    first = now = read_images("images", images)
    for _ in range(cycles):
        now = _edited("back", back, _edited("forth", forth, now))
    return distance(first, now)


@rows_by_id("predicted", "target")
def target_errors(predicted: Array, target: Array) -> np.ndarray:
    """Return how far a predictor's outputs are from what was asked for, (n,); NaN if not known.

    Args:
        predicted: Numbers (n,): the error is |predicted - target|. Or scores of levels (n, k): it
            is 0 where the target has the highest score, and 1 elsewhere.
        target: Numbers, or positions of levels, (n,).

    Raises:
        CausalCXRError: If shapes do not fit, or a target is no level.

    Example:
        >>> target_errors(np.array([50.0, 60.0]), np.array([52.0, 60.0])).tolist()
        [2.0, 0.0]
        >>> target_errors(np.array([[0.3, 0.7], [0.6, 0.4]]), np.array([1, 1])).tolist()
        [0.0, 1.0]
    """
    outputs, asked = (np.asarray(each, dtype=np.float64) for each in (predicted, target))
    if asked.ndim != 1 or outputs.ndim not in (1, 2) or len(outputs) != len(asked):
        raise CausalCXRError(
            f"predicted: shape {outputs.shape} beside targets of {asked.shape}; give (n,) or "
            "(n, k)"
        )
    if outputs.ndim == 1:
        return np.abs(outputs - asked)
    known = asked[~np.isnan(asked)]
    if len(wrong := known[(known < 0) | (known >= outputs.shape[1]) | (known % 1 != 0)]):
        raise CausalCXRError(
            f"target {wrong[0]:g} is none of the {outputs.shape[1]} levels, which count from 0"
        )
    missing = np.isnan(asked) | np.isnan(outputs).any(1)
    return np.where(missing, np.nan, outputs.argmax(1) != asked)


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
    """Return how well predictors find in the twins what was asked for, one row a variable.

    Args:
        predicted: Variable -> outputs on twins, see `target_errors`; by predictors that had no
            part in training the model.
        target: Variable -> what its value should be.
        patients: Whose each row is, (n,).
        copy: Outputs on the factual images: what is reached by changing nothing.
        oracle: Outputs on the true twins: what a perfect model reaches with these predictors.
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
        levels = np.ndim(outputs) == 2
        row: dict[str, object] = {
            "variable": name,
            "measure": "hit rate" if levels else "absolute error",
        }
        found = _score(outputs, target[name], levels)
        row |= asdict(mean_interval(found, patients, draws=draws, level=level, seed=seed))
        for side, given in (("copy", copy), ("oracle", oracle)):
            known = given is not None and name in given
            row[side] = _mean(_score(given[name], target[name], levels)) if known else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


@rows_by_id("before", "after")
def output_change(before: Array, after: Array) -> np.ndarray:
    """Return how far a predictor's outputs moved, (n,).

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
    """Return how far predictors move on variables that the intervention should leave alone.

    Args:
        factual: Variable -> outputs on factual images, see `output_change`. Only variables that
            are neither set nor downstream of what is.
        twin: Likewise on the twins.
        null: Likewise on the twins of do(a = observed), with everything computed anew: what the
            solver alone moves.
        patients: Whose each row is, (n,).
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
        moved, floor = (output_change(before, side[name]) for side in (twin, null))
        found = mean_interval(moved - floor, patients, draws=draws, level=level, seed=seed)
        row = {"variable": name, "change": _mean(moved), "floor": _mean(floor)}
        told = asdict(found)
        rows.append(row | {"excess": told.pop("value")} | told)
    return pd.DataFrame(rows)


def _edited(name: str, edit: Edit, images: np.ndarray) -> np.ndarray:
    found = read_images(name, edit(images))
    same_length(images=images, **{name: found})
    return found


def _score(outputs: Array, target: Array, levels: bool) -> np.ndarray:
    found = target_errors(outputs, target)
    return 1 - found if levels else found


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
