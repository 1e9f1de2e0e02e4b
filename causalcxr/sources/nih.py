"""NIH ChestX-ray14 in its published layout, harmonised to the names of the expert graph.

References:
    ChestX-ray8: Hospital-scale chest X-ray database and benchmarks (Wang et al., CVPR 2017), from
    the NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError, nearest
from causalcxr.images import FileImages
from causalcxr.rows import shown
from causalcxr.sources.table import read_cells
from causalcxr.splits import check_splits, draw_splits

__all__ = ["FINDINGS", "OTHERS", "harmonise", "load", "recognises"]

# Which published labels make which finding of the graph positive.
FINDINGS = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Edema": ("Edema",),
    "Lung Lesion": ("Nodule", "Mass"),
    "Lung Opacity": ("Infiltration",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax",),
}
# Labels without a counterpart among the findings of the graph; they deny No Finding all the same.
OTHERS = ("Emphysema", "Fibrosis", "Hernia")

_NO_FINDING = "No Finding"
_COLUMNS = {
    "Image Index": "record",
    "Finding Labels": "labels",
    "Follow-up #": "follow-up",
    "Patient ID": "patient",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "View Position": "view",
}
_OLDEST = 105  # years; the older release has ages up to 414
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def recognises(path: Path) -> bool:
    """Return whether a path holds the published table, or is it."""
    if path.is_dir():
        return any(path.glob("Data_Entry_2017*.csv"))
    return path.is_file() and path.match("Data_Entry_2017*.csv")


def load(path: str | Path | None = None, *, size: int | None = 64, unlisted: str = "N") -> Cohort:
    """Read ChestX-ray14, or the part of it that is there.

    Args:
        path: The folder of `Data_Entry_2017*.csv`, or that file; by default the folder `nih` in
            the folder that the environment variable CAUSALCXR_DATA names.
        size: The side of the images in pixels; None for that of the files. Files of that size
            (`images_64/`) are preferred, larger ones are resized, smaller ones are not used.
        unlisted: What a finding is where it is not listed, "N" or "U" (missing). Labels are
            positive-only: it is a choice. Where No Finding is listed, all the others are N.

    Raises:
        CohortError: If a file is not as published.
    """
    file = _table_file(_default() if path is None else Path(path))
    table, patients, notes = harmonise(read_cells(file), str(file), unlisted)
    companion = _companion(file.parent)
    if companion is not None:
        source_size = companion["source_size"].reindex(table.index)
        table["source_size"] = pd.to_numeric(source_size, errors="coerce").to_numpy()
    splits, told = _splits(file.parent, table.index, patients, companion)
    return Cohort(
        table,
        _images(file.parent, table.index, size),
        patients=patients,
        splits=splits,
        source="nih",
        origin=file,
        notes=[*notes, *told],
    )


def harmonise(
    cells: pd.DataFrame, place: str = "Data_Entry_2017.csv", unlisted: str = "N"
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return NIH's table in the graph's names and levels.

    What NIH did not record (Race, Fracture, Support Devices, Enlarged Cardiomediastinum) has no
    column: absent, not negative.

    Args:
        cells: The published table, every cell a text.
        place: What to call the table in a message.
        unlisted: See `load`.

    Returns:
        The table, its index the image names; the patient of each record; notes.
    """
    if unlisted not in ("N", "U"):
        raise CohortError(f"unlisted={unlisted!r}; a finding not listed is 'N' or 'U' (missing)")
    raw = _renamed(cells, place)
    index = pd.Index(raw["record"], name="record")
    ages, age_notes = _ages(raw["age"])
    sexes, sex_notes = _levels(raw["sex"], ("F", "M"), "sex")
    views, view_notes = _levels(raw["view"], ("AP", "PA", "LATERAL"), "view")
    found, label_notes = _findings(raw["labels"], place, unlisted)
    table = {"Dataset": "ChestX-ray14", "View": views, "Sex": sexes, "Age": ages} | found
    table["Follow-up"] = pd.to_numeric(raw["follow-up"], errors="coerce").to_numpy()
    notes = [*age_notes, *sex_notes, *view_notes, *label_notes]
    return pd.DataFrame(table, index=index), raw["patient"].to_numpy(), notes


def _default() -> Path:
    root = os.environ.get("CAUSALCXR_DATA")
    if not root:
        raise CohortError(
            "where is ChestX-ray14? give path=..., or set CAUSALCXR_DATA to the folder that holds "
            "nih/ (https://nihcc.app.box.com/v/ChestXray-NIHCC)"
        )
    return Path(root) / "nih"


def _table_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("Data_Entry_2017*.csv"))
    if not files:
        raise CohortError(f"{path}: no Data_Entry_2017*.csv here; give NIH's folder or that file")
    return files[-1]  # the corrected release of 2020 sorts last


def _renamed(cells: pd.DataFrame, place: str) -> pd.DataFrame:
    for name in _COLUMNS:
        if name not in cells:
            hint = nearest(name, cells.columns) or f"; it has {', '.join(cells.columns)}"
            raise CohortError(f"{place}: no column {name!r}{hint}")
    return cells[list(_COLUMNS)].rename(columns=_COLUMNS)


def _ages(cells: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return completed years, as the newer release has them; few distinct texts are parsed."""
    codes, texts = pd.factorize(cells)
    years, unread = np.full(len(texts), np.nan), np.zeros(len(texts), dtype=bool)
    for k, text in enumerate(texts):
        match = re.fullmatch(r"(\d{1,4})([YMWD]?)", text.strip())
        if match:
            # The small excess keeps 12 months a year, and 24 months two.
            years[k] = np.floor(int(match[1]) * _YEARS[match[2]] + 1e-9)
        unread[k] = not match
    suffixed = np.array([text.strip()[-1:] in "YMWD" for text in texts]) & ~unread
    old = years > _OLDEST
    years[old] = np.nan
    counts = np.bincount(codes, minlength=len(texts))
    rules = {
        f"ages above {_OLDEST} years are missing": old,
        "ages that cannot be read are missing": unread,
        "ages written as 060Y, 003M or 012D are completed years": suffixed & ~old,
    }
    return years[codes], [
        note for rule, which in rules.items() for note in _note(rule, counts[which].sum())
    ]


def _levels(cells: pd.Series, levels: tuple[str, ...], what: str) -> tuple[np.ndarray, list[str]]:
    """Return levels, and missing for everything else: nobody is made female by default."""
    known = cells.isin(levels).to_numpy()
    values = np.where(known, cells.to_numpy(dtype=object), np.nan)
    return values, _note(f"{what} other than {', '.join(levels)} is missing", (~known).sum())


def _findings(
    cells: pd.Series, place: str, unlisted: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return N, P or missing for every finding; only the distinct lists of labels are parsed."""
    codes, texts = pd.factorize(cells)
    listed = [_labels(text, cells, place) for text in texts]
    healthy = np.array([_NO_FINDING in labels for labels in listed])
    columns, positive = {}, np.zeros(len(texts), dtype=bool)
    sources = {**FINDINGS, **{name: (name,) for name in OTHERS}, _NO_FINDING: (_NO_FINDING,)}
    for name, labels in sources.items():
        is_listed = np.array([not labels_of.isdisjoint(labels) for labels_of in listed])
        negative = "N" if unlisted == "N" or name == _NO_FINDING else np.nan
        values = np.where(healthy, "N", np.array(negative, dtype=object)).astype(object)
        values[is_listed] = "P"
        columns[name] = values[codes]
        positive |= is_listed & (name in FINDINGS)
    counts = np.bincount(codes, minlength=len(texts))
    rule = "a finding that is not listed is " + ("N" if unlisted == "N" else "missing")
    return columns, [
        f"labels are positive-only: {rule}",
        *_note(
            "No Finding is N although no finding of the graph is P (Emphysema, Fibrosis, Hernia)",
            counts[~healthy & ~positive].sum(),
        ),
        *_note("No Finding is P although a finding is P", counts[healthy & positive].sum()),
    ]


def _labels(text: str, cells: pd.Series, place: str) -> set[str]:
    """Return the labels of a cell, refusing those that were never published."""
    known = {_NO_FINDING, *OTHERS, *(label for labels in FINDINGS.values() for label in labels)}
    labels = set(text.split("|"))
    if not labels <= known:
        wrong = min(labels - known)
        line = int((cells == text).argmax()) + 2
        raise CohortError(
            f"{place}:{line}: {wrong[:60]!r} is not a label of ChestX-ray14"
            f"{nearest(wrong[:60], known)}"
        )
    return labels


def _note(rule: str, count: int) -> list[str]:
    return [f"{rule}: {count:,} records"] if count else []


def _companion(folder: Path) -> pd.DataFrame | None:
    """Return what `images_*.csv` say of some of the images, one row an image."""
    parts = []
    for file in sorted(folder.glob("images_*.csv")):
        cells = read_cells(file)
        absent = {"image_id", "patient_id", "source_size", "split"} - set(cells)
        if absent:
            raise CohortError(f"{file}: no column {min(absent)!r}; it has {', '.join(cells)}")
        parts.append(cells)
    if not parts:
        return None
    companion = pd.concat(parts)
    check_splits(companion["split"], companion["patient_id"], f"{folder}/images_*.csv")
    return companion.drop_duplicates("image_id").set_index("image_id")


def _splits(
    folder: Path, index: pd.Index, patients: np.ndarray, companion: pd.DataFrame | None
) -> tuple[np.ndarray | None, list[str]]:
    """Return each record's split: official lists, then the companion's, then a keyed hash.

    Whatever names a patient decides for all of the patient's records.
    """
    lists = {name: _listed(folder / f"{name}_list.txt") for name in ("train_val", "test")}
    official = any(names is not None for names in lists.values())
    if not official and companion is None:
        return None, []
    splits = draw_splits(patients, (0.8, 0.1, 0.1))
    told = "official lists" if official else "images_*.csv"
    drawn = np.ones(len(patients), dtype=bool)
    if official:
        splits = draw_splits(patients, (0.875, 0.125, 0.0))
    if companion is not None:
        known = companion.drop_duplicates("patient_id").set_index("patient_id")["split"]
        named = known.reindex(patients).to_numpy(dtype=object)
        drawn = pd.isna(named)
        splits = np.where(drawn, splits, named)
    if official:
        test = _patients_tested(lists, index, patients)
        # A patient whom the companion tests, and the lists train on, is drawn to neither: trained.
        splits = np.where(test, "test", np.where(splits == "test", "train", splits))
        drawn &= ~test
    notes = _note(f"splits come from {told}; drawn by a hash of the patient", drawn.sum())
    return splits, notes or [f"splits come from {told}"]


def _listed(file: Path) -> set[str] | None:
    if not file.is_file():
        return None
    try:
        return set(file.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"{file}: cannot be read: {error}") from None


def _patients_tested(
    lists: dict[str, set[str] | None], index: pd.Index, patients: np.ndarray
) -> np.ndarray:
    """Return whose patient is in the official test set, refusing one who is in both lists."""
    train, test = (
        pd.Index(patients).isin(patients[index.isin(names)]) if names is not None else None
        for names in (lists["train_val"], lists["test"])
    )
    if test is None:
        return ~train
    if train is not None and (both := train & test).any():
        raise CohortError(
            f"patient {shown(patients[both][0])} is in train_val_list.txt and in test_list.txt "
            f"({len(set(patients[both])):,} patients); a patient has one split"
        )
    return test


def _images(folder: Path, index: pd.Index, size: int | None) -> FileImages | None:
    """Find each record's file: the asked size first, then larger ones, then the originals."""
    sized = {int(p.name[7:]): p for p in folder.glob("images_*") if _is_sized(p)}
    order = [sized[side] for side in sorted(sized) if size is None or side >= size]
    order += sorted([*folder.glob("images"), *folder.glob("images_0??/images")])
    order = order[-1:] if size is None else order
    paths: dict[str, Path] = {}
    for place in reversed(order):
        paths.update((name, place / name) for name in os.listdir(place))
    found = [paths.get(record) for record in index]
    if not any(found):
        return None
    return FileImages(found, None if size is None else (size, size))


def _is_sized(path: Path) -> bool:
    return path.is_dir() and re.fullmatch(r"images_[1-9]\d*", path.name) is not None
