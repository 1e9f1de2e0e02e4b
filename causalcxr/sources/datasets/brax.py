"""BRAX: 41,000 radiographs of a Brazilian hospital with CheXpert's labels.

References:
    BRAX, Brazilian labeled chest x-ray dataset (Reis et al., Scientific Data 2022),
    https://physionet.org/content/brax/.
"""

import numpy as np

from causalcxr.sources.age_reader import age
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import sex, view

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

_VIEWS = {"AP": "AP", "PA": "PA"} | dict.fromkeys(("L", "LL", "RL", "LATERAL"), "LATERAL")


def _study(rows: Rows) -> np.ndarray:
    if "AccessionNumber" not in rows:
        return np.full(len(rows), "", dtype=object)
    return rows.texts("AccessionNumber")


SOURCE = Source(
    name="brax",
    dataset="BRAX",
    cite="Reis et al., Scientific Data 9 (2022) 487; https://physionet.org/content/brax/",
    tables=(
        Table(
            ("master_spreadsheet_update.csv", "master_spreadsheet.csv"),
            (
                "DicomPath",
                "PngPath",
                "PatientID",
                "PatientSex",
                "PatientAge",
                "ViewPosition",
                *FINDINGS,
            ),
            ("AccessionNumber", "Manufacturer"),
        ),
    ),
    record="PngPath",
    patient="PatientID",
    variables={
        "View": view("ViewPosition", _VIEWS),
        "Sex": sex("PatientSex"),
        # Ages are bins of five years, written as their lower ends.
        "Age": age("PatientAge", bins=5),
    },
    findings=finding_columns(study=_study),
    images=ImageFiles("PngPath", alternative="DicomPath"),
    ids={"AccessionNumber": "study", "Manufacturer": "manufacturer"},
    facts=(("dates-fictitious", "dates are fictitious and not used"),),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
