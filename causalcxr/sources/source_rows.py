"""Rows: the tables of a source, joined, with the file and line of each row for messages."""

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
    """Hold the rows of a source as categorical columns, and the file of each row.

    Args:
        frame: One categorical column of texts for each name.
        files: The files that the rows were read from.
        starts: The first row of each file.
        exact: Whether row k of a file is its record k, so that messages can give the line.

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
        self._row_in_files = np.arange(len(frame)) if exact else None
        # The file of each column that another table than the first has.
        self._other_file: dict[str, str] = {}

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
        # A file that lacks a column has missing cells in it.
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
        return self.map_texts(column, empty, True)

    def numbers(self, column: str) -> np.ndarray:
        """Return a column as numbers, shape (n,), NaN where a text is not a number."""
        codes, texts = self.distinct(column)
        numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
        return np.append(numbers.to_numpy(np.float64), np.nan)[codes]

    def map_texts(self, column: str, values: np.ndarray, missing: object) -> np.ndarray:
        """Return the value of each row, shape (n,).

        Args:
            column: The column.
            values: The value of each distinct text of the column.
            missing: The value of a missing cell.
        """
        codes, _ = self.distinct(column)
        full = np.empty(len(values) + 1, dtype=values.dtype)
        full[:-1], full[-1] = values, missing
        return full[codes]

    def joined(self, other: "Rows", key: str) -> "Rows":
        """Return the rows with the columns of another table, missing where it has no such row.

        Args:
            other: The rows of the other table.
            key: The column that both have. Its values are unique in the other table, apart from
                rows that are identical throughout.

        Raises:
            CohortError: If the other table has two different rows for one key.
        """
        # Exact repeats are no contradiction.
        identical = other.frame.duplicated().to_numpy()
        other = other.take(~identical) if identical.any() else other
        codes, keys = other.distinct(key)
        repeated = other.frame[key].duplicated().to_numpy()
        other.refuse(key, repeated, "occurs more than once, with different content")
        # For each key of the other table its row, and -1 for a key that it does not have.
        row_of_key = np.full(len(keys) + 1, -1, dtype=np.int64)
        row_of_key[codes] = np.arange(len(other))
        row_of_key[-1] = -1
        own_codes, texts = self.distinct(key)
        # The last entry, -1, is for code -1: a missing key.
        positions = np.append(pd.Index(keys).get_indexer(pd.Index(texts, dtype=object)), -1)
        other_rows = row_of_key[positions][own_codes]
        fresh = {
            name: other.frame[name].array.take(other_rows, allow_fill=True)
            for name in other.frame
            if name not in self.frame
        }
        joined = self._like(
            pd.concat([self.frame, pd.DataFrame(fresh, index=self.frame.index)], axis=1)
        )
        joined._other_file = {**self._other_file, **dict.fromkeys(fresh, str(other.path))}
        return joined

    def with_missing(self, *names: str) -> "Rows":
        """Return the rows with further columns in which every cell is missing."""
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
        in_files = self._row_in_files
        chosen._row_in_files = None if in_files is None else in_files[kept]
        return chosen

    def refuse(self, column: str, invalid: np.ndarray, rule: str) -> None:
        """Raise an error if any row is invalid, with its file, line, column and value.

        Args:
            column: The column.
            invalid: Which rows are invalid, shape (n,), boolean.
            rule: What is wrong with such a value, to follow it in the message.

        Raises:
            CohortError: For the first invalid row.
        """
        if not invalid.any():
            return
        row, n = int(np.argmax(invalid)), int(invalid.sum())
        counted = f"({n:,} record{'s' if n > 1 else ''})"
        value = brief(self.texts(column)[row])
        raise CohortError(
            f"{self._location(column, row)}: column {column!r}: {value} {rule} {counted}"
        )

    def _like(self, frame: pd.DataFrame) -> "Rows":
        other = Rows(frame, self.files, self.starts)
        other._row_in_files, other._other_file = self._row_in_files, dict(self._other_file)
        return other

    def _location(self, column: str, row: int) -> str:
        if column in self._other_file:
            return self._other_file[column]
        if self._row_in_files is None:
            return str(self.path)
        origin = int(self._row_in_files[row])
        number = int(np.searchsorted(self.starts, origin, side="right")) - 1
        file = self.files[number]
        return f"{file}:{line_of(file, origin - self.starts[number])}"
