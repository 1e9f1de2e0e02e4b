"""The result of support: how many training records stand behind each record's twin."""

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
    """How much training data each equation has where a record and its twin ask it.

    Args:
        action: What is done, in words.
        few: Below how many records a parent configuration is flagged.
        exact: For each variable, whether `records` are counts rather than upper bounds.
    """

    action: str
    few: int
    exact: Mapping[str, bool]
    _table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """Columns (variable, measure), one row a record; the measures are those of `support`."""
        return self._table.copy()

    @property
    def flagged(self) -> np.ndarray:
        """Which records' twins rest on a flagged equation, (n,)."""
        flags = [self._table[c].to_numpy(bool) for c in self._table if c[1] == "flag"]
        return np.any(flags, axis=0) if flags else np.zeros(len(self), dtype=bool)

    @property
    def about(self) -> dict[str, Any]:
        """What was asked, for a manifest."""
        return {"action": self.action, "few": self.few, "exact": dict(self.exact)}

    @property
    def heading(self) -> str:
        """What was asked, in one line."""
        flagged = f"{int(self.flagged.sum()):,} of {len(self):,} twins rest on little"
        return f"{self.action}: {flagged} (fewer than {self.few} training records, or none beyond)"

    def summary(self) -> pd.DataFrame:
        """Return one row an equation: twins `flagged`, their `share`, the least `records_twin`."""
        rows = []
        for name in self.exact:
            part = self._table[name]
            least = part[["records", "records_twin", "beyond_twin"]].min()
            flags = part["flag"].astype(bool)
            rows.append((int(flags.sum()), float(flags.mean()), *least, bool(self.exact[name])))
        columns = ["flagged", "share", "records", "records_twin", "beyond_twin", "exact"]
        index = pd.Index(list(self.exact), name="variable")
        return pd.DataFrame(rows, index=index, columns=columns)

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw, for each equation, the share of twins that rest on little.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.common.bar_chart import bars

        summary = self.summary()
        label = "share of twins whose equation is asked where training has little"
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
