"""The result of a confounding analysis: effects, bounds, observed parents, tipping points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from causalcxr.common.figure import Page
from causalcxr.common.result import Shown
from causalcxr.scm.questions.confounding_plot import page

__all__ = ["Confounding", "tipping_point"]

_PAIR = ["cause", "outcome"]
_ROW = [*_PAIR, "variable", "level"]
_EFFECT = ["n", "baseline", "active", "change", "se"]
_BOUND = ["lower", "lower_se", "upper", "upper_se"]
_STRENGTH = ["share_of_cause", "share_of_outcome", "rho"]
_TIPPING = [
    "change", "se", "rho", "rho_interval", "odds_ratio", "parent", "parent_rho", "times",
    "needed_share",
]  # fmt: skip
_NORMAL = 1.959964  # half the width of a 95 % interval, in standard errors


@dataclass(frozen=True, eq=False)
class Confounding(Shown):
    """How a total effect moves with the strength of a hidden cause of cause and outcome.

    Args:
        table: The effect for each correlation. Index: `cause`, `outcome` (the pair), `rho`,
            `variable`, `level` ("" for numbers). Columns: `n`, the rows observed in both twins;
            `baseline` and `active`, the mean or P(level); `change` and its standard error `se`
            over patients, the equations taken as known. Rows with rho = 0 are those of `effect`.
        bounds: Bounds of the change of the outcome. Index: `cause`, `outcome`, `odds_ratio`,
            `level`. Columns: `lower`, `upper` and their standard errors.
        strengths: How strong each observed parent of the outcome is. Index: `cause`, `outcome`,
            `parent`. Columns: `share_of_cause` and `share_of_outcome`, the shares of their normal
            scores that it explains beyond their other parents; `rho`, the correlation of noises
            that leaving it out would induce, 0 unless it is a parent of both.
        about: The settings of the question as JSON, for a manifest.
        units: The unit of each variable.
    """

    table: pd.DataFrame
    bounds: pd.DataFrame
    strengths: pd.DataFrame
    about: Mapping[str, Any]
    units: Mapping[str, str]

    @classmethod
    def from_rows(
        cls,
        about: Mapping[str, Any],
        effects: Sequence[Mapping[str, Any]],
        bounds: Sequence[Mapping[str, Any]],
        strengths: Sequence[Mapping[str, Any]],
        units: Mapping[str, str],
    ) -> Self:
        """Return the result of rows with a value for each name of the index and the columns."""
        table = _frame(effects, [*_PAIR, "rho", "variable", "level"], _EFFECT)
        limits = _frame(bounds, [*_PAIR, "odds_ratio", "level"], _BOUND)
        known = _frame(strengths, [*_PAIR, "parent"], _STRENGTH)
        return cls(table, limits, known, about, units)

    @property
    def tipping(self) -> pd.DataFrame:
        """What would undo each effect, one row for each variable and level that changes.

        Columns: `change` and `se` without a hidden cause; `rho`, the weakest correlation with
        which the change is zero, interpolated; `rho_interval`, the weakest with which its 95 %
        interval contains zero; `odds_ratio`, the smallest at which the bounds contain zero;
        `parent` and `parent_rho`, the strongest observed common parent and its correlation;
        `times`, how many times stronger than this parent the hidden cause must be; and
        `needed_share`, the share of the cause's score that a hidden cause must explain which is
        as strong for the outcome as its strongest observed parent: above 1, none can undo the
        effect. NaN where nothing on the grid undoes the effect, or there is nothing to compare.
        """
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        for key, part in self.table.groupby(level=_ROW, sort=False):
            effect = part.droplevel([name for name in part.index.names if name != "rho"])
            if not (effect["change"].abs() > 0).any():
                continue
            change, se = effect["change"], effect["se"]
            # The end of the interval that is nearer to zero.
            nearer = np.sign(change[0.0]) * change - _NORMAL * se.fillna(0.0)
            rows[key] = {
                "change": change[0.0],
                "se": se[0.0],
                "rho": tipping_point(change),
                "rho_interval": tipping_point(nearer) if nearer[0.0] > 0 else 0.0,
            }
        for (cause, outcome, level), part in self.bounds.groupby(
            level=[*_PAIR, "level"], sort=False
        ):
            limits = part.droplevel([*_PAIR, "level"])
            first = {"change": limits["lower"].iloc[0], "se": limits["lower_se"].iloc[0]}
            row = rows.setdefault((cause, outcome, outcome, level), first)
            row["odds_ratio"] = _tipping_odds(limits)
        for key, row in rows.items():
            row |= self._compared(key[:2], row.get("rho", np.nan))
        return _frame(
            [dict(zip(_ROW, k, strict=True)) | r for k, r in rows.items()], _ROW, _TIPPING
        )

    def _compared(self, pair: tuple[str, str], rho: float) -> dict[str, Any]:
        """Return the strongest observed parent, and the tipping point measured by it."""
        known = self.strengths
        is_pair = np.array([key[:2] == pair for key in known.index], dtype=bool)
        known = known[is_pair].droplevel(_PAIR)
        row: dict[str, Any] = {"parent": "", "parent_rho": np.nan, "times": np.nan}
        common = known["rho"].abs()
        if (common > 0).any():
            row["parent"] = common.idxmax()
            row["parent_rho"] = known.loc[row["parent"], "rho"]
            row["times"] = abs(rho / row["parent_rho"])
        strongest = known["share_of_outcome"].max() if len(known) else np.nan
        row["needed_share"] = rho**2 / strongest if strongest > 0 else np.nan
        return row

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name, as they are written."""
        return {
            "effect by correlation": self.table,
            "tipping points": self.tipping,
            "bounds": self.bounds,
            "observed parents": self.strengths,
        }

    @property
    def heading(self) -> str:
        """The question, in one line."""
        about = self.about
        against = about["baseline_words"] or "the facts"
        return (
            f"hidden common causes: total effect of {about['words']} against {against}, "
            f"{about['rows']:,} rows"
        )

    def summary(self) -> pd.DataFrame:
        """Return the tipping points; the first of two levels is left out."""
        table = self.tipping
        keys = table.index.to_frame(index=False)
        count = keys.groupby(_ROW[:3], sort=False)["level"].transform("size")
        is_first = ~keys.duplicated(_ROW[:3]) & (count == 2)
        return table[~is_first.to_numpy()]

    def plot(self, path: str | Path | None = None) -> Page:
        """Draw the change of each outcome against the correlation, and the bounds beside it.

        Args:
            path: A file to write the picture to, PNG.
        """
        drawn = page(self.table, self.bounds, self.summary(), self.heading, self.units)
        return drawn.written(path)

    def __repr__(self) -> str:
        pairs = ", ".join(" - ".join(pair) for pair in self.about["between"])
        return f"Confounding({self.about['words']}; between {pairs})"


def tipping_point(values: pd.Series) -> float:
    """Return the strength nearest to 0 at which values change their sign, interpolated.

    Args:
        values: Indexed by the strength, 0 among them.

    Returns:
        NaN where they keep the sign that they have at 0; 0 if they are zero there.

    Example:
        >>> round(tipping_point(pd.Series([-0.4, -0.2, 0.1], index=[-0.5, 0.0, 0.3])), 3)
        0.2
    """
    values = values.sort_index()
    x, y, zero = values.index.to_numpy(), values.to_numpy(), values[0.0]
    if zero == 0 or np.isnan(zero):
        return float(zero)
    start, crossings = int(np.flatnonzero(x == 0)[0]), []
    for step in (-1, 1):
        stop = -1 if step < 0 else len(x)
        for i in range(start + step, stop, step):
            if y[i] * zero <= 0:
                before = i - step
                share = y[before] / (y[before] - y[i])
                crossings.append(x[before] + share * (x[i] - x[before]))
                break
    return float(min(crossings, key=abs)) if crossings else np.nan


def _tipping_odds(limits: pd.DataFrame) -> float:
    """Return the smallest odds ratio at which the bounds contain zero, interpolated."""
    side = "lower" if limits["lower"].iloc[0] > 0 else "upper"
    finite = limits[side][np.isfinite(limits.index) & np.isfinite(limits[side])]
    # On the logarithmic scale, where no hidden cause is 0.
    point = tipping_point(finite.set_axis(np.log(finite.index.to_numpy(dtype=float))))
    return float(np.exp(point))


def _frame(
    rows: Sequence[Mapping[str, Any]], index: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=[*index, *columns]).set_index(list(index))
