"""CheXpert-Plus: the radiographs of CheXpert with their reports, demographics and newer labels.

References:
    CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology Reports, Patient
    Demographics and Additional Image Formats (Chambon et al., 2024), arXiv:2405.19538.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError
from causalcxr.sources.chexpert import frontal_and_projection, study_folder
from causalcxr.sources.csv_reader import as_texts, read_json_lines
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS
from causalcxr.sources.races import race_in
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import age, marked, sex, split

__all__ = ["SOURCE", "harmonise", "load", "recognises"]


_CAUTION = (
    "labels of the findings section: it is often empty, and an empty one is labelled No Finding "
    "(75.7 % against 8.4 % of the impressions)"
)


def _read_labels(path: Path) -> pd.DataFrame:
    table = pd.DataFrame.from_records(read_json_lines(path))
    for name in ("path_to_image", *FINDINGS):
        if name not in table:
            raise CohortError(
                f"{path}: no field {name!r}; it has {', '.join(map(str, table))[:200]}"
            )
    return pd.DataFrame({name: as_texts(table[name]) for name in ("path_to_image", *FINDINGS)})


def _labels(part: str) -> Table:
    files = tuple(
        f"{place}{part}{end}"
        for place in ("", "chexbert_labels/", "labels/")
        for end in ("_fixed.json", "_fixed.jsonl", ".json", ".jsonl")
    )
    columns = ("path_to_image", *FINDINGS)
    caution = _CAUTION if part == "findings" else ""
    return Table(files, columns, key="path_to_image", read=_read_labels, caution=caution)


def _image(rows: Rows) -> np.ndarray:
    return rows.texts("path_to_image")


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
        "Race": race_in("race", "chexpert_races"),
    },
    findings=marked(study=study_folder("path_to_image")),
    split=split("split"),
    images=ImageFiles(_image, ("PNG", "PNG/PNG", "images", "."), (".png", ".jpg", ".dcm")),
    ids={"ethnicity": "ethnicity"},
    extras={"patient_report_date_order": "study_order"},
    # The impression first: the findings section is often empty, and an empty one is labelled No
    # Finding (75.7 % against 8.4 %).
    labels={part: _labels(part) for part in ("impression", "report", "findings")},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
