"""Counterfactual truth: the distance of twins from the true ones, beside that of the factual."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from causalcxr.cohort.ids import as_ids
from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.metrics.inputs import Array, read_images, read_patients, same_length

__all__ = ["truth_errors", "truth_table"]

_REGIONS = ("whole", "inside", "outside")


def truth_errors(
    twin: Array,
    true: Array,
    factual: Array,
    *,
    mask: Array | None = None,
    patients: Array | Sequence[object] | None = None,
) -> pd.DataFrame:
    """Return the error of each twin in each region, beside that of the factual image.

    Args:
        twin: The model's twins, (n, 1, H, W), between 0 and 1.
        true: The true ones, likewise.
        factual: The observed ones, likewise.
        mask: The pixels of the finding, bool, (n, 1, H, W) or (n, H, W); without it the whole
            image is the only region.
        patients: The patient of each row, (n,); by default every row is a patient.

    Returns:
        One row per record and region, with columns `row`, `patient`, `region` ("whole", "inside",
        "outside"); `error`, mean |twin - true|; `copy`, mean |factual - true|; `normalised`, the
        first over the second, NaN where nothing should change; `part`, the region's contribution
        to the error of the whole image; `change`, the `copy` of the whole image. Means over
        regions without a pixel are NaN.

    Raises:
        CausalCXRError: If shapes differ, a pixel is not finite, or the mask is not boolean.

    Example:
        >>> true = np.zeros((1, 1, 1, 4)); true[..., 0] = 1.0
        >>> errors = truth_errors(true * 0.75, true, true * 0, mask=true > 0)
        >>> errors[["region", "error", "copy", "normalised"]].values.tolist()[:2]
        [['whole', 0.0625, 0.25, 0.25], ['inside', 0.25, 1.0, 0.25]]
    """
    twins, truth, facts = (
        read_images(name, each)
        for name, each in (("twin", twin), ("true", true), ("factual", factual))
    )
    n = same_length(true=truth, twin=twins, factual=facts)
    number = read_patients(patients, n)
    ids = number if patients is None else as_ids(patients).to_numpy()
    # The error of the twin, and that of copying the factual image.
    error, change = (np.abs(each - truth)[:, 0].astype(np.float64) for each in (twins, facts))
    # The whole image; with a mask, also inside and outside of it.
    parts = {"whole": np.ones(error.shape, dtype=bool)}
    if mask is not None:
        inside = _read_mask(mask, error.shape)
        parts |= {"inside": inside, "outside": ~inside}
    frames, size = [], error[0].size
    for region, where in parts.items():
        # Sums over the region, one row per image.
        pixels = where.sum((1, 2))
        summed, copied = ((each * where).sum((1, 2)) for each in (error, change))
        columns = {
            "row": np.arange(n),
            "patient": ids,
            "region": region,
            "error": _over(summed, pixels),
            "copy": _over(copied, pixels),
            "normalised": _over(summed, copied),
            "part": summed / size,
            "change": change.mean((1, 2)),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def truth_table(
    errors: pd.DataFrame, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Return the errors of each region over all patients.

    Args:
        errors: From `truth_errors`; those of several interventions may be concatenated.
        draws: Of the bootstrap over patients.
        level: Coverage.
        seed: Of the draws.

    Returns:
        One row per region: `error` and `copy`, means; `normalised`, the sum of errors over the sum
        of copies, with `low` and `high`: 0 for the truth, 1 for changing nothing; `of_change`,
        the region's part of the error over the change of the whole image, with `of_change_low`
        and `of_change_high`; `worse`, the share of patients whose error is above their copy's;
        `n` rows and `patients`.

    Raises:
        CausalCXRError: If a column is missing.

    Example:
        >>> x = np.zeros((2, 1, 2, 2))
        >>> truth_table(truth_errors(x + 0.1, x + 0.2, x))["normalised"].round(6).tolist()
        [0.5]
    """
    columns = ("region", "patient", "error", "copy", "part", "change")
    if absent := [name for name in columns if name not in errors]:
        raise CausalCXRError(f"errors: no column {absent[0]!r}; give the result of truth_errors")
    options = {"draws": draws, "level": level, "seed": seed}
    regions = [name for name in _REGIONS if (errors["region"] == name).any()]
    return pd.DataFrame([_row(errors[errors["region"] == name], options) for name in regions])


def _row(region: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, object]:
    """Return the figures of one region."""
    columns = {name: region[name].to_numpy() for name in ("error", "copy", "part", "change")}
    patients = region["patient"].to_numpy()
    # Ratios of sums over patients: images without change have no ratio of their own.
    ratio = mean_interval(columns["error"], patients, over=columns["copy"], **options)
    left = mean_interval(columns["part"], patients, over=columns["change"], **options)
    # The share of patients for whom the twin is worse than a copy.
    own = region.dropna(subset=["error"]).groupby("patient")[["error", "copy"]].sum()
    return {
        "region": region["region"].iloc[0],
        "error": float(np.nanmean(columns["error"])) if ratio.n else float("nan"),
        "copy": float(np.nanmean(columns["copy"])) if ratio.n else float("nan"),
        "normalised": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "of_change": left.value,
        "of_change_low": left.low,
        "of_change_high": left.high,
        "worse": float((own["error"] > own["copy"]).mean()),
        "n": ratio.n,
        "patients": ratio.patients,
    }


def _read_mask(mask: Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask as (n, H, W)."""
    array = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    array = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if array.dtype != bool or array.shape != shape:
        raise CausalCXRError(
            f"mask: {array.dtype} of shape {array.shape} beside images of {shape}; give booleans, "
            "one per pixel"
        )
    return array


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)
