"""ReXGradient-160K: radiographs with reports of 79 sites; labels are given, or read off them.

References:
    ReXGradient-160K: a large-scale publicly available dataset of chest radiographs with free-text
    reports (Zhang et al., 2025), arXiv:2505.00228.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError
from causalcxr.sources.csv_reader import as_texts, read_columns, read_json
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS, Policy
from causalcxr.sources.report_labels import label_reports
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import age, by_file, marked, sex, view

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

_VIEWS = {
    "PA": "PA", "POSTERO_ANTERIOR": "PA", "AP": "AP", "ANTERO_POSTERIOR": "AP", "AP AXIAL": "AP",
} | dict.fromkeys(("LATERAL", "LL", "RL", "LEFT LATERAL", "L"), "LATERAL")  # fmt: skip
_FIELDS = ("PatientSex", "PatientAge", "Findings", "Impression")
_LISTS = ["ImagePath", "ImageViewPosition"]
_FILES = tuple(
    f"{place}{part}_metadata_view_position.json"
    for place in ("", "metadata/")
    for part in ("train", "valid", "test")
)


def _read_studies(path: Path) -> pd.DataFrame:
    """Return one row an image of a file that has one object a study."""
    studies = read_json(path)
    named = list(studies) if isinstance(studies, dict) else []
    studies = list(studies.values()) if isinstance(studies, dict) else studies
    if not isinstance(studies, list) or not studies or set(map(type, studies)) != {dict}:
        raise CohortError(f"{path}: not one object a study; download the file again")
    table = pd.DataFrame.from_records(studies)
    table["study"] = named or table.get("StudyInstanceUid")
    if "PatientID" not in table:  # the study's name begins with that of the patient
        table["PatientID"] = table["study"].astype(str).str.split("_").str[0]
    for name in (*_LISTS, *_FIELDS[:2]):
        if name not in table:
            raise CohortError(
                f"{path}: no field {name!r}; it has {', '.join(map(str, table))[:200]}"
            )
    lengths = [table[name].str.len() for name in _LISTS]
    if not lengths[0].equals(lengths[1]):
        study = table["study"][(lengths[0] != lengths[1]).to_numpy().argmax()]
        raise CohortError(f"{path}: study {study!r}: not one view an image; download it again")
    table = table[(lengths[0] > 0).to_numpy()]  # a study without images has no rows
    kept = ["study", "PatientID", *(name for name in _FIELDS if name in table), *_LISTS]
    table = table[kept].explode(_LISTS, ignore_index=True)
    return pd.DataFrame({name: as_texts(table[name]) for name in table})


def _path(rows: Rows) -> np.ndarray:
    """Return where an image lies under the folder; as published, paths begin with `../`."""
    paths = pd.Series(rows.texts("ImagePath"))
    return paths.str.removeprefix("../").to_numpy(object)


def _findings(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
    """Return the labels that the policy names: none, those of a file, or the reports' own."""
    if not policy.labels:
        ledger.fact("labels-none", "the source has no labels; decide labels: reports, or a file")
        return {}
    if policy.labels == "reports":
        parts = [name for name in ("Impression", "Findings") if name in rows]
        # A section that reads "nan" says nothing, and is no report without findings.
        texts = [np.where(rows.blank(name), "", rows.texts(name)) for name in parts]
        ledger.fact("labels-rules", "labels are read off the reports by rules; they are fallible")
        return label_reports(texts)
    file = Path(policy.labels)
    file = file if file.is_absolute() else rows.path.parent / file
    there = read_columns(file, FINDINGS, ("study", "id", "ImagePath"))
    key = next((name for name in ("ImagePath", "study", "id") if name in there), None)
    if key is None:
        raise CohortError(f"{file}: no column 'study' or 'ImagePath', so nobody's labels")
    theirs = there.rename(columns={"id": "study"})
    joined = rows.beside(Rows(theirs, [file], [0]), "study" if key == "id" else key)
    ledger.fact("labels-file", f"labels are those of {file.name}")
    return marked()(joined, policy, ledger)


def _image(root: str = "") -> Callable[[Rows], np.ndarray]:
    return lambda rows: root + rows.texts("path")


SOURCE = Source(
    name="rexgradient",
    dataset="ReXGradient",
    cite="Zhang et al., ReXGradient-160K, arXiv:2505.00228",
    tables=(
        Table(
            _FILES,
            ("study", "PatientID", "PatientSex", "PatientAge", "ImagePath", "ImageViewPosition"),
            each=True,
            read=_read_studies,
        ),
    ),
    record="path",
    patient="PatientID",
    variables={
        "View": view("ImageViewPosition", _VIEWS),
        "Sex": sex("PatientSex"),
        "Age": age("PatientAge"),
    },
    findings=_findings,
    split=by_file({"train_": "train", "valid_": "val", "test_": "test"}),
    images=ImageFiles(_image(), (".", "..", "images")),
    derived={"path": _path},
    ids={"study": "study"},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
