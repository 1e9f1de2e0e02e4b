"""The numbers of the phantom's population: published counts of CXR7-1M, and our own choices.

Counts are those of arXiv:2606.19460. The weights of the equations are ours, with the sign and size
that clinicians would expect; they are not estimated. Also ours are the views by data set, in
rounded thousands whose sums are those published, and which values each data set leaves blank.
"""

import numpy as np

__all__ = [
    "ADDED",
    "AGE",
    "COUNTS",
    "DATASETS",
    "DEVICES",
    "FINDINGS",
    "GRAPHS",
    "LEVELS",
    "LOOKED_FOR",
    "NEGATIVES",
    "NO_FINDING",
    "N_RECORDS",
    "PATHOLOGIES",
    "POSITIVES",
    "RECORDED",
    "VIEWS",
    "VIEW_BY_DATASET",
    "WRITES_NEGATIVES",
]

N_RECORDS = 1_205_494
COUNTS: dict[str, dict[str, int]] = {
    "Race": {"Asian": 35_467, "Black": 71_869, "White": 360_983},
    "Sex": {"F": 559_384, "M": 631_099},
    "View": {"AP": 442_198, "PA": 333_777, "LATERAL": 293_693},
    "Dataset": {
        "MIMIC-CXR": 377_095,
        "ReXGradient": 273_004,
        "CheXpert-Plus": 223_462,
        "PadChest": 160_846,
        "ChestX-ray14": 112_120,
        "BRAX": 40_967,
        "VinDr-CXR": 18_000,
    },
}
NO_FINDING = 601_540
# Findings that are recorded as present, and those that are recorded as absent.
POSITIVES = {
    "Cardiomegaly": 110_081,
    "Edema": 67_258,
    "Pleural Other": 17_349,
    "Pneumonia": 43_247,
    "Fracture": 26_221,
    "Pneumothorax": 26_788,
    "Enlarged Cardiomediastinum": 18_998,
    "Consolidation": 33_539,
    "Pleural Effusion": 143_600,
    "Support Devices": 153_430,
    "Atelectasis": 122_684,
    "Lung Opacity": 194_848,
    "Lung Lesion": 42_854,
}
NEGATIVES = {
    "Cardiomegaly": 71_154,
    "Edema": 58_166,
    "Pleural Other": 188,
    "Pneumonia": 57_351,
    "Fracture": 24_634,
    "Pneumothorax": 89_137,
    "Enlarged Cardiomediastinum": 52_565,
    "Consolidation": 38_563,
    "Pleural Effusion": 89_455,
    "Support Devices": 2_718,
    "Atelectasis": 1_875,
    "Lung Opacity": 7_900,
    "Lung Lesion": 4_059,
}
DATASETS = {name: count / N_RECORDS for name, count in COUNTS["Dataset"].items()}
VIEWS = ("AP", "PA", "LATERAL")
_SHARE = np.array(list(DATASETS.values()))

# Quantiles of age: 32,000 children under five, a peak from 63 to 67.
AGE = (
    (0, 0.027, 0.05, 0.12, 0.25, 0.4, 0.49, 0.552, 0.642, 0.755, 0.88, 0.97, 1),
    (0, 5, 18, 30, 44, 55, 60, 63, 67, 73, 81, 89, 105),
)

# Radiographs AP, PA and LATERAL in thousands, one row for each data set, recorded or not.
_RADIOGRAPHS = np.array(
    [
        [153.6, 100.4, 123.1],
        [106.3, 56.0, 110.7],
        [161.7, 29.4, 32.4],
        [19.0, 92.1, 49.7],
        [44.8, 67.3, 0.0],
        [12.9, 12.9, 15.1],
        [0.0, 18.0, 0.0],
    ]
)
VIEW_BY_DATASET = _RADIOGRAPHS / _RADIOGRAPHS.sum(1, keepdims=True)

# Which data sets label a finding at all, and which record that it is absent. The others list only
# present findings; the rest is blank.
_EVERYWHERE = np.ones(7)
_NOT_NIH = np.array([1.0, 1, 1, 1, 0, 1, 1])
LOOKED_FOR = dict.fromkeys(POSITIVES, _EVERYWHERE) | dict.fromkeys(
    ("Fracture", "Support Devices", "Enlarged Cardiomediastinum"), _NOT_NIH
)
WRITES_NEGATIVES = np.array([1.0, 1, 1, 0, 0, 1, 0])

# The probability that a value is recorded: a row for each data set, a column for each level or one
# for all.
RECORDED = {
    "Age": np.array([[1], [1], [1], [1], [1], [0.98], [0.4]]),
    "Sex": np.array([[1], [0.9975], [1], [1], [1], [0.98], [0.25]]),
    "Race": np.array([[0.78], [0], [0.78], [0], [0], [0], [0]]),
    # A lateral view can be recognised; whether a frontal one is AP is often not recorded.
    "View": np.array(
        [
            [0.958] * 3,
            [0.542, 0.343, 0.721],
            [1] * 3,
            [0.995] * 3,
            [1] * 3,
            [0.93] * 3,
            [1] * 3,
        ]
    ),
}


def _prevalence(name: str) -> float:
    """Return a prevalence from the published positives.

    If a data set does not label a finding, positives over all records (blank is negative) are too
    few, and positives over the records of the other data sets may be too many: the mean of both.
    """
    share = POSITIVES[name] / N_RECORDS
    return share * (1 + 1 / (LOOKED_FOR[name] @ _SHARE)) / 2


_WEIGHTS: dict[str, dict[str, float]] = {
    "Cardiomegaly": {"Age": 0.7, "Race": -0.15, "Sex": -0.25},
    "Edema": {"Age": 0.6, "Race": -0.1, "Sex": 0.1},
    "Pleural Other": {"Age": 0.5, "Sex": 0.4},
    "Pneumonia": {"Age": 0.25, "Sex": 0.15},
    "Fracture": {"Age": 0.5, "Sex": 0.2},
    "Pneumothorax": {"Age": -0.1, "Sex": 0.4, "Fracture": 1.6},
    "Enlarged Cardiomediastinum": {"Cardiomegaly": 1.8},
    "Consolidation": {"Pneumonia": 2.6},
    "Pleural Effusion": {"Cardiomegaly": 1.6, "Pleural Other": 1.1, "Pneumonia": 1.2},
    "Support Devices": {"Pleural Effusion": 1.9, "Pneumothorax": 2.2},
    "Atelectasis": {"Pleural Effusion": 1.7, "Pneumothorax": 0.9},
    "Lung Opacity": {"Pleural Other": 0.8, "Edema": 1.8, "Atelectasis": 1.4, "Consolidation": 2.0},
    "Lung Lesion": {"Lung Opacity": 1.0},
}
# By finding: prevalence, weights of its parents in cxr7. Age enters as (age - 60) / 20, any other
# variable as the position of its level. Parents precede their children in both graphs.
FINDINGS = {name: (_prevalence(name), weights) for name, weights in _WEIGHTS.items()}
# The weights that a graph adds. Those of View are for the view AP.
ADDED: dict[str, dict[str, dict[str, float]]] = {
    "cxr7": {},
    "cxr7-acquisition": {
        "View": {"Age": 0.3, "Support Devices": 1.8, "Pleural Effusion": 1.0, "Edema": 1.2},
        "Edema": {"Cardiomegaly": 1.2},
        "Pleural Effusion": {"Edema": 1.1},
        "Atelectasis": {"Age": 0.4},
    },
}
GRAPHS = tuple(ADDED)
DEVICES = "Support Devices"
PATHOLOGIES = tuple(name for name in FINDINGS if name != DEVICES)
LEVELS = {name: tuple(counts) for name, counts in COUNTS.items()} | dict.fromkeys(
    (*FINDINGS, "No Finding"), ("N", "P")
)
