"""Rows: what the tables of a source say of its records, and where it is written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from causalcxr.common.errors import CohortError, brief, nearest
from causalcxr.sources.csv_reader import line_of

__all__ = ["EMPTY", "Rows"]

# How a cell without a value is written in published tables.
EMPTY = ("", "NA", "NaN", "nan", "None", "N/A", "null", "<NA>")


class Rows:
    """The rows of a source: a frame of categorical columns, and the file that each row is from.

    Args:
        frame: One categorical column of texts a name.
        files: The files that the rows were read from.
        starts: The first row of each file.
        exact: Whether row k of a file is record k of it, so that a message can tell the line.

    Example:
        >>> frame = pd.DataFrame({"sex": pd.Categorical(["F", "O"])})
        >>> rows = Rows(frame, [Path("a.csv")], [0])
        >>> rows.texts("sex").tolist(), "age" in rows
        (['F', 'O'], False)
    """

    def __init__(
        self, frame: pd.DataFrame, files: Sequence[Path], starts: Sequence[int], exact: bool = True
    ) -> None:
        self.frame, self.files, self.starts = frame, tuple(files), tuple(starts)
        self._from = np.arange(len(frame)) if exact else None
        # Which file a column is from, where that is not the first table's.
        self._elsewhere: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, column: str) -> bool:
        return column in self.frame

    @property
    def path(self) -> Path:
        """The first file."""
        return self.files[0]

    @classmethod
    def stacked(cls, frames: Sequence[pd.DataFrame], files: Sequence[Path], exact: bool) -> "Rows":
        """Return the rows of several files, one after the other."""
        starts = np.cumsum([0, *map(len, frames)])[:-1]
        if len(frames) == 1:
            return cls(frames[0], files, starts.tolist(), exact)
        names = list(dict.fromkeys(name for frame in frames for name in frame))
        blank = pd.Categorical.from_codes([], pd.Index([""], dtype=object))
        columns = {
            name: union_categoricals(
                [
                    frame[name].array
                    if name in frame
                    else blank.take(np.full(len(frame), -1), allow_fill=True)
                    for frame in frames
                ]
            )
            for name in names
        }
        return cls(pd.DataFrame(columns), files, starts.tolist(), exact)

    def distinct(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a column as codes, shape (n,), and its distinct texts; code -1 is missing."""
        if column not in self.frame:
            hint = nearest(column, map(str, self.frame)) or ""
            raise CohortError(f"{self.path}: no column {column!r}{hint}")
        cells = self.frame[column].cat
        return cells.codes.to_numpy(), cells.categories.to_numpy(dtype=object)

    def texts(self, column: str) -> np.ndarray:
        """Return a column as texts, shape (n,), "" where missing."""
        codes, texts = self.distinct(column)
        return np.append(texts, "")[codes]

    def blank(self, column: str) -> np.ndarray:
        """Return which cells of a column hold no value, shape (n,), boolean."""
        _, texts = self.distinct(column)
        empty = np.array([text.strip() in EMPTY for text in texts], dtype=bool)
        return self.looked_up(column, empty, True)

    def numbers(self, column: str) -> np.ndarray:
        """Return a column as numbers, shape (n,), NaN where a text is none."""
        codes, texts = self.distinct(column)
        numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
        return np.append(numbers.to_numpy(np.float64), np.nan)[codes]

    def looked_up(self, column: str, values: np.ndarray, missing: object) -> np.ndarray:
        """Return, for each row, the value that belongs to its distinct text."""
        codes, _ = self.distinct(column)
        full = np.empty(len(values) + 1, dtype=values.dtype)
        full[:-1], full[-1] = values, missing
        return full[codes]

    def beside(self, other: "Rows", key: str) -> "Rows":
        """Return the rows with what another table says of them, missing where it says nothing.

        Args:
            other: Its rows.
            key: The column that both have; each text of it once in the other table, where rows
                that repeat each other word by word count as one.

        Raises:
            CohortError: If the other table says two things of one key.
        """
        same = other.frame.duplicated().to_numpy()
        other = other.take(~same) if same.any() else other
        codes, keys = other.distinct(key)
        twice = other.frame[key].duplicated().to_numpy()
        other.refuse(key, twice, "occurs more than once, with different content")
        place = np.full(len(keys) + 1, -1, dtype=np.int64)
        place[codes] = np.arange(len(other))
        place[-1] = -1
        mine, texts = self.distinct(key)
        found = np.append(pd.Index(keys).get_indexer(pd.Index(texts, dtype=object)), -1)
        at = place[found][mine]
        fresh = {
            name: other.frame[name].array.take(at, allow_fill=True)
            for name in other.frame
            if name not in self.frame
        }
        joined = self._like(
            pd.concat([self.frame, pd.DataFrame(fresh, index=self.frame.index)], axis=1)
        )
        joined._elsewhere = {**self._elsewhere, **dict.fromkeys(fresh, str(other.path))}
        return joined

    def without(self, *names: str) -> "Rows":
        """Return the rows with columns that nothing is known of."""
        blank = pd.Categorical.from_codes(
            np.full(len(self), -1, dtype=np.int8), pd.Index([""], dtype=object)
        )
        fresh = {name: blank for name in names if name not in self.frame}
        return self._like(self.frame.assign(**fresh))

    def with_texts(self, name: str, texts: np.ndarray) -> "Rows":
        """Return the rows with another column of texts, shape (n,)."""
        codes, distinct = pd.factorize(texts)
        cells = pd.Categorical.from_codes(codes, pd.Index(distinct, dtype=object))
        return self._like(self.frame.assign(**{name: cells}))

    def take(self, kept: np.ndarray) -> "Rows":
        """Return some of the rows, by a mask."""
        chosen = self._like(self.frame[kept].reset_index(drop=True))
        chosen._from = None if self._from is None else self._from[kept]
        return chosen

    def refuse(self, column: str, wrong: np.ndarray, rule: str) -> None:
        """Raise if any row breaks a rule, with the file, the line, the column and the value."""
        if not wrong.any():
            return
        row, n = int(np.argmax(wrong)), int(wrong.sum())
        counted = f"({n:,} record{'s' if n > 1 else ''})"
        value = brief(self.texts(column)[row])
        raise CohortError(
            f"{self._place(column, row)}: column {column!r}: {value} {rule} {counted}"
        )

    def _like(self, frame: pd.DataFrame) -> "Rows":
        other = Rows(frame, self.files, self.starts)
        other._from, other._elsewhere = self._from, dict(self._elsewhere)
        return other

    def _place(self, column: str, row: int) -> str:
        if column in self._elsewhere:
            return self._elsewhere[column]
        if self._from is None:
            return str(self.path)
        origin = int(self._from[row])
        which = int(np.searchsorted(self.starts, origin, side="right")) - 1
        file = self.files[which]
        return f"{file}:{line_of(file, origin - self.starts[which])}"
