"""Comparison of a cohort with its counterfactual twin, record by record."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from causalcxr.cohort.cells import present
from causalcxr.common.errors import CohortError, brief
from causalcxr.common.result import Shown

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.common.figure import Page

__all__ = ["Comparison"]


class Comparison(Shown):
    """The differences between records and their twins; two missing values are equal.

    Args:
        factual: The cohort as observed.
        counterfactual: Its twin: all or some of the same records, or draws of them.

    Raises:
        CohortError: If the twin holds a record that the factual cohort does not.

    Example:
        >>> from causalcxr.cohort import Cohort
        >>> factual = Cohort(pd.DataFrame({"Age": [61.0, 47.0], "Sex": ["F", "M"]}))
        >>> twin = Cohort(pd.DataFrame({"Age": [71.0, 57.0], "Sex": ["M", "M"]}))
        >>> factual.compare(twin)
        Comparison(2 records; changed: Age 2, Sex 1)
        >>> factual.compare(twin).summary()["what"].tolist()
        ['+10.0', 'F -> M: 1']
    """

    def __init__(self, factual: "Cohort", counterfactual: "Cohort") -> None:
        if not counterfactual.index.equals(factual.index):
            # Draws of a twin are compared with the same factual record.
            index = factual.index
            labels = counterfactual.index if index.nlevels == 2 else counterfactual.records
            positions = index.get_indexer(labels)
            if (positions < 0).any():
                absent = labels[positions < 0]
                raise CohortError(
                    f"record {brief(absent[0])} of the twin is not in the factual cohort "
                    f"({len(absent):,} records); compare a cohort with its own twin"
                )
            factual = factual._take(positions, counterfactual.index)
        self.factual = factual
        self.counterfactual = counterfactual

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Both tables with the columns of either; an absent column is missing."""
        before, after = self.factual.table, self.counterfactual.table
        names = [*before.columns, *(name for name in after.columns if name not in before)]
        return before.reindex(columns=names), after.reindex(columns=names)

    @cached_property
    def changed(self) -> pd.DataFrame:
        """Which values changed: one row for each record, one column for each variable, bool."""
        before, after = self._tables
        return pd.DataFrame(
            {name: _differs(before[name], after[name]) for name in before}, index=before.index
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The changed values, one per row: record, draw, variable, factual, counterfactual."""
        before, after = self._tables
        parts = []
        for name in before:
            rows = self.changed[name].to_numpy()
            part = self.changed.index[rows].to_frame(index=False)
            part["variable"] = name
            part["factual"] = before[name].to_numpy(dtype=object)[rows]
            part["counterfactual"] = after[name].to_numpy(dtype=object)[rows]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """Return, for each variable, how many values changed, the mean shift and the changes."""
        before, after = self._tables
        rows = []
        for name in before:
            changed = self.changed[name].to_numpy()
            shift, what = _described(before[name], after[name], changed)
            rows.append((name, int(changed.sum()), len(changed), shift, what))
        columns = ["variable", "changed", "of", "mean_shift", "what"]
        return pd.DataFrame(rows, columns=columns).set_index("variable")

    def changes(self, row: int) -> str:
        """Return the changes of a row, for a caption: `Sex F→M, Cardiomegaly N→P`."""
        before, after = self._tables
        names = [name for name, changed in self.changed.iloc[row].items() if changed]
        return ", ".join(
            f"{name} {_short(before[name].iloc[row])}→{_short(after[name].iloc[row])}"
            for name in names
        )

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The changed values, and their number by variable, as they are saved."""
        return {"changes": self.table, "summary": self.summary()}

    @property
    def heading(self) -> str:
        """The number of records and of changed values."""
        counts = self.changed.sum()
        changes = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        return f"{len(self):,} records; changed: {changes or 'nothing'}"

    def plot(
        self, n: int = 8, path: str | Path | None = None, *, true: "Cohort | None" = None
    ) -> "Page":
        """Draw factual, twin and difference of n records, changed records first.

        Without images on both sides, draw the share of records in which each variable changed.

        Args:
            n: The number of records.
            path: A file to write the picture to.
            true: The true twins of the same records, if they are known, to be drawn beside the
                twins; see `causalcxr.sources.phantom.truth`.

        Raises:
            CohortError: If n is below 1, or no record has an image on both sides.
        """
        if not (self.factual.has_images and self.counterfactual.has_images):
            from causalcxr.common.bar_chart import bars

            share = self.changed.mean()
            label = "share of records in which it changed"
            names = [str(name) for name in share.index]
            return bars(names, share, title=self.heading, label=label, path=path)
        from causalcxr.images.contact_sheet import pairs

        rows = self._rows_to_show(n)
        factual, twin = (c.images.select(rows) for c in (self.factual, self.counterfactual))
        return pairs(
            factual[:],
            twin[:],
            [_named(self.factual.index[row]) for row in rows],
            path,
            changes=[self.changes(row) or "nothing changed" for row in rows],
            synthetic=(factual.synthetic, twin.synthetic),
            true=None if true is None else true.images.select(rows)[:],
        )

    def _rows_to_show(self, n: int) -> np.ndarray:
        sides = (self.factual.images, self.counterfactual.images)
        both = np.flatnonzero(sides[0].available & sides[1].available)
        if not len(both) or n < 1:
            raise CohortError("no record has an image on both sides; nothing to draw")
        unchanged = ~self.changed.to_numpy().any(axis=1)[both]
        return np.sort(both[np.argsort(unchanged, kind="stable")[:n]])

    def __len__(self) -> int:
        return len(self.factual)

    def __repr__(self) -> str:
        return f"Comparison({self.heading})"


def _differs(before: pd.Series, after: pd.Series) -> np.ndarray:
    """Return which values differ, bit for bit; two missing values do not."""
    if _is_number(before) and _is_number(after):
        a = before.to_numpy(dtype=np.float64, na_value=np.nan)
        b = after.to_numpy(dtype=np.float64, na_value=np.nan)
        return (a != b) & ~(np.isnan(a) & np.isnan(b))
    a, b = before.to_numpy(dtype=object), after.to_numpy(dtype=object)
    present_a, present_b = present(a), present(b)
    differs = present_a != present_b
    both = present_a & present_b
    differs[both] = a[both] != b[both]
    return differs


def _described(before: pd.Series, after: pd.Series, changed: np.ndarray) -> tuple[float, str]:
    """Return the mean shift of a column (NaN for levels) and its changes as text."""
    if _is_number(before) and _is_number(after):
        is_present = (before.notna() & after.notna()).to_numpy()
        a, b = before.to_numpy(dtype=object)[is_present], after.to_numpy(dtype=object)[is_present]
        shift = float(np.mean(b.astype(float) - a.astype(float))) if is_present.any() else np.nan
        return shift, f"{shift:+.1f}" if changed.any() and is_present.any() else ""
    # As objects: with categories, absent changes would be counted, too.
    before, after = (side[changed].astype(object) for side in (before, after))
    moves = pd.DataFrame({"a": before.map(_short), "b": after.map(_short)})
    counts = moves.value_counts()
    return np.nan, ", ".join(f"{a} -> {b}: {count:,}" for (a, b), count in counts.items())


def _is_number(values: pd.Series) -> bool:
    return is_numeric_dtype(values.dtype) and not is_bool_dtype(values.dtype)


def _short(value: object) -> str:
    """Return a value for a caption."""
    if pd.isna(value) or value == "":
        return "missing"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _named(label: object) -> str:
    return f"{label[0]} · draw {label[1]}" if isinstance(label, tuple) else str(label)
