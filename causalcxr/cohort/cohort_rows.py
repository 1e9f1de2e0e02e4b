"""Cohort rows: records by mask or query, by position, by id, by split; draws of each."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.cohort.conditions import matching_rows
from causalcxr.cohort.rows import by_id, by_mask, by_position
from causalcxr.cohort.splits import SPLITS, draw_splits
from causalcxr.common.errors import CohortError, brief, nearest

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = ["CohortRows"]


class _ById:
    """Selection of records by their ids; see `Cohort.loc`."""

    def __init__(self, cohort: "Cohort") -> None:
        self._cohort = cohort

    def __getitem__(self, ids: Any) -> "Cohort":
        return self._cohort._take(by_id(ids, self._cohort.index))


class CohortRows:
    """The methods of a `Cohort` that select records; each returns another cohort."""

    def select(self, rows: Any) -> "Cohort":
        """Return the records for which a mask or a query is true.

        Positions go to `at`, record ids to `loc`.

        Args:
            rows: A mask or a query. A mask is True or False for each record, and missing is
                False; a Series is aligned by its index, and a record that it lacks is not
                selected. A query such as `"Age > 60 and split == 'test'"` compares columns with
                numbers and quoted texts, joined by `and`, `or`, `not` and parentheses; `in
                ['F', 'M']` and `is missing` are supported, too. Names match whatever the case
                and with `_` for a space; `record`, `draw`, `patient` and `split` are columns.
                A comparison with a missing value is unknown, also under `!=` and `not`, and such
                a record is not selected.

        Raises:
            CohortError: If it is neither, the mask has other records or another length, or the
                query does not fit the columns.

        Example:
            >>> from causalcxr import Cohort
            >>> cohort = Cohort(pd.DataFrame({"Age": [61, 47]}, index=["a", "b"]))
            >>> cohort.select("Age < 50").index.tolist()
            ['b']
        """
        if isinstance(rows, str):
            beside = {name: self.index.get_level_values(name) for name in self.index.names}
            beside |= {"patient": self._patients, "split": self._splits}
            return self._take(matching_rows(rows, self._table, beside))
        return self._take(by_mask(rows, self.index))

    def at(self, positions: Any) -> "Cohort":
        """Return records by position: a whole number, a list of them, or a slice.

        Args:
            positions: From 0; negative ones count from the end.

        Raises:
            CohortError: If one is not a position, or there is no such record.

        Example:
            >>> from causalcxr import Cohort
            >>> cohort = Cohort(pd.DataFrame({"Age": [61, 47]}, index=[10, 20]))
            >>> cohort.at(-1).index.tolist(), cohort.at(slice(0, 1)).index.tolist()
            ([20], [10])
        """
        return self._take(by_position(positions, len(self)))

    @property
    def loc(self) -> "_ById":
        """The records by id: `cohort.loc[[10, 20]]`, in that order, a record with all its draws.

        Example:
            >>> from causalcxr import Cohort
            >>> cohort = Cohort(pd.DataFrame({"Age": [61, 47]}, index=[10, 20]))
            >>> cohort.loc[20].index.tolist()
            [20]
        """
        return _ById(self)

    def head(self, n: int = 5) -> "Cohort":
        """Return the first n records."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise CohortError(f"head takes a number of records from 0, not {brief(n)}")
        return self._take(np.arange(min(n, len(self))))

    def with_images_only(self) -> "Cohort":
        """Return the records that have an image."""
        if self._images is None:
            return self.head(0)
        return self._take(np.flatnonzero(self._images.available))

    def split(self, name: str) -> "Cohort":
        """Return the records of one split: train, val or test."""
        if name not in SPLITS:
            hint = nearest(name, SPLITS) or f"; the splits are {', '.join(SPLITS)}"
            raise CohortError(f"no split {name!r}{hint}")
        if self._splits is None:
            raise CohortError("the cohort has no splits; use assign_splits() first")
        return self._take(np.flatnonzero(self._splits == name))

    def assign_splits(
        self, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
    ) -> "Cohort":
        """Return the cohort with new splits, drawn by patient; see `draw_splits`."""
        drawn = draw_splits(self._patients, fractions, seed)
        return self._copy(_splits=pd.Series(drawn, index=self.index, name="split"))

    def repeat(self, draws: int) -> "Cohort":
        """Return every record `draws` times, its rows named (record, draw)."""
        if draws < 1 or self.index.nlevels > 1:
            raise CohortError(
                f"cannot repeat {draws} times: give at least 1, of a cohort that has no draws"
            )
        index = pd.MultiIndex.from_arrays(
            [self.index.repeat(draws), np.tile(np.arange(draws), len(self))],
            names=["record", "draw"],
        )
        return self._take(np.repeat(np.arange(len(self)), draws), index)
