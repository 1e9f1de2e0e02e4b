"""Whether phantom images show their variables: a small network predicts them, also on patients.

    python -m benchmarks phantom_cnn

The network learns from 8,000 enriched phantoms (half of them have each finding with probability
1/2, so that rare findings can be learned) and is tested on 4,000 others, drawn without enrichment.
The same network is then tested on radiographs of ChestX-ray14, without having seen any: what it
can use there is what phantoms have in common with patients.

Images are cached in `runs/phantom_images` until the code that renders them changes, so a second
run is quick.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks import Row, stopwatch
from benchmarks._classifier import Labels, Reader, train_reader
from benchmarks._phantom_images import phantom_images
from benchmarks.fit_nih import data_folder
from causalcxr import Cohort, Graph
from causalcxr.sources.phantom.tables import FINDINGS

__all__ = ["main"]

_EPOCHS = 14
_LEAST_POSITIVES = 20  # findings with fewer positive patients get no row


def _labels(cohort: Cohort) -> Labels:
    """Return findings and sex as booleans, view and race as levels, age as a number."""
    columns = cohort.columns(Graph.load("cxr7"))
    yes_or_no = {name: columns[name] > 0 for name in (*FINDINGS, "Sex")}
    levels = {name: columns[name].astype(np.int64) for name in ("View", "Race")}
    return {**yes_or_no, **levels, "Age": columns["Age"].astype(np.float32)}


def _auroc(target: np.ndarray, score: np.ndarray) -> float:
    """Return the AUROC; for several levels the mean over levels, each against the rest."""
    if target.dtype == bool:
        return float(roc_auc_score(target, score)) if 0 < target.mean() < 1 else float("nan")
    return float(np.mean([_auroc(target == k, score[:, k]) for k in np.unique(target)]))


def _row(figure: str, value: float, target: str = "", note: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "note": note}


def _on_phantoms(reader: Reader, test: Cohort, images: np.ndarray) -> list[Row]:
    labels, result = _labels(test), reader.read(images)
    frontal = (test.table["View"] != "LATERAL").to_numpy()
    rows = []
    for name in FINDINGS:
        front = _auroc(labels[name][frontal], result[name][frontal])
        note = f"frontal {front:.3f}; {labels[name].sum()} positive"
        rows.append(_row(f"AUROC of {name}", _auroc(labels[name], result[name]), ">= .90", note))
    for name, target in {"Sex": ">= .95", "View": ">= .95", "Race": ""}.items():
        rows.append(_row(f"AUROC of {name}", _auroc(labels[name], result[name]), target))
    return [*rows, _age_error(labels["Age"], result["Age"], "<= 8")]


def _age_error(labels: np.ndarray, result: np.ndarray, target: str = "") -> Row:
    constant = np.abs(labels - np.median(labels)).mean()
    note = f"of a constant {constant:.1f}; rank correlation {spearmanr(labels, result)[0]:.3f}"
    return _row("mean |error| of Age, years", float(np.abs(labels - result).mean()), target, note)


def _on_patients(reader: Reader, size: int, limit: int | None) -> list[Row]:
    """Test the reader on real radiographs."""
    if not (data_folder() / "nih").is_dir():
        return [_row("NIH: skipped, no data (CAUSALCXR_DATA)", float("nan"))]
    nih = Cohort.load(data_folder() / "nih", size=size).with_images_only()
    nih = nih.select(nih.table[["Age", "Sex", "View"]].notna().all(axis=1).to_numpy())
    nih = nih if limit is None else nih.head(limit)
    table, result = nih.table, reader.read(nih.images[:])
    frontal = table["View"].isin(["AP", "PA"]).to_numpy()
    ap_against_pa = (result["View"][:, 0] - result["View"][:, 1])[frontal]
    men, ap = (table["Sex"] == "M").to_numpy(), (table["View"] == "AP").to_numpy()
    rows = [
        _row("AUROC of Sex", _auroc(men, result["Sex"]), "", f"{len(nih):,} radiographs"),
        _row("AUROC of View, AP against PA", _auroc(ap[frontal], ap_against_pa)),
        _age_error(table["Age"].to_numpy(float), result["Age"]),
    ]
    for name in (n for n in FINDINGS if n in table):
        positive = (table[name] == "P").to_numpy()
        if positive.sum() >= _LEAST_POSITIVES:
            note = f"{positive.sum()} positive"
            rows.append(_row(f"AUROC of {name}", _auroc(positive, result[name]), "", note))
    return [row | {"figure": f"NIH: {row['figure']}"} for row in rows]


def main(quick: bool = False) -> list[Row]:
    """Return how well the network predicts each variable on phantoms and on real patients."""
    n_train, n_test, size, epochs = (256, 200, 64, 2) if quick else (8000, 4000, 128, _EPOCHS)
    train, images = phantom_images(n=n_train, seed=11, size=size, enriched=1)
    with stopwatch() as watch:
        reader = train_reader(images, _labels(train), epochs)
    speed = _row("images/s in training", epochs * n_train / watch.seconds, "", f"{epochs} epochs")
    rows = _on_phantoms(reader, *phantom_images(n=n_test, seed=12, size=size))
    # Without any effect of race on the images, race must not be predictable.
    blank, images = phantom_images(n=n_test // 4, seed=13, size=size, race_signal=0)
    race = _auroc(_labels(blank)["Race"], reader.read(images)["Race"])
    rows.append(_row("AUROC of Race, race_signal=0", race, "about .5", f"{len(blank)} images"))
    return [*rows, *_on_patients(reader, size, 200 if quick else None), speed]
