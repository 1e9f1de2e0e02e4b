"""CheXpert-Plus: the radiographs of CheXpert with their reports, demographics and newer labels.

References:
    CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology Reports, Patient
    Demographics and Additional Image Formats (Chambon et al., 2024), arXiv:2405.19538.
"""

from pathlib import Path

import pandas as pd

from causalcxr.sources.age_reader import age
from causalcxr.sources.datasets.chexpert import frontal_and_projection, study_folder
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.json_reader import as_texts, read_json_lines, require_fields
from causalcxr.sources.policy import FINDINGS
from causalcxr.sources.races import race_by_row
from causalcxr.sources.source import Source, Table
from causalcxr.sources.variable_readers import sex, split

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

_COLUMNS = ("path_to_image", *FINDINGS)
_CAUTION = (
    "labels of the findings section: it is often empty, and an empty one is labelled No Finding "
    "(75.7 % against 8.4 % of the impressions)"
)


def _read_labels(path: Path) -> pd.DataFrame:
    table = pd.DataFrame.from_records(read_json_lines(path))
    require_fields(path, table, _COLUMNS)
    return pd.DataFrame({name: as_texts(table[name]) for name in _COLUMNS})


def _labels(part: str) -> Table:
    files = tuple(
        f"{place}{part}{end}"
        for place in ("", "chexbert_labels/", "labels/")
        for end in ("_fixed.json", "_fixed.jsonl", ".json", ".jsonl")
    )
    caution = _CAUTION if part == "findings" else ""
    return Table(files, _COLUMNS, key="path_to_image", read=_read_labels, caution=caution)


SOURCE = Source(
    name="chexpert_plus",
    dataset="CheXpert-Plus",
    cite="Chambon et al., CheXpert Plus, arXiv:2405.19538",
    tables=(
        Table(
            ("df_chexpert_plus_*.csv",),
            (
                "path_to_image",
                "frontal_lateral",
                "ap_pa",
                "deid_patient_id",
                "age",
                "sex",
                "race",
                "split",
            ),
            ("ethnicity", "patient_report_date_order"),
        ),
    ),
    record="path_to_image",
    patient="deid_patient_id",
    variables={
        "View": frontal_and_projection("frontal_lateral", "ap_pa"),
        "Sex": sex("sex"),
        "Age": age("age", adults=True, open_from=90),
        "Race": race_by_row("race", "chexpert_races"),
    },
    findings=finding_columns(study=study_folder("path_to_image")),
    split=split("split"),
    images=ImageFiles(
        "path_to_image", ("PNG", "PNG/PNG", "images", "."), (".png", ".jpg", ".dcm")
    ),
    ids={"ethnicity": "ethnicity"},
    extras={"patient_report_date_order": "study_order"},
    # The impression is the default, for the reason that `_CAUTION` gives.
    labels={part: _labels(part) for part in ("impression", "report", "findings")},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
