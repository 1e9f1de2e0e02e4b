"""Twins of real patients at 128 pixels: does a reader of sex see what was set?

    python -m benchmarks nih_twins                                 bundled weights
    python -m benchmarks.nih_twins --train                         fine-tuned on real images
    python -m benchmarks.nih_twins --train --patients choosing --guidance 1.5

The records are held-out patients of NIH ChestX-ray14 (split val), with images of 128 pixels. Two
fifths of these patients serve to choose settings, the others to measure. The equations of the
graph nih are learned from the table of the training patients; that of the image is RadiT under
`coupling: transport`. It works at its own size, and the change is added to the radiograph at 128
pixels. `--train` first trains weights on the real training images as benchmarks/nih64.yaml says
(once; an interrupted training resumes).

The reader stands on features trained on the real images at 64 pixels (`causalcxr radit features`,
made once in `runs/`): they read sex better than those trained at 128 pixels for as long. It is
cross-fitted: each patient and their twin are read by a model that has never seen them. It shows
whether the image changed in the right direction, not whether the twin is correct.
Writes a sheet of pairs to `runs/`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks.__main__ import show
from benchmarks._image_twins import load_network
from benchmarks.fit_nih import data_folder
from benchmarks.nih_samples import trained_weights
from causalcxr import SCM, Cohort, Graph, do
from causalcxr.apps.training.features_job import FeaturesRun, train_cohort_features
from causalcxr.audit.attribute_reader import image_features
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.reader_quality import unreadable
from causalcxr.cohort.splits import draw_splits
from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.images.contact_sheet import pairs
from causalcxr.images.images import ArrayImages
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.metrics.minimality import identity_kept
from causalcxr.radit.features import CrossFittedFeatures, load_cross_fitted
from causalcxr.radit.features_train import FeaturesConfig

__all__ = ["main", "real_features"]

_SIZE, _READ = 128, 64  # pixels of the twins, and of the features of the reader
_RECORDS = 276  # at most; these are all held-out records with an image of 128 pixels
# Share of the held-out patients with whom settings are chosen, and with whom twins are measured.
_SHARES, _SEED = {"choosing": 0.4, "measuring": 0.6}, 1
_SHOWN = 12  # pairs on the sheet
_LEAST = 0.6  # AUROC of a reader that is used


def real_features(size: int, quick: bool = False) -> CrossFittedFeatures:
    """Return features trained on the real images; existing ones are used as they are."""
    name = f"nih-features-{size}{'-quick' if quick else ''}.safetensors"
    out, config = Path("runs") / name, FeaturesConfig(epochs=12, folds=3)
    if not out.is_file():
        cohort = f"{data_folder() / 'nih'}:size={size}"
        config = FeaturesConfig(epochs=1, folds=2, batch=64) if quick else config
        train_cohort_features(FeaturesRun(cohort=cohort, out=out, graph="nih", config=config))
    return load_cross_fitted(out)


def fitted_model(training: Cohort, weights: str, **solving: float | str) -> SCM:
    """Return the equations of the table, with the given weights for the image."""
    graph = Graph.load("nih")
    image = graph[graph.image]
    spec = {"size": "tiny", "resolution": 64, "weights": "phantom", **solving}
    graph = graph.with_variable(image.replace(mechanism=MechanismSpec("radit", spec)))
    model = SCM(graph).fit(training)
    # Weights of any shape: the network is replaced after the fit.
    mechanism = model.fitted[graph.image].mechanism
    mechanism.net = load_network(weights, graph=graph)
    mechanism.config = mechanism.net.config
    return model


def held_out(everyone: Cohort, patients: str) -> Cohort:
    """Return the records of all held-out patients, or of those for choosing or for measuring."""
    held = everyone.split("val")
    if patients == "all":
        return held
    # Drawn by a hash of the patient, so the division is the same at every size.
    parts = draw_splits(held.patients, (0.0, *_SHARES.values()), _SEED)
    name = dict(zip(_SHARES, ("val", "test"), strict=True))[patients]
    return held.at(np.flatnonzero(parts == name))


def main(
    quick: bool = False,
    *,
    train: bool = False,
    weights: str = "phantom",
    size: int = _SIZE,
    patients: str = "measuring",
    records: int = _RECORDS,
    coupling: str = "transport",
    guidance: float | None = None,
    threshold: float | None = None,
    edits: int = 1,
) -> list[Row]:
    """Return one row per measure, or a note if the data are missing."""
    if not (data_folder() / "nih").is_dir():
        return [{"figure": "skipped: no NIH data", "value": ""}]
    everyone = Cohort.load(data_folder() / "nih", size=size).with_images_only()
    training, held = everyone.split("train"), held_out(everyone, patients)
    held = held.head(12 if quick else records)
    weights = str(trained_weights(quick)) if train else weights
    given = {"guidance": guidance, "threshold": threshold}
    solving = {name: value for name, value in given.items() if value is not None}
    solving |= {"coupling": coupling, "edits": edits}
    features = real_features(_READ, quick)
    reader = CrossFittedReader.fit(
        everyone, Graph.load("nih"), ["Sex", "View", "Age"], features=features
    )
    rows = [
        _row(f"reader of {name}, {row['measure']}, {row['n']:,} images", row)
        for name, row in reader.table.to_dict("index").items()
    ]
    model, parts, sheet = fitted_model(training, weights, **solving), [], []
    for before, after in (("F", "M"), ("M", "F")):
        cohort = held.select(f"Sex == '{before}'")
        twins = model.counterfactual(cohort, do(sex=after))
        # Each image is computed once.
        twins = twins.with_images(ArrayImages(twins.images[:], synthetic=True))
        parts.append(_judged(reader, features, cohort, twins, before, after))
        rows += _rows(parts[-1], f"{before}, do(sex={after})")
        sheet.append((cohort.head(_SHOWN // 2), twins.head(_SHOWN // 2)))
    rows += _rows(pd.concat(parts), "all")
    _draw(sheet, Path(f"runs/nih-twins-{size}-{Path(weights).stem}.png"))
    head = held.head(16)
    null = model.counterfactual(head, do(), recompute=True)
    difference = float(np.abs(null.images[:] - head.images[:]).max())
    return [*rows, {"figure": "null twins, max |difference|", "value": difference}]


def _judged(
    reader: CrossFittedReader,
    features: CrossFittedFeatures,
    cohort: Cohort,
    twins: Cohort,
    before: str,
    after: str,
) -> pd.DataFrame:
    """Return what the reader makes of each record and its twin, a row a record."""
    first, second = reader.read(cohort), reader.read(twins)
    table = pd.DataFrame(index=cohort.index)
    table["patient"] = cohort.patients
    table["record is read as recorded"] = first["Sex", before] > 0.5
    table["twin is read as set"] = second["Sex", after] > 0.5
    vectors = [image_features(each, features.everyone) for each in (cohort, twins)]
    table["nearest record is the patient's own"] = identity_kept(*vectors, cohort.patients)
    # Non-descendants that can be read: the view by its probability, the age in years.
    poor = unreadable(reader, _LEAST)
    if "View" not in poor:
        table["|change| of P(PA)"] = (second["View", "PA"] - first["View", "PA"]).abs()
    if "Age" not in poor:
        table["|change| of age read, years"] = (second["Age", ""] - first["Age", ""]).abs()
    change = np.abs(twins.images[:] - cohort.images[:]).mean((1, 2, 3))
    table["mean |change| of grey levels, 0 to 1"] = change
    return table


def _rows(table: pd.DataFrame, who: str) -> list[Row]:
    """Return the mean of each column with its interval over patients."""
    rows = []
    for name in table.columns.drop("patient"):
        mean = mean_interval(table[name].to_numpy(dtype=float), table["patient"].to_numpy())
        about = {"value": mean.value, "low": mean.low, "high": mean.high}
        rows.append(_row(f"{who}: {name}", about) | {"n": mean.n})
    return rows


def _row(figure: str, values: dict) -> Row:
    return {"figure": figure, "value": float(values["value"])} | {
        end: float(values[end]) for end in ("low", "high")
    }


def _draw(sheet: list[tuple[Cohort, Cohort]], path: Path) -> None:
    """Draw records, twins and differences."""
    before, after = (np.concatenate([each[k].images[:] for each in sheet]) for k in (0, 1))
    records = [str(name) for cohort, _ in sheet for name in cohort.records]
    changes = [f"to {value}" for _, twins in sheet for value in twins.table["Sex"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs(before, after, records, path, changes=changes)


if __name__ == "__main__":
    from rich.console import Console

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true", help="use weights of nih64.yaml")
    parser.add_argument("--weights", default="phantom", help="a bundled name or a file")
    parser.add_argument("--size", type=int, default=_SIZE, help="pixels of the images: 64, 128")
    parser.add_argument("--patients", default="measuring", choices=(*_SHARES, "all"))
    parser.add_argument("--records", type=int, default=_RECORDS, help="held-out records at most")
    parser.add_argument("--coupling", default="transport", help="transport or inversion")
    parser.add_argument("--guidance", type=float, help="weight of the change")
    parser.add_argument("--threshold", type=float, help="share of the typical change")
    parser.add_argument("--edits", type=int, default=1, help="edits that are averaged")
    parser.add_argument("--quick", action="store_true", help="few records and epochs")
    show(Console(width=120), "twins of NIH patients", main(**vars(parser.parse_args())))
