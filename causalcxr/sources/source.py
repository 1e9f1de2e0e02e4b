"""A data set: its files and columns, the readers of its variables, and its images.

A `Source` declares a data set: tables, readers (`variable_readers`, `age_reader`,
`finding_readers`, `races`) and the place of its images. `Source.harmonise` is the same for all
data sets: it joins the tables, reads the variables, applies the policy and records every decision.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError, brief, nearest
from causalcxr.sources.csv_reader import read_columns, read_header
from causalcxr.sources.harmonised import Harmonised, Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import Policy
from causalcxr.sources.source_rows import EMPTY, Rows

__all__ = ["Reader", "Source", "Table"]

# Reads one variable of all rows: its values, shape (n,).
Reader = Callable[[Rows, Policy, Ledger], np.ndarray | pd.Categorical | None]
# Reads the findings of all rows: the marks of each, as `Policy.decide` takes them.
FindingsReader = Callable[[Rows, Policy, Ledger], Mapping[str, np.ndarray]]
# Computes a column of texts from others, shape (n,), or None.
Derived = Callable[[Rows], np.ndarray | None]


@dataclass(frozen=True)
class Table:
    """Declare a file of a data set, and the columns to read.

    Args:
        files: Its published names as patterns, under the folder of the data set; the newest file
            of the first pattern that matches is read.
        columns: The required columns.
        optional: Columns that are read if the file has them.
        key: The column that it shares with the first table; None for the first table itself.
        every_file: Read every file that matches, one after the other; the column `file` then
            holds the name of each row's file.
        required: Whether the table must exist; otherwise its columns are missing.
        read: A function that reads a file that is not a .csv, as `read_columns` returns it.
        reduce: A function that combines several rows with one key into one.
        caution: A warning to users of this table, shown in the report.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    key: str | None = None
    every_file: bool = False
    required: bool = True
    read: Callable[[Path], pd.DataFrame] | None = None
    reduce: Callable[[pd.DataFrame, Policy], pd.DataFrame] | None = None
    caution: str = ""

    def files_in(self, folder: Path) -> list[Path]:
        """Return the files to read, an empty list if there are none."""
        files: list[Path] = []
        for pattern in self.files:
            if Path(pattern).is_absolute():
                return [Path(pattern)] if Path(pattern).is_file() else []
            try:
                files += sorted(path for path in folder.glob(pattern) if path.is_file())
            except ValueError:  # a user's own file name may not be a valid pattern
                continue
            if files and not self.every_file:
                return files[-1:]  # the newest release sorts last
        return files

    def rows(self, files: Sequence[Path], policy: Policy) -> Rows:
        """Read files, one after the other, and combine rows with one key."""
        frames = []
        for file in files:
            frame = self._frame(file)
            if self.every_file:
                name = pd.Index([file.name], dtype=object)
                frame["file"] = pd.Categorical.from_codes(np.zeros(len(frame), np.int8), name)
            frames.append(frame)
        rows = Rows.stacked(frames, files, exact=self.read is None)
        if self.reduce is None:
            return rows
        return Rows(self.reduce(rows.frame, policy), rows.files, rows.starts, exact=False)

    def _frame(self, file: Path) -> pd.DataFrame:
        if self.read is not None:
            return self.read(file)
        return read_columns(file, self.columns, self.optional)


@dataclass(frozen=True)
class Source:
    """Declare a data set; `causalcxr/sources/datasets/hannover.py` is a complete example.

    Args:
        name: Its name in this package: `padchest`.
        dataset: Its category of the variable Dataset: `PadChest`.
        cite: The publication to cite.
        tables: Its files; the first holds one row for each record.
        record: The column of the records' ids.
        patient: The column of the patients' ids.
        variables: The readers of Sex, Age, Race and View; a variable without a reader is missing.
        findings: The reader of the findings.
        split: The reader of "train", "val" and "test"; None if no split is published.
        images: The place of the images.
        derived: Columns computed from those of the first table before others are joined to it:
            texts, shape (n,), or None if they cannot be computed.
        extras: Columns to keep as they are, numbers as numbers, with their new names.
        ids: Columns to keep as texts, with their new names.
        labels: The labels that the source offers: a name for a policy, and the table.
        facts: Facts about the whole data set that users should know, as (name, sentence).
    """

    name: str
    dataset: str
    cite: str
    tables: tuple[Table, ...]
    record: str
    patient: str
    variables: Mapping[str, Reader]
    findings: FindingsReader | None = None
    split: Reader | None = None
    images: ImageFiles | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Table] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a folder of this data set, or the first of its files."""
        first = self.tables[0]
        if path.is_file():
            files = [path] if any(path.match(pattern) for pattern in first.files) else []
        else:
            files = first.files_in(path) if path.is_dir() else []
        if not files:
            return False
        # One column may be renamed or lost: then the reader of this source names it.
        absent = set(first.columns) - set(read_header(files[0]))
        return first.read is not None or len(absent) <= 1

    def harmonise(self, path: str | Path, policy: Policy | None = None) -> Harmonised:
        """Return the rows under the names of the graph, and the rules applied to them.

        Args:
            path: The folder of the data set as it is published, or the first of its files.
            policy: The decisions that the data set leaves open.

        Raises:
            CohortError: If a file is not as published, or the policy refuses its content.
        """
        policy = policy or Policy()
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        rows, ledger = self._unique(self._joined(folder, Path(path), policy), policy)
        self._note_facts(folder, policy, ledger)
        columns = self._columns(rows, policy, ledger)
        patients = rows.texts(self.patient)
        splits = None if self.split is None else self.split(rows, policy, ledger)
        if policy.laterals == "drop" and "View" in columns:
            lateral = np.asarray(columns["View"]) == "LATERAL"
            ledger.drop("lateral-dropped", "records whose view is LATERAL are dropped", lateral)
        if splits is not None:
            splits = _one_split(splits, patients, policy, ledger, self.name)
        index = pd.Index(rows.texts(self.record), name="record", dtype=object)
        images = (self.images or ImageFiles()).locate(folder, rows, ledger)
        kept = ledger.kept
        return Harmonised(
            pd.DataFrame(columns, index=index)[kept],
            patients[kept],
            None if splits is None else splits[kept],
            images[kept],
            ledger.rules,
            self.name,
            str(rows.path),
            policy.as_dict(),
        )

    def load(
        self, path: str | Path | None = None, *, size: int | None = None, **decisions: str
    ) -> Cohort:
        """Read the data set as a cohort.

        Args:
            path: As in `harmonise`; by default the folder with the name of the source, in the
                folder of the environment variable CAUSALCXR_DATA.
            size: The side to which images are resized, in pixels; by default their own size.
            **decisions: Decisions of the `Policy`, by name; the others are its defaults.
        """
        path = self.default_folder() if path is None else path
        return self.harmonise(path, Policy.parse(decisions)).cohort(size)

    def default_folder(self) -> Path:
        """Return the folder of the data set in that of the environment variable CAUSALCXR_DATA.

        Raises:
            CohortError: If the variable is not set.
        """
        root = os.environ.get("CAUSALCXR_DATA")
        if not root:
            raise CohortError(
                f"{self.name}: no path; give path=..., or set CAUSALCXR_DATA to the folder that "
                f"holds {self.name}/"
            )
        return Path(root) / self.name

    def _joined(self, folder: Path, path: Path, policy: Policy) -> Rows:
        """Read the first table, and join the others to it."""
        first, *others = self.tables
        files = [path] if path.is_file() else self._files(first, folder)
        rows = first.rows(files, policy)
        for name, compute in self.derived.items():
            texts = compute(rows)
            rows = rows if texts is None else rows.with_texts(name, texts)
        for table in (*others, *self._label_tables(folder, policy)):
            if files := self._files(table, folder):
                rows = rows.joined(table.rows(files, policy), str(table.key))
            else:
                rows = rows.with_missing(*table.columns, *table.optional)
        return rows.with_missing(*self.derived)

    def _files(self, table: Table, folder: Path) -> list[Path]:
        files = table.files_in(folder)
        if not files and table.required:
            raise CohortError(
                f"{folder}: no {table.files[0]} here, which {self.name} requires; give the folder "
                "of the data set as it is published"
            )
        return files

    def _label_tables(self, folder: Path, policy: Policy) -> list[Table]:
        """Return the table of labels that the policy names, or the first that exists."""
        if not self.labels:
            return []
        if policy.labels in self.labels:
            return [self.labels[policy.labels]]
        tables = list(self.labels.values())
        if not policy.labels:
            return [next((table for table in tables if table.files_in(folder)), tables[0])]
        read = None if ".csv" in policy.labels else tables[0].read
        own = replace(tables[0], files=(policy.labels,), read=read, caution="")
        if own.files_in(folder):
            return [own]
        hint = nearest(policy.labels, self.labels) or f"; allowed: {', '.join(self.labels)}"
        raise CohortError(
            f"policy: labels={policy.labels!r} is neither labels of {self.name} nor a file{hint}"
        )

    def _unique(self, rows: Rows, policy: Policy) -> tuple[Rows, Ledger]:
        """Keep every record once, under a unique id."""
        for column in (self.record, self.patient):
            rows.refuse(column, rows.blank(column), "is not an id; give the record one")
        # Rows that repeat another exactly, then rows that share only its id.
        identical = rows.frame.duplicated().to_numpy()
        ids = rows.frame[self.record].cat.codes
        differ = ids[~identical].duplicated().reindex(ids.index, fill_value=False).to_numpy()
        if policy.duplicates == "refuse":
            rule = (
                "occurs more than once, with different content; drop one, or decide "
                "duplicates: first"
            )
            rows.refuse(self.record, differ, rule)
        ledger = Ledger(rows.texts(self.record))
        ledger.drop("duplicate-rows", "rows that repeat a record exactly are dropped", identical)
        ledger.drop("duplicate-ids", "of records with one id the first is kept", differ)
        if ledger.kept.all():
            return rows, ledger
        # A new ledger for the rows kept, with the rules so far.
        rows, rules = rows.take(ledger.kept), ledger.rules
        ledger = Ledger(rows.texts(self.record))
        for rule in rules:
            ledger.add(rule)
        return rows, ledger

    def _note_facts(self, folder: Path, policy: Policy, ledger: Ledger) -> None:
        """Record what holds for the whole data set."""
        for name, sentence in self.facts:
            ledger.fact(name, sentence)
        for table in self._label_tables(folder, policy):
            for file in table.files_in(folder):
                ledger.fact("labels-file", f"labels are those of {file.name}")
            if table.caution:
                ledger.fact("labels-caution", table.caution)

    def _columns(self, rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, object]:
        """Return the columns of the graph, then those to keep as they are."""
        columns: dict[str, object] = {
            "Dataset": pd.Categorical.from_codes(
                np.zeros(len(rows), np.int8), pd.Index([self.dataset], dtype=object)
            )
        }
        for name, read in self.variables.items():
            columns[name] = read(rows, policy, ledger)
        if self.findings is not None:
            columns |= policy.decide(self.findings(rows, policy, ledger), ledger)
        for column, name in {**self.ids, **self.extras}.items():
            if column in rows and (rows.texts(column) != "").any():
                columns[name] = _kept(rows, column, numbers=column in self.extras)
        return columns


def _kept(rows: Rows, column: str, numbers: bool) -> object:
    """Return a column as it is; with `numbers` as numbers, if every filled cell is one."""
    codes, texts = rows.distinct(column)
    filled = np.array([text.strip() not in EMPTY for text in texts], dtype=bool)
    values = pd.to_numeric(pd.Series(texts, dtype=object).where(filled), errors="coerce")
    if numbers and not (values.isna() & filled).any():
        return np.append(values.to_numpy(np.float64), np.nan)[codes]
    return pd.Categorical.from_codes(
        np.append(np.where(filled, np.cumsum(filled) - 1, -1), -1)[codes],
        pd.Index(texts[filled], dtype=object),
    )


def _one_split(
    splits: np.ndarray, patients: np.ndarray, policy: Policy, ledger: Ledger, source: str
) -> np.ndarray:
    """Give each patient one split, as the policy decides."""
    codes, distinct = pd.factorize(patients)
    order = np.array(["train", "val", "test"], dtype=object)
    rank = pd.Categorical(splits, categories=pd.Index(order)).codes
    # The first and last split of each patient; dropped records do not count.
    kept = ledger.kept
    first, last = np.full(len(distinct), 3), np.full(len(distinct), -1)
    np.minimum.at(first, codes[kept], rank[kept])
    np.maximum.at(last, codes[kept], rank[kept])
    in_two = (first < last)[codes]
    if not in_two.any():
        return splits
    if policy.split_conflict == "refuse":
        one = int(np.flatnonzero(in_two & kept)[0])
        names = " and ".join(sorted(set(splits[codes == codes[one]])))
        raise CohortError(
            f"{source}: patient {brief(patients[one])} is in two splits, {names} "
            f"({len(set(codes[in_two])):,} patients); decide split_conflict: strictest or drop"
        )
    if policy.split_conflict == "drop":
        ledger.drop("split-conflict", "records of patients in two splits are dropped", in_two)
        return splits
    why = "records of a patient in two splits are in the strictest of them"
    ledger.note("split-conflict", why, in_two)
    return np.where(in_two, order[last[codes]], splits)
