"""A simulated CXR7: seven data sets in their published formats, with known joint marginals.

The numbers of rows, levels and findings are those published for CXR7-1M (arXiv:2606.19460);
everything else is random. `write` makes the files and returns the true table, which harmonising
the files must reproduce.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.sources.datasets.vindr import LABELS
from causalcxr.sources.policy import FINDINGS

__all__ = ["FINDINGS_PUBLISHED", "PUBLISHED", "SIZES", "write"]

SIZES = {
    "MIMIC-CXR": 377_095, "ReXGradient": 273_004, "CheXpert-Plus": 223_462, "PadChest": 160_846,
    "ChestX-ray14": 112_120, "BRAX": 40_967, "VinDr-CXR": 18_000,
}  # fmt: skip
PUBLISHED = {
    "Race": {"White": 360_983, "Black": 71_869, "Asian": 35_467},
    "Sex": {"M": 631_099, "F": 559_384},
    "View": {"AP": 442_198, "PA": 333_777, "LATERAL": 293_693},
}
FINDINGS_PUBLISHED = {
    "Atelectasis": (122_684, 1_875), "Cardiomegaly": (110_081, 71_154),
    "Consolidation": (33_539, 38_563), "Edema": (67_258, 58_166),
    "Enlarged Cardiomediastinum": (18_998, 52_565), "Fracture": (26_221, 24_634),
    "Lung Lesion": (42_854, 4_059), "Lung Opacity": (194_848, 7_900),
    "No Finding": (601_540, 12_148), "Pleural Effusion": (143_600, 89_455),
    "Pleural Other": (17_349, 188), "Pneumonia": (43_247, 57_351),
    "Pneumothorax": (26_788, 89_137), "Support Devices": (153_430, 2_718),
}  # fmt: skip
_NIH = {"Pleural Effusion": "Effusion", "Pleural Other": "Pleural_Thickening",
        "Lung Lesion": "Nodule", "Lung Opacity": "Infiltration"}  # fmt: skip
_PAD = {
    "Atelectasis": "laminar atelectasis", "Cardiomegaly": " cardiomegaly",
    "Consolidation": "consolidation", "Edema": "kerley lines",
    "Enlarged Cardiomediastinum": "mediastinal enlargement", "Fracture": "callus rib fracture",
    "Lung Lesion": "nodule ", "Lung Opacity": "infiltrates", "No Finding": "normal",
    "Pleural Effusion": "pleural effusion", "Pleural Other": "apical pleural thickening",
    "Pneumonia": "pneumonia", "Pneumothorax": "pneumothorax", "Support Devices": "pacemaker",
}  # fmt: skip
_VINDR = {"Enlarged Cardiomediastinum": "Aortic enlargement", "Fracture": "Rib fracture",
          "Lung Lesion": "Nodule/Mass", "Pleural Effusion": "Pleural effusion",
          "Pleural Other": "Pleural thickening", "No Finding": "No finding"}  # fmt: skip
_LISTS = ("PadChest", "ChestX-ray14", "VinDr-CXR")
_NOT_IN = {
    "ChestX-ray14": ("Enlarged Cardiomediastinum", "Fracture", "Support Devices"),
    "VinDr-CXR": ("Support Devices",),
}
_BLANK, _NO, _YES, _UNCERTAIN = "", "N", "P", "U"


def write(folder: Path, scale: float = 1.0, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Write the seven data sets and return the table that harmonising each must give.

    Args:
        folder: Parent of the seven folders, which are named after their sources.
        scale: The share of the rows; 1 for all of them.
        seed: Of all random numbers.

    Returns:
        By source: Dataset, View, Sex, Age, Race and the 14 findings, in the order of the files.
    """
    rng = np.random.default_rng(seed)
    truth = _truth(rng, scale)
    writers = {
        "mimic": ("MIMIC-CXR", _mimic), "rexgradient": ("ReXGradient", _rex),
        "chexpert_plus": ("CheXpert-Plus", _plus), "padchest": ("PadChest", _padchest),
        "nih": ("ChestX-ray14", _nih), "brax": ("BRAX", _brax), "vindr": ("VinDr-CXR", _vindr),
    }  # fmt: skip
    result = {}
    for name, (dataset, writer) in writers.items():
        rows = truth[truth["Dataset"] == dataset].reset_index(drop=True)
        (folder / name).mkdir(parents=True, exist_ok=True)
        writer(folder / name, rows, rng)
        result[name] = rows.drop(columns=["patient", "study"])
    return result


def _truth(rng: np.random.Generator, scale: float) -> pd.DataFrame:
    """Return every row as harmonising must give it, with the published marginals."""
    sizes = {name: round(size * scale) for name, size in SIZES.items()}
    dataset = np.repeat(np.array(list(sizes), dtype=object), list(sizes.values()))
    n = len(dataset)
    # Studies have one or two images, patients one or two studies.
    study = np.repeat(np.arange(n), rng.integers(1, 3, n))[:n]
    study[np.searchsorted(dataset != dataset[0], True) :] += 1
    patient = study // 2
    by_patient = np.isin(dataset, ("MIMIC-CXR", "ReXGradient"))
    truth = pd.DataFrame({"Dataset": dataset, "patient": patient, "study": study})

    def total(count: int) -> int:
        return round(count * scale)

    def exactly(counts: dict[str, int], free: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Fill the free rows so that every level has its count, including the drawn values."""
        values = drawn.copy()
        places = rng.permutation(np.flatnonzero(free))
        for level, count in counts.items():
            left = count - int((values == level).sum())
            assert 0 <= left <= len(places), (level, left, len(places))
            values[places[:left]], places = level, places[left:]
        return values

    def for_patients(shares: dict[str, float], rows: np.ndarray) -> np.ndarray:
        """Draw one value for all rows of a patient."""
        codes, patients = pd.factorize(patient[rows])
        edges = np.cumsum(list(shares.values()))
        drawn = np.searchsorted(edges, rng.random(len(patients)), side="right")
        values = np.full(n, _BLANK, dtype=object)
        values[rows] = np.array([*shares, _BLANK], dtype=object)[drawn[codes]]
        return values

    mimic, plus = dataset == "MIMIC-CXR", dataset == "CheXpert-Plus"
    race = for_patients({"White": 0.6, "Black": 0.12, "Asian": 0.06}, mimic)
    truth["Race"] = exactly({k: total(v) for k, v in PUBLISHED["Race"].items()}, plus, race)
    sex = for_patients({"M": 0.52, "F": 0.475}, by_patient)
    truth["Sex"] = exactly({k: total(v) for k, v in PUBLISHED["Sex"].items()}, ~by_patient, sex)
    view = np.where(dataset == "VinDr-CXR", "PA", _BLANK).astype(object)
    nih = np.flatnonzero(dataset == "ChestX-ray14")
    view[nih] = np.where(rng.random(len(nih)) < 0.4, "AP", "PA")
    free = ~np.isin(dataset, ("VinDr-CXR", "ChestX-ray14"))
    truth["View"] = exactly({k: total(v) for k, v in PUBLISHED["View"].items()}, free, view)
    truth["Age"] = _ages(dataset, patient, rng)
    return truth.assign(**_findings(dataset, study, scale, rng))


def _findings(
    dataset: np.ndarray, study: np.ndarray, scale: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the findings: random per study in MIMIC, the others such that counts are exact."""
    n, mimic, lists = len(dataset), dataset == "MIMIC-CXR", np.isin(dataset, _LISTS)
    codes, studies = pd.factorize(study[mimic])
    findings: dict[str, np.ndarray] = {}
    no_finding = np.zeros(n, dtype=bool)
    for name in ("No Finding", *(each for each in FINDINGS if each != "No Finding")):
        yes, no = (round(count * scale) for count in FINDINGS_PUBLISHED[name])
        values = np.full(n, _BLANK, dtype=object)
        draw = rng.random(len(studies))[codes]
        shares = np.array([yes, no]) / n * 0.9
        labels = np.where(draw < shares[0], _YES, np.where(draw < shares.sum(), _NO, _BLANK))
        labels[(draw > 0.98) & (labels == _BLANK)] = _UNCERTAIN
        values[mimic] = np.where(no_finding[mimic] & (labels == _YES), _BLANK, labels)
        unlabelled = np.isin(dataset, [k for k, names in _NOT_IN.items() if name in names])
        for level, count, free in (
            (_YES, yes, ~mimic & ~unlabelled & ~no_finding), (_NO, no, ~mimic & ~lists),
        ):  # fmt: skip
            places = rng.permutation(np.flatnonzero(free & (values == _BLANK)))
            left = count - int((values == level).sum())
            assert 0 <= left <= len(places), (name, level, left, len(places))
            values[places[:left]] = level
        uncertain = ~mimic & ~lists & (values == _BLANK) & (rng.random(n) < 0.02)
        values[uncertain] = _UNCERTAIN
        if name == "No Finding":
            no_finding = values == _YES
        findings[name] = values
    return {name: findings[name] for name in FINDINGS}


def _dicom_age(years: float) -> str:
    """Return an age as DICOM writes it; of a newborn in days, because 000Y is a removed age."""
    return f"{years:03.0f}Y" if years else "009D"


def _ages(dataset: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ages in the precision of each data set."""
    n = len(dataset)
    ages = np.floor(18 + 73 * rng.beta(4.4, 2.7, n))
    young = rng.random(n) < np.where(np.isin(dataset, ("PadChest", "ReXGradient")), 0.07, 0.01)
    young &= ~np.isin(dataset, ("MIMIC-CXR", "CheXpert-Plus"))
    ages[young] = rng.integers(0, 5, young.sum())
    by_patient = np.isin(dataset, ("ReXGradient", "MIMIC-CXR"))
    first = pd.Series(ages).groupby(patient).transform("first").to_numpy()
    ages = np.where(by_patient, first, ages)
    mimic = dataset == "MIMIC-CXR"
    ages[mimic] += patient[mimic] % 7
    ages[dataset == "BRAX"] = np.minimum(ages[dataset == "BRAX"] // 5 * 5, 85)
    return ages


def _coded(rows: pd.DataFrame, end: str = "") -> dict[str, np.ndarray]:
    """Return the 14 columns as CheXpert codes them."""
    codes = {_YES: f"1{end}", _NO: f"0{end}", _UNCERTAIN: f"-1{end}", _BLANK: ""}
    return {name: rows[name].map(codes).to_numpy(object) for name in FINDINGS}


def _save(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


def _texts(prefix: str, values: np.ndarray) -> np.ndarray:
    return prefix + pd.Series(values).astype(str).to_numpy(object)


def _mimic(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    n, patient = len(rows), rows["patient"].to_numpy() + 10_000_000
    study = rows["study"].to_numpy() + 50_000_000
    dicom = _texts("d", np.arange(n))
    # The anchor is up to six years before the study: age = anchor age + years since.
    since = rows["patient"].to_numpy() % 7
    view = rows["View"].replace({_BLANK: "LAO", "LATERAL": "LL"}).to_numpy(object)
    _save(folder / "mimic-cxr-2.0.0-metadata.csv", {
        "dicom_id": dicom, "subject_id": patient, "study_id": study,
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)", "ViewPosition": view,
        "Rows": 3056, "Columns": 2544, "StudyDate": (2150 + since) * 10_000 + 506,
        "StudyTime": "213014.531", "ProcedureCodeSequence_CodeMeaning": "CHEST (PA AND LAT)",
        "ViewCodeSequence_CodeMeaning": "", "PatientOrientationCodeSequence_CodeMeaning": "Erect",
    })  # fmt: skip
    splits = np.array(["train", "validate", "test"], dtype=object)
    split = np.searchsorted([0.88, 0.91], _hashed(patient))
    _save(folder / "mimic-cxr-2.0.0-split.csv", {
        "dicom_id": dicom, "study_id": study, "subject_id": patient, "split": splits[split],
    })  # fmt: skip
    first = ~pd.Series(study).duplicated().to_numpy()
    coded = {name: column[first] for name, column in _coded(rows, ".0").items()}
    order = sorted(FINDINGS)
    _save(folder / "mimic-cxr-2.0.0-chexpert.csv", {
        "subject_id": patient[first], "study_id": study[first],
    } | {name: coded[name] for name in order})  # fmt: skip
    first = ~rows["patient"].duplicated().to_numpy()
    _save(folder / "hosp/patients.csv", {
        "subject_id": patient[first], "gender": rows["Sex"].to_numpy()[first],
        "anchor_age": (rows["Age"].to_numpy() - since)[first].astype(int), "anchor_year": 2150,
        "anchor_year_group": "2014 - 2016", "dod": "",
    })  # fmt: skip
    words = {"White": "WHITE - RUSSIAN", "Black": "BLACK/CAPE VERDEAN", "Asian": "ASIAN - KOREAN",
             _BLANK: "HISPANIC OR LATINO"}  # fmt: skip
    race = rows["Race"].map(words).to_numpy(object)[first]
    # A second admission of unknown race, which must not count.
    _save(folder / "hosp/admissions.csv", {
        "subject_id": np.repeat(patient[first], 2), "hadm_id": np.arange(2 * first.sum()),
        "admittime": "2150-05-06 22:23:00",
        "race": np.stack([race, np.full(len(race), "UNKNOWN", object)], axis=1).ravel(),
    })  # fmt: skip


def _hashed(ids: np.ndarray) -> np.ndarray:
    return (ids * 2_654_435_761 % 2**32) / 2**32


def _plus(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    patient = _texts("patient", rows["patient"].to_numpy())
    lateral = (rows["View"] == "LATERAL").to_numpy()
    path = "train/" + patient + _texts("/study1/view", np.arange(len(rows))) + ".jpg"
    _save(folder / "df_chexpert_plus_240401.csv", {
        "path_to_image": path, "path_to_dcm": "",
        "frontal_lateral": np.where(lateral, "Lateral", "Frontal"),
        "ap_pa": np.where(lateral, "", rows["View"]), "deid_patient_id": patient,
        "patient_report_date_order": 1,
        "report": 'NARRATIVE:\n"CHEST, 1 VIEW"\nIMPRESSION:\n1. None.', "age": rows["Age"],
        "sex": rows["Sex"].replace({"F": "Female", "M": "Male", "": "Unknown"}),
        "race": rows["Race"].replace({"White": "White, non-Hispanic", "": "Other",
                                      "Black": "Black or African American"}),
        "ethnicity": "Non-Hispanic", "split": "train",
    })  # fmt: skip
    numbers = {_YES: 1.0, _NO: 0.0, _UNCERTAIN: -1.0, _BLANK: None}
    labels = {
        name: rows[name].map(numbers).astype(object).where(lambda x: x.notna(), None)
        for name in FINDINGS
    }
    labels = pd.DataFrame({"path_to_image": path} | labels)
    file = folder / "chexbert_labels/impression_fixed.json"
    file.parent.mkdir()
    labels.to_json(file, orient="records", lines=True)


def _padchest(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    n = len(rows)
    words = _listed(rows, _PAD, "', '", "loc basal")
    _save(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", {
        "": np.arange(n), "ImageID": _texts("", np.arange(n)) + "_x.png",
        "ImageDir": np.arange(n) % 55,
        "StudyDate_DICOM": 20140915, "StudyID": rows["study"], "PatientID": rows["patient"],
        "PatientBirth": 2014.0 - rows["Age"], "PatientSex_DICOM": rows["Sex"].replace("", "None"),
        "ViewPosition_DICOM": "", "Projection": rows["View"].replace(
            {"LATERAL": "L", "AP": "AP_horizontal", "": "COSTAL"}),
        "MethodProjection": "Manual review of DICOM fields", "Pediatric": "No",
        "Report": "sin hallazgos patologicos .", "MethodLabel": "Physician",
        "Labels": "['" + words + "']",
    })  # fmt: skip


def _listed(rows: pd.DataFrame, words: dict[str, str], separator: str, nothing: str) -> np.ndarray:
    """Return the words of the positive findings, joined; `nothing` where there are none."""
    joined = np.full(len(rows), "", dtype=object)
    for name in FINDINGS:
        if name in words:
            positive = (rows[name] == _YES).to_numpy()
            joined[positive] = joined[positive] + separator + words[name]
    return np.array([text[len(separator) :] or nothing for text in joined], dtype=object)


def _nih(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    n = len(rows)
    words = {
        name: _NIH.get(name, name) for name in FINDINGS if name not in _NOT_IN["ChestX-ray14"]
    }
    _save(folder / "Data_Entry_2017_v2020.csv", {
        "Image Index": _texts("", np.arange(n)) + "_000.png",
        "Finding Labels": _listed(rows, words, "|", "Hernia"), "Follow-up #": 0,
        "Patient ID": rows["patient"], "Patient Age": rows["Age"].astype(int),
        "Patient Gender": rows["Sex"].replace("", "O"), "View Position": rows["View"],
        "OriginalImage[Width": 2500, "Height]": 2048, "OriginalImagePixelSpacing[x": 0.168,
        "y]": 0.168,
    })  # fmt: skip


def _brax(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    paths = _texts("id_", rows["patient"].to_numpy()) + _texts(
        "/Study_1/image-", np.arange(len(rows))
    )
    ages = rows["Age"].astype(int).astype(str).replace("85", "85 or more")
    _save(folder / "master_spreadsheet_update.csv", {
        "DicomPath": "Anonymized_DICOMs/" + paths + ".dcm", "PngPath": "images/" + paths + ".png",
        "PatientID": rows["patient"], "PatientSex": rows["Sex"].replace("", "O"),
        "PatientAge": ages, "AccessionNumber": rows["study"], "StudyDate": 20080506,
        **_coded(rows), "ViewPosition": rows["View"].replace("LATERAL", "L"),
    })  # fmt: skip


def _vindr(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    n, train = len(rows), len(rows) * 5 // 6
    names = [*LABELS[:-1], "Other diseases", "No finding"]
    targets = {_VINDR.get(name, name): name for name in FINDINGS}
    cells = np.stack(
        [
            (rows[targets[k]] == _YES).to_numpy() if k in targets else np.zeros(n, bool)
            for k in names
        ],
        axis=1,
    ).astype(np.int8)
    ids = _texts("v", np.arange(n))
    votes = np.repeat(cells[:train], 3, axis=0)
    votes[2::3] = 0  # two of three readers agree
    _save(folder / "image_labels_train.csv", {
        "image_id": np.repeat(ids[:train], 3), "rad_id": np.tile(["R8", "R9", "R10"], train),
    } | {name: votes[:, k] for k, name in enumerate(names)})  # fmt: skip
    other = [name.replace("diseases", "disease") for name in names]
    _save(folder / "image_labels_test.csv", {"image_id": ids[train:]} | {
        name: cells[train:, k] for k, name in enumerate(other)
    })  # fmt: skip
    _save(folder / "dicom_headers.csv", {
        "image_id": ids, "PatientSex": rows["Sex"].replace("", "O"),
        "PatientAge": rows["Age"].map(_dicom_age),
    })  # fmt: skip


def _rex(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    views = rows["View"].replace({"LATERAL": "LL", "": "UNK"}).to_numpy(object)
    paths = _texts("../deid_png/GRDN/", np.arange(len(rows))) + ".png"
    grouped = pd.DataFrame({"study": rows["study"], "patient": rows["patient"], "sex": rows["Sex"],
                            "age": rows["Age"].map(_dicom_age), "path": paths,
                            "view": views})  # fmt: skip
    studies = grouped.groupby("study", sort=False).agg(
        {"patient": "first", "sex": "first", "age": "first", "path": list, "view": list}
    )
    entries = {
        f"p{row.patient}_{row.Index}": {
            "PatientID": f"p{row.patient}", "StudyInstanceUid": f"1.2.{row.Index}",
            "PatientSex": row.sex, "PatientAge": row.age, "StudyDate": "20170101",
            "ImagePath": row.path, "ImageViewPosition": row.view,
            "Findings": "The lungs are clear.", "Impression": "No acute disease.",
        }
        for row in studies.itertuples()
    }  # fmt: skip
    text = json.dumps(entries)
    (folder / "train_metadata_view_position.json").write_text(text, encoding="utf-8")
    _save(folder / "labels.csv", {"ImagePath": paths, **_coded(rows)})
