"""CheXpert as Stanford published it first: `train.csv` and `valid.csv`, with demographics beside.

References:
    CheXpert: a large chest radiograph dataset with uncertainty labels and expert comparison (Irvin
    et al., AAAI 2019), https://stanfordmlgroup.github.io/competitions/chexpert/.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS, Policy
from causalcxr.sources.races import one_race, race
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import age, by_file, marked, sex

__all__ = ["SOURCE", "frontal_and_projection", "harmonise", "load", "recognises", "study_folder"]

_ORDER = pd.Index(("AP", "PA", "LATERAL"), dtype=object)


def frontal_and_projection(
    frontal: str, projection: str
) -> Callable[[Rows, Policy, Ledger], pd.Categorical]:
    """Read the view from two columns that can contradict each other.

    Args:
        frontal: The column of Frontal or Lateral.
        projection: That of AP, PA, LL (left lateral) or blank.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
        first = pd.Series(rows.texts(frontal)).str.strip().str.upper().to_numpy(object)
        second = pd.Series(rows.texts(projection)).str.strip().str.upper().to_numpy(object)
        lateral, side = first == "LATERAL", np.isin(second, ("LL", "RL", "LATERAL"))
        frontally = first == "FRONTAL"
        against = (frontally & side) | (lateral & np.isin(second, ("AP", "PA")))
        codes = np.full(len(rows), -1, dtype=np.int8)
        codes[frontally & (second == "AP")] = 0
        codes[frontally & (second == "PA")] = 1
        codes[lateral & ~against] = 2
        why = f"view where {frontal} and {projection} contradict each other is missing"
        ledger.note("view-contradiction", why, against)
        ledger.note(
            "view-other", "view other than AP, PA, LATERAL is missing", (codes < 0) & ~against
        )
        return pd.Categorical.from_codes(codes, _ORDER)

    return read


def study_folder(column: str) -> Callable[[Rows], np.ndarray]:
    """Return how the study of a record is read off the folder of its image."""
    return lambda rows: pd.Series(rows.texts(column)).str.rpartition("/")[0].to_numpy(object)


def _patient(rows: Rows) -> np.ndarray:
    found = pd.Series(rows.texts("Path")).str.extract(r"(patient\d+)/", expand=False)
    return found.fillna("").to_numpy(object)


def _image(rows: Rows) -> np.ndarray:
    paths = pd.Series(rows.texts("Path"))
    return paths.str.replace(r"^CheXpert-v1\.0[^/]*/", "", regex=True).to_numpy(object)


SOURCE = Source(
    name="chexpert",
    # The same radiographs as CheXpert-Plus, under the one name that the graph has for them.
    dataset="CheXpert-Plus",
    cite="Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031",
    tables=(
        Table(
            ("train.csv", "valid.csv"),
            ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS),
            each=True,
        ),
        Table(
            ("*DEMO*.csv", "*demo*.csv"),
            ("PATIENT",),
            ("PRIMARY_RACE", "ETHNICITY"),
            key="PATIENT",
            needed=False,
            reduce=one_race("PATIENT", ("PRIMARY_RACE",), "chexpert_races"),
        ),
    ),
    record="Path",
    patient="PATIENT",
    variables={
        "View": frontal_and_projection("Frontal/Lateral", "AP/PA"),
        "Sex": sex("Sex"),
        # Nobody in it is younger than 18, and 90 stands for everybody of 90 and more.
        "Age": age("Age", adults=True, open_from=90),
        "Race": race,
    },
    findings=marked(study=study_folder("Path")),
    split=by_file({"train": "train", "valid": "val"}),
    images=ImageFiles(_image, suffixes=(".png",)),
    derived={"PATIENT": _patient},
    facts=(("dataset-name", "Dataset is CheXpert-Plus: the same radiographs, labelled anew"),),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
