"""Training features on a cohort's own labels, as the command line runs it.

The output: the weights, a card that documents them and how well readers that stand on them read
patients that they have not seen, and a folder with checkpoints.
"""

import json
import platform
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from causalcxr.apps.training.training_place import training_place
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.cohort.selection import load_cohort
from causalcxr.common.digests import file_digest
from causalcxr.common.files import atomic_write
from causalcxr.graph.graph import Graph
from causalcxr.radit.features import load_cross_fitted, load_features, save_cross_fitted
from causalcxr.radit.features_train import FeaturesConfig, train_features

__all__ = ["FeaturesRun", "train_cohort_features"]


@dataclass(frozen=True, kw_only=True)
class FeaturesRun:
    """What to train features on, and how.

    Args:
        cohort: As the command line names a cohort.
        out: The safetensors file to write.
        graph: A graph, whose variables are learned.
        start: The features to start from: a bundled name or a file.
        config: How to train.
        seed: Of the folds and of the training.
        minutes: Stop after so many minutes with a checkpoint; the same call resumes from it.
    """

    cohort: str
    out: Path
    graph: str = "cxr7"
    start: str = "phantom"
    config: FeaturesConfig = field(default_factory=FeaturesConfig)
    seed: int = 0
    minutes: float = float("inf")


def train_cohort_features(
    run: FeaturesRun, command: str = "", *, overwrite: bool = False
) -> pd.DataFrame | None:
    """Train features on a cohort, and write weights and card.

    Args:
        run: What to train on; the same call resumes an interrupted one.
        command: The command line, for the card.
        overwrite: Replace weights of another run, and train again from the start.

    Returns:
        The quality of readers on unseen patients, see `CrossFittedReader.table`; None if the
        minutes ended first.

    Raises:
        CohortError: If the cohort cannot be read.
        ModelError: If there are no images, no variable varies enough, or the place holds the
            training of other records or settings.
    """
    start, graph, out = time.monotonic(), Graph.load(run.graph), Path(run.out)
    with training_place(out, "network-0.safetensors", overwrite=overwrite):
        cohort = load_cohort(run.cohort).with_images_only()
        features = train_features(
            cohort,
            graph,
            run.config,
            start=load_features(run.start),
            seed=run.seed,
            folder=out.with_suffix(".training"),
            budget=60 * run.minutes,
        )
        if features is None:
            return None
        save_cross_fitted(out, features, source=cohort.source)
        table = CrossFittedReader.fit(cohort, graph, features=load_cross_fitted(out)).table
        card = {
            "weights": out.name,
            "sha256": file_digest(out),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "command": command,
            "data": {
                "cohort": run.cohort,
                "source": cohort.source,
                "images": len(cohort),
                "patients": int(cohort.patients.nunique()),
                "size": list(cohort.images.size),
            },
            "graph": graph.name,
            "started_from": run.start,
            "training": asdict(run.config),
            "seed": run.seed,
            "device": f"cpu, {torch.get_num_threads()} threads, torch {torch.__version__}, "
            f"python {platform.python_version()}",
            "minutes_of_this_run": round((time.monotonic() - start) / 60, 1),
            "readers_on_unseen_patients": table.round(4).to_dict("index"),
            "use": "Readers of attributes and distances for images of this kind. Not for clinical "
            "use; weights trained on images of patients may reveal them.",
        }
        atomic_write(out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return table
