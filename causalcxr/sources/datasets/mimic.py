"""MIMIC-CXR and MIMIC-CXR-JPG, with ages, sexes and races from MIMIC-IV.

References:
    MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs (Johnson et
    al., 2019), https://physionet.org/content/mimic-cxr-jpg/.
    MIMIC-IV, https://physionet.org/content/mimiciv/.
"""

import numpy as np
import pandas as pd

from causalcxr.sources.age_reader import plausible_ages
from causalcxr.sources.finding_readers import finding_columns
from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.policy import FINDINGS, Policy
from causalcxr.sources.races import race, race_per_patient
from causalcxr.sources.source import Source, Table
from causalcxr.sources.source_rows import Rows
from causalcxr.sources.variable_readers import VIEWS, sex, split, to_categories

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

_VIEWS = {"AP": "AP", "AP AXIAL": "AP", "PA": "PA"} | dict.fromkeys(
    ("LATERAL", "LL", "RL", "XTABLE LATERAL"), "LATERAL"
)
_CODED = {
    "antero-posterior": "AP", "postero-anterior": "PA", "lateral": "LATERAL",
    "left lateral": "LATERAL", "right lateral": "LATERAL",
}  # fmt: skip
_OVER_89 = 91  # the age of all patients older than 89 in MIMIC-IV


def _age(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
    """Return the age at the study: the anchor age plus the years since the anchor year."""
    anchor = rows.numbers("anchor_age")
    years = np.floor(rows.numbers("StudyDate") / 1e4)
    ages = anchor + years - rows.numbers("anchor_year")
    ages[(years < 1900) | (years > 2300)] = np.nan
    ledger.note("age-unread", "ages that cannot be computed are missing", np.isnan(ages))
    older = (anchor >= _OVER_89) & ~np.isnan(ages)
    if policy.age_open == "missing":
        ages[older] = np.nan
    decision = "91 plus the years since" if policy.age_open == "lower" else "missing"
    ledger.note("age-open", f"ages of patients over 89 are {decision}", older)
    return plausible_ages(ages, ledger)


def _view(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
    """Return the view that the detector recorded, otherwise that of the study's code."""
    _, texts = rows.distinct("ViewPosition")
    written = to_categories(
        rows, "ViewPosition", [_VIEWS.get(text.strip().upper()) for text in texts], VIEWS
    )
    blank = rows.blank("ViewPosition")
    codes = written.codes.copy()
    # The code of the study fills in only what the detector left blank.
    if "ViewCodeSequence_CodeMeaning" in rows:
        column = "ViewCodeSequence_CodeMeaning"
        meanings = [_CODED.get(text.strip().lower()) for text in rows.distinct(column)[1]]
        coded = to_categories(rows, column, meanings, VIEWS).codes
        guessed = blank & (coded >= 0)
        keep = policy.views_guessed == "keep"
        why = "view where the detector recorded none is "
        ledger.note("view-guessed", why + ("that of its code" if keep else "missing"), guessed)
        if keep:
            codes[guessed] = coded[guessed]
    ledger.note("view-other", "view other than AP, PA, LATERAL is missing", codes < 0)
    return pd.Categorical.from_codes(codes, pd.Index(VIEWS, dtype=object))


def _image(rows: Rows) -> np.ndarray:
    subject, study = rows.texts("subject_id"), rows.texts("study_id")
    _, subjects = rows.distinct("subject_id")
    group = rows.map_texts("subject_id", np.array([text[:2] for text in subjects], object), "")
    folder = "files/p" + group + "/p" + subject + "/s" + study + "/"
    return folder + rows.texts("dicom_id") + ".jpg"


def _named(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in names for end in (".csv", ".csv.gz"))


def _hospital(name: str) -> tuple[str, ...]:
    """Return the possible places of a table of MIMIC-IV: here, or in its own folders."""
    places = ("", "hosp/", "core/", "mimic*/hosp/", "mimic*/core/", "../mimic*/hosp/")
    return _named(*(f"{place}{name}" for place in places))


def _labels(name: str) -> Table:
    files = _named(f"mimic-cxr-2*-{name}", f"*{name}*")
    return Table(files, ("study_id", *FINDINGS), key="study_id")


SOURCE = Source(
    name="mimic",
    dataset="MIMIC-CXR",
    cite="Johnson et al., MIMIC-CXR-JPG, arXiv:1901.07042; https://physionet.org/content/mimic-cxr-jpg/",
    tables=(
        Table(
            _named("mimic-cxr-2*-metadata"),
            ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"),
            ("ViewCodeSequence_CodeMeaning", "Rows", "Columns"),
        ),
        Table(_named("mimic-cxr-2*-split"), ("dicom_id", "split"), key="dicom_id"),
        Table(
            _hospital("patients"),
            ("subject_id", "gender", "anchor_age", "anchor_year"),
            key="subject_id",
            required=False,
        ),
        Table(
            _hospital("admissions"),
            ("subject_id",),
            ("race", "ethnicity"),
            key="subject_id",
            required=False,
            reduce=race_per_patient("subject_id", ("race", "ethnicity"), "mimic_races"),
        ),
    ),
    record="dicom_id",
    patient="subject_id",
    variables={"View": _view, "Sex": sex("gender"), "Age": _age, "Race": race},
    findings=finding_columns(),
    split=split("split"),
    images=ImageFiles(_image, suffixes=(".png", ".dcm")),
    ids={"study_id": "study"},
    extras={"Rows": "source_height", "Columns": "source_width"},
    labels={name: _labels(name) for name in ("chexbert", "chexpert", "negbio")},
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
