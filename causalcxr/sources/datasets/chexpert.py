"""CheXpert as Stanford published it first: `train.csv` and `valid.csv`, with demographics beside.

References:
    CheXpert: a large chest radiograph dataset with uncertainty labels and expert comparison (Irvin
    et al., AAAI 2019), https://stanfordmlgroup.github.io/competitions/chexpert/.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from causalcxr.sources.age_reader import age
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS, Policy
from causalcxr.sources.races import race, race_per_patient
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import VIEWS, sex, split_by_file

__all__ = ["SOURCE", "frontal_and_projection", "harmonise", "load", "recognises", "study_folder"]


def frontal_and_projection(
    frontal: str, projection: str
) -> Callable[[Rows, Policy, Ledger], pd.Categorical]:
    """Read the view from two columns that can contradict each other.

    Args:
        frontal: The column with Frontal or Lateral.
        projection: The column with AP, PA, LL (left lateral) or blank.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
        first = pd.Series(rows.texts(frontal)).str.strip().str.upper().to_numpy(object)
        second = pd.Series(rows.texts(projection)).str.strip().str.upper().to_numpy(object)
        is_frontal, is_lateral = first == "FRONTAL", first == "LATERAL"
        # A frontal image with a lateral projection, or the reverse.
        contradiction = (is_frontal & np.isin(second, ("LL", "RL", "LATERAL"))) | (
            is_lateral & np.isin(second, ("AP", "PA"))
        )
        codes = np.full(len(rows), -1, dtype=np.int8)
        codes[is_frontal & (second == "AP")] = VIEWS.index("AP")
        codes[is_frontal & (second == "PA")] = VIEWS.index("PA")
        codes[is_lateral & ~contradiction] = VIEWS.index("LATERAL")
        why = f"view where {frontal} and {projection} contradict each other is missing"
        ledger.note("view-contradiction", why, contradiction)
        other = (codes < 0) & ~contradiction
        ledger.note("view-other", "view other than AP, PA, LATERAL is missing", other)
        return pd.Categorical.from_codes(codes, pd.Index(VIEWS, dtype=object))

    return read


def study_folder(column: str) -> Callable[[Rows], np.ndarray]:
    """Return a function that gives the study of each record: the folder of its image."""
    return lambda rows: pd.Series(rows.texts(column)).str.rpartition("/")[0].to_numpy(object)


def _patient(rows: Rows) -> np.ndarray:
    patients = pd.Series(rows.texts("Path")).str.extract(r"(patient\d+)/", expand=False)
    return patients.fillna("").to_numpy(object)


def _image(rows: Rows) -> np.ndarray:
    paths = pd.Series(rows.texts("Path"))
    return paths.str.replace(r"^CheXpert-v1\.0[^/]*/", "", regex=True).to_numpy(object)


SOURCE = Source(
    name="chexpert",
    # The radiographs of CheXpert-Plus, which the graph knows under one name.
    dataset="CheXpert-Plus",
    cite="Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031",
    tables=(
        Table(
            ("train.csv", "valid.csv"),
            ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS),
            every_file=True,
        ),
        Table(
            ("*DEMO*.csv", "*demo*.csv"),
            ("PATIENT",),
            ("PRIMARY_RACE", "ETHNICITY"),
            key="PATIENT",
            required=False,
            reduce=race_per_patient("PATIENT", ("PRIMARY_RACE",), "chexpert_races"),
        ),
    ),
    record="Path",
    patient="PATIENT",
    variables={
        "View": frontal_and_projection("Frontal/Lateral", "AP/PA"),
        "Sex": sex("Sex"),
        # All patients are adults, and 90 means 90 or more.
        "Age": age("Age", adults=True, open_from=90),
        "Race": race,
    },
    findings=finding_columns(study=study_folder("Path")),
    split=split_by_file({"train": "train", "valid": "val"}),
    images=ImageFiles(_image, suffixes=(".png",)),
    derived={"PATIENT": _patient},
    facts=(
        (
            "dataset-name",
            "Dataset is CheXpert-Plus, which has the same radiographs with newer labels",
        ),
    ),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
