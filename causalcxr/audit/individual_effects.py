"""Individual effects: the score of a twin minus the score of its record.

Effects are compared with those of null twins, which are computed anew under the factual values, so
that what the generator changes by itself is not attributed to the classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import norm
from scipy.stats import t as student

from causalcxr.audit.intervals import wilson
from causalcxr.audit.paired_tests import (
    MeanDraws,
    bootstrap_mean,
    mcnemar,
    patient_means,
    sign_flip,
)

__all__ = ["EffectFrame", "effect_table", "flip_matrix", "flip_table"]

_CLIP = 1e-6  # probabilities are clipped to this before their log odds
_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class EffectFrame:
    """Hold the scores of pairs, row by row.

    Args:
        scores: Columns `factual`, `twin` and, if there are any, `null` and `direct`; NaN in
            rejected pairs.
        patients: Patient of each row, (n,).
        draws: Number of the posterior draw of each row, (n,).
        masks: Groups of rows by name; the first holds all.
        label_stays: Rows whose label is known and the same in record and twin, (n,), or None.
    """

    scores: pd.DataFrame
    patients: np.ndarray
    draws: np.ndarray
    masks: Mapping[str, np.ndarray]
    label_stays: np.ndarray | None = None

    def effects(self) -> dict[str, np.ndarray]:
        """Return each kind of effect for which there are scores, (n,); NaN where unknown."""
        s = {name: self.scores[name].to_numpy(float) for name in self.scores}
        effects = {"total": s["twin"] - s["factual"]}
        # Opposite effects cancel in the mean, not in the mean of absolute values.
        effects["absolute"] = np.abs(effects["total"])
        effects["log odds"] = _log_odds(s["twin"]) - _log_odds(s["factual"])
        # Total = direct + indirect, as both share the direct twin.
        if "direct" in s:
            effects["direct"] = s["direct"] - s["factual"]
            effects["indirect"] = s["twin"] - s["direct"]
        if "null" in s:
            effects["null"] = s["null"] - s["factual"]
            effects["null absolute"] = np.abs(effects["null"])
            effects["excess"] = effects["absolute"] - effects["null absolute"]
        if self.label_stays is not None:
            effects["label stays"] = np.where(self.label_stays, effects["total"], np.nan)
        return effects


def effect_table(frame: EffectFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return a row a group and kind of effect, of the groups that have an accepted pair.

    The unit is the patient: an effect is the mean over patients of each patient's mean over
    records and posterior draws. Each end of its interval is the wider one of two intervals:
    percentiles of bootstrap draws of patients, which follow skewed effects but are too narrow for
    few patients, and Student's interval, which is the opposite. With several posterior draws, the
    interval is widened by the variance between them (Rubin's between variance).

    - total, direct, indirect: f(twin) - f(record), f(direct twin) - f(record), and the rest.
    - log odds: the total on that scale.
    - label stays: the total, in rows whose label the intervention does not change.
    - null: f(null twin) - f(record).
    - absolute, null absolute, excess: the mean |total|, the mean |null|, and their difference.

    Args:
        frame: The scores of the pairs.
        draws: Bootstrap draws of patients.
        seed: Seed of the bootstrap and of the sign flips.

    Returns:
        Columns `group`, `kind`, `pairs`, `patients`, `mean`, `se`, `low`, `high`, `p` (sign flips
        of patients; NaN for absolute values), `q95`, the 95th percentile of the absolute effect
        over pairs, and `generator_se`, NaN with one posterior draw.
    """
    effects = frame.effects()
    # All means in one bootstrap: a column for each group and kind of effect.
    is_known = ~np.isnan(effects["total"])
    groups = [group for group, rows in frame.masks.items() if (is_known & rows).any()]
    keys = [(group, kind) for group in groups for kind in effects]
    columns = np.stack(
        [np.where(frame.masks[group], effects[kind], np.nan) for group, kind in keys], axis=1
    )
    # Uncertainty over patients, and over posterior draws.
    means = bootstrap_mean(columns, frame.patients, draws=draws, seed=seed)
    low, high = _bounds(means, columns, frame.patients)
    undefined = means.estimate * np.nan
    se = np.nanstd(means.draws, axis=0, ddof=1) if len(means.draws) > 1 else undefined
    between = _generator_se(columns, frame)
    # The posterior draws are a second source of error; it is added in quadrature.
    margin = norm.ppf((1 + _LEVEL) / 2) * np.nan_to_num(between)
    rows = []
    for k, (group, kind) in enumerate(keys):
        effect, mean = columns[:, k], means.estimate[k]
        values = effect[~np.isnan(effect)]
        p = np.nan
        # Absolute effects are never below 0, so a test against 0 says nothing.
        if kind not in ("absolute", "null absolute") and len(values):
            p = sign_flip(effect, frame.patients, seed=seed).p
        rows.append(
            {
                "group": group,
                "kind": kind,
                "pairs": len(values),
                "patients": int(means.patients[k]),
                "mean": mean,
                "se": np.hypot(se[k], np.nan_to_num(between[k])),
                "low": mean - np.hypot(mean - low[k], margin[k]),
                "high": mean + np.hypot(high[k] - mean, margin[k]),
                "p": p,
                "q95": float(np.quantile(np.abs(values), 0.95)) if len(values) else np.nan,
                "generator_se": between[k],
            }
        )
    return pd.DataFrame(rows)


def flip_table(frame: EffectFrame, threshold: float) -> pd.DataFrame:
    """Return how often a decision flips, each way, for twins and for null twins.

    There is a row for each group that has an accepted pair.

    Returns:
        Columns `group`, `pairs`, `patients`; `up` and `down`, the shares of pairs that flip 0 -> 1
        and 1 -> 0, with Wilson bounds over pairs; `up_null` and `down_null`; `excess`, all flips
        minus those of the null twins; `p`, McNemar's exact test with one vote per patient.
    """
    decided = {n: _decided(frame.scores[n].to_numpy(float), threshold) for n in frame.scores}
    rows = []
    for group, mask in frame.masks.items():
        before, after = decided["factual"][mask], decided["twin"][mask]
        # Pairs with both decisions.
        n = int((~np.isnan(after - before)).sum())
        if not n:
            continue
        # The test counts patients, the shares count pairs.
        test = mcnemar(before, after, frame.patients[mask])
        row = {"group": group, "pairs": n, "patients": test.patients}
        for name, count in (("up", test.records_up), ("down", test.records_down)):
            bounds = wilson([count], [n])
            share = count / n
            row |= {name: share, f"{name}_low": bounds.low[0], f"{name}_high": bounds.high[0]}
        if "null" in decided:
            # Flips of null twins are the noise of the generator, so they are subtracted.
            change = decided["null"][mask] - before
            n_null = max(int((~np.isnan(change)).sum()), 1)
            row["up_null"], row["down_null"] = (
                float((change == way).sum() / n_null) for way in (1, -1)
            )
            row["excess"] = row["up"] + row["down"] - row["up_null"] - row["down_null"]
        rows.append(row | {"p": test.p})
    return pd.DataFrame(rows)


def flip_matrix(frame: EffectFrame, threshold: float) -> pd.DataFrame:
    """Return the number of pairs by decision on the record (rows) and on the twin (columns)."""
    before, after = (
        _decided(frame.scores[n].to_numpy(float), threshold) for n in ("factual", "twin")
    )
    accepted = ~np.isnan(after - before)
    table = np.zeros((2, 2), dtype=int)
    np.add.at(table, (before[accepted].astype(int), after[accepted].astype(int)), 1)
    words = ["negative", "positive"]
    return pd.DataFrame(table, pd.Index(words, name="record"), pd.Index(words, name="twin"))


def _bounds(
    means: MeanDraws, columns: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper end of the interval of each mean, (k,) each."""
    percentiles, n = means.interval(_LEVEL), means.patients
    # Student's interval, of patients' means.
    scale = student.ppf((1 + _LEVEL) / 2, np.maximum(n - 1, 1)) / np.sqrt(np.maximum(n, 1))
    deviation = pd.DataFrame(patient_means(columns, patients)).std(ddof=1).to_numpy()
    half = np.where(n > 1, scale * deviation, np.nan)
    low, high = means.estimate - half, means.estimate + half
    # The wider of the two: with few patients, percentiles are too narrow.
    return np.fmin(percentiles.low, low), np.fmax(percentiles.high, high)


def _generator_se(columns: np.ndarray, frame: EffectFrame) -> np.ndarray:
    """Return the standard error of each mean that comes from the posterior draws, (k,)."""
    means = []
    for draw in np.unique(frame.draws):
        rows = frame.draws == draw
        by_patient = pd.DataFrame(columns[rows]).groupby(frame.patients[rows]).mean()
        means.append(by_patient.mean().to_numpy())
    if len(means) < 2:
        return np.full(columns.shape[1], np.nan)
    return np.stack(means).std(0, ddof=1) / np.sqrt(len(means))


def _decided(scores: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(np.isnan(scores), np.nan, scores >= threshold)


def _log_odds(p: np.ndarray) -> np.ndarray:
    return logit(np.clip(p, _CLIP, 1 - _CLIP))
