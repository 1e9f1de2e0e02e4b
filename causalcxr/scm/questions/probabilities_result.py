"""The result of counterfactual probabilities: P(twin = level) of each record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalcxr.common.result import Shown

if TYPE_CHECKING:
    from causalcxr.common.figure import Page

__all__ = ["Probabilities"]


@dataclass(frozen=True, eq=False, repr=False)
class Probabilities(Shown):
    """P(twin = level | all that is observed of the record), record by record.

    Args:
        action: The intervention, in words.
        method: "exact" or "draws", for each variable.
        standard_error: The largest of each variable over records and levels; 0 where exact.
        draws: Posterior samples per record, where they were needed.
    """

    action: str
    method: Mapping[str, str]
    standard_error: Mapping[str, float]
    draws: int
    _table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """Columns (variable, level), one row per record.

        NaN where the twin is missing with certainty; else a row's levels sum to one minus the
        probability that the twin is missing.
        """
        return self._table.copy()

    @property
    def about(self) -> dict[str, Any]:
        """The settings of the question, for a manifest."""
        return {"action": self.action, "method": dict(self.method), "draws": self.draws}

    @property
    def heading(self) -> str:
        """The question, in one line."""
        return f"{self.action}, {len(self._table):,} rows: mean probability of each level"

    def summary(self) -> pd.DataFrame:
        """Return one row per level: mean `probability`, `records`, `method`, largest `error`."""
        rows = {
            (name, level): (column.mean(), int(column.notna().sum()), *self._how(name))
            for (name, level), column in self._table.items()
        }
        index = pd.MultiIndex.from_tuples(rows or [], names=["variable", "level"])
        columns = ["probability", "records", "method", "error"]
        return pd.DataFrame(list(rows.values()), index=index if rows else None, columns=columns)

    def _how(self, name: str) -> tuple[str, float]:
        return self.method[name], self.standard_error[name]

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw the mean probability of each level.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.common.bar_chart import bars

        summary = self.summary()
        names = [f"{name} = {level}" for name, level in self._table.columns]
        label = "mean probability"
        return bars(names, summary["probability"], title=self.heading, label=label, path=path)

    def __getitem__(self, key: Any) -> Any:
        """Return what `table[key]` does: the levels of a variable, or one of them."""
        return self.table[key]

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(self._table.columns.get_level_values(0)))
        return f"Probabilities({self.action}; {len(self):,} rows of {names or 'no variable'})"
