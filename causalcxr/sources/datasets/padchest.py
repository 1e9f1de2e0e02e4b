"""PadChest: 160,000 radiographs of San Juan Hospital, Alicante, with lists of labels.

References:
    PadChest: a large chest x-ray image dataset with multi-label annotated reports (Bustos et al.,
    Medical Image Analysis 2020), https://bimcv.cipf.es/bimcv-projects/padchest/.
"""

import re

import numpy as np
import pandas as pd

from causalcxr.sources.age_reader import plausible_ages
from causalcxr.sources.finding_readers import finding_list
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import Policy
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import EMPTY, Rows
from causalcxr.sources.variable_readers import sex, view

__all__ = ["SOURCE", "harmonise", "load", "recognises", "words_of"]

_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "LATERAL"}
_READ_VIEW = view("Projection", _VIEWS)
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
# In a Python list as text, line ends and unusual spaces are written as escapes: \n, \xa0, \u200b.
_SPACE = re.compile(r"\\+(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[nrtfv])")


def words_of(text: str) -> list[str]:
    r"""Return the labels of a cell: a Python list as text, with stray spaces and locations.

    Example:
        >>> words_of("['pleural effusion', ' cardiomegaly ', 'loc right', '']")
        ['pleural effusion', 'cardiomegaly']
        >>> words_of(r"['pleural effusion\n', 'pulmonary\xa0mass']")
        ['pleural effusion', 'pulmonary mass']
    """
    quoted = [single or double for single, double in _QUOTED.findall(text)]
    if _QUOTED.sub("", text).strip("[], \n"):  # some words have no quotes
        quoted = [word.strip(" '\"[]\n") for word in text.split(",")]
    words = [" ".join(_SPACE.sub(" ", word).split()) for word in quoted]
    return [word for word in words if word not in EMPTY and not word.lower().startswith("loc ")]


def _age(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
    """Return the year of the study minus the year of birth; birthdays are not published."""
    years = np.floor(rows.numbers("StudyDate_DICOM") / 1e4)
    ages = years - rows.numbers("PatientBirth")
    ledger.note("age-unread", "ages that cannot be computed are missing", np.isnan(ages))
    return plausible_ages(ages, ledger)


def _view(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
    """Return the projection; the policy decides about those that a network guessed."""
    values = _READ_VIEW(rows, policy, ledger)
    if "MethodProjection" not in rows:
        return values
    _, texts = rows.distinct("MethodProjection")
    # A projection without a method counts as determined by hand.
    by_hand = [text.strip() in EMPTY or "manual" in text.lower() for text in texts]
    guessed = ~rows.map_texts("MethodProjection", np.array(by_hand, dtype=bool), True)
    guessed &= values.codes >= 0
    keep = policy.views_guessed == "keep"
    why = "view that a network guessed is " + ("kept" if keep else "missing")
    ledger.note("view-guessed", why, guessed, "noted" if keep else "changed")
    codes = values.codes if keep else np.where(guessed, -1, values.codes)
    return pd.Categorical.from_codes(codes, values.categories)


def _image(rows: Rows) -> np.ndarray:
    _, texts = rows.distinct("ImageDir")
    folders = np.array([text.removesuffix(".0") for text in texts], dtype=object)
    return rows.map_texts("ImageDir", folders, "") + "/" + rows.texts("ImageID")


SOURCE = Source(
    name="padchest",
    dataset="PadChest",
    cite="Bustos et al., Medical Image Analysis 66 (2020) 101797, arXiv:1901.07441",
    tables=(
        Table(
            (
                "PADCHEST_chest_x_ray_images_labels_160K*.csv",
                "PADCHEST_chest_x_ray_images_labels_160K*.csv.gz",
            ),
            (
                "ImageID",
                "ImageDir",
                "PatientID",
                "PatientBirth",
                "PatientSex_DICOM",
                "StudyDate_DICOM",
                "Projection",
                "Labels",
            ),
            ("StudyID", "MethodProjection", "MethodLabel", "Pediatric"),
        ),
    ),
    record="ImageID",
    patient="PatientID",
    variables={"View": _view, "Sex": sex("PatientSex_DICOM"), "Age": _age},
    findings=finding_list("Labels", words_of, "padchest_labels"),
    images=ImageFiles(_image, (".", "images", "image_zips"), alternative="ImageID"),
    ids={"StudyID": "study", "MethodLabel": "label_method", "Pediatric": "pediatric"},
    facts=(
        (
            "age-by-year",
            "age is the year of the study minus that of birth: up to one year too high",
        ),
    ),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
