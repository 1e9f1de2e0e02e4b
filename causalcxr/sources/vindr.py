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
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.label_maps import bundled
from causalcxr.sources.policy import UNCERTAIN, UNLISTED, P, Policy
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import age, by_file, sex

__all__ = ["LABELS", "SOURCE", "harmonise", "load", "read_headers", "recognises"]

# The last of the other labels is spelled in two ways; a file has one of them.
_SPELLED = ("Other diseases", "Other disease")
LABELS = tuple(word for word in bundled("vindr_labels").words.values() if word not in _SPELLED)
_AGE, _SEX = "PatientAge", "PatientSex"
_HEADERS = "dicom_headers.csv"
_DISAGREE = "readers disagree"
_YES = ("1", "1.0")


def _voted(frame: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Return one row an image: what its readers say together of each label, 1, 0 or -1."""
    images = frame["image_id"].array
    n = len(images.categories)
    readers = np.bincount(images.codes, minlength=n)
    columns: dict[str, pd.Categorical] = {"image_id": pd.Categorical(images.categories)}
    for name in ("file",):
        code = np.zeros(n, dtype=np.int64)
        code[images.codes] = frame[name].cat.codes
        columns[name] = pd.Categorical.from_codes(code, frame[name].cat.categories)
    disagree = np.zeros(n, dtype=bool)
    for label in (*LABELS, *_SPELLED):
        if label not in frame:
            continue
        seen = frame[label].cat
        yes = np.array([text.strip() in _YES for text in seen.categories] + [False])
        _check_votes(seen, label)
        votes = np.bincount(images.codes, weights=yes[seen.codes], minlength=n)
        split = (votes > 0) & (votes < readers)
        disagree |= split
        said = {"any": votes > 0, "majority": 2 * votes > readers}.get(
            policy.readers, votes == readers
        )
        codes = np.where(split, 2, said) if policy.readers == "unanimous" else said
        columns[label] = pd.Categorical.from_codes(
            codes.astype(np.int8), pd.Index(["0", "1", "-1"], dtype=object)
        )
    columns[_DISAGREE] = pd.Categorical.from_codes(
        disagree.astype(np.int8), pd.Index(["", "yes"], dtype=object)
    )
    return pd.DataFrame(columns)


def _check_votes(seen: Any, label: str) -> None:
    """Refuse a cell that is neither 0 nor 1: a blank is no vote against."""
    for code in np.unique(seen.codes[seen.codes >= 0]):
        if seen.categories[code].strip() not in (*_YES, "0", "0.0"):
            text = brief(seen.categories[code])
            raise CohortError(f"vindr: column {label!r}: {text} is no label; allowed: 0, 1")


def _findings(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
    """Return what the readers say of each finding, through the map of their labels."""
    known = bundled("vindr_labels")
    held = [label for label in (*LABELS, *_SPELLED) if label in rows]
    # Few combinations of labels occur, so each is looked at once.
    said = np.stack([rows.texts(label) for label in held], axis=1)
    said = np.where(said == "1", 1, np.where(said == "-1", 2, 0)).astype(np.int8)
    kinds, which = np.unique(said, axis=0, return_inverse=True)
    # A cell of 0 says that the label is not on the reader's list, so an empty list is no silence.
    marks, maybe = (
        known.marks([[held[k] for k in np.flatnonzero(kind == code)] for kind in kinds], UNLISTED)[
            0
        ]
        for code in (1, 2)
    )
    for name, mark in marks.items():
        mark[(mark != P) & (maybe[name] == P)] = UNCERTAIN
    why = {"majority": "P where most of them say so", "any": "P where one of them says so",
           "unanimous": "uncertain"}[policy.readers]  # fmt: skip
    ledger.note(
        "readers-disagree", f"labels on which the readers disagree are {why}",
        rows.texts(_DISAGREE) == "yes",
    )  # fmt: skip
    return {name: mark[which.reshape(-1)] for name, mark in marks.items()}


def read_headers(folder: str | Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the sex and the age that DICOM files tell, one row a file, "" where they do not.

    Saved as `dicom_headers.csv` beside the labels, the table is read instead of the files.

    Args:
        folder: The folder of `train/` and `test/`.
        names: The files in it; one that is not there, or cannot be read, tells nothing.
    """
    folder = Path(folder)
    safe = [".." not in name and (folder / name).is_file() for name in names]
    with ThreadPoolExecutor() as pool:
        files = [folder / name if there else None for name, there in zip(names, safe, strict=True)]
        found = list(
            progress(pool.map(_attributes, files), "Reading", "headers", total=len(files))
        )
    table = pd.DataFrame(found, columns=[_SEX, _AGE], dtype=object)
    table.insert(0, "image_id", [Path(name).stem for name in names])
    return table


def _header(column: str) -> Callable[[Rows], np.ndarray | None]:
    """Return how an attribute of the DICOM files becomes a column, if they are there."""

    def read(rows: Rows) -> np.ndarray | None:
        folder = rows.path.parent
        root = folder.parent if folder.name == "annotations" else folder
        there = any((root / part).is_dir() for part in ("train", "test"))
        if not there or any((at / _HEADERS).is_file() for at in (root, folder)):
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
        return "", ""  # the image itself is judged, with its reason, where it is decoded


def _image(rows: Rows) -> np.ndarray:
    _, names = rows.distinct("file")
    part = ["test/" if "test" in name else "train/" for name in names]
    return rows.looked_up("file", np.array(part, object), "") + rows.texts("image_id") + ".dicom"


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
            each=True,
            reduce=_voted,
        ),
        Table(
            (_HEADERS, f"annotations/{_HEADERS}"),
            ("image_id", _SEX, _AGE),
            key="image_id",
            needed=False,
        ),
    ),
    record="image_id",
    patient="image_id",
    variables={"View": _frontal, "Sex": sex(_SEX), "Age": age(_AGE)},
    findings=_findings,
    split=by_file({"train": "train", "test": "test"}),
    images=ImageFiles(_image, suffixes=(".dcm", ".png", ".jpg")),
    derived={_SEX: _header(_SEX), _AGE: _header(_AGE)},
    facts=(
        ("patient-unknown", "patients are not told: each radiograph is a patient of its own"),
        ("view-published", "view is PA: the authors publish postero-anterior radiographs alone"),
    ),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
