"""The result of support: how much training data each record's twin is based on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.common.result import Shown

if TYPE_CHECKING:
    from causalcxr.common.figure import Page

__all__ = ["Support"]


@dataclass(frozen=True, eq=False, repr=False)
class Support(Shown):
    """How much training data each equation has at a record's and its twin's parents.

    Args:
        action: The intervention, in words.
        few: Parent configurations with fewer training records are flagged.
        exact: For each variable, whether `records` are counts rather than upper bounds.
    """

    action: str
    few: int
    exact: Mapping[str, bool]
    _table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """Columns (variable, measure), one row per record; for the measures see `support`."""
        return self._table.copy()

    @property
    def flagged(self) -> np.ndarray:
        """Which records' twins depend on a flagged equation, (n,)."""
        flags = [self._table[c].to_numpy(bool) for c in self._table if c[1] == "flag"]
        return np.any(flags, axis=0) if flags else np.zeros(len(self), dtype=bool)

    @property
    def about(self) -> dict[str, Any]:
        """The settings of the question, for a manifest."""
        return {"action": self.action, "few": self.few, "exact": dict(self.exact)}

    @property
    def heading(self) -> str:
        """The question, in one line."""
        flagged = f"{int(self.flagged.sum()):,} of {len(self):,} twins have little support"
        return f"{self.action}: {flagged} (fewer than {self.few} training records, or none beyond)"

    def summary(self) -> pd.DataFrame:
        """Return one row per equation: twins `flagged`, their `share`, the lowest counts."""
        rows = []
        for name in self.exact:
            part = self._table[name]
            lowest = part[["records", "records_twin", "beyond_twin"]].min()
            flags = part["flag"].astype(bool)
            rows.append((int(flags.sum()), float(flags.mean()), *lowest, bool(self.exact[name])))
        columns = ["flagged", "share", "records", "records_twin", "beyond_twin", "exact"]
        index = pd.Index(list(self.exact), name="variable")
        return pd.DataFrame(rows, index=index, columns=columns)

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw, for each equation, the share of twins with little support.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.common.bar_chart import bars

        summary = self.summary()
        label = "share of twins with little training data at their parents"
        return bars(
            list(summary.index), summary["share"], title=self.action, label=label, path=path
        )

    def __getitem__(self, key: Any) -> Any:
        """Return what `table[key]` does: the measures of a variable, or one of them."""
        return self.table[key]

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"Support({self.heading})"
