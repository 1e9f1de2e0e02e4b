"""VinDr-CXR: 18,000 frontal radiographs of Hanoi, read by three radiologists each.

References:
    VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations (Nguyen et al.,
    Scientific Data 2022), https://physionet.org/content/vindr-cxr/.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError, brief
from causalcxr.common.progress import progress
from causalcxr.sources.age_reader import age
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.label_maps import bundled
from causalcxr.sources.policy import UNCERTAIN, UNLISTED, P, Policy
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import sex, split_by_file

__all__ = ["LABELS", "SOURCE", "harmonise", "load", "read_headers", "recognises"]

# The last of the other labels is spelled in two ways; a file has one of them.
_SPELLED = ("Other diseases", "Other disease")
LABELS = tuple(word for word in bundled("vindr_labels").words.values() if word not in _SPELLED)
_AGE, _SEX = "PatientAge", "PatientSex"
_HEADERS = "dicom_headers.csv"
_DISAGREE = "readers disagree"
_YES = ("1", "1.0")


def _voted(frame: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Combine the rows of an image's readers into one: 1, 0 or -1 for each label."""
    images = frame["image_id"].array
    n = len(images.categories)
    readers = np.bincount(images.codes, minlength=n)
    file = np.zeros(n, dtype=np.int64)
    file[images.codes] = frame["file"].cat.codes
    columns: dict[str, pd.Categorical] = {
        "image_id": pd.Categorical(images.categories),
        "file": pd.Categorical.from_codes(file, frame["file"].cat.categories),
    }
    disagree = np.zeros(n, dtype=bool)
    for label in (*LABELS, *_SPELLED):
        if label not in frame:
            continue
        cells = frame[label].cat
        _check_votes(cells, label)
        # The last entry is for code -1: a missing cell.
        yes = np.array([text.strip() in _YES for text in cells.categories] + [False])
        votes = np.bincount(images.codes, weights=yes[cells.codes], minlength=n)
        divided = (votes > 0) & (votes < readers)
        disagree |= divided
        # Codes 0, 1 and 2 are the labels 0, 1 and -1.
        codes = {
            "any": votes > 0,
            "majority": 2 * votes > readers,
            "unanimous": np.where(divided, 2, votes == readers),
        }[policy.readers]
        columns[label] = pd.Categorical.from_codes(
            codes.astype(np.int8), pd.Index(["0", "1", "-1"], dtype=object)
        )
    columns[_DISAGREE] = pd.Categorical.from_codes(
        disagree.astype(np.int8), pd.Index(["", "yes"], dtype=object)
    )
    return pd.DataFrame(columns)


def _check_votes(cells: Any, label: str) -> None:
    """Refuse a cell that is neither 0 nor 1: a blank is not a vote against the label."""
    for code in np.unique(cells.codes[cells.codes >= 0]):
        if cells.categories[code].strip() not in (*_YES, "0", "0.0"):
            text = brief(cells.categories[code])
            raise CohortError(f"vindr: column {label!r}: {text} is not a label; allowed: 0, 1")


def _findings(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
    """Return the marks of each finding from the readers' labels."""
    label_map = bundled("vindr_labels")
    labels = [label for label in (*LABELS, *_SPELLED) if label in rows]
    # Few combinations of labels occur: each is mapped once.
    cells = np.stack([rows.texts(label) for label in labels], axis=1)
    votes = np.where(cells == "1", 1, np.where(cells == "-1", 2, 0)).astype(np.int8)
    combinations, which = np.unique(votes, axis=0, return_inverse=True)

    def marks_of(vote: int) -> dict[str, np.ndarray]:
        lists = [[labels[k] for k in np.flatnonzero(row == vote)] for row in combinations]
        # A cell of 0 says that the label is absent, so an empty list is not without information.
        return label_map.marks(lists, UNLISTED)[0]

    marks, uncertain = marks_of(1), marks_of(2)
    # Uncertain where the readers are divided, unless another label makes it present.
    for name, mark in marks.items():
        mark[(mark != P) & (uncertain[name] == P)] = UNCERTAIN
    decision = {
        "majority": "P if most readers say so",
        "any": "P if any reader says so",
        "unanimous": "uncertain",
    }[policy.readers]
    why = f"labels on which the readers disagree are {decision}"
    ledger.note("readers-disagree", why, rows.texts(_DISAGREE) == "yes")
    return {name: mark[which.reshape(-1)] for name, mark in marks.items()}


def read_headers(folder: str | Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the sex and the age in DICOM files, one row for each file, "" where missing.

    If the table is saved as `dicom_headers.csv` beside the labels, it is read in place of the
    files.

    Args:
        folder: The folder of `train/` and `test/`.
        names: The files in it; values of a file that is missing or cannot be read are missing.
    """
    folder = Path(folder)
    safe = [".." not in name and (folder / name).is_file() for name in names]
    with ThreadPoolExecutor() as pool:
        files = [folder / name if there else None for name, there in zip(names, safe, strict=True)]
        attributes = list(
            progress(pool.map(_attributes, files), "Reading", "headers", total=len(files))
        )
    table = pd.DataFrame(attributes, columns=[_SEX, _AGE], dtype=object)
    table.insert(0, "image_id", [Path(name).stem for name in names])
    return table


def _header(column: str) -> Callable[[Rows], np.ndarray | None]:
    """Return a function that reads an attribute of the DICOM files, if they exist."""

    def read(rows: Rows) -> np.ndarray | None:
        folder = rows.path.parent
        root = folder.parent if folder.name == "annotations" else folder
        has_files = any((root / part).is_dir() for part in ("train", "test"))
        if not has_files or any((at / _HEADERS).is_file() for at in (root, folder)):
            return None
        return read_headers(root, _image(rows))[column].to_numpy(object)

    return read


def _attributes(file: Path | None) -> tuple[str, str]:
    if file is None:
        return "", ""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=[_SEX, _AGE])
        return tuple(str(header.get(name, "") or "") for name in (_SEX, _AGE))
    except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError, EOFError):
        return "", ""  # the fault is reported when the image itself is decoded


def _image(rows: Rows) -> np.ndarray:
    _, names = rows.distinct("file")
    part = ["test/" if "test" in name else "train/" for name in names]
    return rows.map_texts("file", np.array(part, object), "") + rows.texts("image_id") + ".dicom"


def _frontal(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(len(rows), np.int8), pd.Index(["PA"], dtype=object))


SOURCE = Source(
    name="vindr",
    dataset="VinDr-CXR",
    cite="Nguyen et al., Scientific Data 9 (2022) 429; https://physionet.org/content/vindr-cxr/",
    tables=(
        Table(
            (
                "image_labels_train.csv",
                "image_labels_test.csv",
                "annotations/image_labels_train.csv",
                "annotations/image_labels_test.csv",
            ),
            ("image_id", *LABELS),
            ("rad_id", *_SPELLED),
            every_file=True,
            reduce=_voted,
        ),
        Table(
            (_HEADERS, f"annotations/{_HEADERS}"),
            ("image_id", _SEX, _AGE),
            key="image_id",
            required=False,
        ),
    ),
    record="image_id",
    patient="image_id",
    variables={"View": _frontal, "Sex": sex(_SEX), "Age": age(_AGE)},
    findings=_findings,
    split=split_by_file({"train": "train", "test": "test"}),
    images=ImageFiles(_image, suffixes=(".dcm", ".png", ".jpg")),
    derived={_SEX: _header(_SEX), _AGE: _header(_AGE)},
    facts=(
        ("patient-unknown", "patients are not published: each radiograph counts as one patient"),
        ("view-published", "view is PA: the authors publish only postero-anterior radiographs"),
    ),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
