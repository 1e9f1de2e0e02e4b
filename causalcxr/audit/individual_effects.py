"""Individual effects: what a classifier says of the twin, less what it says of the record.

Everything is told beside the null floor, the same under the factual values computed anew, so that
what the generator does by itself is not laid at the classifier's door.
"""

from collections.abc import Iterator, Mapping
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

_CLIP = 1e-6  # of probabilities, before their log odds
_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class EffectFrame:
    """Hold the scores of pairs, row by row.

    Args:
        scores: Columns `factual`, `twin` and, where they were made, `null` and `direct`; NaN in
            rows whose pair is not believed.
        patients: Who each row is of, (n,).
        draws: Which posterior draw each row is, (n,).
        masks: Groups of rows by name; the first holds all.
        label_stays: Rows whose label is known and the same in record and twin, (n,), or None.
    """

    scores: pd.DataFrame
    patients: np.ndarray
    draws: np.ndarray
    masks: Mapping[str, np.ndarray]
    label_stays: np.ndarray | None = None

    def effects(self) -> dict[str, np.ndarray]:
        """Return each kind of effect that the worlds allow, (n,), NaN where it is unknown."""
        s = {name: self.scores[name].to_numpy(float) for name in self.scores}
        found = {"total": s["twin"] - s["factual"]}
        found["absolute"] = np.abs(found["total"])
        found["log odds"] = _log_odds(s["twin"]) - _log_odds(s["factual"])
        if "direct" in s:
            found["direct"] = s["direct"] - s["factual"]
            found["indirect"] = s["twin"] - s["direct"]
        if "null" in s:
            found["null"] = s["null"] - s["factual"]
            found["null absolute"] = np.abs(found["null"])
            found["excess"] = found["absolute"] - found["null absolute"]
        if self.label_stays is not None:
            found["label stays"] = np.where(self.label_stays, found["total"], np.nan)
        return found


def effect_table(frame: EffectFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return a row a group and kind of effect, of the groups that have a believed pair.

    The unit is the patient: an effect is the mean over patients of each one's mean over records
    and posterior draws. Its interval is the wider, at each end, of two: percentiles of draws of
    patients, which follow skew and are too narrow for few patients, and Student's, which is the
    other way round. Where there are several posterior draws it is widened by what they differ by
    (Rubin's between variance).

    - total, direct, indirect: f(twin) - f(record), f(direct twin) - f(record), and the rest.
    - log odds: the total on that scale.
    - label stays: the total, in rows whose label the intervention does not change.
    - null: f(null twin) - f(record).
    - absolute, null absolute, excess: the mean |total|, the mean |null|, and their difference.

    Returns:
        Columns `group`, `kind`, `pairs`, `patients`, `mean`, `se`, `low`, `high`, `p` (sign flips
        of patients; of absolute values there is none), `q95`, the 95th percentile of the absolute
        effect over pairs, and `generator_se`, NaN where there is one posterior draw.
    """
    effects = frame.effects()
    known = ~np.isnan(effects["total"])
    groups = [group for group, rows in frame.masks.items() if (known & rows).any()]
    keys = [(group, kind) for group in groups for kind in effects]
    columns = np.stack(
        [np.where(frame.masks[group], effects[kind], np.nan) for group, kind in keys], axis=1
    )
    found = bootstrap_mean(columns, frame.patients, draws=draws, seed=seed)
    low, high = _bounds(found, columns, frame.patients)
    se = (
        np.nanstd(found.draws, axis=0, ddof=1) if len(found.draws) > 1 else found.estimate * np.nan
    )
    between = _between(columns, frame)
    more = norm.ppf((1 + _LEVEL) / 2) * np.nan_to_num(between)
    rows = []
    for k, (group, kind) in enumerate(keys):
        x, mean = columns[:, k], found.estimate[k]
        known = x[~np.isnan(x)]
        test = kind not in ("absolute", "null absolute")
        p = sign_flip(x, frame.patients, seed=seed).p if test and len(known) else np.nan
        rows.append(
            {
                "group": group,
                "kind": kind,
                "pairs": len(known),
                "patients": int(found.patients[k]),
                "mean": mean,
                "se": np.hypot(se[k], np.nan_to_num(between[k])),
                "low": mean - np.hypot(mean - low[k], more[k]),
                "high": mean + np.hypot(high[k] - mean, more[k]),
                "p": p,
                "q95": float(np.quantile(np.abs(known), 0.95)) if len(known) else np.nan,
                "generator_se": between[k],
            }
        )
    return pd.DataFrame(rows)


def flip_table(frame: EffectFrame, threshold: float) -> pd.DataFrame:
    """Return how often a decision flips, each way and on the null floor.

    There is a row for each group that has a believed pair.

    Returns:
        Columns `group`, `pairs`, `patients`; `up` and `down`, the shares of pairs that flip 0 -> 1
        and 1 -> 0, with Wilson bounds over pairs; `up_null` and `down_null`; `excess`, all flips
        less those of the null floor; `p`, McNemar's exact test with one vote a patient.
    """
    decided = {n: _decided(frame.scores[n].to_numpy(float), threshold) for n in frame.scores}
    rows = []
    for group, mask in frame.masks.items():
        before, after = decided["factual"][mask], decided["twin"][mask]
        n = int((~np.isnan(after - before)).sum())
        if not n:
            continue
        test = mcnemar(before, after, frame.patients[mask])
        row = {"group": group, "pairs": n, "patients": test.patients}
        for name, count in (("up", test.records_up), ("down", test.records_down)):
            bounds = wilson([count], [n])
            share = count / n
            row |= {name: share, f"{name}_low": bounds.low[0], f"{name}_high": bounds.high[0]}
        if "null" in decided:
            change = decided["null"][mask] - before
            some = max(int((~np.isnan(change)).sum()), 1)
            row["up_null"], row["down_null"] = (
                float((change == side).sum() / some) for side in (1, -1)
            )
            row["excess"] = row["up"] + row["down"] - row["up_null"] - row["down_null"]
        rows.append(row | {"p": test.p})
    return pd.DataFrame(rows)


def flip_matrix(frame: EffectFrame, threshold: float) -> pd.DataFrame:
    """Return how many pairs have each decision before (rows) and after (columns)."""
    before, after = (
        _decided(frame.scores[n].to_numpy(float), threshold) for n in ("factual", "twin")
    )
    known = ~np.isnan(after - before)
    table = np.zeros((2, 2), dtype=int)
    np.add.at(table, (before[known].astype(int), after[known].astype(int)), 1)
    words = ["negative", "positive"]
    return pd.DataFrame(table, pd.Index(words, name="record"), pd.Index(words, name="twin"))


def _bounds(
    found: MeanDraws, columns: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper end of each mean's interval, (k,) each."""
    drawn, means = found.interval(_LEVEL), patient_means(columns, patients)
    n = found.patients
    scale = student.ppf((1 + _LEVEL) / 2, np.maximum(n - 1, 1)) / np.sqrt(np.maximum(n, 1))
    half = np.where(n > 1, scale * pd.DataFrame(means).std(ddof=1).to_numpy(), np.nan)
    low, high = found.estimate - half, found.estimate + half
    return np.fmin(drawn.low, low), np.fmax(drawn.high, high)


def _between(columns: np.ndarray, frame: EffectFrame) -> np.ndarray:
    """Return the standard error of each mean that comes from the posterior draws, (k,)."""
    means = np.stack(list(_mean_of_draws(columns, frame)))
    if len(means) < 2:
        return np.full(columns.shape[1], np.nan)
    return means.std(0, ddof=1) / np.sqrt(len(means))


def _mean_of_draws(columns: np.ndarray, frame: EffectFrame) -> Iterator[np.ndarray]:
    for draw in np.unique(frame.draws):
        rows = frame.draws == draw
        means = pd.DataFrame(columns[rows]).groupby(frame.patients[rows]).mean()
        yield means.mean().to_numpy()


def _decided(scores: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(np.isnan(scores), np.nan, scores >= threshold)


def _log_odds(p: np.ndarray) -> np.ndarray:
    return logit(np.clip(p, _CLIP, 1 - _CLIP))
