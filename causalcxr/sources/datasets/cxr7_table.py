"""The harmonised table of CXR7, as third parties hold it: 0 unknown, 1 negative, 2 positive.

References:
    De Sousa Ribeiro et al., "Scaling Generative Foundation Models for Chest Radiography with
    Rectified Flow Transformers", arXiv:2606.19460 (2026).
"""

import numpy as np

from causalcxr.sources.age_reader import age
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import BLANK, FINDINGS, N, P
from causalcxr.sources.races import RACES
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import categories, sex, split, view

__all__ = ["DATASETS", "SOURCE", "harmonise", "load", "recognises"]

DATASETS = (
    "MIMIC-CXR", "ReXGradient", "CheXpert-Plus", "PadChest", "ChestX-ray14", "BRAX", "VinDr-CXR",
)  # fmt: skip


def _patient(rows: Rows) -> np.ndarray:
    """Return the patients' ids with their data sets, as the numbers alone are not unique."""
    named = rows.texts("Dataset_name") + "/" + rows.texts("PatientID")
    return np.where(rows.blank("PatientID"), "", named)


SOURCE = Source(
    name="cxr7_table",
    dataset="",  # a column of the table
    cite="De Sousa Ribeiro et al., arXiv:2606.19460",
    tables=(
        Table(
            ("*.csv", "*.csv.gz"),
            (
                "Dataset_name",
                "View_name",
                "Sex_name",
                "Race_name",
                "Age",
                "PatientID",
                "Split",
                "ImagePath",
                *FINDINGS,
            ),
        ),
    ),
    record="ImagePath",
    patient="patient",
    variables={
        "Dataset": categories(
            "Dataset_name", {name: name for name in DATASETS}, "data set", "dataset-other"
        ),
        "View": view("View_name", {"AP": "AP", "PA": "PA", "LATERAL": "LATERAL"}),
        "Sex": sex("Sex_name"),
        "Age": age("Age"),
        "Race": categories("Race_name", {name: name for name in RACES}, "race", "race-other"),
    },
    findings=finding_columns(codes={"0": BLANK, "1": N, "2": P}),
    split=split("Split"),
    images=ImageFiles("ImagePath", (".", "images")),
    derived={"patient": _patient},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
