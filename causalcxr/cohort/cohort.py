"""Cohort: patients' records in raw units with their radiographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort_columns import CohortColumns
from causalcxr.cohort.cohort_rows import CohortRows
from causalcxr.cohort.columns import column_summary, frame
from causalcxr.cohort.ids import as_ids, check_words, missing_ids
from causalcxr.cohort.input_table import as_table, check_table, record_index
from causalcxr.cohort.splits import check_splits
from causalcxr.common.alignment import aligned
from causalcxr.common.errors import CohortError, brief, nearest
from causalcxr.common.result import Shown
from causalcxr.graph.graph import Graph
from causalcxr.images.images import Images, as_images

if TYPE_CHECKING:
    from causalcxr.cohort.comparison import Comparison
    from causalcxr.common.figure import Page

__all__ = ["Cohort"]


class Cohort(CohortRows, CohortColumns, Shown):
    """Records and their radiographs; it is immutable, and every method returns another cohort.

    Args:
        table: One row for each record in raw units (years, "M"/"F", "N"/"P"), one column for each
            variable, named as in the graph, whatever the case and with `_` for a space; other
            columns are kept. The index has the records' ids.
        images: `Images`, or an array (n, 1, H, W) or (n, H, W) of uint8, uint16 or floats between
            0 and 1, which are taken as radiographs of patients; see `ArrayImages` for others.
        patients: The patient of each record: values, or the name of a column, which is then
            removed from the table. By default each record is a patient.
        splits: "train", "val" or "test" for each record: values, or the name of a column, which
            is also removed.
        source: The source of the records, in a word.
        origin: The file, for messages.
        notes: Decisions made when the records were read, one line each.

    Raises:
        CohortError: If a record id occurs twice, a patient is missing or in two splits, or lengths
            differ.

    Example:
        >>> cohort = Cohort(pd.DataFrame({"Age": [61, 47], "Sex": ["F", None]}, index=["a", "b"]))
        >>> cohort
        Cohort(2 records of 2 patients, no images, from table)
        >>> cohort.columns(Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}"))
        {'Sex': array([ 0., nan])}
    """

    def __init__(
        self,
        table: pd.DataFrame,
        images: Images | np.ndarray | None = None,
        *,
        patients: str | Sequence | pd.Series | None = None,
        splits: str | Sequence | pd.Series | None = None,
        source: str = "table",
        origin: str | Path | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._source = str(source)
        self._origin = None if origin is None else str(origin)
        self._notes = tuple(notes)
        self._table = as_table(table)
        self._table.index = record_index(self._table.index, self._place)
        self._images = as_images(images, len(self._table))
        # The words for missing values in a file (NA): a graph may have such a level.
        self._words: dict[str, np.ndarray] = {}
        # Without patients, each record is a patient of its own.
        given = self._aligned(patients, "patients")
        self._patients = self.records.to_series(self.index) if given is None else given
        self._patients.name = "patient"
        self._splits = self._aligned(splits, "splits")
        if self._splits is not None:
            check_splits(self._splits, self._patients, self._place)

    @classmethod
    def from_columns(
        cls,
        graph: Graph,
        columns: Mapping[str, np.ndarray],
        index: pd.Index | Sequence,
        images: Images | np.ndarray | None = None,
        *,
        patients: str | Sequence | pd.Series | None = None,
        splits: str | Sequence | pd.Series | None = None,
        source: str = "table",
        origin: str | Path | None = None,
        notes: Sequence[str] = (),
    ) -> "Cohort":
        """Return a cohort from the columns of equations, decoded to raw units.

        Args:
            graph: The graph.
            columns: Shape (n,) each: positions of levels, or numbers; NaN is missing.
            index: The ids of the n records.
            images: As in `Cohort`.
            patients: As in `Cohort`.
            splits: As in `Cohort`.
            source: As in `Cohort`.
            origin: As in `Cohort`.
            notes: As in `Cohort`.

        Example:
            >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
            >>> Cohort.from_columns(graph, {"Sex": np.array([1.0])}, ["a"]).table["Sex"].tolist()
            ['M']
        """
        index = index if isinstance(index, pd.Index) else pd.Index(index)
        return cls(
            frame(graph, columns, index),
            images,
            patients=patients,
            splits=splits,
            source=source,
            origin=origin,
            notes=notes,
        )

    @staticmethod
    def load(spec: str | Path, **kwargs: Any) -> "Cohort":
        """Read a cohort: `phantom`, `nih`, a saved folder or store, NIH's own folder, a .csv.

        Args:
            spec: The name of a source, or a path.
            **kwargs: Options of the source, such as `n` and `seed` of the phantom, or `size`.

        Raises:
            CohortError: If there is no such source, or the data cannot be read.
        """
        from causalcxr.cohort.loading import load

        return load(spec, **kwargs)

    def save(
        self, folder: str | Path, images: str | None = "png", *, overwrite: bool = False
    ) -> Path:
        """Write the cohort to a folder, completely or not at all.

        Args:
            folder: A new or empty folder.
            images: "png" for 16-bit greyscale PNGs, "dicom" for DICOM files of synthetic images
                (12 bits, or 16 where the images have more), None for the table alone.
            overwrite: Replace the saved cohort that the folder holds.

        Raises:
            CohortError: If the folder holds anything else, or cannot be written.
        """
        from causalcxr.cohort.saved import save

        return save(self, folder, images, overwrite=overwrite)

    # Content

    @property
    def table(self) -> pd.DataFrame:
        """The records in raw units (a copy)."""
        return self._table.copy()

    @property
    def index(self) -> pd.Index:
        """The ids of the rows: records, or (record, draw)."""
        return self._table.index

    @property
    def records(self) -> pd.Index:
        """The record of each row, shape (n,)."""
        return self.index.get_level_values("record")

    @property
    def draws(self) -> np.ndarray:
        """The posterior draw of each row, shape (n,), int64; zeros without draws."""
        if self.index.nlevels == 1:
            return np.zeros(len(self), dtype=np.int64)
        return self.index.get_level_values("draw").to_numpy(dtype=np.int64)

    @property
    def images(self) -> Images | None:
        """The radiographs, (n, 1, H, W) when read, or None."""
        return self._images

    @property
    def has_images(self) -> bool:
        """Whether any record has an image."""
        return self._images is not None and bool(self._images.available.any())

    @property
    def patients(self) -> pd.Series:
        """The patient of each record."""
        return self._patients.copy()

    @property
    def splits(self) -> pd.Series | None:
        """The split of each record, or None."""
        return None if self._splits is None else self._splits.copy()

    @property
    def source(self) -> str:
        """The source of the records, in a word."""
        return self._source

    @property
    def origin(self) -> str | None:
        """The file that the records were read from, if any."""
        return self._origin

    @property
    def notes(self) -> list[str]:
        """Decisions made when the records were read, one line each."""
        return list(self._notes)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        images = f"{self._images.available.sum():,} images" if self.has_images else "no images"
        counts = f"{len(self):,} records of {self._patients.nunique():,} patients"
        return f"Cohort({counts}, {images}, from {self.source})"

    # Display

    @property
    def heading(self) -> str:
        """The number of records, patients and images, and the source."""
        return repr(self)

    def summary(self) -> pd.DataFrame:
        """Return one row for each column: `known` and `missing` values, and `what` they are.

        For numbers `what` is their mean and standard deviation, for levels their shares.
        """
        rows = [
            (int(column.notna().sum()), int(column.isna().sum()), column_summary(column))
            for _, column in self._table.items()
        ]
        index = pd.Index([str(name) for name in self._table.columns], name="column")
        return pd.DataFrame(rows, index=index, columns=["known", "missing", "what"])

    def plot(self, n: int = 24, path: str | Path | None = None) -> "Page":
        """Draw the first n images, synthetic ones marked; without images, the share of values.

        Args:
            n: The number of images.
            path: A file to write the picture to, PNG.
        """
        if self.has_images:
            from causalcxr.images.contact_sheet import contact_sheet

            some = self.with_images_only().head(n)
            names = [str(name) for name in some.index]
            marks = some.images.synthetic.tolist()
            return contact_sheet(some.images[:], names, path=path, synthetic=marks)
        from causalcxr.common.bar_chart import bars

        names = [str(name) for name in self._table.columns]
        share = self._table.notna().mean()
        label = "share of records with a value"
        return bars(names, share, title=self.heading, label=label, path=path)

    def with_images(self, images: Images | np.ndarray | None) -> "Cohort":
        """Return the cohort with other images, or none.

        Raises:
            CohortError: If an array replaces synthetic images: it does not record whether it is
                synthetic. Give `images.with_pixels(array)` or `ArrayImages`.
        """
        return self._copy(_images=as_images(images, len(self), self._images))

    def described(self, source: str, *notes: str) -> "Cohort":
        """Return the cohort with another source, and more notes."""
        return self._copy(_source=str(source), _notes=(*self._notes, *notes))

    def compare(self, other: "Cohort | pd.DataFrame") -> "Comparison":
        """Compare the cohort (factual) with its twin (counterfactual), record by record.

        Args:
            other: The twin: all or some of the same records, or draws of them.
        """
        from causalcxr.cohort.comparison import Comparison

        return Comparison(self, other if isinstance(other, Cohort) else Cohort(check_table(other)))

    # Internals

    @property
    def _place(self) -> str:
        return self._origin or self._source

    def _copy(self, **fields: Any) -> "Cohort":
        """Return a cohort with some fields replaced; these must be checked already."""
        other = object.__new__(Cohort)
        other.__dict__ = self.__dict__ | fields
        return other

    def _take(self, positions: np.ndarray, index: pd.Index | None = None) -> "Cohort":
        table = self._table.iloc[positions]
        table.index = record_index(table.index if index is None else index, self._place)
        fields = {"_patients": self._patients, "_splits": self._splits}
        for name, values in fields.items():
            if values is not None:
                fields[name] = pd.Series(
                    values.to_numpy()[positions], table.index, name=values.name
                )
        images = None if self._images is None else self._images.select(positions)
        words = {name: each[positions] for name, each in self._words.items()}
        return self._copy(_table=table, _images=images, _words=words, **fields)

    def _aligned(self, values: Any, what: str) -> pd.Series | None:
        """Return one value for each record, from a column's name, a Series or other values."""
        if values is None:
            return None
        name = what.removesuffix("s")
        if isinstance(values, str):
            if values not in self._table:
                hint = nearest(values, map(str, self._table.columns))
                raise CohortError(f"{self._place}: no column {values!r} of {what}{hint}")
            # Taken out of the table, as it is not a variable.
            values = self._table.pop(values)
        if isinstance(values, pd.Series):
            values = aligned(values, self.index, f"{self._place}: {what}", error=CohortError)
        if len(values) != len(self):
            raise CohortError(f"{self._place}: {len(values)} {what} for {len(self)} records")
        values = as_ids(values).set_axis(self.index).rename(name)
        if (empty := missing_ids(values)).any():
            raise CohortError(
                f"{self._place}: record {brief(self.index[empty.argmax()])} has no {name} "
                f"({empty.sum():,} records); fill it in, or omit the column"
            )
        if name == "patient":
            check_words(values, self.records, self._place)
        return values
