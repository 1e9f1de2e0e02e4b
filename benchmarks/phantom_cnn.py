"""Does a film show what its variables say? A small network reads them, and then real patients.

    python -m benchmarks phantom_cnn

The network learns from 8,000 enriched phantoms (half of them toss a coin for every finding, so
that rare ones can be learnt) and reads 4,000 others, drawn from the population as it is. The same
network then reads radiographs of ChestX-ray14, of which it has never seen one: what it has learnt
on phantoms and can use there is what phantoms have in common with patients.

Films are kept in `runs/films` while their sources stay as they are, so that a second run is quick.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks import Row, stopwatch
from benchmarks._classifier import Answers, Reader, train_reader
from benchmarks._films import filmed
from benchmarks.fit_nih import data_folder
from causalcxr import Cohort, Graph
from causalcxr.sources.phantom.tables import FINDINGS

__all__ = ["main"]

_EPOCHS = 14
_LEAST_POSITIVES = 20  # of a finding, for its AUROC on real patients to be worth a row


def _answers(cohort: Cohort) -> Answers:
    """Return findings and sex as yes or no, view and race as levels, age as a number."""
    columns = cohort.columns(Graph.load("cxr7"))
    yes_or_no = {name: columns[name] > 0 for name in (*FINDINGS, "Sex")}
    levels = {name: columns[name].astype(np.int64) for name in ("View", "Race")}
    return {**yes_or_no, **levels, "Age": columns["Age"].astype(np.float32)}


def _auroc(true: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the curve; that of levels is a mean, each one against the rest."""
    if true.dtype == bool:
        return float(roc_auc_score(true, score)) if 0 < true.mean() < 1 else float("nan")
    return float(np.mean([_auroc(true == k, score[:, k]) for k in np.unique(true)]))


def _row(figure: str, value: float, target: str = "", beside: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "beside": beside}


def _on_phantoms(reader: Reader, test: Cohort, films: np.ndarray) -> list[Row]:
    true, read = _answers(test), reader.read(films)
    frontal = (test.table["View"] != "LATERAL").to_numpy()
    rows = []
    for name in FINDINGS:
        front = _auroc(true[name][frontal], read[name][frontal])
        beside = f"frontal {front:.3f}; {true[name].sum()} positive"
        rows.append(_row(f"AUROC of {name}", _auroc(true[name], read[name]), ">= .90", beside))
    for name, target in {"Sex": ">= .95", "View": ">= .95", "Race": ""}.items():
        rows.append(_row(f"AUROC of {name}", _auroc(true[name], read[name]), target))
    return [*rows, _age_error(true["Age"], read["Age"], "<= 8")]


def _age_error(true: np.ndarray, read: np.ndarray, target: str = "") -> Row:
    constant = np.abs(true - np.median(true)).mean()
    beside = f"of a constant {constant:.1f}; rank correlation {spearmanr(true, read)[0]:.3f}"
    return _row("mean |error| of Age, years", float(np.abs(true - read).mean()), target, beside)


def _on_patients(reader: Reader, size: int, few: int | None) -> list[Row]:
    """Read real radiographs, as they are."""
    if not (data_folder() / "nih").is_dir():
        return [_row("NIH: skipped, no data (CAUSALCXR_DATA)", float("nan"))]
    nih = Cohort.load(data_folder() / "nih", size=size).with_images_only()
    nih = nih.select(nih.table[["Age", "Sex", "View"]].notna().all(axis=1).to_numpy())
    nih = nih if few is None else nih.head(few)
    table, read = nih.table, reader.read(nih.images[:])
    frontal = table["View"].isin(["AP", "PA"]).to_numpy()
    against = (read["View"][:, 0] - read["View"][:, 1])[frontal]
    men, ap = (table["Sex"] == "M").to_numpy(), (table["View"] == "AP").to_numpy()
    rows = [
        _row("AUROC of Sex", _auroc(men, read["Sex"]), "", f"{len(nih):,} radiographs"),
        _row("AUROC of View, AP against PA", _auroc(ap[frontal], against)),
        _age_error(table["Age"].to_numpy(float), read["Age"]),
    ]
    for name in (n for n in FINDINGS if n in table):
        positive = (table[name] == "P").to_numpy()
        if positive.sum() >= _LEAST_POSITIVES:
            beside = f"{positive.sum()} positive"
            rows.append(_row(f"AUROC of {name}", _auroc(positive, read[name]), "", beside))
    return [row | {"figure": f"NIH: {row['figure']}"} for row in rows]


def main(quick: bool = False) -> list[Row]:
    """Return what the network reads on phantoms and on real patients."""
    n_train, n_test, size, epochs = (256, 200, 64, 2) if quick else (8000, 4000, 128, _EPOCHS)
    train, films = filmed(n=n_train, seed=11, size=size, enriched=1)
    with stopwatch() as watch:
        reader = train_reader(films, _answers(train), epochs)
    speed = _row("films/s in training", epochs * n_train / watch.seconds, "", f"{epochs} epochs")
    rows = _on_phantoms(reader, *filmed(n=n_test, seed=12, size=size))
    # The same network on films that race does not reach: what it reads of race must be gone.
    blank, films = filmed(n=n_test // 4, seed=13, size=size, race_signal=0)
    race = _auroc(_answers(blank)["Race"], reader.read(films)["Race"])
    rows.append(_row("AUROC of Race, race_signal=0", race, "about .5", f"{len(blank)} films"))
    return [*rows, *_on_patients(reader, size, 200 if quick else None), speed]
