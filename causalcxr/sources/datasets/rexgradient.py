"""ReXGradient-160K: radiographs of 79 sites with reports; labels come from a file or from rules.

References:
    ReXGradient-160K: a large-scale publicly available dataset of chest radiographs with free-text
    reports (Zhang et al., 2025), arXiv:2505.00228.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError
from causalcxr.sources.age_reader import age
from causalcxr.sources.csv_reader import read_columns
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.json_reader import as_texts, read_json, require_fields
from causalcxr.sources.policy import FINDINGS, Policy
from causalcxr.sources.report_labels import label_reports
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import sex, split_by_file, view

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
    """Return one row for each image of a file that has one object for each study."""
    studies = read_json(path)
    names = list(studies) if isinstance(studies, dict) else []
    studies = list(studies.values()) if isinstance(studies, dict) else studies
    if not isinstance(studies, list) or not studies or set(map(type, studies)) != {dict}:
        raise CohortError(f"{path}: not one object per study; download the file again")
    table = pd.DataFrame.from_records(studies)
    # The key of an object, if there is one, names its study.
    table["study"] = names or table.get("StudyInstanceUid")
    if "PatientID" not in table:  # the study's name begins with that of the patient
        table["PatientID"] = table["study"].astype(str).str.split("_").str[0]
    require_fields(path, table, (*_LISTS, *_FIELDS[:2]))
    lengths = [table[name].str.len() for name in _LISTS]
    if not lengths[0].equals(lengths[1]):
        study = table["study"][(lengths[0] != lengths[1]).to_numpy().argmax()]
        raise CohortError(f"{path}: study {study!r}: not one view per image; download it again")
    table = table[(lengths[0] > 0).to_numpy()]  # a study without images has no rows
    kept = ["study", "PatientID", *(name for name in _FIELDS if name in table), *_LISTS]
    table = table[kept].explode(_LISTS, ignore_index=True)
    return pd.DataFrame({name: as_texts(table[name]) for name in table})


def _path(rows: Rows) -> np.ndarray:
    """Return the path of each image under the folder; published paths begin with `../`."""
    paths = pd.Series(rows.texts("ImagePath"))
    return paths.str.removeprefix("../").to_numpy(object)


def _findings(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
    """Return the labels that the policy names: none, those of a file, or those of reports."""
    if not policy.labels:
        ledger.fact("labels-none", "the source has no labels; decide labels: reports, or a file")
        return {}
    if policy.labels == "reports":
        parts = [name for name in ("Impression", "Findings") if name in rows]
        # A section that reads "nan" is missing; it is not a report without findings.
        texts = [np.where(rows.blank(name), "", rows.texts(name)) for name in parts]
        ledger.fact(
            "labels-rules", "labels are extracted from the reports by rules, which make errors"
        )
        return label_reports(texts)
    file = Path(policy.labels)
    file = file if file.is_absolute() else rows.path.parent / file
    labels = read_columns(file, FINDINGS, ("study", "id", "ImagePath"))
    key = next((name for name in ("ImagePath", "study", "id") if name in labels), None)
    if key is None:
        raise CohortError(f"{file}: no column 'study' or 'ImagePath'; the labels need one as key")
    labels = labels.rename(columns={"id": "study"})
    joined = rows.joined(Rows(labels, [file], [0]), "study" if key == "id" else key)
    ledger.fact("labels-file", f"labels are those of {file.name}")
    return finding_columns()(joined, policy, ledger)


SOURCE = Source(
    name="rexgradient",
    dataset="ReXGradient",
    cite="Zhang et al., ReXGradient-160K, arXiv:2505.00228",
    tables=(
        Table(
            _FILES,
            ("study", "PatientID", "PatientSex", "PatientAge", "ImagePath", "ImageViewPosition"),
            every_file=True,
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
    split=split_by_file({"train_": "train", "valid_": "val", "test_": "test"}),
    images=ImageFiles("path", (".", "..", "images")),
    derived={"path": _path},
    ids={"study": "study"},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
