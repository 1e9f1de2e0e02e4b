"""The contract of a source: its files and columns, how variables are read, where images are.

A source is one `Source`, made of tables, readings (`causalcxr.sources.variable_readers`) and a
place for its images. `Source.harmonise` does the rest, the same for all of them: it joins the
tables, reads the variables, applies the policy and records every decision.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError, brief, nearest
from causalcxr.sources.csv_reader import header_of, read_columns
from causalcxr.sources.harmonised import Harmonised, Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import Policy
from causalcxr.sources.source_rows import EMPTY, Rows

__all__ = ["Reading", "Source", "Table"]

# Reads one variable of all rows: its values, shape (n,).
Reading = Callable[[Rows, Policy, Ledger], np.ndarray | pd.Categorical | None]
# Reads the findings of all rows: what the source says of each, as `Policy.decided` takes it.
Findings = Callable[[Rows, Policy, Ledger], Mapping[str, np.ndarray]]
# Makes a column of texts from others, shape (n,), or None.
Derived = Callable[[Rows], np.ndarray | None]


@dataclass(frozen=True)
class Table:
    """Name a file of a source and what is read of it.

    Args:
        files: Its published names as patterns, under the source's folder; the newest file of the
            first pattern that matches is read.
        columns: The columns that must be there.
        optional: Columns that are read where they are there.
        key: The column that it shares with the first table, whose rows it describes; None for
            the first table itself.
        each: Read every file that matches, one after the other; the column `file` then holds the
            name of each row's file.
        needed: Whether the source is unreadable without it; else its columns are missing.
        read: How to read a file that is no .csv: the columns, as `read_columns` returns them.
        reduce: How several rows of one key become one.
        caution: What a user of it should know, told in the report.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    key: str | None = None
    each: bool = False
    needed: bool = True
    read: Callable[[Path], pd.DataFrame] | None = None
    reduce: Callable[[pd.DataFrame, Policy], pd.DataFrame] | None = None
    caution: str = ""

    def found(self, folder: Path) -> list[Path]:
        """Return the files to read, none if there are none."""
        found: list[Path] = []
        for pattern in self.files:
            if Path(pattern).is_absolute():
                return [Path(pattern)] if Path(pattern).is_file() else []
            try:
                found += sorted(path for path in folder.glob(pattern) if path.is_file())
            except ValueError:  # a user's own words may be no pattern
                continue
            if found and not self.each:
                return found[-1:]  # the newest release sorts last
        return found


@dataclass(frozen=True)
class Source:
    """Declare a data set: which files, which columns, how variables are read, where images are.

    Args:
        name: A word for it: `padchest`.
        dataset: Its level of the variable Dataset: `PadChest`.
        cite: Where it is published, and what to cite.
        tables: Its files; the first holds one row a record.
        record: The column of the records' ids.
        patient: The column of the patients' ids.
        variables: How Sex, Age, Race and View are read; those that are absent are not recorded.
        findings: How the findings are read.
        split: How "train", "val" and "test" are read; None if nothing is published.
        images: Where the images are.
        derived: Columns that are made of those of the first table before others are joined to it:
            texts, shape (n,), or None where there is nothing to make them of.
        extras: Columns that are kept as they are, numbers as numbers, by the name under which
            they are kept.
        ids: Columns that are kept likewise, as texts.
        labels: Which labels the source offers by name: a policy's word and the table for it.
        facts: What the user should know of the whole source, as (name, sentence).
    """

    name: str
    dataset: str
    cite: str
    tables: tuple[Table, ...]
    record: str
    patient: str
    variables: Mapping[str, Reading]
    findings: Findings | None = None
    split: Reading | None = None
    images: ImageFiles | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Table] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a folder of this source, or the first of its files."""
        first = self.tables[0]
        if path.is_file():
            files = [path] if any(path.match(pattern) for pattern in first.files) else []
        else:
            files = first.found(path) if path.is_dir() else []
        if not files:
            return False
        # One column may be renamed or lost: then the reader of this source says which.
        absent = set(first.columns) - set(header_of(files[0]))
        return first.read is not None or len(absent) <= 1

    def harmonise(self, path: str | Path, policy: Policy | None = None) -> Harmonised:
        """Return the rows under the names of the graph, and what was done to them.

        Args:
            path: The folder of the source as it is published, or the first of its files.
            policy: What is decided where the source leaves a decision to us.

        Raises:
            CohortError: If a file is not as published, or the policy refuses what is in it.
        """
        policy = policy or Policy()
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        rows = self._rows(folder, Path(path), policy)
        rows, ledger = self._identified(rows, policy)
        self._told(folder, policy, ledger)
        columns = self._columns(rows, policy, ledger)
        patients = rows.texts(self.patient)
        splits = None if self.split is None else self.split(rows, policy, ledger)
        self._drop_laterals(columns, policy, ledger)
        splits = _one_split(splits, patients, policy, ledger, self.name)
        index = pd.Index(rows.texts(self.record), name="record", dtype=object)
        images = (self.images or ImageFiles()).found(folder, rows, ledger)
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
        """Read the source as a cohort.

        Args:
            path: As in `harmonise`; by default the folder named as the source, in the folder that
                the environment variable CAUSALCXR_DATA names.
            size: The side to which images are resized, in pixels; by default as they are.
            **decisions: Of the `Policy`, by name; the others are its defaults.
        """
        if path is None:
            root = os.environ.get("CAUSALCXR_DATA")
            if not root:
                raise CohortError(
                    f"where is {self.name}? give path=..., or set CAUSALCXR_DATA to the folder "
                    f"that holds {self.name}/"
                )
            path = Path(root) / self.name
        return self.harmonise(path, Policy.parse(decisions)).cohort(size)

    # How it is done

    def _rows(self, folder: Path, path: Path, policy: Policy) -> Rows:
        """Read the first table, and what the others say of its rows."""
        tables = [*self.tables, *self._chosen(folder, policy)]
        rows = None
        for k, table in enumerate(tables):
            files = [path] if k == 0 and path.is_file() else table.found(folder)
            if not files and table.needed:
                raise CohortError(
                    f"{folder}: no {table.files[0]} here; {self.name} is read from it, give the "
                    f"folder of the data set as it is published"
                )
            if files:
                read = _read(table, files)
                if table.reduce is not None:
                    read = Rows(
                        table.reduce(read.frame, policy), read.files, read.starts, exact=False
                    )
                rows = self._derived(read) if rows is None else rows.beside(read, str(table.key))
            elif rows is not None:
                rows = rows.without(*table.columns, *table.optional)
        if rows is None:
            raise CohortError(f"{self.name}: no table is declared")
        return rows.without(*self.derived)

    def _derived(self, rows: Rows) -> Rows:
        for name, make in self.derived.items():
            texts = make(rows)
            rows = rows if texts is None else rows.with_texts(name, texts)
        return rows

    def _chosen(self, folder: Path, policy: Policy) -> list[Table]:
        """Return the table of labels that the policy asks for, or the first that is there."""
        if not self.labels:
            return []
        if policy.labels in self.labels:
            return [self.labels[policy.labels]]
        tables = list(self.labels.values())
        if policy.labels:
            read = None if ".csv" in policy.labels else tables[0].read
            own = replace(tables[0], files=(policy.labels,), read=read, caution="")
            if own.found(folder):
                return [own]
            hint = nearest(policy.labels, self.labels) or f"; there are {', '.join(self.labels)}"
            raise CohortError(
                f"policy: labels={policy.labels!r} is no labels of {self.name} and no file{hint}"
            )
        return [next((table for table in tables if table.found(folder)), tables[0])]

    def _identified(self, rows: Rows, policy: Policy) -> tuple[Rows, Ledger]:
        """Keep every record once, under an id of its own."""
        for what in (self.record, self.patient):
            rows.refuse(what, rows.blank(what), "has no id; give it one")
        same = rows.frame.duplicated().to_numpy()
        ids = rows.frame[self.record].cat.codes
        differ = ids[~same].duplicated().reindex(ids.index, fill_value=False).to_numpy()
        if policy.duplicates == "refuse":
            rule = (
                "occurs more than once, with different content; drop one, or decide "
                "duplicates: first"
            )
            rows.refuse(self.record, differ, rule)
        ledger = Ledger(rows.texts(self.record))
        ledger.drop("duplicate-rows", "rows that repeat a record word by word are dropped", same)
        ledger.drop("duplicate-ids", "of records with one id the first is kept", differ)
        kept = ledger.kept
        if not kept.all():
            dropped = ledger.rules
            rows = rows.take(kept)
            ledger = Ledger(rows.texts(self.record))
            for rule in dropped:
                ledger.add(rule)
        return rows, ledger

    def _told(self, folder: Path, policy: Policy, ledger: Ledger) -> None:
        """Write down what is true of the whole source."""
        for name, sentence in self.facts:
            ledger.fact(name, sentence)
        for table in self._chosen(folder, policy):
            for file in table.found(folder):
                ledger.fact("labels-file", f"labels are those of {file.name}")
            if table.caution:
                ledger.fact("labels-caution", table.caution)

    def _columns(self, rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, object]:
        columns: dict[str, object] = {
            "Dataset": pd.Categorical.from_codes(
                np.zeros(len(rows), np.int8), pd.Index([self.dataset], dtype=object)
            )
        }
        for name, read in self.variables.items():
            columns[name] = read(rows, policy, ledger)
        if self.findings is not None:
            columns |= policy.decided(self.findings(rows, policy, ledger), ledger)
        for column, name in {**self.ids, **self.extras}.items():
            if column in rows and (rows.texts(column) != "").any():
                columns[name] = _kept(rows, column, numbers=column in self.extras)
        return columns

    @staticmethod
    def _drop_laterals(columns: Mapping[str, object], policy: Policy, ledger: Ledger) -> None:
        if policy.laterals == "drop" and "View" in columns:
            lateral = np.asarray(columns["View"]) == "LATERAL"
            ledger.drop("lateral-dropped", "records whose view is LATERAL are dropped", lateral)


def _read(table: Table, files: Sequence[Path]) -> Rows:
    frames = []
    for file in files:
        read = table.read or (lambda path: read_columns(path, table.columns, table.optional))
        frame = read(file)
        if table.each:
            name = pd.Index([file.name], dtype=object)
            frame["file"] = pd.Categorical.from_codes(np.zeros(len(frame), np.int8), name)
        frames.append(frame)
    return Rows.stacked(frames, files, exact=table.read is None)


def _kept(rows: Rows, column: str, numbers: bool) -> object:
    """Return a column as it is; if asked for, as numbers where every filled cell is one."""
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
    splits: np.ndarray | None, patients: np.ndarray, policy: Policy, ledger: Ledger, name: str
) -> np.ndarray | None:
    """Give each patient one split, as the policy says."""
    if splits is None:
        return None
    codes, distinct = pd.factorize(patients)
    order = np.array(["train", "val", "test"], dtype=object)
    rank = pd.Categorical(splits, categories=pd.Index(order)).codes
    kept = ledger.kept
    first, last = np.full(len(distinct), 3), np.full(len(distinct), -1)
    np.minimum.at(first, codes[kept], rank[kept])
    np.maximum.at(last, codes[kept], rank[kept])
    both = (first < last)[codes]
    if not both.any():
        return splits
    if policy.split_conflict == "refuse":
        one = int(np.flatnonzero(both & kept)[0])
        told = " and ".join(sorted(set(splits[codes == codes[one]])))
        raise CohortError(
            f"{name}: patient {brief(patients[one])} is in two splits, {told} "
            f"({len(set(codes[both])):,} patients); decide split_conflict: strictest or drop"
        )
    if policy.split_conflict == "drop":
        ledger.drop("split-conflict", "records of patients in two splits are dropped", both)
        return splits
    ledger.note(
        "split-conflict", "records of a patient in two splits are in the strictest of them", both
    )
    return np.where(both, order[last[codes]], splits)
