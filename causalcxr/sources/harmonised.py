"""Harmonised rows: one source under the names of the graph, and the rules applied to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import CohortError
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import Images

__all__ = ["Harmonised", "ImagePaths", "Ledger", "Rule", "combined"]

_SAMPLE = 5  # ids of records that a rule names


@dataclass(frozen=True)
class Rule:
    """A decision about some records, or a fact about the whole source.

    Args:
        name: Its name, the same in every source: `age-too-old`.
        why: The decision as a sentence.
        rows: The number of records that it affects; 0 for a fact about the whole source.
        records: The ids of the first few of them.
        effect: "changed", "dropped", or "noted" where nothing was changed.

    Example:
        >>> Rule("sex-other", "sex other than F, M is missing", 2, ("a", "b")).note
        'sex other than F, M is missing: 2 records'
    """

    name: str
    why: str
    rows: int
    records: tuple[str, ...] = ()
    effect: str = "changed"

    @property
    def note(self) -> str:
        """The rule on one line."""
        return f"{self.why}: {self.rows:,} records" if self.rows else self.why


class Ledger:
    """Record the rules that are applied while the rows of a source are read.

    Args:
        records: The ids of the records, shape (n,).
    """

    def __init__(self, records: np.ndarray) -> None:
        self._records = records
        self._rules: list[Rule] = []
        self.kept = np.ones(len(records), dtype=bool)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in the order in which they were applied."""
        return tuple(self._rules)

    def note(self, name: str, why: str, where: np.ndarray, effect: str = "changed") -> None:
        """Record a decision, if it affects any record that is kept.

        Args:
            name: The name of the rule.
            why: The decision as a sentence.
            where: Which records it affects, shape (n,), boolean.
            effect: "changed", "noted" or "dropped".
        """
        places = np.flatnonzero(where & self.kept)
        if len(places):
            ids = tuple(str(record) for record in self._records[places[:_SAMPLE]])
            self._rules.append(Rule(name, why, len(places), ids, effect))

    def drop(self, name: str, why: str, where: np.ndarray) -> None:
        """Drop records, and record why."""
        self.note(name, why, where, "dropped")
        self.kept &= ~where

    def add(self, rule: Rule) -> None:
        """Record a rule as it is."""
        self._rules.append(rule)

    def fact(self, name: str, why: str, rows: int = 0, effect: str = "noted") -> None:
        """Record a fact about the source, or about rows that are not records of it."""
        self._rules.append(Rule(name, why, rows, (), effect))


class ImagePaths(Sequence):
    """The path of each record's image, or None; paths are composed when they are read.

    Args:
        folders: The folders of the images.
        within: The position of the folder of each record's image, shape (n,); -1 for none.
        names: The name of each record's file in its folder, shape (n,).

    Example:
        >>> paths = ImagePaths([Path("a")], np.array([0, -1]), np.array(["x.png", ""], object))
        >>> [str(path) for path in paths], paths.available.tolist()
        (['a/x.png', 'None'], [True, False])
    """

    def __init__(self, folders: Sequence[Path], within: np.ndarray, names: np.ndarray) -> None:
        self._folders, self._within, self._names = list(folders), within, names

    def __len__(self) -> int:
        return len(self._within)

    @property
    def available(self) -> np.ndarray:
        """Which records have an image, shape (n,)."""
        return self._within >= 0

    @overload
    def __getitem__(self, row: int) -> Path | None: ...
    @overload
    def __getitem__(self, row: slice | np.ndarray) -> "ImagePaths": ...
    def __getitem__(self, row: Any) -> "ImagePaths | Path | None":
        if isinstance(row, slice | np.ndarray):
            return ImagePaths(self._folders, self._within[row], self._names[row])
        folder = self._within[row]
        return self._folders[folder] / self._names[row] if folder >= 0 else None

    def __iter__(self) -> Iterator[Path | None]:
        return (self[row] for row in range(len(self)))

    @classmethod
    def none(cls, n: int) -> "ImagePaths":
        """Return the paths of n records without images."""
        return cls([], np.full(n, -1, np.int32), np.full(n, "", object))

    @classmethod
    def joined(cls, parts: Sequence["ImagePaths"]) -> "ImagePaths":
        """Return the paths of several sources, one after the other."""
        starts = np.cumsum([0, *(len(part._folders) for part in parts)])
        within = [
            np.where(part._within < 0, -1, part._within + start)
            for part, start in zip(parts, starts, strict=False)
        ]
        folders = [folder for part in parts for folder in part._folders]
        names = [part._names for part in parts]
        if not parts:
            return cls.none(0)
        return cls(folders, np.concatenate(within), np.concatenate(names))


@dataclass(frozen=True)
class Harmonised:
    """Hold the rows of a source under the names of the graph, and the rules applied to it.

    Args:
        table: One row for each record in raw units, indexed by the records' ids. Columns are
            named as the variables of `cxr7`; other columns of the source follow. Discrete
            variables are categoricals, missing values NaN.
        patients: The patient of each record, shape (n,).
        splits: "train", "val" or "test" of each record, shape (n,), or None.
        images: The file of each record, or None.
        rules: The rules that were applied, in order.
        source: The name of the source, such as `padchest`.
        origin: The file of the rows.
        policy: The policy, decision by decision.
    """

    table: pd.DataFrame
    patients: np.ndarray
    splits: np.ndarray | None
    images: Sequence[Path | None]
    rules: tuple[Rule, ...]
    source: str
    origin: str = ""
    policy: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def rows_in(self) -> int:
        """The number of rows of the source, including those that were dropped."""
        return len(self) + sum(rule.rows for rule in self.rules if rule.effect == "dropped")

    def cohort(
        self,
        size: int | tuple[int, int] | None = None,
        images: Images | None = None,
        *,
        files: bool = True,
    ) -> Cohort:
        """Return the rows as a cohort; an image is read from its file when it is needed.

        Args:
            size: The side, or height and width, to which images are resized; by default as they
                are.
            images: Images of these records, in place of the files.
            files: Whether to attach the files of the records as images; a million paths take time.
        """
        side = (size, size) if isinstance(size, int) else size
        if files and images is None and _as_paths(self.images).available.any():
            images = FileImages(self.images, side)
        # Categories become texts, as which a cohort holds levels.
        plain = {
            name: column.astype(object)
            if isinstance(column.dtype, pd.CategoricalDtype)
            else column
            for name, column in self.table.items()
        }
        return Cohort(
            pd.DataFrame(plain, index=self.table.index),
            images,
            patients=self.patients,
            splits=self.splits,
            source=self.source,
            origin=self.origin or None,
            notes=[*(rule.note for rule in self.rules), *self._policy_note()],
        )

    def _policy_note(self) -> list[str]:
        choices = ", ".join(f"{name}={value}" for name, value in self.policy.items() if value)
        return [f"policy: {choices}"] if choices else []


def combined(
    parts: Sequence[Harmonised],
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Harmonised:
    """Return several sources as one; ids of records and patients begin with their data set.

    Columns that a source does not have are missing in its rows. If only some sources have splits,
    the splits of the others are drawn by a hash of the patient.

    Args:
        parts: The sources, each once.
        fractions: The fractions of train, val and test, for sources without splits.
        seed: The seed of these splits.

    Raises:
        CohortError: If a data set is given twice, as its radiographs would be duplicated.
    """
    if not parts:
        raise CohortError("no sources to combine; give at least one")
    names = [_dataset_of(part) for part in parts]
    repeated = [name for k, name in enumerate(names) if name in names[:k]]
    if repeated:
        both = [p.source for p, name in zip(parts, names, strict=True) if name == repeated[0]]
        raise CohortError(
            f"{' and '.join(both)} both hold the radiographs of {repeated[0]}; give one of them"
        )
    # Two data sets may use the same ids, so ids get a prefix.
    tables = [
        part.table.set_axis(_prefixed(name, part.table.index.to_numpy()))
        for part, name in zip(parts, names, strict=True)
    ]
    table = _stacked(tables)
    table.index.name = "record"
    patients = [_prefixed(name, part.patients) for part, name in zip(parts, names, strict=True)]
    splits, drawn = _splits_of(parts, patients, fractions, seed)
    rules = [
        Rule(rule.name, f"{name}: {rule.why}", rule.rows, rule.records, rule.effect)
        for part, name in zip(parts, names, strict=True)
        for rule in part.rules
    ]
    return Harmonised(
        table,
        np.concatenate(patients),
        splits,
        ImagePaths.joined([_as_paths(part.images) for part in parts]),
        (*rules, *drawn),
        "+".join(part.source for part in parts),
        policy={f"{p.source}: {k}": v for p in parts for k, v in p.policy.items()},
    )


def _dataset_of(part: Harmonised) -> str:
    names = part.table["Dataset"].dropna().unique() if "Dataset" in part.table else []
    return str(names[0]) if len(names) == 1 else part.source


def _prefixed(name: str, ids: np.ndarray) -> np.ndarray:
    return f"{name}/" + np.asarray(ids).astype(str).astype(object)


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables; columns of categories stay categoricals, with the categories of all."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns: dict[str, Any] = {}
    for name in names:
        parts = [
            table[name] if name in table else pd.Series(np.nan, index=table.index, dtype=object)
            for table in tables
        ]
        # A column keeps its type if all sources that have it agree.
        given = [part for part, table in zip(parts, tables, strict=True) if name in table]
        if all(isinstance(part.dtype, pd.CategoricalDtype) for part in given):
            levels = list(dict.fromkeys(level for part in given for level in part.cat.categories))
            kind = pd.CategoricalDtype(pd.Index(levels, dtype=object))
            parts = [part.astype(kind) for part in parts]
        elif all(part.dtype.kind in "iufb" for part in given):
            parts = [part.astype(np.float64) for part in parts]
        else:
            parts = [part.astype(object) for part in parts]
        columns[name] = pd.concat(parts, ignore_index=True)
    index = np.concatenate([table.index.to_numpy(dtype=object) for table in tables])
    return pd.DataFrame(columns).set_axis(pd.Index(index, dtype=object))


def _splits_of(
    parts: Sequence[Harmonised], patients: Sequence[np.ndarray], fractions: Any, seed: int
) -> tuple[np.ndarray | None, list[Rule]]:
    if all(part.splits is None for part in parts):
        return None, []
    without = [part for part in parts if part.splits is None]
    splits = [
        draw_splits(ids, fractions, seed) if part.splits is None else part.splits
        for part, ids in zip(parts, patients, strict=True)
    ]
    sources = ", ".join(part.source for part in without)
    why = f"{sources}: no published splits; drawn by a hash of the patient"
    rows = sum(map(len, without))
    return np.concatenate(splits), [Rule("split-drawn", why, rows)] if without else []


def _as_paths(images: Sequence[Path | None]) -> ImagePaths:
    if isinstance(images, ImagePaths):
        return images
    within = np.array([0 if path is not None else -1 for path in images], dtype=np.int32)
    names = np.array([str(path or "") for path in images], dtype=object)
    return ImagePaths([Path()], within, names)
