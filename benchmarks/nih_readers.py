"""How well attributes of real patients can be read, with three kinds of features.

    python -m benchmarks nih_readers      (features are trained once, in `runs/`)

Readers of all variables of the graph nih, cross-fitted by patient on the real images of NIH
ChestX-ray14 at 64 and 128 pixels: on the bundled features, which were trained on phantoms; on
features fine-tuned on the real labels; and at 64 pixels on features trained on real images and
phantoms together. AUROC (of age the correlation) on patients that a model has not seen, with 95 %
intervals over patients.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks.fit_nih import data_folder
from benchmarks.nih_twins import real_features
from causalcxr import Cohort, Graph
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.radit.features import CrossFittedFeatures, load_cross_fitted, save_cross_fitted
from causalcxr.radit.features_train import FeaturesConfig, train_features

__all__ = ["main"]

_PHANTOMS = 1500  # mixed with the real images
_SIZES = (64, 128)


def mixed_features(cohort: Cohort, quick: bool) -> CrossFittedFeatures:
    """Return features trained on real images and phantoms together."""
    out = Path(f"runs/nih-features-mixed-64{'-quick' if quick else ''}.safetensors")
    if not out.is_file():
        phantoms = Cohort.load("phantom", n=64 if quick else _PHANTOMS, seed=107, size=64)
        # The graph nih has no lateral view.
        phantoms = phantoms.select("View != 'LATERAL'")
        config = FeaturesConfig(epochs=1 if quick else 12, folds=3)
        folder = out.with_suffix(".training")
        trained = train_features([cohort, phantoms], Graph.load("nih"), config, folder=folder)
        save_cross_fitted(out, trained)
    return load_cross_fitted(out)


def main(quick: bool = False) -> list[Row]:
    """Return one row per size, attribute and kind of features."""
    if not (data_folder() / "nih").is_dir():
        return [{"attribute": "skipped: no NIH data", "size": ""}]
    graph, rows = Graph.load("nih"), []
    for size in _SIZES[: 1 if quick else 2]:
        cohort = Cohort.load(data_folder() / "nih", size=size).with_images_only()
        # The same folds for all, so that differences are those of the features.
        trained = real_features(size, quick)
        kinds = {"bundled": None, "fine-tuned": trained}
        if size == min(_SIZES):
            kinds["mixed"] = mixed_features(cohort, quick)
        for kind, features in kinds.items():
            options = {"folds": len(trained.folds)} if features is None else {"features": features}
            table = CrossFittedReader.fit(cohort, graph, **options).table
            rows += [
                {"size": size, "attribute": name, "features": kind}
                | {k: row[k] for k in ("value", "low", "high", "slope", "n", "positives")}
                for name, row in table.to_dict("index").items()
            ]
    return sorted(rows, key=lambda row: (row["size"], row["attribute"]))
